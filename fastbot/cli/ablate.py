"""`fastbot ablate`: what each trick of a paper's table is worth on a store, with seeds and intervals."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from fastbot.cli.train import BackendName, DeviceName, StopSignal

if TYPE_CHECKING:
    from datasets_tools.store import Store
    from fastbot.ablation.records import Ablation, StoreRecord
    from fastbot.ablation.results import Ledger
    from fastbot.ablation.trainings import Changes, Training
    from fastbot.suite_files import Row, Suite


def ablate(
    context: typer.Context,
    suite: Annotated[str, typer.Argument(help="table4, table5, table6, table6-inceptionv3, table6-mobilenet or rsb.")],
    out: Annotated[Path, typer.Option(help="The folder to make, or to go on with.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[key.sub=value ...]", help="Changes to every recipe.")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="A store made by `fastbot convert`.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="How often each row is trained: with seeds 0, 1, ...")] = 3,
    rows: Annotated[
        str | None, typer.Option(help="Only these: labels or recipes.", metavar="ROW,...", show_default="all")
    ] = None,
    scale_epochs: Annotated[
        float, typer.Option(help="Times every duration in epochs: warmup, milestones and all. Overrides stay as given.")
    ] = 1.0,
    teacher: Annotated[
        list[str] | None,
        typer.Option(metavar="key.sub=value", help="A change to the teachers alone; may be given again."),
    ] = None,
    one_teacher: Annotated[
        bool, typer.Option("--one-teacher", help="Rows of all seeds learn from the teacher of seed 0.")
    ] = False,
    jobs: Annotated[int, typer.Option(min=1, help="Trainings at a time; they share the device and the cores.")] = 1,
    nproc: Annotated[int, typer.Option(min=1, help="Processes of each training; one per GPU.")] = 1,
    device: Annotated[DeviceName, typer.Option(help="What computes.")] = DeviceName.auto,
    backend: Annotated[BackendName, typer.Option(help="What decodes the pictures.")] = BackendName.auto,
    report_only: Annotated[
        bool, typer.Option("--report-only", help="Train nothing: the table and the picture of what is finished.")
    ] = False,
) -> None:
    """Train the rows of a paper's table, and show what each adds.

    Run it again to go on where it was stopped or killed, or with more rows or seeds; what is finished is kept.

    Example: [bold]fastbot ablate table6 --data stores/imagenet --out ablations/table6 --seeds 3[/]
    """
    from datasets_tools.store import Store
    from fastbot.ablation.trainings import Changes, plan_trainings, select_rows
    from fastbot.runs import refuse_kinds
    from fastbot.suite_files import load_suite

    chosen = load_suite(suite)
    if report_only:
        _check_nothing_else(context)
        _report_again(chosen, out)
        return
    if data is None:
        raise typer.BadParameter("is needed, unless with --report-only", param_hint="--data")
    if not 0 < scale_epochs < math.inf:
        raise typer.BadParameter("must be a number above 0", param_hint="--scale-epochs")
    refuse_kinds(out, "a store", "a run")
    selected = select_rows(chosen, [name.strip() for name in rows.split(",")] if rows else [])
    changes = Changes(
        overrides=tuple(overrides or ()),
        teacher_overrides=tuple(teacher or ()),
        scale_epochs=scale_epochs,
        one_teacher=one_teacher,
    )
    options = ["--data", str(data)]
    options += ["--device", device.value] if device is not DeviceName.auto else []
    options += ["--backend", backend.value] if backend is not BackendName.auto else []
    options += ["--nproc", str(nproc)] if nproc > 1 else []
    trainings = plan_trainings(chosen, selected, seeds, changes, out)
    store = Store(data)
    from fastbot.cli.ablation_start import check_trainings  # PyTorch with it, which takes seconds
    from fastbot.distributed import pick_device
    from pipelines.backends.choose import choose

    computes = pick_device(device.value, nproc - 1)  # fails once, here, for what would fail in every training alike
    choose(backend.value, computes)
    check_trainings(trainings, store, nproc)
    _run(_Order(chosen, selected, changes, trainings, _store_record(store), out, computes.type), options, jobs)


# What --report-only goes with.
_OF_A_REPORT = ("suite", "out", "report_only")


def _check_nothing_else(context: typer.Context) -> None:
    """Refuse what a report would not heed."""
    given = {
        parameter.name: parameter.opts[0]
        for parameter in context.command.params
        if parameter.name and (source := context.get_parameter_source(parameter.name)) and source.name != "DEFAULT"
    }
    overrides = context.params["overrides"] or ()
    if others := [name for key, name in given.items() if key not in (*_OF_A_REPORT, "overrides")] + [*overrides]:
        reported = f"reports all that is finished in --out: leave out {', '.join(others)}"
        raise typer.BadParameter(reported, param_hint="--report-only")


@dataclass(frozen=True, slots=True)
class _Order:
    """What is asked for."""

    suite: Suite
    rows: Sequence[Row]
    changes: Changes
    trainings: Sequence[Training]
    store: StoreRecord
    out: Path
    device_type: str


def _run(order: _Order, options: Sequence[str], jobs: int) -> None:
    """Train what is not trained yet, and report."""
    from fastbot.ablation.children import Child, locked, shared_cpus
    from fastbot.ablation.progress import Progress
    from fastbot.ablation.running import Runner

    console, cpus, trainings = Console(), shared_cpus(jobs), order.trainings

    def tell(line: str) -> None:
        console.print(line, markup=False, highlight=False, soft_wrap=True)

    with StopSignal() as stop, locked(order.out, tell) as lock:
        ledger = _open_ledger(order)
        waiting = [training for training in trainings if not (ledger.result(training) or ledger.keep(training))]
        _describe(ledger.ablation, trainings, waiting, order.device_type, console)
        with Progress(console, trainings, len(trainings) - len(waiting)) as progress:

            def keep(training: Training) -> bool:
                result = ledger.keep(training)
                if result is not None:
                    progress.finished(training, result)
                return result is not None

            def start(training: Training, place: int) -> Child:
                return Child(training, options, cpus[place], lock)

            complete = Runner(waiting, jobs, start, keep, stop.received, progress).run()
        if not complete:
            tell(f"stopped; {_saved(waiting)}. The same command goes on")
            return
        _report(ledger.ablation, order.out, console)


def _saved(trainings: Sequence[Training]) -> str:
    """Return whether any of the trainings that are not finished can be gone on with."""
    from fastbot.runs import RunFolder

    runs = [RunFolder(training.folder) for training in trainings]
    saved = any(run.checkpoints.exists() and not run.summary() for run in runs)
    return "the trainings have saved" if saved else "no training had anything to save yet"


def _open_ledger(order: _Order) -> Ledger:
    """Return what is trained already of what is asked for."""
    from fastbot.ablation.machine import machine_name
    from fastbot.ablation.records import asked_for
    from fastbot.ablation.results import FILE_NAME, Ledger, read_ablation, resume

    before = read_ablation(order.out) if (order.out / FILE_NAME).exists() else None
    ablation = asked_for(order.suite, order.changes, order.store, order.rows, before)
    if before is not None:
        ablation = resume(before, ablation, order.out)
    return Ledger(ablation, order.out, machine_name())


def _store_record(store: Store) -> StoreRecord:
    """Return what identifies a store."""
    from datasets_tools.store.manifest import MANIFEST_NAME
    from fastbot.ablation.records import StoreRecord

    train, val = store.split("train"), store.split("val")
    return StoreRecord(
        path=str(store.path),
        digest=hashlib.sha256((store.path / MANIFEST_NAME).read_bytes()).hexdigest(),
        num_classes=store.num_classes,
        num_train=len(train),
        num_val=len(val),
        grey=all(train.info(sample).components == 1 for sample in range(len(train))),  # ends at the first with colours
    )


def _describe(
    ablation: Ablation, trainings: Sequence[Training], waiting: Sequence[Training], device_type: str, console: Console
) -> None:
    from datasets_tools.wording import counted
    from fastbot.ablation.report import GREY_NOTE
    from fastbot.build import FP16_ON_CPU

    store, finished = ablation.store, len(trainings) - len(waiting)
    classes = counted(store.num_classes, "class", "classes")
    lines = [
        f"suite     {ablation.suite}: {ablation.about}",
        f"data      {store.path}: {counted(store.num_train, 'picture')}, {classes}",
        f"trainings {len(trainings)}, {finished} of them finished",
    ]
    lines += [f"note      {GREY_NOTE}"] if store.grey else []
    if device_type == "cpu" and any(training.recipe.precision.kind == "fp16" for training in waiting):
        lines.append(f"warning   {FP16_ON_CPU}")  # each training's own stands in its log, where nobody looks
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _report_again(suite: Suite, out: Path) -> None:
    from fastbot.ablation.results import read_ablation
    from fastbot.errors import RunError

    ablation = read_ablation(out)
    if ablation.suite != suite.name:
        raise RunError(f"{out} holds an ablation of suite {ablation.suite}, not of {suite.name}")
    _report(ablation, out, Console())


def _report(ablation: Ablation, out: Path, console: Console) -> None:
    """Print the table, and write it and the picture beside the results."""
    from fastbot.ablation.picture import draw
    from fastbot.ablation.report import notes, table, write_markdown
    from fastbot.ablation.results import FILE_NAME

    table_file, picture = out / "ablation.md", out / "ablation.png"
    write_markdown(ablation, table_file)
    draw(ablation, picture)
    console.print()
    console.print(table(ablation, console.width))
    for note in notes(ablation):
        console.print(f"\n{note}", markup=False, highlight=False)
    console.print(
        f"\nresults     {out / FILE_NAME}\ntable       {table_file}\npicture     {picture}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
