"""What happens to a run when a stored picture turns out to be unusable, decided once: `on_bad_image`.

A picture that cannot be decoded, or whose bytes fail their checksum, is found while batches are made. Whatever becomes
of it, the batch keeps its shape and the rows beside it stay where they are. It depends on the plan and the store alone:
it is the same on any number of ranks and after a resume.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import torch

from pipelines.batch import BatchPlan, Decoded, Plan

OnBadImage = Literal["fail", "replace", "skip"]
Rescue = Callable[[BatchPlan], Decoded]

# Substitutes tried for a picture. Where one in a hundred is bad, three are one time in a million.
_NUM_SUBSTITUTES: dict[OnBadImage, int] = {"fail": 0, "replace": 3, "skip": 0}

_REMEDY = "To go on in spite of it: on_bad_image = skip or replace (fastbot train --resume --on-bad-image skip)."

_log = logging.getLogger("pipelines")


@dataclass(frozen=True, slots=True)
class Settled:
    """A batch whose rows without a picture have been decided on.

    Attributes:
        pixels: uint8 (n, H, W, 3).
        plan: that they and their labels follow now.
        bad: what was wrong with which samples, by id.
    """

    pixels: torch.Tensor
    plan: BatchPlan
    bad: Mapping[int, Exception] = field(default_factory=dict)


class BadPictures:
    """Settles the rows of batches that have no picture, and remembers whose they were.

    `fail` raises what is wrong with the first of them. `skip` gives the row weight 0; its pixels are black, and the row
    that would have mixed with it stays unmixed, so that no label speaks for a picture that is not there. `replace` puts
    another sample in the row's place, drawn by the plan, with its label; what else the plan decided for the row stays.
    A row that finds no usable substitute is skipped.

    Args:
        policy: what to do.
        plan: names the substitutes.
        rescue: decodes plans of a few rows, on the calling thread.
    """

    def __init__(self, policy: OnBadImage, plan: Plan, rescue: Rescue) -> None:
        self._policy = policy
        self._plan = plan
        self._rescue = rescue
        self._ids: set[int] = set()

    @property
    def ids(self) -> list[int]:
        """Ids of the samples noted so far, in ascending order; substitutes that were no better are among them."""
        return sorted(self._ids)

    def remember(self, ids: Iterable[int]) -> None:
        """Take over ids that were found before a resume: they are not logged again."""
        self._ids.update(ids)

    def settle(self, decoded: Decoded, plan: BatchPlan) -> Settled:
        """Decide what becomes of the rows of a batch that have no picture.

        Args:
            decoded: what a backend made of `plan`; not changed.
            plan: n rows.

        Raises:
            BadPictureError, DamagedSampleError: the policy is `fail`, and a row has no picture.
        """
        if not decoded.failed:
            return Settled(decoded.pixels, plan)
        if self._policy == "fail":
            error = decoded.failed[min(decoded.failed)]
            error.add_note(_REMEDY)
            raise error
        pixels, rows, bad = decoded.pixels, sorted(decoded.failed), _by_id(decoded, plan)
        if substitutes := _NUM_SUBSTITUTES[self._policy]:
            pixels = pixels.clone()  # the backend's own are not ours to write to
            plan, rows = self._replaced(pixels, plan, rows, substitutes, bad)
        return Settled(pixels, _skipped(plan, rows), bad)

    def note(self, bad: Mapping[int, Exception]) -> None:
        """Count and log what a batch that is being used has shown: samples by id, and what is wrong with them."""
        for sample_id, error in bad.items():
            if sample_id not in self._ids:
                self._ids.add(sample_id)
                _log.warning("%s (on_bad_image = %s)", error, self._policy)

    def _replaced(
        self,
        pixels: torch.Tensor,
        plan: BatchPlan,
        rows: Sequence[int],
        num_substitutes: int,
        bad: dict[int, Exception],
    ) -> tuple[BatchPlan, list[int]]:
        """Write substitutes to `pixels`, and those that are no better to `bad`.

        Returns:
            The plan with the substitutes, and the rows that found none.
        """
        left = list(rows)
        original = plan
        for attempt in range(num_substitutes):
            if not left:
                break
            substitutes = self._plan.substituted(original, left, attempt)
            found = self._rescue(substitutes)
            bad |= _by_id(found, substitutes)
            good = [k for k in range(len(left)) if k not in found.failed]
            into = [left[k] for k in good]
            pixels[into] = found.pixels[good].to(pixels.device)
            plan = _with_samples(plan, into, substitutes, good)
            left = [left[k] for k in sorted(found.failed)]
        return plan, left


def _by_id(decoded: Decoded, plan: BatchPlan) -> dict[int, Exception]:
    return {int(plan.ids[row]): decoded.failed[row] for row in sorted(decoded.failed)}


def _with_samples(plan: BatchPlan, rows: Sequence[int], substitutes: BatchPlan, taken: Sequence[int]) -> BatchPlan:
    """Return `plan` with the samples and crops of rows `taken` of `substitutes` in its `rows`."""
    ids, windows, boxes = plan.ids.copy(), plan.windows.copy(), plan.boxes.copy()
    ids[rows], windows[rows], boxes[rows] = (
        part[taken] for part in (substitutes.ids, substitutes.windows, substitutes.boxes)
    )
    return replace(plan, ids=ids, windows=windows, boxes=boxes)


def _skipped(plan: BatchPlan, rows: Sequence[int]) -> BatchPlan:
    """Return `plan` with `rows` of weight 0, and they and their partners unmixed."""
    weight, partner, lam, cut = plan.weight.copy(), plan.partner.copy(), plan.lam.copy(), plan.cut.copy()
    weight[rows] = 0
    unmixed = np.union1d(rows, plan.partner[rows]).astype(np.int64)
    partner[unmixed], lam[unmixed], cut[unmixed] = unmixed, 1, 0
    return replace(plan, weight=weight, partner=partner, lam=lam, cut=cut)
