"""What becomes of rows that have no picture, without pictures: pixels are sample ids."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from plans import mixing_plan, train_plan

from pipelines.bad_pictures import BadPictures, OnBadImage
from pipelines.batch import BatchPlan, Decoded
from pipelines.errors import BadPictureError

SIZE = (2, 3)


class Substitutes:
    """A plan whose substitutes for sample k are 10 k + 1, 10 k + 2 ...: attempts are seen in the ids."""

    steps_per_epoch, rows = 1, 4

    def output_size(self, epoch: int) -> tuple[int, int]:
        return SIZE

    def batch(self, epoch: int, step: int) -> BatchPlan:
        raise NotImplementedError

    def substituted(self, plan: BatchPlan, rows: Sequence[int], attempt: int) -> BatchPlan:
        ids = plan.ids[list(rows)] * 10 + attempt + 1
        return train_plan(ids.tolist(), [(i, i, 5, 7) for i in ids], SIZE)


def decoded(plan: BatchPlan, bad: Sequence[int] = ()) -> Decoded:
    """Return the id as every pixel; samples in `bad` failed."""
    failed: dict[int, Exception] = {
        row: BadPictureError(int(i), f"k{i}", "torn") for row, i in enumerate(plan.ids) if i in bad
    }
    shown = np.where([row in failed for row in range(len(plan.ids))], 0, plan.ids)
    return Decoded(torch.from_numpy(shown)[:, None, None, None].expand(-1, *SIZE, 3).to(torch.uint8), failed)


def policy(name: OnBadImage, bad: Sequence[int]) -> BadPictures:
    return BadPictures(name, Substitutes(), lambda plan: decoded(plan, bad))


def plan_of(*ids: int) -> BatchPlan:
    """Return a plan in which rows 0 and 3, 1 and 2 mix, the latter by a cut."""
    mixed = mixing_plan([3, 2, 1, 0], [0.7, 0.6, 0.6, 0.7])
    cut = np.array([[0] * 4, [0, 0, 1, 1], [0, 0, 1, 1], [0] * 4], np.int32)
    return replace(mixed, ids=np.array(ids), output_size=SIZE, cut=cut)


def settle(name: OnBadImage, bad: Sequence[int], *ids: int) -> tuple[list[int], BatchPlan, BadPictures]:
    """Return what each row shows now, the plan it follows, and the policy."""
    settled, plan = policy(name, bad), plan_of(*ids)
    before = decoded(plan, bad)
    kept = before.pixels.clone()
    result = settled.settle(before, plan)
    settled.note(result.bad)
    pixels, followed = result.pixels, result.plan
    assert torch.equal(before.pixels, kept), "the backend's memory is not written to"
    assert (pixels == pixels[:, :1, :1, :1]).all(), "a row shows one picture"
    return pixels[:, 0, 0, 0].tolist(), followed, settled


@pytest.mark.parametrize("name", ["fail", "replace", "skip"])
def test_a_whole_batch_passes_untouched(name: OnBadImage) -> None:
    plan = plan_of(1, 2, 3, 4)
    whole = decoded(plan)
    result = policy(name, []).settle(whole, plan)
    pixels, followed = result.pixels, result.plan
    assert pixels is whole.pixels
    assert followed is plan


def test_fail_raises_the_error_of_the_first_bad_row_with_the_way_out() -> None:
    with pytest.raises(BadPictureError, match=r"sample 2 \(k2\)") as caught:
        settle("fail", [2, 3], 1, 2, 3, 4)
    assert "--on-bad-image skip" in caught.value.__notes__[0]


def test_skip_takes_the_weight_and_unmixes_the_pair() -> None:
    shown, plan, settled = settle("skip", [2], 1, 2, 3, 4)
    assert shown == [1, 0, 3, 4]
    assert plan.ids.tolist() == [1, 2, 3, 4]
    assert plan.weight.tolist() == [1, 0, 1, 1]
    assert plan.partner.tolist() == [3, 1, 2, 0], "row 2 must not mix with black pixels, rows 0 and 3 as before"
    assert plan.lam.tolist() == pytest.approx([0.7, 1, 1, 0.7])
    assert not plan.cut.any()
    assert settled.ids == [2]


def test_a_plan_is_not_changed_in_place() -> None:
    plan = plan_of(1, 2, 3, 4)
    before = {name: getattr(plan, name).copy() for name in ("ids", "weight", "partner", "lam", "cut", "windows")}
    for name in ("skip", "replace"):
        policy(name, [2]).settle(decoded(plan, [2]), plan)
    assert all(np.array_equal(getattr(plan, name), value) for name, value in before.items())


def test_replace_puts_another_sample_in_the_row_and_mixes_as_planned() -> None:
    shown, plan, settled = settle("replace", [2, 4], 1, 2, 3, 4)
    assert shown == [1, 21, 3, 41] == plan.ids.tolist()
    assert plan.windows[[1, 3]].tolist() == [[21, 21, 5, 7], [41, 41, 5, 7]] == plan.boxes[[1, 3]].tolist()
    assert plan.weight.tolist() == [1, 1, 1, 1]
    assert plan.partner.tolist() == [3, 2, 1, 0]
    assert plan.lam.tolist() == pytest.approx([0.7, 0.6, 0.6, 0.7])
    assert settled.ids == [2, 4]


def test_replace_tries_again_for_the_rows_whose_substitute_is_bad_too() -> None:
    shown, plan, settled = settle("replace", [2, 21, 22, 4], 1, 2, 3, 4)
    assert shown == [1, 23, 3, 41] == plan.ids.tolist()
    assert settled.ids == [2, 4, 21, 22]


def test_replace_gives_up_after_three_substitutes_and_skips() -> None:
    shown, plan, _ = settle("replace", [2, 21, 22, 23, 4], 1, 2, 3, 4)
    assert shown == [1, 0, 3, 41]
    assert plan.ids.tolist() == [1, 2, 3, 41]
    assert plan.weight.tolist() == [1, 0, 1, 1]
    assert plan.partner.tolist() == [3, 1, 2, 0]


def test_a_batch_without_any_good_picture_keeps_its_shape() -> None:
    shown, plan, _ = settle("skip", [1, 2, 3, 4], 1, 2, 3, 4)
    assert shown == [0] * 4
    assert plan.weight.tolist() == [0] * 4
    assert plan.partner.tolist() == [0, 1, 2, 3]


def test_each_id_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    settled = policy("skip", [2, 3])
    settled.remember([3])
    with caplog.at_level(logging.WARNING, "pipelines"):
        for ids in ((1, 2, 3, 4), (2, 2, 5, 6)):
            settled.note(settled.settle(decoded(plan_of(*ids), [2, 3]), plan_of(*ids)).bad)
    assert [record.getMessage() for record in caplog.records] == [
        "sample 2 (k2) cannot be decoded: torn. Convert the store again from its source. (on_bad_image = skip)"
    ]
    assert settled.ids == [2, 3]
