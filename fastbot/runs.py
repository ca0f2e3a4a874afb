"""The run folder: everything a run leaves behind.

RUN/recipe.toml       the resolved recipe
overrides.json    what of it was given as overrides: who resumes need not give them again
metrics.jsonl     one line per reading of the metrics, and per evaluation
events.out...     the same for TensorBoard
checkpoints/      see `fastbot.checkpoint`
curves.png        loss, top-1, learning rate and throughput over steps
summary.json      the end: accuracy, throughput, share of time waited for data
.lock             locked while a training is at work here

What draws and records is imported where that is done: whether a run may start is asked before, at once.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol, Self

from fastbot.checkpoint import CheckpointFolder
from fastbot.errors import RunError
from fastbot.locks import check_unlocked, locked
from fastbot.recipe import Recipe, training_changes
from fastbot.recipe_files import load_recipe, write_recipe

Record = Mapping[str, Any]

_log = logging.getLogger("fastbot")

_OVERRIDES_NAME = "overrides.json"
_OVERRIDES_LOST = "Go on without it: give all overrides again, and remove it"
# A training that was killed may take a moment to be gone.
_LOCK_PATIENCE_S = 2.0

# By a file that lies in each: what folders are that hold something of fastbot's.
_KINDS = {"manifest.json": "a store", "ablation.json": "an ablation", "recipe.toml": "a run"}


def kind_of(folder: Path) -> str:
    """Return what a folder is, `a store`, `an ablation` or `a run`; empty where it is none of them."""
    return next((kind for name, kind in _KINDS.items() if (folder / name).is_file()), "")


def refuse_kinds(folder: Path, *kinds: str) -> None:
    """Check that nothing would be written into somebody's store, ablation or run.

    Args:
        folder: to write to; it need not be there.
        kinds: that it must not be, as `kind_of` returns them.

    Raises:
        RunError: it is one of them.
    """
    if (kind := kind_of(folder)) in kinds:
        raise RunError(f"{folder} is {kind}: nothing else is written into it. Choose another --out")


class RunFolder:
    """The folder of one run.

    Args:
        path: where the run is, or will be.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints = CheckpointFolder(path / "checkpoints")

    def create(self, recipe: Recipe, overrides: Sequence[str], *, resume: bool) -> None:
        """Make the folder and write the recipe.

        Args:
            recipe: resolved, overrides applied.
            overrides: those.
            resume: there may be a run there, which goes on.

        Raises:
            RunError: there is a run there already and it is not to be resumed, or the folder cannot be made.
        """
        self.check_free(resume=resume)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            (self.path / _OVERRIDES_NAME).write_text(json.dumps(list(overrides)) + "\n")
            (self.path / "recipe.toml").write_text(write_recipe(recipe))
        except OSError as error:
            raise RunError(f"run folder {self.path} cannot be made: {error}. Choose another --out") from error

    def check_free(self, *, resume: bool) -> None:
        """Check that a run may start here.

        Raises:
            RunError: there is a run there already and it is not to be resumed, or it has ended and its checkpoints are
                gone, or the folder is something else.
        """
        refuse_kinds(self.path, "a store", "an ablation")
        if (self.path / "summary.json").exists() and not self.checkpoints.exists():
            raise RunError(
                f"{self.path} holds a run that has ended, and no checkpoint of it is in {self.checkpoints.path}. Bring "
                "them back, or choose another --out; to train it anew, remove the folder"
            )
        if resume or not (self.path / "recipe.toml").exists():
            return
        if not self.checkpoints.exists():
            raise RunError(
                f"{self.path} holds a run that has saved no checkpoint. Remove the folder, or choose another --out"
            )
        raise RunError(f"{self.path} already holds a run. Continue it with --resume, or choose another --out")

    def check_idle(self) -> None:
        """Check that no training is at work here; nothing is written.

        Raises:
            RunError: one is.
        """
        check_unlocked(self.path, self._busy, _LOCK_PATIENCE_S)

    def locked(self) -> AbstractContextManager[int]:
        """Keep other trainings out while this one is at work here; whoever reads is free to.

        Raises (when entered):
            RunError: another one is at work here, or the folder cannot be made.
        """
        return locked(self.path, self._busy, _LOCK_PATIENCE_S)

    @property
    def _busy(self) -> str:
        return f"another training is at work in {self.path}. Wait for it, end it, or choose another --out"

    def check_recipe(self, recipe: Recipe) -> None:
        """Check that the run may go on with a recipe: until it has saved a checkpoint, with any.

        Args:
            recipe: resolved.

        Raises:
            RunError: names every key that decides the training and differs.
        """
        if not self.checkpoints.exists() or not (self.path / "recipe.toml").is_file():
            return
        if changes := training_changes(self.recipe().as_dict(), recipe.as_dict()):
            raise RunError(
                f"{self.path} is of another recipe: {changes}. --resume takes the overrides that the run was begun "
                "with: leave out what differs, or choose another --out"
            )

    def overrides(self, given: Sequence[str]) -> list[str]:
        """Return what the recipe of the run is made with: the overrides it was begun with, and then those given now.

        Raises:
            RunError: they cannot be read.
        """
        file = self.path / _OVERRIDES_NAME
        if not file.exists() or not (self.path / "recipe.toml").exists():
            return list(given)
        try:
            begun_with = json.loads(file.read_text())
        except (OSError, ValueError) as error:
            raise RunError(f"{file} cannot be read: {error}. {_OVERRIDES_LOST}") from error
        if not isinstance(begun_with, list) or not all(isinstance(override, str) for override in begun_with):
            raise RunError(f"{file} holds no list of overrides. {_OVERRIDES_LOST}")
        latest_first = dict.fromkeys([*reversed(given), *reversed(begun_with)])
        return list(latest_first)[::-1]

    def recipe(self) -> Recipe:
        """Return the recipe of the run.

        Raises:
            RunError: there is no run there.
        """
        file = self.path / "recipe.toml"
        if not file.is_file():
            raise RunError(f"{self.path} is not a run folder: {self._what_else()}")
        return load_recipe(str(file))

    def _what_else(self) -> str:
        if (kind := kind_of(self.path)) == "an ablation":
            runs = sorted(str(file.parent) for file in self.path.glob("*/seed-*/recipe.toml"))
            inside = f", such as {runs[0]}" if runs else ""
            return f"it is an ablation. Give one of its trainings, {self.path}/RECIPE/seed-K{inside}"
        return f"{f'it is {kind}' if kind else 'it has no recipe.toml'}. Give what was --out of `fastbot train`"

    def records(self) -> list[dict[str, Any]]:
        """Return the lines of `metrics.jsonl`.

        A last line cut short by a kill is left out; so is, with a warning, one that a power cut has damaged.
        """
        file = self.path / "metrics.jsonl"
        if not file.exists():
            return []
        whole = file.read_text(errors="replace").split("\n")[:-1]
        records = list(map(_record_of, whole))
        for number, (line, record) in enumerate(zip(whole, records, strict=True), start=1):
            if not record:
                _log.warning("warning: %s, line %d is damaged and left out: %.60r", file, number, line)
        return list(filter(None, records))

    def finish(self, summary: Record) -> None:
        """Write `summary.json` and `curves.png`."""
        from fastbot.curves import draw_curves

        file = self.path / "summary.json"
        aside = file.with_suffix(".writing")
        aside.write_text(json.dumps(dict(summary), indent=1) + "\n")
        aside.replace(file)
        draw_curves(self.records(), str(summary["recipe"]), self.path / "curves.png")

    def summary(self) -> dict[str, Any]:
        """Return what `summary.json` says; empty before the run's end.

        Raises:
            RunError: it is damaged.
        """
        file = self.path / "summary.json"
        try:
            return dict(json.loads(file.read_text())) if file.is_file() else {}
        except (OSError, ValueError, TypeError) as error:
            raise RunError(
                f"{file} is damaged: {error}. Remove it; `fastbot train ... --resume` writes it again"
            ) from error


