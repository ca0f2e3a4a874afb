"""The CUDA operations against Pillow, bit for bit: interpreted everywhere, on the device where there is one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from cuda_cases import FILL, INTERPOLATIONS, Launches, compiled, light_picture, operation_batches
from operation_cases import operations_plan

from pipelines.augment.reference_operations import reference_operations
from pipelines.batch import BatchPlan, Operation

pytest.importorskip("triton", reason="PyTorch's CPU-only builds come without Triton")

REPOSITORY = Path(__file__).parents[2]


def _assert_is_pillow(result: torch.Tensor, interpolation: str, pixels: torch.Tensor, plan: BatchPlan) -> None:
    expected = reference_operations(pixels, plan, interpolation, FILL)
    assert result.is_contiguous()
    assert result.shape == expected.shape
    differ = (result.cpu() != expected).flatten(1).any(1)
    named = [[Operation(operation).name for operation in plan.operations[row]] for row in differ.nonzero()[:, 0]]
    assert not named, interpolation


def test_interpreted_kernels_are_pillow(tmp_path: Path) -> None:
    script = Path(__file__).with_name("interpreted_cuda_operations.py")
    environment = os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'tests'}"}
    subprocess.run([sys.executable, script, tmp_path / "out.pt"], env=environment, check=True, timeout=250)
    batches = [*operation_batches(), ("nearest", *light_picture())]
    for result, (interpolation, pixels, plan) in zip(torch.load(tmp_path / "out.pt"), batches, strict=True):
        _assert_is_pillow(result, interpolation, pixels, plan)


def _many_rows() -> tuple[torch.Tensor, BatchPlan]:
    """Return more rows than CUDA has places along any axis of a grid but the first; some need statistics."""
    num = 70_000
    plan = operations_plan([[Operation.CONTRAST], [Operation.INVERT]] * (num // 2), [[0.5]] * num)
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (num, 2, 4, 3), dtype=np.uint8)), plan


def test_more_rows_can_be_launched_than_other_axes_have(monkeypatch: pytest.MonkeyPatch) -> None:
    from pipelines.augment import cuda_operations

    launches = Launches()
    monkeypatch.setattr(cuda_operations, "statistics", launches)
    monkeypatch.setattr(cuda_operations, "apply", launches)
    cuda_operations.CudaOperations("nearest", FILL, torch.device("cpu"))(*_many_rows())
    assert len(launches.grids) == 2
    assert launches.are_within_limits()


@pytest.mark.slow
@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("unit", [1, 4])
@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_apply_compiles(interpolation: str, unit: int, capability: int) -> None:
    """The interpreter accepts what the compiler may not; compiling needs no device."""
    from pipelines.augment import cuda_operation_kernels as kernels

    types = {"pixels": "*u8", "table": "*fp64", "counts": "*i32", "changed": "*u8", "height": "i32", "width": "i32"}
    types |= {"fill_r": "i32", "fill_g": "i32", "fill_b": "i32"}
    constants = {"INTERPOLATION": interpolation, "BLOCK": 512, "UNIT": unit}
    made = compiled(kernels.apply, types, constants, capability, num_warps=8, enable_fp_fusion=False)
    assert made["cubin"]
    # A fused multiply-add rounds once, Pillow twice. Products and sums that name their rounding are not fused later.
    assert "fma." not in made["ptx"]
    assert "mul.rn.f64" in made["ptx"]
    assert ".local" not in made["ptx"]


@pytest.mark.slow
@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("unit", [1, 4])
def test_statistics_compile(unit: int, capability: int) -> None:
    from pipelines.augment import cuda_operation_kernels as kernels

    types = {"pixels": "*u8", "table": "*fp64", "counts": "*i32", "num_pixels": "i32", "width": "i32"}
    made = compiled(kernels.statistics, types, {"BLOCK": 4096, "UNIT": unit}, capability, num_warps=8)
    assert made["cubin"]


@pytest.mark.gpu
def test_device_is_pillow_and_host_does_not_wait() -> None:
    from pipelines.augment.cuda_operations import CudaOperations

    device = torch.device("cuda", 0)
    for interpolation, pixels, plan in (
        *operation_batches(),
        ("nearest", *light_picture()),
        ("nearest", *_many_rows()),
    ):
        operations = CudaOperations(interpolation, FILL, device)
        there = pixels.to(device)
        _assert_is_pillow(operations(there, plan), interpolation, pixels, plan)
        torch.cuda.set_sync_debug_mode("error")
        try:
            operations(there, plan)
        finally:
            torch.cuda.set_sync_debug_mode("default")
