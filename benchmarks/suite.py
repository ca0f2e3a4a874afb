"""`fastbot bench` and `python -m benchmarks`: one command per question."""

from __future__ import annotations

import typer

from benchmarks import ladder
from benchmarks.corpora import corpus
from benchmarks.pages import compare, report
from benchmarks.rungs import (
    augment,
    augment_gpu,
    convert,
    decode,
    delivery,
    loader,
    memory,
    plan,
    scaling,
    startup,
    step,
    table3,
    table5,
    train,
)

app = typer.Typer(
    help="Measure this machine: every rate beside a peer in the same run.", no_args_is_help=True, add_completion=False
)
app.command(name="corpus")(corpus.command)
app.command(name="convert")(convert.command)
app.command(name="decode")(decode.command)
app.command(name="loader")(loader.command)
app.command(name="plan")(plan.command)
app.command(name="augment")(augment.command)
app.command(name="augment-gpu")(augment_gpu.command)
app.command(name="delivery")(delivery.command)
app.command(name="step")(step.command)
app.command(name="train")(train.command)
app.command(name="table3")(table3.command)
app.command(name="startup")(startup.command)
app.command(name="memory")(memory.command)
app.command(name="scaling")(scaling.command)
app.command(name="table5")(table5.command)
app.command(name="compare")(compare.command)
app.command(name="report")(report.command)
app.command(name="all")(ladder.command)
