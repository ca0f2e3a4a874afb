"""`fastbot bench` and `python -m benchmarks`: one command per question."""

from __future__ import annotations

import typer

from benchmarks.corpora import corpus
from benchmarks.rungs import augment, augment_gpu, convert, delivery, loader, plan, step

app = typer.Typer(
    help="Measure this machine: every rate beside a peer in the same run.", no_args_is_help=True, add_completion=False
)
app.command(name="corpus")(corpus.command)
app.command(name="convert")(convert.command)
app.command(name="loader")(loader.loader)
app.command(name="plan")(plan.command)
app.command(name="augment")(augment.command)
app.command(name="augment-gpu")(augment_gpu.command)
app.command(name="delivery")(delivery.command)
app.command(name="step")(step.step)
