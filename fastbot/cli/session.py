"""What `train` and `eval` share: a store, pipelines over it, and the words that describe a run."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from datasets_tools.store import Split, Store
from datasets_tools.store.manifest import MANIFEST_NAME
from datasets_tools.wording import counted
from fastbot.build import image_dtype_of
from fastbot.checkpoint import Conditions, Identity
from fastbot.cli.versions import versions
from fastbot.distillation import Teacher
from fastbot.distributed import Ranks, cores
from fastbot.errors import RunError
from fastbot.recipe import Recipe
from fastbot.recipe_files import published_name, unpublished_keys
from fastbot.specs import TeacherSpec
from fastbot.teachers import load_teacher
from pipelines.backends.choose import Choice, choose
from pipelines.bad_pictures import OnBadImage
from pipelines.pipeline import Pipeline, Place, open_eval, open_train


class Session:
    """A store and a recipe on one rank's machine.

    Args:
        recipe: resolved.
        store: open.
        backend: a backend's name, or `auto`.
        ranks: this process among all.
        on_bad_image: what becomes of a picture that cannot be used.

    Raises:
        BackendUnavailable: the backend cannot run here.
    """

    def __init__(
        self, recipe: Recipe, store: Store, backend: str, ranks: Ranks, on_bad_image: OnBadImage = "fail"
    ) -> None:
        self.recipe, self.ranks, self.store = recipe, ranks, store
        self.backend: Choice = choose(backend, ranks.device)
        self._place = Place(
            backend=self.backend.name,
            device=ranks.device,
            dtype=image_dtype_of(recipe, ranks.device),
            num_threads=max(1, cores() // ranks.local_world_size),
            rank=ranks.rank,
            world_size=ranks.world_size,
            on_bad_image=on_bad_image,
        )

    def open_train(self) -> Pipeline:
        """Return the training pipeline of split `train`."""
        split = self.store.split("train")
        return open_train(split, self.recipe.data, self.store.num_classes, self._place, seed=self.recipe.seed)

    def open_eval(self, split: str = "val") -> Pipeline:
        """Return the evaluation pipeline of a split."""
        return open_eval(self.store.split(split), self.recipe.data, self.store.num_classes, self._place)

    def teacher(self) -> tuple[Teacher | None, str]:
        """Return the teacher that the recipe names, if it does, and the digest of its weights."""
        spec = self.recipe.distillation
        if not isinstance(spec, TeacherSpec):
            return None, ""
        precision = self.recipe.precision.kind
        teacher, identity = load_teacher(spec, self.store.class_names, self.recipe.data, self.ranks.device, precision)
        return teacher, identity.sha256

    def identity(self, teacher: str) -> Identity:
        """Return what checkpoints of this session belong to.

        Args:
            teacher: digest of its weights.
        """
        manifest = (self.store.path / MANIFEST_NAME).read_bytes()
        conditions = Conditions(
            versions=versions(),
            num_threads=torch.get_num_threads(),
            world_size=self.ranks.world_size,
            device=self.ranks.device.type,
            backend=self.backend.name,
            on_bad_image=self._place.on_bad_image,
        )
        return Identity(
            training_digest=self.recipe.training_digest(),
            manifest_digest=hashlib.sha256(manifest).hexdigest(),
            recipe=self.recipe.resolved().as_dict(),
            class_names=self.store.class_names,
            conditions=conditions,
            teacher=teacher,
        )


def describe(session: Session, say: Callable[[str], None]) -> None:
    """Say what is about to be trained, on what, and how."""
    recipe, ranks, spec = session.recipe, session.ranks, session.recipe.data
    train: Split = session.store.split("train")
    rows = spec.global_batch_size // ranks.world_size
    paper = f" (paper: {recipe.paper.bn_batch})" if recipe.paper and recipe.paper.bn_batch else ""
    classes = counted(session.store.num_classes, "class", "classes")
    say(f"data      {session.store.path}: {counted(len(train), 'picture')}, {classes}")
    say(f"backend   {session.backend.name}: {session.backend.reason}")
    say(f"device    {ranks.world_size} x {_device_name(ranks.device)}, {recipe.precision.kind}")
    say(f"model     {recipe.model.name}, {spec.crop_size} px, {recipe.epochs}, learning rate {recipe.learning_rate:g}")
    parts = f" in {recipe.micro_batches} parts" if recipe.micro_batches > 1 else ""
    seen = _seen(recipe, rows)
    say(f"batch     {spec.global_batch_size} = {ranks.world_size} x {rows}{parts}; batch norm over {seen}{paper}")


def _seen(recipe: Recipe, rows: int) -> str:
    """Return how many pictures a batch norm normalizes over, of a rank's so many rows."""
    asked = recipe.model.bn_batch
    if asked == "sync":
        return f"all {recipe.data.global_batch_size // recipe.micro_batches}"
    return str(rows // recipe.micro_batches if asked == "micro_batch" else asked)


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU ({torch.get_num_threads()} threads)"


def check_classes(class_names: tuple[str, ...], store: Store) -> None:
    """Refuse a store whose classes are not those a model was trained on.

    Raises:
        RunError: names the difference.
    """
    if len(class_names) != store.num_classes:
        raise RunError(
            f"the model has {len(class_names)} classes and {store.path} has {store.num_classes}. "
            "Give the store the run was trained on, or one with the same classes"
        )
    if class_names != store.class_names:
        first = next(k for k, (a, b) in enumerate(zip(class_names, store.class_names, strict=True)) if a != b)
        raise RunError(
            f"class {first} was {class_names[first]!r} in training and is {store.class_names[first]!r} in "
            f"{store.path}. Give a store with the same classes in the same order"
        )


def score_lines(scored: str, scores: dict[str, float], labels: str | None, num_samples: int, console: Console) -> None:
    """Print what an evaluation came to.

    Args:
        scored: what was scored, on what.
        scores: as `evaluate`, or with `labels` as `evaluate_label_lists` returns them.
        labels: the label set, if not the split's own labels.
        num_samples: of the split.
        console: where to print.
    """
    accuracy = f"top-1 {scores['top1']:.2%}, top-5 {scores['top5']:.2%}"
    console.print(scored)
    if labels is None:
        accuracy += f", loss {scores['loss']:.3f}"
    else:
        console.print(f"labels      {labels}: {scores['num_samples']:,.0f} of {num_samples:,} pictures have any")
    console.print(f"            {accuracy}", style="bold")


def _reported(recipe: Recipe, top1: float) -> str:
    """Return the paper's top-1, and of what it is where the recipe is not what the paper trained."""
    found = f"{top1:.2%}, on its own data"
    if keys := unpublished_keys(recipe):
        found += f", for {published_name(recipe)} as published; {counted(len(keys), 'key differs', 'keys differ')} here"
    return found


def summary_lines(summary: dict[str, Any], recipe: Recipe, run: Path, console: Console) -> None:
    """Print the end of a training."""
    console.print(
        f"trained     val top-1 {summary['top1']:.2%} at the end, best {summary['best_top1']:.2%}", style="bold"
    )
    if recipe.paper is not None and recipe.paper.top1 is not None:
        console.print(f"paper       {_reported(recipe, recipe.paper.top1)}", soft_wrap=True)
    if summary.get("bad_pictures"):
        console.print(f"bad         {counted(summary['bad_pictures'], 'picture')} could not be used: see the log")
    console.print(
        f"speed       {summary['images_per_s']:,.0f} images/s, waiting for data {summary['data_wait_fraction']:.1%} "
        f"of training, {summary['wall_s']:.0f} s in all\n"
        f"run folder  {run}\n"
        f"curves      {run / 'curves.png'}",
        soft_wrap=True,
    )
