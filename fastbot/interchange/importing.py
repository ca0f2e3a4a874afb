"""Weights of other libraries as a run folder, which evaluations, predictions and students take like any other."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from fastbot import __version__
from fastbot.build import model_on
from fastbot.checkpoint import Conditions, Identity
from fastbot.errors import CheckpointError, ModelError, RunError
from fastbot.interchange.aside import whole_or_absent
from fastbot.interchange.counterparts import is_same_network
from fastbot.interchange.trained import normalized
from fastbot.interchange.weight_files import WeightsFile, check_fit, read_weights
from fastbot.models.registry import names as own_models
from fastbot.models.registry import preprocessing
from fastbot.pretrained import Pretrained, find_pretrained
from fastbot.recipe import Recipe
from fastbot.recipe_files import override_recipe
from fastbot.runs import RunFolder
from fastbot.specs import BinaryCrossEntropySpec, CrossEntropySpec, Duration, LossSpec, ModelSpec
from pipelines.spec import DataSpec, EvalSpec

_CPU = torch.device("cpu")

# torchvision's own weights of these two were trained with (x - 127.5) / 127.5. With them it builds networks that turn
# the stated normalization into that one (`transform_input`); ours take it directly.
_TRANSFORMING = ("torchvision:inception_v3", "torchvision:googlenet")
# Auxiliary classifiers, which only training uses.
_AUXILIARY = ("AuxLogits.", "aux1.", "aux2.")

# What texts of an export's metadata mean for a recipe; the first also stands for none.
_BLURRED = {"false": False, "true": True}
_LOSSES: dict[str, LossSpec] = {"softmax": CrossEntropySpec(), "sigmoid": BinaryCrossEntropySpec()}
_Meaning = TypeVar("_Meaning")

# Logits through the library's network and through ours, as a share of the largest: the same kernels in both.
_TOLERANCE = 1e-4


@dataclass(frozen=True, slots=True)
class Request:
    """What to import.

    Attributes:
        name: `torchvision:NAME`, `timm:NAME`, also with a weights tag (`timm:resnet50.a1_in1k`), or one of ours.
        file: of weights; None takes those that the library publishes.
        entry: of the file; see `read_weights`.
        class_names: by label, where they were given.
        class_names_of_1000: what 1000 classes are called where nothing says it.
        overrides: `key.sub=value` changes to the run's recipe.
    """

    name: str
    file: Path | None = None
    entry: str | None = None
    class_names: tuple[str, ...] | None = None
    class_names_of_1000: tuple[str, ...] = ()
    overrides: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Imported:
    """What was imported.

    Attributes:
        recipe: of the run.
        class_names: by label.
        origin: where the weights are from.
        notes: what a person should know about them.
    """

    recipe: Recipe
    class_names: tuple[str, ...]
    origin: str
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Weights:
    """Weights, and all that is known of them; `library` is where they can be compared with the library's network."""

    values: dict[str, Tensor]
    origin: str
    num_classes: int | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    library: tuple[Pretrained, nn.Module] | None = None


def import_run(request: Request, out: Path) -> Imported:
    """Make a run of somebody's weights, with one checkpoint, `step-00000000`.

    Args:
        request: what to import.
        out: the run folder to make.

    Raises:
        ModelError: there is no such model, the library has no weights for it or cannot fetch them, or it says nothing
            of the pictures that they expect.
        CheckpointError: the file cannot be read, or holds something else than this model's weights.
        RecipeError: an override is wrong.
        RunError: `out` is taken, or nothing says what the classes are called.
    """
    _check_free(out)
    weights = _of_file(request, request.file) if request.file else _of_library(request.name)
    class_names = _class_names(request, weights)
    recipe = override_recipe(_recipe(request.name, weights), request.overrides, request.name)
    network = model_on(recipe, len(class_names), _CPU)
    values = _without_auxiliary(weights.values, network)
    check_fit(values, network, weights.origin, f"{recipe.model.name} with {len(class_names):,} classes")
    network.load_state_dict(values, strict=False)  # their names are checked; batches may not be counted
    network.eval()
    _check_takes(network, recipe)
    if weights.library is not None:
        _check_logits(network, recipe, *weights.library)
    with whole_or_absent(out) as aside:
        aside.mkdir()
        run = RunFolder(aside)
        run.create(recipe, request.overrides, resume=False)
        run.checkpoints.save(0, network, {}, _identity(recipe, class_names), best=True)
    left_out = "without its auxiliary classifier, which only training uses"
    notes = weights.notes if len(values) == len(weights.values) else (*weights.notes, left_out)
    return Imported(recipe, class_names, weights.origin, notes)


