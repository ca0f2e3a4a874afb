"""What does augmentation cost? The fast path beside eager PyTorch, torchvision and kornia, on the same pictures.

Run `python -m benchmarks.augment`. "torchvision v2" does what a user without fastbot would write: a flip, `ColorJitter`
of hue, saturation and brightness (or brightness, contrast and saturation), float conversion and normalization on uint8,
then erasing, then `MixUp` or `CutMix` of the batch. It has no PCA lighting and shifts hue instead of scaling it, so it
does slightly less. "per batch" has one draw for all pictures, which is not the same augmentation: it is stated as what
it is. "then torch" is our own stage without its last step, followed by that step in eager PyTorch.

"rsb" is RSB's stage: a flip, RandAugment, normalization, then mixup or CutMix. "timm" does the same by Pillow and in
torch: its own transforms behind the crop, and its `Mixup`. torchvision's `RandAugment` has other operations and
magnitudes, and interpolates tensors bilinearly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Annotated

import numpy as np
import torch
import typer
from PIL import Image
from torchvision.transforms import v2

from benchmarks import measure as method
from benchmarks.options import JsonFile, Repeats
from benchmarks.publishing import publish
from benchmarks.rungs.plan import RSB
from fastbot.distributed import pick_device
from pipelines.augment.build import Augment, build_augment
from pipelines.augment.reference import ReferenceAugment
from pipelines.batch import BatchPlan
from pipelines.plan import TrainPlan
from pipelines.spec import (
    ContrastJitter,
    CutMix,
    DataSpec,
    HsvJitter,
    Mixup,
    MixupCutMix,
    NoMix,
    RandAugment,
    RandomErasing,
)

PEER = "torchvision v2"
NUM_CLASSES = 1000
Transform = Callable[[torch.Tensor], torch.Tensor]
Step = Callable[[torch.Tensor, BatchPlan], torch.Tensor]

# `ColorJitter`'s arguments. A hue shift of up to 0.2 turns is what scaling by 0.6 to 1.4 does to hue 0.5.
HSV = {"hue": 0.2, "saturation": 0.4, "brightness": 0.4}
CONTRAST = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4}


@dataclass(frozen=True, slots=True)
class Scenario:
    """What is measured.

    Attributes:
        spec: with batch size and crop size left as they are.
        jitter: `ColorJitter`'s arguments; RandAugment goes without.
        train: False only normalizes.
        last: the last step in eager PyTorch, for the case "then torch"; None where there is none.
        mix: of torchvision; passes labels along.
    """

    spec: DataSpec
    jitter: dict[str, float]
    train: bool = True
    last: Step | None = None
    mix: v2.Transform | None = None


def _blend(images: torch.Tensor, plan: BatchPlan) -> torch.Tensor:
    lam = torch.tensor(plan.lam, dtype=images.dtype, device=images.device)[:, None, None, None]
    return torch.lerp(images.flip(0), images, lam)


def _cut(images: torch.Tensor, plan: BatchPlan) -> torch.Tensor:
    """Paste one rectangle for the batch, which is how the spec draws it."""
    top, left, height, width = plan.cut[0].tolist()
    inside = (..., slice(top, top + height), slice(left, left + width))
    images[inside] = images.flip(0)[inside]
    return images


def _erase(images: torch.Tensor, plan: BatchPlan) -> torch.Tensor:
    for image, (top, left, height, width) in zip(images, plan.erase.tolist(), strict=True):
        image[:, top : top + height, left : left + width].normal_()
    return images


def _scenarios(batch_size: int) -> dict[str, Scenario]:
    mixup = Mixup(group=batch_size)
    cutmix = CutMix(group=batch_size, draw="batch")
    erasing = RandomErasing(probability=0.25)
    rsb = RSB.model_copy(update={"mix": MixupCutMix(group=batch_size)})
    either = v2.RandomChoice([v2.MixUp(alpha=0.1, num_classes=NUM_CLASSES), v2.CutMix(num_classes=NUM_CLASSES)])
    return {
        "hsv": Scenario(DataSpec(), HSV),
        "contrast": Scenario(DataSpec(jitter=ContrastJitter()), CONTRAST),
        "normalize": Scenario(DataSpec(jitter=HsvJitter()), HSV, train=False),
        "mixup": Scenario(DataSpec(mix=mixup), HSV, last=_blend, mix=v2.MixUp(alpha=0.2, num_classes=NUM_CLASSES)),
        "cutmix": Scenario(DataSpec(mix=cutmix), HSV, last=_cut, mix=v2.CutMix(num_classes=NUM_CLASSES)),
        "erasing": Scenario(DataSpec(erasing=erasing), HSV, last=_erase),
        "rsb": Scenario(rsb, {}, mix=either),
    }


def _plan(spec: DataSpec) -> BatchPlan:
    sizes = np.full(spec.global_batch_size, 500, np.int32)
    return TrainPlan(spec, sizes, sizes, seed=0).batch(0, 0)


def _torchvision(scenario: Scenario, per_batch: bool) -> Transform:
    spec = scenario.spec
    mean, std = ([x / 255 for x in values] for values in (spec.mean, spec.std))
    steps = [v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean, std)]
    if scenario.train:
        steps = [v2.RandomHorizontalFlip(), _torchvision_colours(scenario), *steps]
        steps.append(v2.RandomErasing(spec.erasing.probability, value="random"))
    transform = v2.Compose(steps)

    def run(pixels: torch.Tensor) -> torch.Tensor:
        pictures = pixels.permute(0, 3, 1, 2)
        images = transform(pictures) if per_batch else torch.stack([transform(picture) for picture in pictures])
        if scenario.mix is None:
            return images
        labels = torch.zeros(len(images), dtype=torch.int64, device=images.device)
        mixed: torch.Tensor = scenario.mix(images, labels)[0]
        return mixed

    return run


def _torchvision_colours(scenario: Scenario) -> v2.Transform:
    if isinstance(scenario.spec.auto_augment, RandAugment):
        return v2.RandAugment(num_ops=2, magnitude=21, interpolation=v2.InterpolationMode.BILINEAR)  # 21 of 30: 7 of 10
    return v2.ColorJitter(**scenario.jitter)


def _timm(spec: DataSpec, size: int) -> Transform:
    """Return timm's transforms behind its crop, and its mixing."""
    mean, std = (tuple(x / 255 for x in values) for values in (spec.mean, spec.std))
    factory, mixup = import_module("timm.data.transforms_factory"), import_module("timm.data.mixup")
    _, operate, normalize = factory.transforms_imagenet_train(
        size, interpolation="bicubic", auto_augment="rand-m7-mstd0.5-inc1", mean=mean, std=std, separate=True
    )
    transform = v2.Compose([v2.RandomHorizontalFlip(), operate, normalize])
    mix = mixup.Mixup(mixup_alpha=0.1, cutmix_alpha=1.0, num_classes=NUM_CLASSES)

    def run(pixels: torch.Tensor) -> torch.Tensor:
        images = torch.stack([transform(Image.fromarray(picture)) for picture in pixels.numpy()])
        mixed: torch.Tensor = mix(images, torch.zeros(len(images), dtype=torch.int64))[0]
        return mixed

    return run


