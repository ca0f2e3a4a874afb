"""OUT/ablation.json: written anew after every training, aside and renamed, so that it is whole at any time.

A later call goes on with it only if it is the same ablation; rows and seeds may be added.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from fastbot.ablation.records import Ablation, RunResult, Scores
from fastbot.ablation.trainings import Changes, Training
from fastbot.errors import RunError
from fastbot.recipe import training_changes
from fastbot.runs import RunFolder

FILE_NAME = "ablation.json"


def resume(before: Ablation, now: Ablation, out: Path) -> Ablation:
    """Return the ablation that is asked for with what is trained of it already.

    Overrides may be written differently, as long as they make the same recipes; the store may have moved.

    Args:
        before: what is in `out`.
        now: what is asked for; it has all rows of `before`.
        out: for the message.

    Raises:
        RunError: it is another ablation; names what differs.
    """
    if differences := list(_differences(before, now)):
        raise RunError(
            f"{out} holds another ablation: {'; '.join(differences)}. "
            "Give what it was made with, or choose another --out"
        )
    return now.with_results({row.recipe: row.seeds for row in before.every})


def _differences(before: Ablation, now: Ablation) -> Iterator[str]:
    if before.suite != now.suite:
        yield f"its suite is {before.suite}, asked for is {now.suite}"
        return
    if before.store.digest != now.store.digest:
        yield f"its store {before.store.path} is another than {now.store.path} (their manifests differ)"
    if before.teachers and before.changes.one_teacher != now.changes.one_teacher:
        yield f"it was made {'with' if before.changes.one_teacher else 'without'} --one-teacher"
    digests = {row.recipe: row.digest for row in now.every}
    changed = [row.label for row in before.every if digests.get(row.recipe) != row.digest]
    if changed:
        yield f"the recipe of {changed[0]!r} was another ({'; '.join(_changed(before.changes, now.changes))})"


def _changed(before: Changes, now: Changes) -> list[str]:
    pairs = {
        "overrides": (" ".join(before.overrides), " ".join(now.overrides)),
        "--teacher": (" ".join(before.teacher_overrides), " ".join(now.teacher_overrides)),
        "--scale-epochs": (f"{before.scale_epochs:g}", f"{now.scale_epochs:g}"),
    }
    found = [f"{name}: {then or 'none'}, now {here or 'none'}" for name, (then, here) in pairs.items() if then != here]
    return found or ["with the same options: this fastbot has another recipe of that name"]


def read_ablation(out: Path) -> Ablation:
    """Return what `out` holds.

    Raises:
        RunError: there is no ablation there, or its file is damaged.
    """
    file = out / FILE_NAME
    if not file.is_file():
        raise RunError(f"{out} holds no ablation: it has no {FILE_NAME}. Give what was --out of `fastbot ablate`")
    try:
        return Ablation.model_validate_json(file.read_bytes())
    except (OSError, ValidationError) as error:
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
        raise RunError(
            f"{file} cannot be read: {reason}. Remove it, and run the ablation again: finished trainings are found in "
            "their folders"
        ) from error


def write_ablation(ablation: Ablation, out: Path) -> None:
    """Write the file, whole or not at all."""
    file = out / FILE_NAME
    aside = file.with_suffix(".writing")
    with aside.open("w") as stream:
        stream.write(ablation.model_dump_json(indent=1) + "\n")
        stream.flush()
        os.fsync(stream.fileno())
    aside.replace(file)


class Ledger:
    """Keeps an ablation and its file in step.

    Args:
        ablation: as far as it is trained.
        out: its folder.
        machine: what computes from now on.

    Attributes:
        ablation: with all that was kept since.
    """

    def __init__(self, ablation: Ablation, out: Path, machine: str) -> None:
        self.ablation, self._out, self._machine = ablation, out, machine
        write_ablation(ablation, out)

    def result(self, training: Training) -> RunResult | None:
        """Return what a training came to, if it was kept."""
        return self.ablation.result(training)

    def keep(self, training: Training) -> RunResult | None:
        """Take in what a training came to, and return it; None while it is not finished.

        Raises:
            RunError: its folder holds another training.
        """
        result = read_run(training, self.ablation.store.digest, self._machine)
        if result is not None:
            self.ablation = self.ablation.with_results({training.row.recipe: {training.seed: result}})
            write_ablation(self.ablation, self._out)
        return result


def read_run(training: Training, store_digest: str, machine: str) -> RunResult | None:
    """Return what the run folder of a training says, if it is finished.

    Args:
        training: which one.
        store_digest: of the store it must have been trained on.
        machine: to be recorded.

    Raises:
        RunError: the folder holds another training.
    """
    run = RunFolder(training.folder)
    summary = run.summary()
    if not summary:
        return None
    identity = _identity(run)
    if changes := training_changes(run.recipe().as_dict(), training.recipe.as_dict()):
        raise _another(training, "by another recipe", f": {changes}")
    if identity["manifest_digest"] != store_digest:
        raise _another(training, "on another store")
    scores = [record for record in run.records() if record["kind"] == "eval"]
    if not scores:
        raise RunError(f"{training.folder} is finished and has no evaluation in metrics.jsonl. Remove the folder")
    best = max(scores, key=lambda record: record["top1"])  # the first of equals, as the checkpoint `best`
    return RunResult(
        steps=summary["steps"],
        final=_scores(scores[-1]),
        best=_scores(best),
        best_step=best["step"],
        images_per_s=summary["images_per_s"],
        wall_s=summary["wall_s"],
        bad_pictures=summary["bad_pictures"],
        machine=machine,
        conditions=identity["conditions"],
    )


def _scores(record: Mapping[str, Any]) -> Scores:
    return Scores(top1=record["top1"], top5=record["top5"], loss=record["loss"])


def _identity(run: RunFolder) -> dict[str, Any]:
    file = run.checkpoints.path / "last" / "checkpoint.json"
    try:
        return dict(json.loads(file.read_text())["identity"])
    except (OSError, ValueError, KeyError) as error:
        raise RunError(f"{file} is damaged or gone: {error}. Remove {run.path}, to train it again") from error


def _another(training: Training, how: str, changes: str = "") -> RunError:
    return RunError(
        f"{training.folder} holds a training {how} than that of {training}{changes}. "
        "Remove the folder, or choose another --out"
    )