def _record_of(line: str) -> dict[str, Any]:
    """Return a line of `metrics.jsonl`, empty where it is none."""
    try:
        record = json.loads(line)
    except ValueError:
        return {}
    return record if isinstance(record, dict) and isinstance(record.get("step"), int) and "kind" in record else {}


class Journal(Protocol):
    """Takes in records of a run; leave it as a context manager to close its files."""

    def add(self, kind: str, step: int, values: Record) -> None:
        """Append one record.

        Args:
            kind: `train` or `eval`.
            step: optimizer steps done.
            values: plain numbers by name.
        """
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *raised: object) -> None: ...


class _NoJournal:
    """Ranks other than the first keep no records."""

    def add(self, kind: str, step: int, values: Record) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None: ...


class _FileJournal:
    """Appends to `metrics.jsonl` and to TensorBoard."""

    def __init__(self, run: RunFolder, start_step: int, unevaluated: bool) -> None:
        redone = ("eval", start_step) if unevaluated else None
        before = [record for record in run.records() if record["step"] <= start_step]
        kept = [record for record in before if (record["kind"], record["step"]) != redone]
        file = run.path / "metrics.jsonl"
        aside = file.with_suffix(".writing")
        aside.write_text("".join(json.dumps(record) + "\n" for record in kept))
        aside.replace(file)
        self._file = file.open("a", buffering=1)
        from torch.utils.tensorboard import SummaryWriter

        self._events = SummaryWriter(str(run.path), purge_step=start_step + 1)

    def add(self, kind: str, step: int, values: Record) -> None:
        self._file.write(json.dumps({"kind": kind, "step": step, **values}) + "\n")
        for name, value in values.items():
            self._events.add_scalar(f"{kind}/{name}", value, step)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self._file.close()
        self._events.close()


def build_journal(run: RunFolder, start_step: int, *, writes: bool, unevaluated: bool = False) -> Journal:
    """Return the journal of this rank.

    Args:
        run: whose folder it writes to.
        start_step: records after this step are of a killed continuation and are dropped.
        writes: whether this rank is the one that writes.
        unevaluated: an evaluation is due at this step: a record of one is of a killed continuation, too.
    """
    return _FileJournal(run, start_step, unevaluated) if writes else _NoJournal()
