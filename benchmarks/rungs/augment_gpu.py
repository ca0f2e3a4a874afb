"""What does augmentation cost a GPU? The stages of both papers beside a copy of their bytes, kornia and torchvision.

Times are the device's own, between CUDA events: the device is kept busy while the host puts the same number of batches
of each case into the queue, every one with new draws. So the host's share is not measured, as a training run does not
see it, unless a stage needs the host longer than that or waits for the device itself, as the peers that go picture by
picture do: such a case is marked (`host_bound`).

- "copy": as many bytes moved as the final stage moves, read and written, by a copy within the device.
- "BoT": mirror, HSV jitter, lighting, normalization and mixup, one kernel.
- "RSB": RandAugment, normalization, and mixup or CutMix.
- "torchvision v2 per sample" does what RSB's stage does; it has no bicubic transforms of tensors, so its are bilinear;
  "torchvision v2 per batch" draws one operation for all pictures, which is another augmentation;
  "kornia" leaves out the mixing, and delivers float32.

DALI is not among them: it works on streams of its own, which these events do not see.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import torch
import typer

from benchmarks import measure as method
from benchmarks.options import JsonFile, Repeats
from benchmarks.peers.peer import is_installed
from benchmarks.publishing import publish
from benchmarks.rungs import augment_peers
from benchmarks.rungs.augment_peers import Transform
from benchmarks.rungs.augment_scenarios import scenarios
from benchmarks.rungs.augment_stages import copying, drawing
from benchmarks.rungs.plan import BOT, RSB
from fastbot.distributed import pick_device
from pipelines.augment.build import build_augment

SPECS = {"BoT": BOT, "RSB": RSB}
# How long the queue is blocked in front of the events, in products of square matrices: some 50 ms of an H100, and four
# times as long where the host was not done by then.
_HEAD_STARTS, _SIDE = (40, 160), 8192


def cases(pixels: torch.Tensor, dtype: torch.dtype) -> dict[str, Transform]:
    """Return what is measured, by name.

    Args:
        pixels: uint8 (n, H, H, 3), on the device it shall run on.
        dtype: of what the stages make.
    """
    batch_size, size = pixels.shape[:2]
    found = {"copy": copying(pixels, dtype)}
    for name, spec in SPECS.items():
        own = spec.model_copy(update={"global_batch_size": batch_size, "crop_size": size})
        found[name] = drawing(build_augment(own, device=pixels.device, dtype=dtype, train=True), own)
    rsb = scenarios(batch_size)["rsb"]
    found["torchvision v2 per sample"] = augment_peers.torchvision(rsb, per_batch=False, dtype=dtype)
    found["torchvision v2 per batch"] = augment_peers.torchvision(rsb, per_batch=True, dtype=dtype)
    return found | ({"kornia": augment_peers.kornia(rsb)} if is_installed("kornia") else {})


def _rate(transform: Transform, pixels: torch.Tensor, batches: int) -> tuple[float, bool]:
    """Return pictures a second of the device's time, and whether that has waits for the host in it."""
    busy = torch.empty(_SIDE, _SIDE, dtype=torch.float16, device=pixels.device)
    for head_start in _HEAD_STARTS:
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        for _ in range(head_start):
            torch.mm(busy, busy)
        begin.record()
        for _ in range(batches):
            transform(pixels)
        end.record()
        host_bound: bool = begin.query()  # type: ignore[no-untyped-call]  # the device has begun before the host was done
        torch.cuda.synchronize()
        if not host_bound:
            break
    seconds: float = begin.elapsed_time(end) / 1000
    return batches * len(pixels) / seconds, host_bound


def run(batch_size: int = 256, size: int = 224, repeats: int = 5, batches: int = 10) -> list[method.Result]:
    """Measure the stages in turn, as `measure.measure` does, by the device's clock.

    Args:
        batch_size, size: pictures, and their height and width in pixels.
        repeats: counted rounds.
        batches: of each case in each round.

    Raises:
        RunError: there is no CUDA device.
    """
    device, dtype = pick_device("cuda"), torch.bfloat16
    pixels = torch.randint(0, 256, (batch_size, size, size, 3), dtype=torch.uint8, device=device)
    measured = cases(pixels, dtype)
    rates: dict[str, list[float]] = {name: [] for name in measured}
    host_bound = dict.fromkeys(measured, False)
    for turn in range(1 + repeats):
        for name, transform in measured.items():
            rate, is_host_bound = _rate(transform, pixels, batches)
            if turn > 0:
                rates[name].append(rate)
                host_bound[name] |= is_host_bound
    peers = [("RSB", name) for name in measured if name not in ("copy", *SPECS)]
    pairs = [(name, "copy") for name in measured] + peers
    return [
        replace(
            method.compared("augment_gpu", name, peer, rates, "images/s"),
            details={"host_bound": host_bound[name]},
            notes="waited for the host: the device's own time is less" if host_bound[name] else "",
        )
        for name, peer in pairs
    ]


def command(
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures a batch.")] = 256,
    size: Annotated[int, typer.Option(min=1, help="Height and width in pixels.")] = 224,
    repeats: Repeats = 5,
    json_file: JsonFile = None,
) -> None:
    """Measure the augmentation of BoT and of RSB on a GPU, beside a copy of its bytes, torchvision and kornia."""
    results = run(batch_size, size, repeats)
    settings = {"batch_size": batch_size, "size": size}
    title = f"augment_gpu, {batch_size} x {size} x {size}, bfloat16, device time"
    publish(results, settings, json_file, title, device="cuda")
