"""What does augmentation cost? The fast path beside eager PyTorch, torchvision and kornia, on the same pictures.

Run `python -m benchmarks augment`. "torchvision v2" does what a user without fastbot would write: a flip, `ColorJitter`
of hue, saturation and brightness (or brightness, contrast and saturation), float conversion and normalization on uint8,
then erasing, then `MixUp` or `CutMix` of the batch. It has no PCA lighting and shifts hue instead of scaling it, so it
does slightly less. "per batch" has one draw for all pictures, which is not the same augmentation: it is stated as what
it is. "then torch" is our own stage without its last step, followed by that step in eager PyTorch.

"rsb" is RSB's stage: a flip, RandAugment, normalization, then mixup or CutMix. "timm" does the same by Pillow and in
torch: its own transforms behind the crop, and its `Mixup`. torchvision's `RandAugment` has other operations and
magnitudes, and interpolates tensors bilinearly. "DALI" does it with `color_twist` and `crop_mirror_normalize` on pixels
that it is given; of erasing and mixing it has nothing.

"copy" moves as many bytes within memory as our stage with that output reads and writes, which is what no such
stage can be faster than. Small batches stay in a processor's cache, where that is far beyond its memory's rate.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.util import find_spec
from typing import Annotated

import numpy as np
import torch
import typer

from benchmarks import measure as method
from benchmarks.options import JsonFile, Repeats
from benchmarks.publishing import publish
from benchmarks.rungs import augment_peers
from benchmarks.rungs.augment_peers import Transform
from benchmarks.rungs.augment_scenarios import Scenario, Step, scenarios
from fastbot.distributed import pick_device
from fastbot.errors import RunError
from pipelines.augment.build import Augment, build_augment
from pipelines.augment.reference import ReferenceAugment
from pipelines.batch import BatchPlan
from pipelines.plan import TrainPlan
from pipelines.spec import (
    DataSpec,
    NoMix,
    RandAugment,
    RandomErasing,
)

PEER = "torchvision v2"
_DALI_SCENARIOS = "hsv", "contrast", "normalize"
_ITEM_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}


def _plan(spec: DataSpec) -> BatchPlan:
    sizes = np.full(spec.global_batch_size, 500, np.int32)
    return TrainPlan(spec, sizes, sizes, seed=0).batch(0, 0)


def _copy(pixels: torch.Tensor, dtype: torch.dtype) -> Transform:
    moved = pixels.numel() * (1 + dtype.itemsize)  # a copy moves each byte twice
    source, target = (torch.zeros(moved // 2, dtype=torch.uint8, device=pixels.device) for _ in range(2))
    return lambda _: target.copy_(source)


def _with_bandwidth(results: Sequence[method.Result], size: int) -> list[method.Result]:
    """Say of our stages and of copies how many bytes they move in a second, read and written."""
    described = []
    for result in results:
        what, _, dtype = result.case.rpartition(", ")[2].partition(" ")
        if what in ("fastbot", "copy") and dtype in _ITEM_BYTES:
            rate = result.value * 3 * size**2 * (1 + _ITEM_BYTES[dtype]) / 1e9
            result = replace(result, notes=f"{rate:.3g} GB/s", details={"gigabytes_per_s": rate})
        described.append(result)
    return described


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
    return {"timm": (augment_peers.timm(scenario.spec, size), 1)}


def _cases(title: str, scenario: Scenario, device: torch.device, batch_size: int, size: int) -> list[method.Case]:
    spec = scenario.spec.model_copy(update={"global_batch_size": batch_size, "crop_size": size})
    plan = _plan(spec)
    pixels = torch.randint(0, 256, (batch_size, size, size, 3), dtype=torch.uint8, device=device)
    others = {
        PEER: (augment_peers.torchvision(scenario, per_batch=False), 1),
        f"{PEER} per batch": (augment_peers.torchvision(scenario, True), 1),
    }
    if find_spec("kornia") is not None:
        others["kornia"] = (augment_peers.kornia(scenario), 1)
    if find_spec("nvidia") is not None and title in _DALI_SCENARIOS:
        others["DALI"] = (augment_peers.dali(scenario, pixels), 1)
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
        written = str(dtype).removeprefix("torch.")
        beside = [f"{title}, {peer}" for peer in (*others, f"copy {written}")]
        cases.append(_case(f"{title}, fastbot {written}", _planned(augment, plan), beside, pixels, 10))
        cases.append(_case(beside[-1], _copy(pixels, dtype), beside[-1:], pixels, 10))
    return cases


def run(
    device: torch.device, batch_size: int = 64, size: int = 224, repeats: int = 5, titles: Sequence[str] = ()
) -> list[method.Result]:
    """Measure the jitters, evaluation's normalization, mixing, erasing and RSB's stage, each beside other people's.

    Args:
        device: where.
        batch_size, size: pictures, and their height and width in pixels.
        repeats: counted rounds.
        titles: of the scenarios; none: all.

    Raises:
        RunError: there is no such scenario.
    """
    known = scenarios(batch_size)
    if unknown := [title for title in titles if title not in known]:
        raise RunError(f"--only {unknown[0]}: there is no such scenario; there are {', '.join(known)}")
    synchronize: Callable[[], object] = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    results = [
        result
        for title in titles or known
        for result in method.measure(
            "augment",
            _cases(title, known[title], device, batch_size, size),
            method.Effort(repeats),
            synchronize=synchronize,
        )
    ]
    return _with_bandwidth(results, size)


def command(
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures a batch.")] = 64,
    size: Annotated[int, typer.Option(min=1, help="Height and width in pixels.")] = 224,
    threads: Annotated[int, typer.Option(min=1, help="Of torch and of fastbot.")] = torch.get_num_threads(),
    only: Annotated[list[str] | None, typer.Option(help="A scenario, such as hsv; repeat it for several.")] = None,
    repeats: Repeats = 5,
    device: Annotated[str, typer.Option(help="cpu or cuda")] = "cuda" if torch.cuda.is_available() else "cpu",
    json_file: JsonFile = None,
) -> None:
    """Measure flip, colour jitter, lighting, RandAugment, normalization, erasing and mixing.

    Example: [bold]fastbot bench augment --threads 1[/]
    """
    torch.set_num_threads(threads)
    settings = {"batch_size": batch_size, "size": size, "threads": threads}
    results = run(pick_device(device), batch_size, size, repeats, only or ())
    title = f"augment, {batch_size} x {size} x {size} on {device}, {threads} threads"
    publish(results, settings, json_file, title)


if __name__ == "__main__":
    typer.run(command)
