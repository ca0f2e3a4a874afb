"""What does augmentation cost? The fast path beside eager PyTorch, torchvision and kornia, on the same pictures.

Every batch of a training stage has new draws: fastbot's plan is drawn in the timed part, as the peers draw in theirs.
Every case runs as many batches a turn as fill the same time.

"torchvision v2" does what a user without fastbot would write: a flip, `ColorJitter` of hue, saturation and brightness
(or brightness, contrast and saturation), float conversion and normalization on uint8, then erasing, then `MixUp` or
`CutMix` of the batch. It has no PCA lighting and shifts hue instead of scaling it, so it does slightly less. "per
batch" has one draw for all pictures, which is not the same augmentation: it is stated as what it is. "then torch" is
our own stage without its last step, followed by that step in eager PyTorch.

"rsb" is RSB's stage: a flip, RandAugment, normalization, then mixup or CutMix. "timm" does the same by Pillow and in
torch: its own transforms behind the crop, and its `Mixup`. torchvision's `RandAugment` has other operations and
magnitudes, and interpolates tensors bilinearly. "DALI" does it with `color_twist` and `crop_mirror_normalize` on pixels
that it is given; of erasing and mixing it has nothing.

"copy" moves as many bytes within memory as our stage with that output reads and writes, which is what no such
stage can be faster than. Small batches stay in a processor's cache, where that is far beyond its memory's rate: the
share of a large copy's bandwidth, which stands beside the GB/s, may then be more than 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Annotated

import torch
import typer

from benchmarks import measure as method
from benchmarks.floor.rates import device_rates
from benchmarks.options import Device, JsonFile, Repeats, Seconds
from benchmarks.peers.peer import is_installed
from benchmarks.publishing import Publish, publishing
from benchmarks.rungs import augment_peers
from benchmarks.rungs.augment_peers import Transform
from benchmarks.rungs.augment_scenarios import Scenario, Step, scenarios
from benchmarks.rungs.augment_stages import copying, drawing
from fastbot.distributed import pick_device
from fastbot.errors import RunError
from pipelines.augment.build import Augment, build_augment
from pipelines.augment.reference import ReferenceAugment
from pipelines.spec import DataSpec, NoMix, RandAugment, RandomErasing

PEER = "torchvision v2"
# Kernels compile in the first turn: only the second tells how long one takes.
EFFORT = method.Effort(repeats=5, at_least_s=1.0, warmups=2)
_DALI_SCENARIOS = "hsv", "contrast", "normalize"
_ITEM_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}


def _with_bandwidth(results: Sequence[method.Result], size: int, copy_gb_s: float) -> list[method.Result]:
    """Say of our stages and of copies how many bytes they move in a second, read and written, and what share that is.

    Args:
        results: of stages and of all else.
        size: height and width of a picture.
        copy_gb_s: what the device reaches in a copy of much memory.
    """
    described = []
    for result in results:
        what, _, dtype = result.case.rpartition(", ")[2].partition(" ")
        if what in ("fastbot", "copy") and dtype in _ITEM_BYTES:
            rate = result.value * 3 * size**2 * (1 + _ITEM_BYTES[dtype]) / 1e9
            share = rate / copy_gb_s
            details = {"gigabytes_per_s": rate, "copy_gb_s": copy_gb_s, "of_copy_bandwidth": share}
            result = replace(result, notes=f"{rate:.3g} GB/s, {share:.0%} of a large copy's", details=details)
        described.append(result)
    return described


def _then_torch(spec: DataSpec, last: Step, device: torch.device, dtype: torch.dtype) -> Augment:
    bare = spec.model_copy(update={"mix": NoMix(), "erasing": RandomErasing()})
    first = build_augment(bare, device=device, dtype=dtype, train=True)
    return lambda pixels, plan: last(first(pixels, plan), plan)


def _case(name: str, transform: Transform, peers: Sequence[str], pixels: torch.Tensor) -> method.Case:
    def run() -> int:
        transform(pixels)
        return len(pixels)

    return method.Case(name, run, peers[0], other_peers=tuple(peers[1:]))


def _others_on_a_cpu(scenario: Scenario, spec: DataSpec) -> dict[str, Transform]:
    if not isinstance(spec.auto_augment, RandAugment):  # which the reference leaves to Pillow
        eager = ReferenceAugment(spec, train=scenario.train, dtype=torch.float32)
        return {"eager float32": drawing(eager, spec, train=scenario.train)}
    if not is_installed("timm") or spec.global_batch_size % 2:  # timm mixes even batches alone
        return {}
    return {"timm": augment_peers.timm(spec, spec.crop_size)}


def _cases(title: str, scenario: Scenario, device: torch.device, batch_size: int, size: int) -> list[method.Case]:
    spec = scenario.spec.model_copy(update={"global_batch_size": batch_size, "crop_size": size})
    pixels = torch.randint(0, 256, (batch_size, size, size, 3), dtype=torch.uint8, device=device)
    others = {
        PEER: augment_peers.torchvision(scenario, per_batch=False),
        f"{PEER} per batch": augment_peers.torchvision(scenario, per_batch=True),
    }
    if is_installed("kornia"):
        others["kornia"] = augment_peers.kornia(scenario)
    if is_installed("nvidia.dali") and title in _DALI_SCENARIOS:
        others["DALI"] = augment_peers.dali(scenario, pixels)
    if device.type == "cpu":
        others |= _others_on_a_cpu(scenario, spec)
    if scenario.last is not None:
        others["fastbot, then torch"] = drawing(_then_torch(spec, scenario.last, device, torch.float32), spec)
    first = f"{title}, {PEER}"
    cases = [_case(f"{title}, {name}", transform, [first], pixels) for name, transform in others.items()]
    for dtype in (torch.float32, torch.float16 if device.type == "cuda" else torch.bfloat16):
        augment = build_augment(spec, device=device, dtype=dtype, train=scenario.train)
        written = str(dtype).removeprefix("torch.")
        beside = [f"{title}, {peer}" for peer in (*others, f"copy {written}")]
        cases.append(_case(f"{title}, fastbot {written}", drawing(augment, spec, train=scenario.train), beside, pixels))
        cases.append(_case(beside[-1], copying(pixels, dtype), beside[-1:], pixels))
    return cases


def run(
    device: torch.device,
    batch_size: int = 64,
    size: int = 224,
    titles: Sequence[str] = (),
    effort: method.Effort = EFFORT,
    publish: Publish = lambda _: None,
) -> list[method.Result]:
    """Measure the jitters, evaluation's normalization, mixing, erasing and RSB's stage, each beside other people's.

    Args:
        device: where.
        batch_size, size: pictures, and their height and width in pixels.
        titles: of the scenarios; none: all.
        effort: how much measuring.
        publish: gets the results of each scenario as soon as they are there.

    Raises:
        RunError: there is no such scenario.
    """
    known = scenarios(batch_size)
    if unknown := [title for title in titles if title not in known]:
        raise RunError(f"--only {unknown[0]}: there is no such scenario; there are {', '.join(known)}")
    synchronize: Callable[[], object] = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    copy_gb_s = device_rates(device, torch.float32).copy_bytes_per_s / 1e9
    results: list[method.Result] = []
    for title in titles or known:
        cases = _cases(title, known[title], device, batch_size, size)
        found = method.measure("augment", cases, effort, synchronize=synchronize)
        publish(described := _with_bandwidth(found, size, copy_gb_s))
        results += described
    return results


def command(
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures a batch.")] = 64,
    size: Annotated[int, typer.Option(min=1, help="Height and width in pixels.")] = 224,
    threads: Annotated[int, typer.Option(min=1, help="Of torch and of fastbot.")] = torch.get_num_threads(),
    only: Annotated[list[str] | None, typer.Option(help="A scenario, such as hsv; repeat it for several.")] = None,
    repeats: Repeats = EFFORT.repeats,
    seconds: Seconds = EFFORT.at_least_s,
    device: Device = "auto",
    json_file: JsonFile = None,
) -> None:
    """Measure flip, colour jitter, lighting, RandAugment, normalization, erasing and mixing.

    Example: [bold]fastbot bench augment --threads 1[/]
    """
    torch.set_num_threads(threads)
    target = pick_device(device)
    settings = {"batch_size": batch_size, "size": size, "threads": threads, "seconds": seconds}
    title = f"augment, {batch_size} x {size} x {size} on {target}, {threads} threads"
    with publishing(settings, json_file, title, device=target) as publish:
        run(target, batch_size, size, only or (), replace(EFFORT, repeats=repeats, at_least_s=seconds), publish)
