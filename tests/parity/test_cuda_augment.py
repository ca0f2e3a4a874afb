"""The CUDA final stage against the float64 reference: interpreted everywhere, on the device where there is one."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from cuda_cases import FINAL_CASES, MANY_ROWS, FinalCase, Launches, compiled

from pipelines.augment.reference import ReferenceAugment

pytest.importorskip("triton", reason="PyTorch's CPU-only builds come without Triton")

REPOSITORY = Path(__file__).parents[2]

# Relative, from the number of bits; Triton's interpreter truncates to bfloat16 where devices round.
HALF_TOLERANCE = {torch.float32: 0.0, torch.float16: 2**-10, torch.bfloat16: 2**-7}


def _assert_is_reference(images: torch.Tensor, case: FinalCase) -> None:
    expected = ReferenceAugment(case.spec, train=case.train)(*case.batch())
    assert images.dtype == case.dtype
    assert images.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(
        images.double(), expected.to(images.device), rtol=HALF_TOLERANCE[images.dtype], atol=1e-5
    )


@pytest.fixture(scope="module")
def interpreted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    path = tmp_path_factory.mktemp("interpreted") / "augment.pt"
    script = Path(__file__).with_name("interpreted_cuda_augment.py")
    environment = os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'tests'}"}
    subprocess.run([sys.executable, script, path], env=environment, check=True, timeout=200)
    results: dict[str, torch.Tensor] = torch.load(path)
    return results


@pytest.mark.parametrize("name", FINAL_CASES)
def test_interpreted_kernels_equal_the_reference(name: str, interpreted: dict[str, torch.Tensor]) -> None:
    _assert_is_reference(interpreted[name], FINAL_CASES[name])


def test_more_rows_can_be_launched_than_other_axes_have(monkeypatch: pytest.MonkeyPatch) -> None:
    from pipelines.augment import cuda

    launches = Launches()
    monkeypatch.setattr(cuda, "_sum_grey", launches)
    monkeypatch.setattr(cuda, "_augment", launches)
    cuda.CudaAugment(MANY_ROWS.spec, device=torch.device("cpu"), dtype=torch.float32, train=True)(*MANY_ROWS.batch())
    assert len(launches.grids) == 2
    assert launches.are_within_limits()


TYPES = {"pixels": "*u8", "table": "*fp32", "firsts": "*fp32", "sums": "*fp32", "images": "*fp16"}
TYPES |= {"num_pixels": "i32", "width": "i32", "scale_r": "fp32", "scale_g": "fp32", "scale_b": "fp32"}


def _compiled(images: str, jitter: str, erasing: str, mix: bool, capability: int, unit: int = 4) -> dict[str, Any]:
    from pipelines.augment import cuda

    constants = {"MIRROR": True, "JITTER": jitter, "ERASING": erasing, "MIX": mix}
    constants |= {"BLOCK": 1024, "UNIT": unit, "SUMS": 64}
    warps = 8 if mix else 4
    return compiled(cuda._augment, TYPES | {"images": images}, constants, capability, num_warps=warps)


# Type of the images, jitter, erasing, mixing, and how many pixels are loaded at once.
VARIANTS = [("*bf16", jitter, "none", mix, 4) for jitter in ("none", "hsv", "contrast") for mix in (False, True)]
VARIANTS += [("*bf16", "hsv", erasing, True, 4) for erasing in ("const", "rand", "pixel")]
VARIANTS += [(images, "hsv", "none", True, unit) for images in ("*fp32", "*fp16") for unit in (1, 4)]


@pytest.mark.slow
@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize(("images", "jitter", "erasing", "mix", "unit"), VARIANTS)
def test_kernel_compiles(images: str, jitter: str, erasing: str, mix: bool, unit: int, capability: int) -> None:
    """The interpreter accepts what the compiler may not; compiling needs no device."""
    assert _compiled(images, jitter, erasing, mix, capability, unit)["cubin"]


@pytest.mark.slow
@pytest.mark.parametrize("capability", [80, 90])
def test_grey_sum_compiles(capability: int) -> None:
    from pipelines.augment import cuda

    types = {name: TYPES[name] for name in ("pixels", "table", "sums", "num_pixels", "width")}
    for unit in (1, 4):
        assert compiled(cuda._sum_grey, types, {"BLOCK": 1024, "UNIT": unit}, capability)["cubin"]


@pytest.mark.slow
@pytest.mark.parametrize("mix", [False, True])
@pytest.mark.parametrize("images", ["*fp16", "*bf16"])
def test_half_types_travel_as_words(images: str, mix: bool) -> None:
    """No byte and no half is loaded or stored on its own, and nothing is kept in a thread's slow local memory."""
    ptx = _compiled(images, "hsv", "none", mix, 90)["ptx"]
    assert "ld.global.b32" in ptx
    assert "st.global.b32" in ptx
    for narrow in ("ld.global.b8", "ld.global.b16", "st.global.b16", ".local"):
        assert narrow not in ptx


@pytest.mark.gpu
@pytest.mark.parametrize("name", FINAL_CASES)
@pytest.mark.parametrize("dtype", HALF_TOLERANCE)
def test_device_equals_the_reference(name: str, dtype: torch.dtype) -> None:
    from pipelines.augment.cuda import CudaAugment

    case = replace(FINAL_CASES[name], dtype=dtype)
    device = torch.device("cuda", 0)
    pixels, plan = case.batch()
    augment = CudaAugment(case.spec, device=device, dtype=dtype, train=case.train)
    _assert_is_reference(augment(pixels.to(device), plan), case)


@pytest.mark.gpu
def test_device_takes_more_rows_than_other_axes_have() -> None:
    """Beside the CPU's fast path: the reference of so many rows takes long."""
    from pipelines.augment.cpu import CpuAugment
    from pipelines.augment.cuda import CudaAugment

    device = torch.device("cuda", 0)
    pixels, plan = MANY_ROWS.batch()
    augment = CudaAugment(MANY_ROWS.spec, device=device, dtype=torch.float32, train=True)
    expected = CpuAugment(MANY_ROWS.spec, dtype=torch.float32, train=True)(pixels, plan)
    torch.testing.assert_close(augment(pixels.to(device), plan).cpu(), expected, rtol=0, atol=1e-5)


@pytest.mark.gpu
@pytest.mark.parametrize("name", FINAL_CASES)
def test_host_does_not_wait(name: str) -> None:
    from pipelines.augment.cuda import CudaAugment

    case = FINAL_CASES[name]
    device = torch.device("cuda", 0)
    pixels, plan = case.batch()
    pixels = pixels.to(device)
    augment = CudaAugment(case.spec, device=device, dtype=case.dtype, train=case.train)
    augment(pixels, plan)  # compiling may wait
    torch.cuda.set_sync_debug_mode("error")
    try:
        augment(pixels, plan)
    finally:
        torch.cuda.set_sync_debug_mode("default")
