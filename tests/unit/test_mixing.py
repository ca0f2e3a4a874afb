"""Mixed pictures and their targets against timm's mixup and CutMix, on the same shares and rectangles."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import timm.data.mixup
import torch
from augment_cases import pictures, random_plan
from plans import mixing_plan
from timm.data.mixup import Mixup as TimmMixup

from pipelines import spec
from pipelines.augment.build import Augment, build_augment
from pipelines.augment.reference import ReferenceAugment
from pipelines.batch import BatchPlan
from pipelines.mixing import build_targets

CPU = torch.device("cpu")
NUM_CLASSES = 5
NUM, HEIGHT, WIDTH = 6, 20, 24
LABELS = torch.tensor([3, 0, 4, 4, 1, 3])
REVERSED = np.arange(NUM)[::-1].copy()
NOTHING, WHOLE, PIECE, CORNER = (0, 0, 0, 0), (0, 0, HEIGHT, WIDTH), (3, 5, 9, 7), (19, 0, 1, 24)
DATA = spec.DataSpec(erasing=spec.RandomErasing(probability=1), mix=spec.MixupCutMix())

AUGMENTS: dict[str, Callable[[], Augment]] = {
    "cpu": lambda: build_augment(DATA, device=CPU, dtype=torch.float32, train=True),
    "reference": lambda: ReferenceAugment(DATA, train=True),
}


def _plan() -> BatchPlan:
    """A plan that erases, but mixes nothing."""
    erase = np.tile(np.array([[2, 3, 10, 11]], np.int32), (NUM, 1))
    return replace(random_plan(NUM), erase=erase, noise=np.arange(2 * NUM, dtype=np.uint32).reshape(NUM, 2))


def _mixing(lam: list[float], cuts: list[tuple[int, ...]]) -> BatchPlan:
    """A plan in which row k keeps the share `lam[k]`, or what is outside `cuts[k]`."""
    cut = np.array(cuts, np.int32)
    shares = np.where(cut[:, 2] > 0, 1 - cut[:, 2] * cut[:, 3] / (HEIGHT * WIDTH), lam)
    return replace(_plan(), partner=REVERSED, lam=shares.astype(np.float32), cut=cut)


def _edges(top: int, left: int, height: int, width: int) -> tuple[int, int, int, int]:
    return top, top + height, left, left + width


@pytest.mark.parametrize("name", AUGMENTS)
@pytest.mark.parametrize(
    ("lam", "cut"),
    [(0.3, NOTHING), (1.0, NOTHING), (0.0, NOTHING), (0.5, PIECE), (0.5, WHOLE), (0.5, CORNER)],
)
def test_one_draw_for_a_batch_is_timms(
    name: str, lam: float, cut: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, augment = _mixing([lam] * NUM, [cut] * NUM), AUGMENTS[name]()
    own = 1 - cut[2] * cut[3] / (HEIGHT * WIDTH)
    theirs = TimmMixup(mixup_alpha=0.2, cutmix_alpha=1.0, label_smoothing=0, num_classes=NUM_CLASSES)
    monkeypatch.setattr(theirs, "_params_per_batch", lambda: (lam, cut[2] > 0))
    monkeypatch.setattr(timm.data.mixup, "cutmix_bbox_and_lam", lambda *_, **__: (_edges(*cut), own))
    pixels = pictures(NUM, HEIGHT, WIDTH)
    images, targets = theirs(augment(pixels, _plan()).clone(), LABELS)
    torch.testing.assert_close(augment(pixels, plan), images, rtol=0, atol=2e-6)
    torch.testing.assert_close(build_targets(DATA.mix, NUM_CLASSES, CPU)(LABELS, plan), targets)


@pytest.mark.parametrize("name", AUGMENTS)
def test_a_draw_for_each_picture_is_timms(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows of a pair blend by different shares, are cut differently, or one is blended and the other cut."""
    lam, cuts = [0.9, 0.2, 0.5, 0.5, 0.6, 0.3], [NOTHING, PIECE, CORNER, WHOLE, NOTHING, NOTHING]
    plan, augment = _mixing(lam, cuts), AUGMENTS[name]()
    boxes = [(_edges(*cut), float(own)) for cut, own in zip(cuts, plan.lam, strict=True) if cut[2] > 0]
    theirs = TimmMixup(cutmix_alpha=1.0, label_smoothing=0, num_classes=NUM_CLASSES, mode="elem")
    monkeypatch.setattr(
        theirs, "_params_per_elem", lambda _: (np.array(lam, np.float32), np.array([cut[2] > 0 for cut in cuts]))
    )
    monkeypatch.setattr(timm.data.mixup, "cutmix_bbox_and_lam", lambda *_, **__: boxes.pop(0))
    pixels = pictures(NUM, HEIGHT, WIDTH)
    images, targets = theirs(augment(pixels, _plan()).clone(), LABELS)
    assert not boxes
    torch.testing.assert_close(augment(pixels, plan), images, rtol=0, atol=2e-6)
    ours = build_targets(DATA.mix, NUM_CLASSES, CPU)(LABELS, plan)
    torch.testing.assert_close(ours, targets.float(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_types_are_rounded_once(dtype: torch.dtype) -> None:
    pixels, plan = pictures(NUM, HEIGHT, WIDTH), _mixing([0.9, 0.2, 0.5, 0.4, 0.6, 0.3], [NOTHING] * 4 + [PIECE] * 2)
    exact = build_augment(DATA, device=CPU, dtype=torch.float32, train=True)(pixels, plan)
    assert torch.equal(build_augment(DATA, device=CPU, dtype=dtype, train=True)(pixels, plan), exact.to(dtype))


def test_nothing_mixes_in_evaluation() -> None:
    pixels, plan = pictures(NUM, HEIGHT, WIDTH), _mixing([0.5] * NUM, [NOTHING] * NUM)
    augment = build_augment(DATA, device=CPU, dtype=torch.float32, train=False)
    assert torch.equal(augment(pixels, plan), augment(pixels, _plan()))


def test_a_partner_with_another_partner_is_an_error() -> None:
    plan = replace(_plan(), partner=np.array([1, 2, 0, 3, 4, 5]))
    with pytest.raises(AssertionError, match="another partner"):
        AUGMENTS["cpu"]()(pictures(NUM, HEIGHT, WIDTH), plan)


def test_labels_are_the_targets_where_nothing_mixes() -> None:
    targets = build_targets(spec.NoMix(), NUM_CLASSES, CPU)(LABELS, mixing_plan([5, 4, 3, 2, 1, 0], [0.3] * NUM))
    assert targets is LABELS


@pytest.mark.parametrize("mix", [spec.Mixup(), spec.CutMix(), spec.MixupCutMix()])
def test_each_row_shares_its_target_with_its_partner(mix: spec.Mix) -> None:
    lam = [0.9, 0.25, 0.6, 1.0, 0.0, 0.5]
    targets = build_targets(mix, NUM_CLASSES, CPU)(LABELS, mixing_plan([5, 4, 3, 2, 1, 0], lam))
    onehot, own = np.eye(NUM_CLASSES)[LABELS], np.array(lam)[:, None]
    np.testing.assert_allclose(targets, own * onehot + (1 - own) * onehot[::-1], atol=1e-7)
    assert targets.dtype == torch.float32


@pytest.mark.gpu
def test_targets_on_cuda_equal_the_cpus_and_do_not_hold_up_the_host() -> None:
    device, plan = torch.device("cuda", 0), mixing_plan([5, 4, 3, 2, 1, 0], [0.1, 0.2, 0.3, 0.3, 0.2, 0.1])
    expected = build_targets(spec.Mixup(), NUM_CLASSES, CPU)(LABELS, plan)
    targets_of, labels = build_targets(spec.Mixup(), NUM_CLASSES, device), LABELS.to(device)
    torch.cuda.set_sync_debug_mode("error")
    try:
        targets = targets_of(labels, plan)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    torch.testing.assert_close(targets.cpu(), expected)