def _kornia(scenario: Scenario) -> Transform:
    """Return kornia's batched modules, which draw for each picture, on floats in [0, 1]."""
    augmentation = import_module("kornia.augmentation")
    spec = scenario.spec
    mean, std = (torch.tensor(values) / 255 for values in (spec.mean, spec.std))
    steps: list[torch.nn.Module] = [augmentation.Normalize(mean, std)]
    if scenario.train:
        colours = augmentation.ColorJitter(**scenario.jitter, p=1.0)
        if isinstance(spec.auto_augment, RandAugment):
            colours = augmentation.auto.RandAugment(n=2, m=21)
        steps = [augmentation.RandomHorizontalFlip(), colours, *steps]
    if spec.erasing.probability > 0:  # of one colour: kornia has none that draws pixels
        steps.append(augmentation.RandomErasing(p=spec.erasing.probability))
    if isinstance(spec.mix, Mixup):
        steps.append(augmentation.RandomMixUpV2(data_keys=["input"]))
    if isinstance(spec.mix, CutMix):
        steps.append(augmentation.RandomCutMixV2(data_keys=["input"]))
    modules = torch.nn.Sequential(*steps)

    def run(pixels: torch.Tensor) -> torch.Tensor:
        images: torch.Tensor = modules(pixels.permute(0, 3, 1, 2).float() / 255)
        return images

    return run


