"""Batches that reach every corner of the Triton kernels, and how these are compiled without a device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from augment_cases import pictures, random_plan
from operation_cases import operations_plan

from datasets_tools.photographs import load
from pipelines.batch import BatchPlan, Operation
from pipelines.spec import (
    ContrastJitter,
    DataSpec,
    HsvJitter,
    Mixup,
    MixupCutMix,
    NoJitter,
    NoMix,
    RandomErasing,
)

FILL = (124, 117, 1)  # 1 is a constant to Triton
INTERPOLATIONS = ("nearest", "bilinear", "bicubic")


@dataclass(frozen=True)
class FinalCase:
    """A batch for the final stage; `size` is height and width."""

    spec: DataSpec
    size: tuple[int, int]
    dtype: torch.dtype = torch.float32
    train: bool = True
    num: int = 8

    def batch(self) -> tuple[torch.Tensor, BatchPlan]:
        plan = random_plan(self.num)
        if self.spec.erasing.probability:
            plan = erased(plan, self.size)
        if self.spec.mix.kind != "none":
            plan = mixed(plan, self.size)
        return pictures(self.num, *self.size), plan


def _spec(jitter: Any, mode: Any, mix: Any) -> DataSpec:
    return DataSpec(
        jitter=jitter, erasing=RandomErasing(probability=0.25 if mode else 0, mode=mode or "const"), mix=mix
    )


# Blocks are 1,024 pixels. Of widths that four does not divide, bytes are loaded one by one.
FINAL_CASES = {
    "evaluation": FinalCase(_spec(HsvJitter(), "pixel", MixupCutMix()), (31, 37), train=False),
    "one small picture": FinalCase(_spec(HsvJitter(), None, NoMix()), (3, 5), num=1),
    "plain": FinalCase(_spec(NoJitter(), None, NoMix()), (34, 36)),
    "plain, mixed and erased": FinalCase(_spec(NoJitter(), "const", MixupCutMix()), (31, 37)),
    "hsv": FinalCase(_spec(HsvJitter(), None, NoMix()), (31, 37)),
    "hsv, mixed": FinalCase(_spec(HsvJitter(), None, Mixup()), (33, 44)),
    "hsv, mixed and erased": FinalCase(_spec(HsvJitter(), "pixel", MixupCutMix()), (33, 44)),
    "contrast": FinalCase(_spec(ContrastJitter(), None, NoMix()), (33, 44)),
    "contrast, mixed and erased": FinalCase(_spec(ContrastJitter(), "rand", MixupCutMix()), (31, 37)),
    "float16": FinalCase(_spec(HsvJitter(), "pixel", MixupCutMix()), (34, 36), torch.float16),
    "bfloat16": FinalCase(_spec(HsvJitter(), None, MixupCutMix()), (34, 36), torch.bfloat16),
    "float16, odd": FinalCase(_spec(HsvJitter(), None, MixupCutMix()), (31, 37), torch.float16),
}


# More rows than CUDA has places along any axis of a grid but the first.
MANY_ROWS = FinalCase(_spec(ContrastJitter(), None, Mixup()), (2, 4), num=70_000)
# Source: CUDA C++ Programming Guide, "Technical Specifications per Compute Capability".
GRID_LIMITS = (2**31 - 1, 65_535, 65_535)


class Launches:
    """Stands in for a kernel, and keeps the grids that it is launched with."""

    def __init__(self) -> None:
        self.grids: list[tuple[int, ...]] = []

    def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., None]:
        self.grids.append(grid)
        return lambda *_, **__: None

    def are_within_limits(self) -> bool:
        """Return whether CUDA would start them all."""
        within = (size <= limit for grid in self.grids for size, limit in zip(grid, GRID_LIMITS, strict=False))
        return bool(self.grids) and all(within)


def erased(plan: BatchPlan, size: tuple[int, int]) -> BatchPlan:
    """Return the plan with rectangles to erase: none, some, at the edges, and the whole picture."""
    height, width = size
    erase = np.zeros((len(plan.ids), 4), np.int32)
    erase[1], erase[2] = [3, 2, height // 2, width // 2], [height - 5, width - 4, 5, 4]
    erase[4], erase[-1] = [0, 0, height, width], [0, 7, height, 1]
    noise = np.random.default_rng(1).integers(0, 2**32, (len(plan.ids), 2), dtype=np.uint32)
    return replace(plan, erase=erase, noise=noise)


def mixed(plan: BatchPlan, size: tuple[int, int]) -> BatchPlan:
    """Return the plan with rows alone, blended and cut; the two of a pair need not agree."""
    num, (height, width) = len(plan.ids), size
    partner, lam, cut = np.arange(num)[::-1].copy(), np.ones(num, np.float32), np.zeros((num, 4), np.int32)
    partner[[0, -1]] = [0, num - 1]
    lam[1], lam[-2] = 0.3, 0.9
    cut[2], lam[2] = [1, 2, height // 2, width // 3], 0.8
    cut[-3], lam[-3] = [0, 0, height, width], 0
    lam[3] = 0.25
    cut[-4], lam[-4] = [height - 2, 0, 2, width], 0.9
    return replace(plan, partner=partner, lam=lam, cut=cut)


_ARGUMENTS = {
    Operation.ROTATE: [13.7, -30, 0, 90, -90, 45],
    Operation.POSTERIZE: [0, 3, 8],
    Operation.SOLARIZE: [0, 100, 255, 256],
    Operation.SOLARIZE_ADD: [0, 50, 110],
    Operation.COLOR: [0.1, 1.63, 0, 1],
    Operation.CONTRAST: [0.1, 1.63, 1.9],
    Operation.BRIGHTNESS: [0.37, 1.9],
    Operation.SHARPNESS: [0.1, 0.5, 1.9],
    Operation.SHEAR_X: [0.3, -0.21],
    Operation.SHEAR_Y: [0.3, -0.21],
    Operation.TRANSLATE_X: [4.5, -7.3, 3, 0.49999],
    Operation.TRANSLATE_Y: [4.5, -7.3, 40],
}
_GEOMETRIC = [Operation.ROTATE, *(operation for operation in Operation if operation >= Operation.SHEAR_X)]


def operation_batches() -> Iterator[tuple[str, torch.Tensor, BatchPlan]]:
    """Yield interpolation, pictures and plan: every operation and argument, some mirrored, and several layers.

    Blocks are 512 pixels, those of statistics 4,096.
    """
    for interpolation, size in (
        ("nearest", (18, 32)),
        ("nearest", (19, 29)),
        ("bilinear", (19, 29)),
        ("bicubic", (15, 20)),
    ):
        operations = list(Operation) if interpolation == "nearest" else _GEOMETRIC
        steps = [(operation, argument) for operation in operations for argument in _ARGUMENTS.get(operation, [0.0])]
        plan = operations_plan([[operation] for operation, _ in steps], [[argument] for _, argument in steps])
        yield interpolation, _photographs(len(steps), *size), replace(plan, flip=np.arange(len(steps)) % 3 == 1)
    plan = operations_plan(
        [[Operation.EQUALIZE, Operation.AUTO_CONTRAST], [Operation.AUTO_CONTRAST, 0]] * 2, [[0, 0]] * 4
    )
    yield "nearest", _few_levels(), plan
    layers = [[Operation.EQUALIZE, Operation.SHARPNESS, Operation.CONTRAST], [Operation.ROTATE, Operation.EQUALIZE, 0]]
    plan = operations_plan(layers, [[0, 1.5, 0.6], [20, 0, 0]])
    yield "bilinear", _photographs(2, 65, 68), replace(plan, flip=np.ones(2, np.bool_))


def light_picture() -> tuple[torch.Tensor, BatchPlan]:
    """Return a picture whose grey values add up to more than 32 bits hold, of a mean of 254.5, and its CONTRAST."""
    pixels = torch.full((1, 2900, 2912, 3), 255, dtype=torch.uint8)
    pixels[:, :, ::2] = 254
    return pixels, operations_plan([[Operation.CONTRAST]], [[0.3]])


def _photographs(num: int, height: int, width: int) -> torch.Tensor:
    """Return photographs, and pictures of extreme colours."""
    found = [load(name)[60 : 60 + height, 100 : 100 + width] for name in ("astronaut", "flower")]
    found += list(pictures(2, height, width).numpy())
    return torch.from_numpy(np.stack([found[row % 4] for row in range(num)]))


def _few_levels() -> torch.Tensor:
    """Return pictures with hardly anything to count: of one level, of two, dark ones."""
    flat = torch.full((4, 6, 10, 3), 90, dtype=torch.uint8)
    flat[2, :3] = 100
    flat[3] = torch.arange(60, dtype=torch.uint8).reshape(6, 10, 1) // 7
    return flat


def compiled(
    kernel: Any, types: dict[str, str], constants: dict[str, Any], capability: int, **options: Any
) -> dict[str, Any]:
    """Compile a kernel for a device of a compute capability (80 or 90), which need not be there.

    Returns:
        What the compiler made, by name: "ptx", "cubin", and so on.
    """
    from triton import compile as compile_kernel
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    signature = types | dict.fromkeys(constants, "constexpr")
    # As in a run: tensors begin at multiples of 16 bytes, and so do sizes of usual pictures.
    is_aligned = [name for name, kind in types.items() if kind.startswith("*") or kind == "i32"]
    attributes = {(list(signature).index(name),): [["tt.divisibility", 16]] for name in is_aligned}
    source = ASTSource(kernel, signature, constants, attributes)
    found: dict[str, Any] = compile_kernel(source, target=GPUTarget("cuda", capability, 32), options=options).asm
    return found
