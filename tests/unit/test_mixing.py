from __future__ import annotations

import numpy as np
import pytest
import torch
from plans import mixing_plan
from timm.data.mixup import Mixup as TimmMixup

from pipelines import spec
from pipelines.mixing import build_mix

CPU = torch.device("cpu")
NUM_CLASSES = 5


def _batch(num: int, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(num, 3, 6, 7, generator=generator).to(dtype, memory_format=torch.channels_last)
    return images, torch.randint(NUM_CLASSES, (num,), generator=generator)


def test_no_mix_returns_its_inputs() -> None:
    images, labels = _batch(4)
    mixed, targets = build_mix(spec.NoMix(), NUM_CLASSES, CPU)(images, labels, mixing_plan([3, 2, 1, 0], [0.3] * 4))
    assert mixed is images
    assert targets is labels


@pytest.mark.parametrize("lam", [0.3, 0.5, 1.0])
def test_one_lambda_and_reversal_are_timms_mixup(lam: float, monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels = _batch(6)
    timm = TimmMixup(mixup_alpha=0.2, label_smoothing=0, num_classes=NUM_CLASSES)
    monkeypatch.setattr(timm, "_params_per_batch", lambda: (lam, False))
    expected_images, expected_targets = timm(images.clone(), labels)
    mixed, targets = build_mix(spec.Mixup(), NUM_CLASSES, CPU)(
        images, labels, mixing_plan([5, 4, 3, 2, 1, 0], [lam] * 6)
    )
    torch.testing.assert_close(mixed, expected_images)
    torch.testing.assert_close(targets, expected_targets)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_each_row_has_its_own_partner_and_lambda(dtype: torch.dtype) -> None:
    images, labels = _batch(5, dtype)
    partner, lam = [1, 2, 0, 3, 0], [0.9, 0.25, 0.6, 1.0, 0.0]
    before = images.clone()
    mixed, targets = build_mix(spec.Mixup(), NUM_CLASSES, CPU)(images, labels, mixing_plan(partner, lam))
    own = np.array(lam, np.float32).astype(np.float64)
    pixels = images.double().numpy()
    expected = own[:, None, None, None] * pixels + (1 - own)[:, None, None, None] * pixels[partner]
    tolerance = {torch.float32: 1e-6, torch.float16: 3e-3, torch.bfloat16: 3e-2}[dtype]
    np.testing.assert_allclose(mixed.double(), expected, atol=tolerance)
    onehot = np.eye(NUM_CLASSES)[labels]
    np.testing.assert_allclose(targets, own[:, None] * onehot + (1 - own)[:, None] * onehot[partner], atol=1e-7)
    assert mixed.dtype == dtype
    assert targets.dtype == torch.float32
    assert mixed.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(images, before)


def test_a_batch_outlives_those_after_it() -> None:
    images, labels = _batch(4)
    mix = build_mix(spec.Mixup(), NUM_CLASSES, CPU)
    first, _ = mix(images, labels, mixing_plan([3, 2, 1, 0], [0.3] * 4))
    kept = first.clone()
    for lam in (0.1, 0.6, 0.9):
        mix(images, labels, mixing_plan([1, 0, 3, 2], [lam] * 4))
    assert torch.equal(first, kept)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_cuda_equals_cpu_and_does_not_hold_up_the_host(dtype: torch.dtype) -> None:
    device = torch.device("cuda", 0)
    images, labels = _batch(6, dtype)
    plan = mixing_plan([5, 4, 3, 2, 1, 0], [0.1, 0.2, 0.3, 0.3, 0.2, 0.1])
    expected, expected_targets = build_mix(spec.Mixup(), NUM_CLASSES, CPU)(images, labels, plan)
    mix, images, labels = build_mix(spec.Mixup(), NUM_CLASSES, device), images.to(device), labels.to(device)
    torch.cuda.set_sync_debug_mode("error")
    try:
        mixed, targets = mix(images, labels, plan)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert mixed.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(mixed.cpu(), expected)
    torch.testing.assert_close(targets.cpu(), expected_targets)
