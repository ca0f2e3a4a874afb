"""What does augmentation cost? The fast path beside eager PyTorch and torchvision, on the same pictures.

Run `python -m benchmarks.augment`. "torchvision v2" does what a user without fastbot would write: a flip, `ColorJitter`
of hue, saturation and brightness (or brightness, contrast and saturation), float conversion and normalization, picture
by picture, on uint8. It has no PCA lighting and shifts hue instead of scaling it, so it does slightly less.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from torchvision.transforms import v2

from benchmarks import measure as method
from fastbot.distributed import pick_device
from pipelines.augment.build import Augment, build_augment
from pipelines.augment.reference import ReferenceAugment
from pipelines.batch import BatchPlan
from pipelines.plan import TrainPlan
from pipelines.spec import ContrastJitter, DataSpec, HsvJitter

PEER = "torchvision v2"
# Each with `ColorJitter`'s arguments. A hue shift of up to 0.2 turns is what scaling by 0.6 to 1.4 does to hue 0.5.
JITTERS = {
    "hsv": (HsvJitter(), {"hue": 0.2, "saturation": 0.4, "brightness": 0.4}),
    "contrast": (ContrastJitter(), {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4}),
}


def _plan(spec: DataSpec) -> BatchPlan:
    sizes = np.full(spec.global_batch_size, 500, np.int32)
    return TrainPlan(spec, sizes, sizes, seed=0).batch(0, 0)


def _torchvision(spec: DataSpec, jitter: dict[str, float], train: bool) -> Callable[[torch.Tensor], torch.Tensor]:
    mean, std = ([x / 255 for x in values] for values in (spec.mean, spec.std))
    normalize = [v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean, std)]
    transform = v2.Compose([v2.RandomHorizontalFlip(), v2.ColorJitter(**jitter), *normalize] if train else normalize)

    def run(pixels: torch.Tensor) -> torch.Tensor:
        return torch.stack([transform(picture) for picture in pixels.permute(0, 3, 1, 2)])

    return run


def _ours(name: str, augment: Augment, peer: str, pixels: torch.Tensor, plan: BatchPlan, inner: int) -> method.Case:
    def run() -> int:
        for _ in range(inner):
            augment(pixels, plan)
        return inner * len(pixels)

    return method.Case(name, run, peer)


def _cases(title: str, device: torch.device, batch_size: int, size: int, train: bool) -> list[method.Case]:
    jitter, ranges = JITTERS["hsv" if title == "normalize" else title]
    spec = DataSpec(global_batch_size=batch_size, crop_size=size, jitter=jitter)
    plan = _plan(spec)
    pixels = torch.randint(0, 256, (batch_size, size, size, 3), dtype=torch.uint8, device=device)
    peer = f"{title}, {PEER}"
    other = _torchvision(spec, ranges, train)

    def run_other() -> int:
        other(pixels)
        return len(pixels)

    cases = [method.Case(peer, run_other, peer)]
    if device.type == "cpu":  # the reference computes on the CPU
        eager = ReferenceAugment(spec, train=train, dtype=torch.float32)
        cases.append(_ours(f"{title}, eager float32", eager, peer, pixels, plan, 1))
    for dtype in (torch.float32, torch.float16 if device.type == "cuda" else torch.bfloat16):
        augment = build_augment(spec, device=device, dtype=dtype, train=train)
        name = f"{title}, fastbot {str(dtype).removeprefix('torch.')}"
        cases.append(_ours(name, augment, peer, pixels, plan, 10))
    return cases


def run(device: torch.device, batch_size: int = 64, size: int = 224, repeats: int = 5) -> list[method.Result]:
    """Measure both jitters, and evaluation's normalization, beside torchvision."""
    synchronize: Callable[[], object] = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    return [
        result
        for title in (*JITTERS, "normalize")
        for result in method.measure(
            "augment",
            _cases(title, device, batch_size, size, train=title != "normalize"),
            repeats=repeats,
            synchronize=synchronize,
        )
    ]


def measure(batch_size: int = 64, repeats: int = 5) -> list[dict[str, Any]]:
    """Return the results on the CPU as plain dicts."""
    return [asdict(result) for result in run(torch.device("cpu"), batch_size, repeats=repeats)]


def command(
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures a batch.")] = 64,
    size: Annotated[int, typer.Option(min=1, help="Height and width in pixels.")] = 224,
    threads: Annotated[int, typer.Option(min=1, help="Of torch and of fastbot.")] = torch.get_num_threads(),
    repeats: Annotated[int, typer.Option(min=1)] = 5,
    device: Annotated[str, typer.Option(help="cpu or cuda")] = "cuda" if torch.cuda.is_available() else "cpu",
    json_file: Annotated[Path | None, typer.Option("--json", help="Append one JSON line per result.")] = None,
) -> None:
    """Measure flip, colour jitter, lighting and normalization.

    Example: [bold]fastbot bench augment --threads 1[/]
    """
    torch.set_num_threads(threads)
    settings = {"batch_size": batch_size, "size": size, "threads": threads}
    results = run(pick_device(device), batch_size, size, repeats)
    title = f"augment, {batch_size} x {size} x {size} on {device}, {threads} threads"
    method.report(results, method.conditions() | settings, json_file, title)


if __name__ == "__main__":
    typer.run(command)