def _then_torch(spec: DataSpec, last: Step, device: torch.device, dtype: torch.dtype) -> Augment:
    bare = spec.model_copy(update={"mix": NoMix(), "erasing": RandomErasing()})
    first = build_augment(bare, device=device, dtype=dtype, train=True)
    return lambda pixels, plan: last(first(pixels, plan), plan)


def _case(name: str, transform: Transform, peers: list[str], pixels: torch.Tensor, inner: int) -> method.Case:
    def run() -> int:
        for _ in range(inner):
            transform(pixels)
        return inner * len(pixels)

    return method.Case(name, run, peers[0], other_peers=tuple(peers[1:]))


def _planned(augment: Augment, plan: BatchPlan) -> Transform:
    return lambda pixels: augment(pixels, plan)


def _others_on_a_cpu(
    scenario: Scenario, plan: BatchPlan, batch_size: int, size: int
) -> dict[str, tuple[Transform, int]]:
    if not isinstance(scenario.spec.auto_augment, RandAugment):  # which the reference leaves to Pillow
        eager = ReferenceAugment(scenario.spec, train=scenario.train, dtype=torch.float32)
        return {"eager float32": (_planned(eager, plan), 1)}
    if find_spec("timm") is None or batch_size % 2:  # timm mixes even batches alone
        return {}
    return {"timm": (_timm(scenario.spec, size), 1)}


def _cases(title: str, scenario: Scenario, device: torch.device, batch_size: int, size: int) -> list[method.Case]:
    spec = scenario.spec.model_copy(update={"global_batch_size": batch_size, "crop_size": size})
    plan = _plan(spec)
    pixels = torch.randint(0, 256, (batch_size, size, size, 3), dtype=torch.uint8, device=device)
    others = {
        PEER: (_torchvision(scenario, per_batch=False), 1),
        f"{PEER} per batch": (_torchvision(scenario, True), 1),
    }
    if find_spec("kornia") is not None:
        others["kornia"] = (_kornia(scenario), 1)
    if device.type == "cpu":
        others |= _others_on_a_cpu(scenario, plan, batch_size, size)
    if scenario.last is not None:
        others["fastbot, then torch"] = (_planned(_then_torch(spec, scenario.last, device, torch.float32), plan), 10)
    first = f"{title}, {PEER}"
    cases = [
        _case(f"{title}, {name}", transform, [first], pixels, inner) for name, (transform, inner) in others.items()
    ]
    for dtype in (torch.float32, torch.float16 if device.type == "cuda" else torch.bfloat16):
        augment = build_augment(spec, device=device, dtype=dtype, train=scenario.train)
        name = f"{title}, fastbot {str(dtype).removeprefix('torch.')}"
        cases.append(_case(name, _planned(augment, plan), [f"{title}, {peer}" for peer in others], pixels, 10))
    return cases


def run(device: torch.device, batch_size: int = 64, size: int = 224, repeats: int = 5) -> list[method.Result]:
    """Measure the jitters, evaluation's normalization, mixing, erasing and RSB's stage, each beside other people's."""
    synchronize: Callable[[], object] = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    return [
        result
        for title, scenario in _scenarios(batch_size).items()
        for result in method.measure(
            "augment",
            _cases(title, scenario, device, batch_size, size),
            method.Effort(repeats),
            synchronize=synchronize,
        )
    ]


def command(
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures a batch.")] = 64,
    size: Annotated[int, typer.Option(min=1, help="Height and width in pixels.")] = 224,
    threads: Annotated[int, typer.Option(min=1, help="Of torch and of fastbot.")] = torch.get_num_threads(),
    repeats: Repeats = 5,
    device: Annotated[str, typer.Option(help="cpu or cuda")] = "cuda" if torch.cuda.is_available() else "cpu",
    json_file: JsonFile = None,
) -> None:
    """Measure flip, colour jitter, lighting, RandAugment, normalization, erasing and mixing.

    Example: [bold]fastbot bench augment --threads 1[/]
    """
    torch.set_num_threads(threads)
    settings = {"batch_size": batch_size, "size": size, "threads": threads}
    results = run(pick_device(device), batch_size, size, repeats)
    title = f"augment, {batch_size} x {size} x {size} on {device}, {threads} threads"
    publish(results, settings, json_file, title)


if __name__ == "__main__":
    typer.run(command)
