"""What does augmentation cost a GPU? The stages of both papers beside a copy of their bytes, kornia and torchvision.

Run `python -m benchmarks.augment_gpu`. Times are the device's own, between CUDA events: the device is kept busy while
the host puts its work into the queue. So the host's share is not measured, as a training run does not see it, unless
a stage needs the host longer than that or waits for the device itself, as the peers that go picture by picture do.

- "copy": as many bytes moved as the final stage moves, read and written, by a copy within the device.
- "BoT": mirror, HSV jitter, lighting, normalization and mixup, one kernel.
- "RSB": RandAugment, normalization, and mixup or CutMix.
- "torchvision v2 per sample" and "kornia" do what RSB's stage does, but for the mixing, which both leave out;
  torchvision has no bicubic transforms of tensors, so its are bilinear;
  "torchvision v2 per batch" draws one operation for all pictures, which is another augmentation.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Annotated, Any

import numpy as np
import torch
import typer
from torchvision.transforms import v2

from benchmarks import measure as method
from benchmarks.options import JsonFile, Repeats
from benchmarks.publishing import publish
from fastbot.distributed import pick_device
from fastbot.errors import RunError
from pipelines.augment.build import build_augment
from pipelines.plan import TrainPlan
from pipelines.spec import DataSpec, HsvJitter, Mixup, MixupCutMix, NoJitter, RandAugment

SPECS: dict[str, dict[str, Any]] = {
    "BoT": {"jitter": HsvJitter(), "mix": Mixup()},
    "RSB": {"jitter": NoJitter(), "lighting_std": 0, "auto_augment": RandAugment(), "mix": MixupCutMix()},
}
# How long the queue is blocked in front of the events, in products of square matrices: some 50 ms of any GPU.
_HEAD_START, _SIDE = 40, 8192

Run = Callable[[torch.Tensor], object]


def _stage(name: str, pixels: torch.Tensor, dtype: torch.dtype) -> Run:
    num, size = pixels.shape[:2]
    spec = DataSpec(global_batch_size=num, crop_size=size, **SPECS[name])
    sizes = np.full(num, 500, np.int32)
    plan = TrainPlan(spec, sizes, sizes, seed=0).batch(0, 0)
    augment = build_augment(spec, device=pixels.device, dtype=dtype, train=True)
    return lambda pixels: augment(pixels, plan)


def _copy(pixels: torch.Tensor, dtype: torch.dtype) -> Run:
    moved = pixels.numel() * (1 + dtype.itemsize)  # a copy moves each byte twice
    source, target = (torch.empty(moved // 2, dtype=torch.uint8, device=pixels.device) for _ in range(2))
    return lambda _: target.copy_(source)


def _torchvision(dtype: torch.dtype, *, per_sample: bool) -> Run:
    spec = DataSpec()
    transform = v2.Compose(
        [
            v2.RandomHorizontalFlip(),
            v2.RandAugment(num_ops=2, magnitude=21, interpolation=v2.InterpolationMode.BILINEAR),
            v2.ToDtype(dtype, scale=True),
            v2.Normalize([x / 255 for x in spec.mean], [x / 255 for x in spec.std]),
        ]
    )

    def run(pixels: torch.Tensor) -> torch.Tensor:
        pictures = pixels.permute(0, 3, 1, 2)
        return torch.stack([transform(picture) for picture in pictures]) if per_sample else transform(pictures)

    return run


def _kornia() -> Run | None:
    try:
        augmentation = import_module("kornia.augmentation")
    except ImportError:
        return None
    spec = DataSpec()
    transform = torch.nn.Sequential(
        augmentation.RandomHorizontalFlip(),
        augmentation.auto.RandAugment(n=2, m=21),
        augmentation.Normalize(torch.tensor(spec.mean) / 255, torch.tensor(spec.std) / 255),
    )
    return lambda pixels: transform(pixels.permute(0, 3, 1, 2).float() / 255)


def _cases(pixels: torch.Tensor, dtype: torch.dtype) -> dict[str, Run]:
    cases = {"copy": _copy(pixels, dtype)}
    cases |= {name: _stage(name, pixels, dtype) for name in SPECS}
    cases["torchvision v2 per sample"] = _torchvision(dtype, per_sample=True)
    cases["torchvision v2 per batch"] = _torchvision(dtype, per_sample=False)
    kornia = _kornia()
    return cases if kornia is None else cases | {"kornia": kornia}


def _rate(run: Run, pixels: torch.Tensor, inner: int) -> float:
    """Return pictures a second of the device's time."""
    busy = torch.empty(_SIDE, _SIDE, dtype=torch.float16, device=pixels.device)
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    for _ in range(_HEAD_START):
        torch.mm(busy, busy)
    begin.record()
    for _ in range(inner):
        run(pixels)
    end.record()
    torch.cuda.synchronize()
    seconds: float = begin.elapsed_time(end) / 1000
    return inner * len(pixels) / seconds


def run(batch_size: int = 256, size: int = 224, repeats: int = 5, inner: int = 10) -> list[method.Result]:
    """Measure the stages in turn, as `measure.measure` does, by the device's clock.

    Args:
        batch_size, size: pictures, and their height and width in pixels.
        repeats: counted rounds.
        inner: batches a round of what takes one queue; the peers, which the host cannot queue, take one.

    Raises:
        RunError: there is no CUDA device.
    """
    device, dtype = pick_device("cuda"), torch.bfloat16
    pixels = torch.randint(0, 256, (batch_size, size, size, 3), dtype=torch.uint8, device=device)
    cases = _cases(pixels, dtype)
    rates: dict[str, list[float]] = {name: [] for name in cases}
    for turn in range(1 + repeats):
        for name, case in cases.items():
            rate = _rate(case, pixels, inner if name in ("copy", *SPECS) else 1)
            if turn > 0:
                rates[name].append(rate)
    peers = [("RSB", name) for name in cases if name not in ("copy", *SPECS)]
    pairs = [(name, "copy") for name in cases] + peers
    return [method.compared("augment_gpu", name, peer, rates, "images/s") for name, peer in pairs]


def command(
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures a batch.")] = 256,
    size: Annotated[int, typer.Option(min=1, help="Height and width in pixels.")] = 224,
    repeats: Repeats = 5,
    json_file: JsonFile = None,
) -> None:
    """Measure the augmentation of BoT and of RSB on a GPU, beside a copy of its bytes, torchvision and kornia."""
    try:
        results = run(batch_size, size, repeats)
    except RunError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
    settings = {"batch_size": batch_size, "size": size}
    title = f"augment_gpu, {batch_size} x {size} x {size}, bfloat16, device time"
    publish(results, settings, json_file, title)


if __name__ == "__main__":
    typer.run(command)
