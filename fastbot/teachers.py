"""Teachers by name: a run of fastbot, or a network with the weights of the library it comes from."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from fastbot.checkpoint import Checkpoint, read_checkpoint
from fastbot.distillation import Normalization, Teacher
from fastbot.errors import RecipeError
from fastbot.precision import DTYPES, Format
from fastbot.pretrained import find_pretrained
from fastbot.runs import RunFolder
from fastbot.specs import TeacherSpec
from pipelines.spec import DataSpec

_LIBRARIES = ("timm:", "torchvision:")


@dataclass(frozen=True, slots=True)
class TeacherIdentity:
    """Which weights taught, for a run's records.

    Attributes:
        teacher: as the recipe names it.
        weights: the checkpoint folder, or what the library calls the weights.
        sha256: of all weights and statistics by name, whatever file they came from; see `weights_digest`.
    """

    teacher: str
    weights: str
    sha256: str


@dataclass(frozen=True, slots=True)
class _Trained:
    """A trained network on the CPU, what its input was normalized with, and where it is from."""

    network: nn.Module
    normalization: Normalization
    weights: str


def load_teacher(
    spec: TeacherSpec,
    class_names: Sequence[str],
    data: DataSpec,
    device: torch.device,
    student_precision: Format,
) -> tuple[Teacher, TeacherIdentity]:
    """Load a recipe's teacher; every rank does it by itself.

    Nothing is drawn from torch's global generator: a student starts with the same weights with and without a teacher.

    Args:
        spec: which teacher, and in which precision.
        class_names: of the student's store.
        data: the student's, whose images the teacher will see; where the teacher was trained with another
            normalization it converts them.
        device: where batches are.
        student_precision: of the step.

    Raises:
        RecipeError: there is nothing of that name, or its classes are not the store's.
        CheckpointError: the run has no usable checkpoint.
        ModelError: the library has no such weights, or cannot fetch them.
    """
    with torch.random.fork_rng(devices=[]):
        load = _from_library if spec.teacher.startswith(_LIBRARIES) else _from_run
        trained = load(spec.teacher, tuple(class_names))
    identity = TeacherIdentity(spec.teacher, trained.weights, weights_digest(trained.network.state_dict()))
    dtype = DTYPES[student_precision if spec.precision == "student" else spec.precision]
    given = Normalization(data.mean, data.std)
    return Teacher(trained.network, device, dtype, trained.normalization, given), identity


def weights_digest(weights: Mapping[str, Tensor]) -> str:
    """Return a sha256 over names, types, shapes and values, the names sorted.

    Unlike that of a file it does not depend on how weights are stored, which is the libraries' business.
    """
    digest = hashlib.sha256()
    for name in sorted(weights):
        tensor = weights[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _from_library(name: str, class_names: tuple[str, ...]) -> _Trained:
    pretrained = find_pretrained(name)
    if pretrained.num_classes != len(class_names):
        raise RecipeError(
            f"teacher {name} ({pretrained.weights}) has {pretrained.num_classes} classes and the store has "
            f"{len(class_names)}. Give distillation.teacher a run that was trained on this store"
        )
    normalization = Normalization(pretrained.mean, pretrained.std)
    return _Trained(pretrained.load(), normalization, pretrained.weights)


def _from_run(name: str, class_names: tuple[str, ...]) -> _Trained:
    from fastbot.build import load_network  # at the top it would be a circle: build makes criteria of teachers

    run, checkpoint = _find(name)
    recipe = run.recipe()
    _check_class_names(name, checkpoint.identity.class_names, class_names)
    network = load_network(recipe, checkpoint, torch.device("cpu"))
    return _Trained(network, Normalization(recipe.data.mean, recipe.data.std), str(checkpoint.path))


def _find(name: str) -> tuple[RunFolder, Checkpoint]:
    """Return the run of a run folder or of a checkpoint folder in it, and that checkpoint or the run's best."""
    path = Path(name).expanduser().absolute()
    if (path / "checkpoint.json").is_file():
        return RunFolder(path.parent.parent), read_checkpoint(path.resolve())
    run = RunFolder(path)
    if (path / "recipe.toml").is_file():
        return run, run.checkpoints.load("best")
    found = "is neither a run folder nor a checkpoint folder in one" if path.exists() else "is not there"
    raise RecipeError(
        f"distillation.teacher {name} {found}. Train the teacher first: fastbot train RECIPE --data STORE --out {name}"
        "; or name a network with its library's weights, timm:NAME or torchvision:NAME"
    )


def _check_class_names(name: str, theirs: tuple[str, ...], ours: tuple[str, ...]) -> None:
    if len(theirs) != len(ours):
        raise RecipeError(
            f"teacher {name} has {len(theirs)} classes and the store has {len(ours)}. "
            "Give distillation.teacher a run that was trained on this store"
        )
    for label, (their, our) in enumerate(zip(theirs, ours, strict=True)):
        if their != our:
            raise RecipeError(
                f"class {label} of teacher {name} is {their!r}, that of the store is {our!r}. "
                "Give distillation.teacher a run that was trained on the same classes in the same order"
            )
