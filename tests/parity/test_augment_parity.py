"""The fast paths against the float64 reference.

In float32 they agree to 1e-5 of normalized units (1e-3 was allowed), at every colour: which channel is the largest,
and on which side of red a hue lies, is decided on whole numbers, so no rounding can send a hue round the circle.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from augment_cases import MIXED_SPECS, SPECS, mixed_plan, pictures, random_plan

from datasets_tools.photographs import load
from pipelines.augment.build import build_augment
from pipelines.augment.reference import ReferenceAugment

CPU = torch.device("cpu")
SHAPE = (6, 31, 37)
ALL_SPECS = SPECS | MIXED_SPECS
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
REPOSITORY = Path(__file__).parents[2]

# Relative, from the number of bits; Triton's interpreter truncates to bfloat16 where devices round.
HALF_TOLERANCE = {torch.float32: 0.0, torch.float16: 2**-10, torch.bfloat16: 2**-7}


def _assert_equal(images: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(
        images.double(), expected.to(images.device), rtol=HALF_TOLERANCE[images.dtype], atol=1e-5
    )


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ALL_SPECS)
def test_cpu_equals_the_reference(kind: str, dtype: torch.dtype, train: bool) -> None:
    spec, pixels = ALL_SPECS[kind], pictures(*SHAPE)
    plan = mixed_plan(spec, *SHAPE)
    images = build_augment(spec, device=CPU, dtype=dtype, train=train)(pixels, plan)
    _assert_equal(images, ReferenceAugment(spec, train=train)(pixels, plan))


@pytest.mark.parametrize("kind", ["hsv", "contrast"])
def test_cpu_equals_the_reference_at_extreme_factors(kind: str) -> None:
    pixels, plan = pictures(12, 60, 61), random_plan(12, low=0, high=3)
    images = build_augment(SPECS[kind], device=CPU, dtype=torch.float32, train=True)(pixels, plan)
    _assert_equal(images, ReferenceAugment(SPECS[kind], train=True)(pixels, plan))


@pytest.mark.parametrize("name", ["astronaut", "flower"])
@pytest.mark.parametrize("kind", SPECS)
def test_cpu_equals_the_reference_on_photographs(kind: str, name: str) -> None:
    pixels = torch.from_numpy(np.stack([load(name)[:160, :160]] * 6))
    plan = random_plan(6)
    images = build_augment(SPECS[kind], device=CPU, dtype=torch.float32, train=True)(pixels, plan)
    _assert_equal(images, ReferenceAugment(SPECS[kind], train=True)(pixels, plan))


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("kind", ALL_SPECS)
def test_threads_change_no_bit(kind: str) -> None:
    spec = ALL_SPECS[kind]
    pixels, plan = pictures(7, 30, 31), mixed_plan(spec, 7, 30, 31)
    augment = build_augment(spec, device=CPU, dtype=torch.float32, train=True)
    results = []
    for num_threads in (1, 2, 3, 16):
        torch.set_num_threads(num_threads)
        results.append(augment(pixels, plan))
    assert all(torch.equal(result, results[0]) for result in results)


def test_triton_kernels_equal_the_reference(tmp_path: Path) -> None:
    pytest.importorskip("triton", reason="PyTorch's CPU-only builds come without Triton")
    script = Path(__file__).with_name("interpreted_augment.py")
    environment = os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'tests'}"}
    subprocess.run([sys.executable, script, tmp_path / "results.pt"], env=environment, check=True, timeout=120)
    results = torch.load(tmp_path / "results.pt")
    assert {kind for kind, *_ in results} == set(ALL_SPECS)
    assert {dtype for _, dtype, _ in results} == set(DTYPES)
    for (kind, dtype, train), images in results.items():
        assert images.dtype == dtype
        assert images.is_contiguous(memory_format=torch.channels_last)
        spec = ALL_SPECS[kind]
        _assert_equal(images, ReferenceAugment(spec, train=train)(pictures(*SHAPE), mixed_plan(spec, *SHAPE)))


@pytest.mark.gpu
@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ALL_SPECS)
def test_cuda_equals_the_reference(kind: str, dtype: torch.dtype, train: bool) -> None:
    device, spec, pixels = torch.device("cuda", 0), ALL_SPECS[kind], pictures(*SHAPE)
    plan = mixed_plan(spec, *SHAPE)
    images = build_augment(spec, device=device, dtype=dtype, train=train)(pixels.to(device), plan)
    assert images.is_contiguous(memory_format=torch.channels_last)
    _assert_equal(images, ReferenceAugment(spec, train=train)(pixels, plan))


@pytest.mark.gpu
@pytest.mark.parametrize("kind", ALL_SPECS)
def test_cuda_does_not_hold_up_the_host(kind: str) -> None:
    device, spec = torch.device("cuda", 0), ALL_SPECS[kind]
    pixels, plan = pictures(*SHAPE).to(device), mixed_plan(spec, *SHAPE)
    augment = build_augment(spec, device=device, dtype=torch.float16, train=True)
    augment(pixels, plan)  # compiling may wait
    torch.cuda.set_sync_debug_mode("error")
    try:
        augment(pixels, plan)
    finally:
        torch.cuda.set_sync_debug_mode("default")
