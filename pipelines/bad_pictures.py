"""What happens to a run when a stored picture turns out to be unusable, decided once: `on_bad_image`.

A picture that cannot be decoded, or whose bytes fail their checksum, is found while batches are made. Whatever becomes
of it, the batch keeps its shape and the rows beside it stay where they are. It depends on the plan and the store alone:
it is the same on any number of ranks and after a resume.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
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
        """Ids of the samples found so far, in ascending order; substitutes that were no better are among them."""
        return sorted(self._ids)

    def remember(self, ids: Iterable[int]) -> None:
        """Take over ids that were found before a resume: they are not logged again."""
        self._ids.update(ids)

    def settle(self, decoded: Decoded, plan: BatchPlan) -> tuple[torch.Tensor, BatchPlan]:
        """Return pixels, and the plan that they and their labels follow now.

        Args:
            decoded: what a backend made of `plan`; not changed.
            plan: n rows.

        Raises:
            BadPictureError, DamagedSampleError: the policy is `fail`, and a row has no picture.
        """
        if not decoded.failed:
            return decoded.pixels, plan
        if self._policy == "fail":
            error = decoded.failed[min(decoded.failed)]
            error.add_note(_REMEDY)
            raise error
        self._note(decoded, plan)
        pixels, plan, rows = decoded.pixels, plan, sorted(decoded.failed)
        if substitutes := _NUM_SUBSTITUTES[self._policy]:
            pixels = pixels.clone()  # the backend's own are not ours to write to
            plan, rows = self._replaced(pixels, plan, rows, substitutes)
        return pixels, _skipped(plan, rows)

    def _replaced(
        self, pixels: torch.Tensor, plan: BatchPlan, rows: Sequence[int], num_substitutes: int
    ) -> tuple[BatchPlan, list[int]]:
        """Write substitutes to `pixels`; return the plan with them, and the rows that found none."""
        left = list(rows)
        original = plan
        for attempt in range(num_substitutes):
            if not left:
                break
            substitutes = self._plan.substituted(original, left, attempt)
            found = self._rescue(substitutes)
            self._note(found, substitutes)
            good = [k for k in range(len(left)) if k not in found.failed]
            into = [left[k] for k in good]
            pixels[into] = found.pixels[good].to(pixels.device)
            plan = _with_samples(plan, into, substitutes, good)
            left = [left[k] for k in sorted(found.failed)]
        return plan, left

    def _note(self, decoded: Decoded, plan: BatchPlan) -> None:
        for row in sorted(decoded.failed):
            sample_id = int(plan.ids[row])
            if sample_id not in self._ids:
                self._ids.add(sample_id)
                _log.warning("%s (on_bad_image = %s)", decoded.failed[row], self._policy)


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
