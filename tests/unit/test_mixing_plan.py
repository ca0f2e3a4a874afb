from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter
from scipy import stats
from timm.data import mixup as timm_mixup

from pipelines import philox
from pipelines.mixing_plan import MixingPlan, build_mixing_plan, cut_rectangles, mix_group
from pipelines.ranks import positions_of_rank
from pipelines.spec import CutMix, Mix, Mixup, MixupCutMix, NoMix

KEY = philox.key(5)
# Seeds are fixed, so these tests cannot flicker.
P_VALUE = 1e-4
SIZE = (48, 64)


def mixing(mix: Mix, batch_size: int, rank: int = 0, world_size: int = 1) -> MixingPlan:
    positions = positions_of_rank(batch_size // world_size, rank, world_size)
    return build_mixing_plan(mix, KEY, batch_size, positions, world_size)


def lambdas(mix: Mix, batch_size: int, steps: int) -> np.ndarray:
    return np.stack([mixing(mix, batch_size).shares(0, step, SIZE)[0] for step in range(steps)])


def test_one_group_on_one_rank_is_the_reversed_batch() -> None:
    assert mixing(Mixup(group=6), 6).partner.tolist() == [5, 4, 3, 2, 1, 0]


@pytest.mark.parametrize("rank", [0, 1])
def test_a_group_as_large_as_a_rank_reverses_the_rank(rank: int) -> None:
    assert mixing(CutMix(group=4), 8, rank, world_size=2).partner.tolist() == [3, 2, 1, 0]


def test_two_groups_on_one_rank_interleave() -> None:
    assert mixing(Mixup(group=4), 8).partner.tolist() == [6, 7, 4, 5, 2, 3, 0, 1]


@pytest.mark.parametrize("mix", [Mixup(group=3, draw="sample"), CutMix(group=3), MixupCutMix(group=3, draw="batch")])
def test_the_middle_of_an_odd_group_stays_as_it_is(mix: Mix) -> None:
    plan = mixing(mix, 3)
    assert plan.partner.tolist() == [2, 1, 0]
    for step in range(20):
        lam, cut = plan.shares(0, step, SIZE)
        assert lam[1] == 1
        assert not cut[1].any()


def test_nothing_mixes_without_mixing() -> None:
    plan = mixing(NoMix(), 4)
    lam, cut = plan.shares(0, 0, SIZE)
    assert plan.partner.tolist() == [0, 1, 2, 3]
    assert lam.tolist() == [1, 1, 1, 1]
    assert not cut.any()


def test_mix_group_is_that_of_every_kind() -> None:
    assert [mix_group(mix) for mix in (NoMix(), Mixup(group=4), CutMix(group=5), MixupCutMix(group=6))] == [1, 4, 5, 6]


@pytest.mark.parametrize(
    "fields",
    [{"kind": "mixup", "alpha": 1}, {"kind": "cutmix", "alpha": 1}, {"kind": "mixup_cutmix", "mixup_alpha": 1}],
    ids=lambda fields: fields["kind"],
)
def test_draws_are_shared_as_the_spec_says(fields: dict[str, Any]) -> None:
    def drawn(draw: str) -> np.ndarray:
        mix: Mix = TypeAdapter(Mix).validate_python({"draw": draw, "group": 4} | fields)
        # A large picture, on which no two rectangles are alike by chance.
        lam, cut = zip(*(mixing(mix, 12).shares(0, step, (10_000, 10_000)) for step in range(5)), strict=True)
        return np.concatenate([np.array(lam)[:, :, None], np.array(cut)], axis=2)

    per_batch, per_group, per_sample = drawn("batch"), drawn("group"), drawn("sample")
    assert all(len(np.unique(rows, axis=0)) == 1 for rows in per_batch)
    np.testing.assert_array_equal(per_group, np.tile(per_group[:, :3], (1, 4, 1)))
    assert all(len(np.unique(rows, axis=0)) == 3 for rows in per_group)
    assert len(np.unique(per_sample.reshape(60, 5), axis=0)) == 60
    assert len(np.unique(per_batch[:, 0], axis=0)) == 5


@pytest.mark.parametrize(("draw", "draws_per_batch"), [("batch", 1), ("group", 4), ("sample", 16)])
def test_lambda_is_raw_beta(draw: str, draws_per_batch: int) -> None:
    drawn = lambdas(Mixup.model_validate({"draw": draw, "group": 4, "alpha": 0.5}), 16, steps=400)
    assert stats.kstest(drawn[:, :draws_per_batch].ravel(), stats.beta(0.5, 0.5).cdf).pvalue > P_VALUE


def test_each_kind_is_drawn_as_often_as_asked_and_with_its_own_alpha() -> None:
    mix = MixupCutMix(mixup_alpha=0.3, cutmix_alpha=5.0, switch=0.3, probability=0.8, draw="sample", group=2)
    lam, cut = mixing(mix, 20_000).shares(0, 0, (4000, 4000))
    cuts, untouched = cut[:, 2] > 0, lam == 1
    counts = [int(untouched.sum()), int(cuts.sum()), int(np.sum(~cuts & ~untouched))]
    assert stats.chisquare(counts, np.array([0.2, 0.8 * 0.3, 0.8 * 0.7]) * 20_000).pvalue > P_VALUE
    assert stats.kstest(lam[~cuts & ~untouched], stats.beta(0.3, 0.3).cdf).pvalue > P_VALUE
    # Rectangles that no border clips are as large as drawn.
    inside = cuts & np.all(cut[:, :2] > 0, axis=1) & np.all(cut[:, :2] + cut[:, 2:] < 4000, axis=1)
    sides = np.sqrt(1 - lam[inside])
    weight = (1 - sides) ** 2  # the share of centres at which nothing is clipped
    mean = np.average(lam[inside], weights=1 / weight)
    assert abs(mean - 0.5) < 0.02
    assert abs(np.average((lam[inside] - 0.5) ** 2, weights=1 / weight) - stats.beta(5, 5).var()) < 0.005


class Replay:
    """Stands in for `numpy.random` in timm: hands out what the plan draws at an index, in the order timm asks.

    timm asks for whole batches in its mode `elem` (`num` rows), for one number at a time in its mode `batch`.
    """

    def __init__(self, mix: Mix, epoch: int, index: np.ndarray, elementwise: bool) -> None:
        self._uniforms = philox.uniforms(KEY, epoch, philox.CUT, index)
        self._betas = {a: philox.betas(KEY, epoch, philox.LAMBDA, index, a) for a in alphas(mix)}
        self._either = len(alphas(mix)) == 2
        self._elementwise = elementwise
        self._num_rand = 0
        self._num_centres = 0
        switch = mix.switch if isinstance(mix, MixupCutMix) else float(isinstance(mix, CutMix))
        cuts = self._uniforms[:, 1] < switch
        mixes = self._uniforms[:, 0] < mix.probability
        self._centres = self._uniforms[cuts & mixes, 2:].ravel()

    def rand(self, *shape: int) -> Any:
        # `elem` asks for the switch before the probability, `batch` after it.
        columns = ([1, 0] if self._elementwise else [0, 1]) if self._either else [0]
        drawn = self._uniforms[:, columns[self._num_rand]]
        self._num_rand += 1
        return drawn if shape else drawn[0]

    def beta(self, alpha: float, _: float, size: int | None = None) -> Any:
        return self._betas[alpha] if size else self._betas[alpha][0]

    def randint(self, low: int, high: int, size: None) -> int:
        self._num_centres += 1
        return low + int((high - low) * self._centres[self._num_centres - 1])


def alphas(mix: Mix) -> list[float]:
    return [mix.mixup_alpha, mix.cutmix_alpha] if isinstance(mix, MixupCutMix) else [mix.alpha]


def mixed(images: np.ndarray, partner: np.ndarray, lam: np.ndarray, cut: np.ndarray) -> np.ndarray:
    """Return (n, H, W) images after what a plan says."""
    out = images.copy()
    for k, (top, left, height, width) in enumerate(cut):
        if height:
            there = np.s_[top : top + height, left : left + width]
            out[k][there] = images[partner[k]][there]
        else:
            out[k] = images[k] * lam[k] + images[partner[k]] * (1 - lam[k])
    return out


def mixup_of_timm(mix: Mix) -> timm_mixup.Mixup:
    return timm_mixup.Mixup(
        mixup_alpha=mix.mixup_alpha if isinstance(mix, MixupCutMix) else mix.alpha * isinstance(mix, Mixup),
        cutmix_alpha=mix.cutmix_alpha if isinstance(mix, MixupCutMix) else mix.alpha * isinstance(mix, CutMix),
        prob=mix.probability,
        switch_prob=mix.switch if isinstance(mix, MixupCutMix) else 0.5,
        mode="elem" if mix.draw == "sample" else "batch",
        label_smoothing=0.0,
        num_classes=10,
    )


@pytest.mark.parametrize("draw", ["batch", "group", "sample"])
@pytest.mark.parametrize(
    "fields",
    [
        {"kind": "mixup", "alpha": 0.4, "probability": 0.7},
        {"kind": "cutmix", "alpha": 1.0, "probability": 0.7},
        {"kind": "mixup_cutmix", "mixup_alpha": 0.1, "cutmix_alpha": 1.0, "probability": 0.9},
    ],
)
def test_a_group_mixes_as_a_process_of_timm_fed_the_same_numbers(
    monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any], draw: str
) -> None:
    mix: Mix = TypeAdapter(Mix).validate_python({"draw": draw, "group": 8} | fields)
    theirs, plan = mixup_of_timm(mix), mixing(mix, 16)
    assert not isinstance(mix, NoMix)
    rng = np.random.default_rng(0)
    for step in range(20):
        images, labels = rng.normal(size=(16, *SIZE)), rng.integers(10, size=16)
        lam, cut = plan.shares(2, step, SIZE)
        ours = mixed(images, plan.partner, lam, cut)
        for group in range(2):
            rows = np.arange(group, 16, 2)
            index = {"batch": np.array([step]), "group": np.array([2 * step + group]), "sample": 16 * step + rows}[draw]
            monkeypatch.setattr(timm_mixup.np, "random", Replay(mix, 2, index, draw == "sample"))
            expected, targets = theirs(torch.tensor(images[rows])[:, None], torch.tensor(labels[rows]))
            np.testing.assert_allclose(ours[rows], expected[:, 0].numpy(), atol=1e-6)
            hot = np.eye(10)[labels[rows]]
            shares = lam[rows, None] * hot + (1 - lam[rows, None]) * hot[::-1]
            np.testing.assert_allclose(shares, targets.numpy(), atol=1e-6)


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (224, 224)])
def test_rectangles_are_those_of_timm(monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    lam = np.concatenate([[0.0, 1.0, 1 - 1e-12], rng.beta(1, 1, 200)])
    centres = rng.integers(0, size, (len(lam), 2))
    rectangles, outside = cut_rectangles(lam, (centres + 0.5) / size, size)
    for k in range(len(lam)):
        asked = iter(centres[k].tolist())
        monkeypatch.setattr(timm_mixup.np.random, "randint", lambda *_, size, asked=asked: next(asked))
        (top, bottom, left, right), share = timm_mixup.cutmix_bbox_and_lam((3, *size), lam[k])
        covered = (bottom - top) * (right - left) > 0
        assert rectangles[k].tolist() == ([top, left, bottom - top, right - left] if covered else [0] * 4)
        assert outside[k] == share
