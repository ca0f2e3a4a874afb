"""`fastbot predict`: what a run's network sees in pictures."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fastbot.cli.scoring import Checkpointed, CropRatio, Flipped, Interpolated, Rounding, Size
from fastbot.cli.train import BackendName, DeviceName

if TYPE_CHECKING:
    import torch
    from torch import nn

    from datasets_tools.errors import PictureError
    from datasets_tools.pictures import Picture, Policy
    from fastbot.evaluation.crop import Crop
    from fastbot.precision import Precision
    from fastbot.recipe import Recipe
    from fastbot.runs import RunFolder
    from pipelines.pipeline import Place

# Pictures at a time: what a small GPU takes of any network, and few enough to print as they come.
_AT_A_TIME = 64

_Guesses = Sequence[tuple[str, float]]  # class names and their probabilities, best first
_Say = Callable[[str, _Guesses], None]


class ExifName(StrEnum):
    """What the EXIF orientation of a picture does."""

    apply = "apply"
    ignore = "ignore"


@dataclass(frozen=True, slots=True)
class _Asked:
    """Whose network, and how pictures are to reach it: `recipe` has the crop that is asked for, `trained` its own."""

    run: RunFolder
    checkpoint: str
    trained: Recipe
    recipe: Recipe
    crop: Crop
    backend: str
    device: str


@dataclass(frozen=True, slots=True)
class _Predictor:
    """A network in evaluation mode, and how pictures reach it."""

    network: nn.Module
    class_names: tuple[str, ...]
    recipe: Recipe
    place: Place
    precision: Precision
    policy: Policy


def predict(
    run: Annotated[Path, typer.Argument(help="A run folder made by `fastbot train` or `fastbot import`.")],
    images: Annotated[
        list[str], typer.Argument(metavar="IMAGE...", help="Pictures, or folders of them; paths or URLs.")
    ],
    checkpoint: Checkpointed = "best",
    top: Annotated[int, typer.Option(min=1, help="How many classes to print of each picture.")] = 5,
    size: Size = None,
    crop_ratio: CropRatio = None,
    rounding: Rounding = None,
    interpolation: Interpolated = None,
    flip: Flipped = None,
    exif: Annotated[
        ExifName, typer.Option(help="Turn pictures as their EXIF orientation says, or `ignore` it as ImageNet does.")
    ] = ExifName.apply,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a picture, one a line.")] = False,
    backend: Annotated[
        BackendName, typer.Option(help="What decodes the pictures; auto takes turbo, or torch without it.")
    ] = BackendName.auto,
    device: Annotated[DeviceName, typer.Option(help="What computes.")] = DeviceName.auto,
) -> None:
    """Print the most probable classes of pictures.

    A picture is prepared as `fastbot convert` would and cropped as `fastbot eval` would. One that cannot be used is
    named, the others go on, and the exit code is 1.

    Example: [bold]fastbot predict demo/run cat.jpg holidays[/]
    """
    from datasets_tools.pictures import Policy
    from fastbot.cli.pictures import find_pictures
    from fastbot.cli.scoring import asked_crop, with_crop
    from fastbot.runs import RunFolder

    folder = RunFolder(run)
    trained = folder.recipe()
    crop = asked_crop(trained, size, crop_ratio, rounding, interpolation)
    asked = _Asked(folder, checkpoint, trained, with_crop(trained, crop, _AT_A_TIME), crop, backend.value, device.value)
    predictor = _load(asked, Policy(exif=exif.value), flip=trained.run.eval_flip if flip is None else flip)
    found = find_pictures(images)
    num_bad = 0
    while chunk := list(islice(found, _AT_A_TIME)):
        num_bad += _answer(predictor, chunk, top, _say_json if as_json else _say_lines)
    raise typer.Exit(1 if num_bad else 0)


def _load(asked: _Asked, policy: Policy, *, flip: bool) -> _Predictor:
    import torch  # which takes seconds

    from fastbot.build import image_dtype_of, load_network, scoring_precision_of
    from fastbot.cli.scoring import check_size
    from fastbot.distributed import cores, pick_device
    from fastbot.evaluate import FlipAveraged
    from pipelines.backends.choose import choose
    from pipelines.pipeline import Place

    device = pick_device(asked.device)
    loaded = asked.run.checkpoints.load(asked.checkpoint)
    network = load_network(asked.recipe, loaded, device)
    precision = scoring_precision_of(asked.recipe, device)
    check_size(network, asked.trained, asked.crop, precision, device)
    # Decoding on a GPU takes seconds to begin: not for a few pictures, unless asked for.
    decoder = choose(asked.backend, torch.device("cpu") if asked.backend == "auto" else device).name
    return _Predictor(
        network=FlipAveraged(network) if flip else network,
        class_names=loaded.identity.class_names,
        recipe=asked.recipe,
        place=Place(decoder, device, image_dtype_of(asked.recipe, device), num_threads=cores(), on_bad_image="skip"),
        precision=precision,
        policy=policy,
    )


def _answer(predictor: _Predictor, found: Sequence[str | PictureError], top: int, say: _Say) -> int:
    """Print what is seen in each picture, in order, and return how many could not be used."""
    from datasets_tools.errors import PictureError
    from fastbot.cli.pictures import read_picture

    def prepared(location: str | PictureError) -> Picture | PictureError:
        return location if isinstance(location, PictureError) else read_picture(location, predictor.policy)

    with ThreadPoolExecutor(predictor.place.num_threads) as pool:
        outcomes = list(pool.map(prepared, found))
    good = [outcome for outcome in outcomes if not isinstance(outcome, PictureError)]
    probabilities = _probabilities(predictor, good) if good else {}
    num_bad = 0
    for outcome in outcomes:
        if isinstance(outcome, PictureError):
            print(f"error: {_printable(str(outcome))}", file=sys.stderr, flush=True)
        elif outcome.info.key not in probabilities:
            print(f"error: {_printable(outcome.info.key)}: cannot be decoded, see above", file=sys.stderr, flush=True)
        else:
            say(outcome.info.key, _best(probabilities[outcome.info.key], predictor.class_names, top))
            continue
        num_bad += 1
    return num_bad


def _probabilities(predictor: _Predictor, pictures: Sequence[Picture]) -> dict[str, torch.Tensor]:
    """Return the probability of each class, float32 (K,), by picture; without those that the backend cannot decode.

    A network trained to say yes or no to each class (binary cross entropy) gives each one a probability of its own.
    """
    import torch

    from fastbot.cli.pictures import write_pictures
    from fastbot.errors import RunError
    from pipelines.pipeline import open_eval

    data = predictor.recipe.data
    spec = data.model_copy(update={"eval": data.eval.model_copy(update={"global_batch_size": len(pictures)})})
    with tempfile.TemporaryDirectory(prefix="fastbot-") as folder, torch.no_grad():
        split = write_pictures(Path(folder), pictures)
        with closing(open_eval(split, spec, len(predictor.class_names), predictor.place)) as pipeline:
            (batch,) = pipeline.batches()
            with predictor.precision.autocast():
                logits = predictor.network(batch.images).float()
    if not logits.isfinite().all():
        raise RunError(f"{predictor.recipe.model.name} puts out nan or infinity: its training diverged")
    each_class = predictor.recipe.loss.kind == "bce"
    probabilities = (logits.sigmoid() if each_class else logits.softmax(dim=1)).cpu()
    counted = (batch.weight > 0).tolist()
    rows = zip(pictures, probabilities, counted, strict=True)
    return {picture.info.key: row for picture, row, is_there in rows if is_there}


def _best(probabilities: torch.Tensor, class_names: Sequence[str], top: int) -> _Guesses:
    values, labels = probabilities.topk(min(top, len(class_names)))
    return [(class_names[label], value) for label, value in zip(labels.tolist(), values.tolist(), strict=True)]


def _say_lines(location: str, guesses: _Guesses) -> None:
    lines = [f"{probability:10.2%}  {_printable(name)}" for name, probability in guesses]
    print("\n".join([_printable(location), *lines]), flush=True)


def _say_json(location: str, guesses: _Guesses) -> None:
    best = [{"class": name, "probability": round(probability, 6)} for name, probability in guesses]
    print(json.dumps({"picture": location, "predictions": best}), flush=True)


def _printable(text: str) -> str:
    """Return a name without control characters: file names may hold any."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
