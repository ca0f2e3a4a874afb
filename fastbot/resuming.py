"""Going on from a checkpoint: which one, the same on every rank, and refused when it belongs to another training."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING

from fastbot.checkpoint import Checkpoint, CheckpointFolder, Conditions, Identity
from fastbot.errors import CheckpointError, RunError
from fastbot.recipe import flat, training_changes

if TYPE_CHECKING:
    from fastbot.distributed import Ranks


def load_newest(folder: CheckpointFolder) -> tuple[Checkpoint, list[str]]:
    """Read what a run goes on from: `last`, or else `best`, or else the newest folder that is whole.

    Args:
        folder: of a run that this process alone writes to; something is there.

    Returns:
        the checkpoint, and a warning for each before it that is damaged.

    Raises:
        CheckpointError: none is whole.
    """
    folder.bring_back()
    steps = sorted((path.name for path in folder.path.glob("step-*")), key=lambda name: (len(name), name), reverse=True)
    tried, errors = set(), list[CheckpointError]()
    for name in ("last", "best", *steps):
        path = folder.path / name
        if not os.path.lexists(path) or path.resolve() in tried:
            continue
        tried.add(path.resolve())
        try:
            checkpoint = folder.load(name)
        except CheckpointError as error:
            errors.append(error)
            continue
        warnings = [f"warning: {error}" for error in errors]
        return checkpoint, [f"{warning}. Taking {checkpoint.path.name} instead" for warning in warnings]
    raise errors[0] if errors else CheckpointError(f"there is no checkpoint in {folder.path}")


def load_on_all(folder: CheckpointFolder, read: Callable[[], Checkpoint], ranks: Ranks) -> Checkpoint:
    """Read one checkpoint on every rank: which, the first one decides; every rank must call it.

    What `last` and `best` mean may differ between ranks: a run saves meanwhile, or machines see different disks.

    Args:
        folder: of a run.
        read: what the first rank reads with.
        ranks: this process among all.

    Raises:
        CheckpointError: it cannot be read.
        RunError: another rank cannot read it.
    """
    while True:
        checkpoint: Checkpoint | None = None
        error: CheckpointError | None = None
        with ranks.all_or_none():
            checkpoint = read() if ranks.is_first else None
        name = ranks.first_says(checkpoint.path.name if checkpoint else "")
        try:
            checkpoint = checkpoint or folder.load(name)
        except CheckpointError as caught:
            error = caught
        failed = any(ranks.each_says(error is not None))
        if failed and ranks.first_says(ranks.is_first and not (folder.path / name).exists()):
            continue  # the run has saved meanwhile, and dropped it
        with ranks.all_or_none():
            if error is not None:
                raise CheckpointError(
                    f"{error}. Rank 0 has read it: all ranks must see the same folder, on disks that all machines share"
                ) from error
        assert checkpoint is not None
        return checkpoint


def check_agreed(ranks: Ranks, step: int, identity: Identity, *, unevaluated: bool) -> None:
    """Check that all ranks are about to go on with the same training; every rank must call it.

    Args:
        ranks: this process among all.
        step: optimizer steps done.
        identity: what this rank trains.
        unevaluated: whether an evaluation is due first.

    Raises:
        RunError: they are not.
    """
    mine = {
        "optimizer steps done": step,
        "recipe": identity.training_digest,
        "store": identity.manifest_digest,
        "teacher": identity.teacher,
        "an evaluation due": unevaluated,
    }
    told = ranks.each_says(mine)
    for rank, theirs in enumerate(told):
        for what, value in theirs.items():
            if value != told[0][what]:
                raise RunError(
                    f"rank {rank} and rank 0 do not train the same: {what} is {value!r} and {told[0][what]!r}. Give "
                    "every rank the same command, and the same --out, --data and teacher, on disks that all machines "
                    "share"
                )


def refuse_another_training(checkpoint: Checkpoint, identity: Identity) -> None:
    """Check that a checkpoint belongs to this recipe and this store.

    Raises:
        CheckpointError: names every recipe key that differs, or the store.
    """
    saved = checkpoint.identity
    # An older fastbot's digest may differ where no key does.
    differs = saved.training_digest != identity.training_digest
    if differs and (changes := training_changes(saved.recipe, identity.recipe)):
        raise CheckpointError(
            f"checkpoint {checkpoint.path} is of another recipe: {changes}. "
            "Resume with the recipe it was started with, or choose another --out"
        )
    if saved.teacher != identity.teacher:
        raise CheckpointError(
            f"checkpoint {checkpoint.path} was trained with another teacher: the weights behind distillation.teacher "
            "have changed. Bring them back, or choose another --out"
        )
    if saved.manifest_digest != identity.manifest_digest:
        raise CheckpointError(
            f"checkpoint {checkpoint.path} was trained on another store (their manifests differ). "
            "Resume with the store it was started with, or choose another --out"
        )


def changed_conditions(checkpoint: Checkpoint, conditions: Conditions) -> list[str]:
    """Return one phrase per condition that differs, for a warning: the run goes on, but not bit-identically."""
    then, now = flat(asdict(checkpoint.identity.conditions)), flat(asdict(conditions))
    return [
        f"{name.removeprefix('versions.')} was {then.get(name)}, is {now[name]}"
        for name in now
        if then.get(name) != now[name]
    ]