def _check_free(out: Path) -> None:
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise RunError(f"{out} is already there. Choose another --out")


def _of_library(name: str) -> _Weights:
    if ":" not in name and name not in own_models():
        raise ModelError(
            f"{name} does not say whose it is: take torchvision:{name} or timm:{name}, or --weights and a model of ours"
        )
    if ":" not in name:
        raise ModelError(
            f"nobody publishes weights of fastbot's {name}. Give a file with --weights, or a library's model: "
            "torchvision:NAME or timm:NAME"
        )
    published = find_pretrained(name)
    try:
        network = published.load()
    except ModelError as error:
        error.add_note(f"Or bring the file alone: fastbot import {name} --weights FILE")
        raise
    return _Weights(network.state_dict(), published.weights, published.num_classes, library=(published, network))


def _without_auxiliary(weights: dict[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """Return weights without those of auxiliary classifiers that the network does not have."""
    own = network.state_dict()
    return {name: tensor for name, tensor in weights.items() if name in own or not name.startswith(_AUXILIARY)}


def _of_file(request: Request, path: Path) -> _Weights:
    file = read_weights(path, request.entry)
    metadata = file.metadata if "fastbot_version" in file.metadata else {}  # that of another's file says other things
    trained_as, asked = metadata.get("model"), _architecture(request.name)
    if trained_as is not None and not is_same_network(trained_as, asked):
        raise CheckpointError(f"{path} holds the weights of {trained_as}, which is another network than {asked}")
    return _Weights(file.weights, str(path), metadata=metadata, notes=tuple(_notes(file)))


def _notes(file: WeightsFile) -> list[str]:
    notes = [f"taken from its entry {file.entry}"] if file.entry else []
    if file.others:
        notes.append(f"the file has other weights too, in {', '.join(file.others)}: --entry takes them")
    return notes


def _class_names(request: Request, weights: _Weights) -> tuple[str, ...]:
    names = request.class_names or _stated_class_names(weights)
    if not names and weights.num_classes in (None, len(request.class_names_of_1000)):
        names = request.class_names_of_1000
    if weights.num_classes in (None, len(names)):
        return names
    given = f"--classes names {len(names):,}" if names else "nothing says what they are called"
    raise RunError(
        f"{weights.origin} tells {weights.num_classes:,} classes apart, and {given}. "
        "Give --classes a store with the same classes in the same order, or a file with one name a line"
    )


def _stated_class_names(weights: _Weights) -> tuple[str, ...]:
    """Return the class names in the metadata of a file, none where it has no metadata."""
    names = _stated(weights, "class_names") if weights.metadata else []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise _damaged(weights, "class_names")
    return tuple(names)


def _stated(weights: _Weights, name: str) -> Any:
    """Return a value of a file's metadata."""
    try:
        return json.loads(weights.metadata[name])
    except (KeyError, ValueError) as error:
        raise _damaged(weights, name) from error


def _damaged(weights: _Weights, name: str) -> CheckpointError:
    return CheckpointError(f"{weights.origin}: {name} in its metadata is missing or damaged. Export the file again")


def _architecture(name: str) -> str:
    """Return a model's name without its weights tag."""
    return name.partition(".")[0] if name.startswith("timm:") else name


def _recipe(name: str, weights: _Weights) -> Recipe:
    """Return the recipe of a run of no training: the model, and the pictures as it wants them."""
    return Recipe(
        name=name,
        about=f"not trained here: the weights of {weights.origin}",
        epochs=Duration(value=0),
        model=ModelSpec(name=_architecture(name), init="default", blur_pool=_one_of(_BLURRED, "blur_pool", weights)),
        data=_data_of_metadata(weights) if weights.metadata else _data_of_library(name),
        loss=_one_of(_LOSSES, "probabilities", weights),
    )


def _one_of(meanings: Mapping[str, _Meaning], name: str, weights: _Weights) -> _Meaning:
    """Return what a text of the metadata means, the first meaning where it is not there: others' files have none."""
    stated = weights.metadata.get(name, next(iter(meanings)))
    if stated not in meanings:
        raise _damaged(weights, name)
    return meanings[stated]


def _data_of_library(name: str) -> DataSpec:
    wanted = preprocessing(name)
    mean, std = ((127.5,) * 3, (127.5,) * 3) if name in _TRANSFORMING else (wanted.mean, wanted.std)
    evaluation = EvalSpec(
        resize_size=wanted.resize_size, crop_size=wanted.crop_size, interpolation=wanted.interpolation
    )
    return DataSpec(mean=mean, std=std, crop_size=wanted.crop_size, eval=evaluation)


def _data_of_metadata(weights: _Weights) -> DataSpec:
    stated = {name: _stated(weights, name) for name in ("mean", "std", "crop_size", "resize_size")}
    evaluation = {name: stated.pop(name) for name in ("crop_size", "resize_size")}
    evaluation["interpolation"] = weights.metadata.get("interpolation")
    try:
        return DataSpec.model_validate({**stated, "crop_size": evaluation["crop_size"], "eval": evaluation})
    except ValidationError as error:
        location = error.errors()[0]["loc"]
        raise _damaged(weights, next(str(key) for key in reversed(location) if isinstance(key, str))) from error


@torch.no_grad()
def _check_takes(network: nn.Module, recipe: Recipe) -> None:
    """Try one empty picture: some networks take one size only, and an override may ask for another."""
    size = recipe.data.eval.crop_size
    try:
        network(torch.zeros(1, 3, size, size))
    except (RuntimeError, AssertionError, ValueError) as error:
        raise ModelError(
            f"{recipe.model.name} does not take pictures of {size} px: {error}. Change data.eval.crop_size"
        ) from error


@torch.no_grad()
def _check_logits(ours: nn.Module, recipe: Recipe, published: Pretrained, theirs: nn.Module) -> None:
    """Check that the network is the library's: as each wants them normalized, both see the same pictures."""
    size = recipe.data.eval.crop_size
    pixels = torch.randint(256, (2, 3, size, size), generator=torch.Generator().manual_seed(0))

    def logits(network: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
        constants = (torch.tensor(values).view(3, 1, 1) for values in (mean, std))
        found: Tensor = network(normalized(pixels, *constants))
        return found

    expected = logits(theirs, published.mean, published.std)
    difference = float((logits(ours, recipe.data.mean, recipe.data.std) - expected).abs().max() / expected.abs().max())
    if not difference <= _TOLERANCE:
        raise ModelError(
            f"{published.name} cannot be imported: {recipe.model.name} with its weights puts out other logits than the "
            f"library's network (by {difference:.2g} of the largest). Take another model; as a teacher, name it itself"
        )


def _identity(recipe: Recipe, class_names: tuple[str, ...]) -> Identity:
    """Return what says of a checkpoint that no training of this recipe made it: nothing resumes from it."""
    conditions = Conditions(
        versions={"fastbot": __version__, "torch": torch.__version__},
        num_threads=torch.get_num_threads(),
        world_size=1,
        device="cpu",
        backend="none",
    )
    return Identity("imported", "imported", recipe.resolved().as_dict(), class_names, conditions)
