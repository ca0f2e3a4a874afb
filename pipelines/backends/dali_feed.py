"""What a DALI pipeline is given: plans as its inputs, and which rows it must not see."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datasets_tools.store import Split
from datasets_tools.store.index import StoredFormat
from pipelines.backends.dali_graph import DaliInputs
from pipelines.backends.raw import raw_picture
from pipelines.batch import BatchPlan


@dataclass(frozen=True, slots=True)
class FedBatch:
    """A batch that DALI has been given.

    Attributes:
        plan: what it is of.
        inputs: held until it is delivered: DALI reads them where they are.
        withheld: rows that DALI has a placeholder of.
    """

    plan: BatchPlan
    inputs: DaliInputs
    withheld: list[int]


class DaliFeed:
    """The source of a pipeline's inputs: what DALI calls for each batch.

    Inputs are prepared by `fill`, before DALI calls, so that an error of a plan or of a store never travels through
    DALI. It ends the plans early instead: DALI finishes what came before it.

    Args:
        split: the stored samples.
        depth: batches that are under way in DALI.

    Attributes:
        refused: ids of samples that DALI is not given any more.
    """

    def __init__(self, split: Split, depth: int) -> None:
        self.refused: set[int] = set()
        self._split = split
        self._depth = depth
        self._plans: Iterator[BatchPlan] = iter(())
        self._ready: deque[DaliInputs] = deque()
        self._under_way: deque[FedBatch] = deque()
        self._failure: Exception | None = None

    def begin(self, plans: Iterator[BatchPlan]) -> None:
        """Start on other plans."""
        self._plans = plans
        self._ready.clear()
        self._under_way.clear()
        self._failure = None

    def fill(self) -> None:
        """Prepare what DALI will call for in its next run."""
        try:
            while len(self._under_way) < self._depth and (plan := next(self._plans, None)) is not None:
                self._feed(plan)
        except Exception as error:
            self._failure, self._plans = error, iter(())

    def begin_again(self) -> None:
        """Give a new pipeline what another one had not delivered."""
        undelivered = [batch.plan for batch in self._under_way]
        self._ready.clear()
        self._under_way.clear()
        for plan in undelivered:
            self._feed(plan)

    def __call__(self) -> DaliInputs:
        """Return the next batch's inputs.

        Raises:
            StopIteration: there are no more plans.
        """
        if not self._ready:
            raise StopIteration
        return self._ready.popleft()

    @property
    def oldest(self) -> FedBatch:
        """The batch that DALI delivers next."""
        return self._under_way[0]

    def delivered(self) -> FedBatch:
        """Return the oldest batch under way, and let go of it."""
        return self._under_way.popleft()

    def finish(self) -> None:
        """Raise what ended the plans early, if anything did."""
        if self._failure is not None:
            raise self._failure

    def prepared(self, plan: BatchPlan) -> FedBatch:
        """Return a plan as DALI gets it."""
        unusable = self._split.damaged(plan.ids).keys() | self.refused
        withheld = [row for row, sample_id in enumerate(plan.ids.tolist()) if sample_id in unusable]
        return FedBatch(plan, _inputs(self._split, plan, withheld), withheld)

    def _feed(self, plan: BatchPlan) -> None:
        batch = self.prepared(plan)
        self._under_way.append(batch)
        self._ready.append(batch.inputs)


def _inputs(split: Split, plan: BatchPlan, withheld: list[int]) -> DaliInputs:
    """Return a plan as DALI's inputs, with a placeholder in the place of rows `withheld`."""
    anchors, shapes = (np.array(part, order="C") for part in np.hsplit(plan.windows, 2))
    starts = plan.boxes[:, :2] - anchors
    ends = starts + plan.boxes[:, 2:]
    raw = split.formats[plan.ids] == StoredFormat.RAW
    anchors[raw] = 0  # their files are the windows: decoding a PNM costs by all of its pixels
    anchors[withheld], shapes[withheld], starts[withheld], ends[withheld] = 0, 1, 0, 1
    encoded = [
        _PLACEHOLDER if row in withheld else _file(split, plan, row, is_raw=is_raw)
        for row, is_raw in enumerate(raw.tolist())
    ]
    return encoded, anchors, shapes, starts.astype(np.float32), ends.astype(np.float32)


def _file(split: Split, plan: BatchPlan, row: int, *, is_raw: bool) -> NDArray[np.uint8]:
    sample_id = int(plan.ids[row])
    if not is_raw:
        start = int(split.offsets[sample_id])
        return split.data[start : start + int(split.sizes[sample_id])]  # `prepared` has checked these bytes
    top, left, height, width = plan.windows[row].tolist()
    return _pnm(raw_picture(split, sample_id)[top : top + height, left : left + width])


def _pnm(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return uint8 (height, width, 3) RGB pixels as a binary PPM file: uint8 (size,).

    Source: the Netpbm format, https://netpbm.sourceforge.net/doc/ppm.html.
    """
    height, width, _ = pixels.shape
    header = np.frombuffer(b"P6\n%d %d\n255\n" % (width, height), np.uint8)
    file = np.empty(header.size + pixels.size, np.uint8)
    file[: header.size] = header
    file[header.size :].reshape(pixels.shape)[:] = pixels
    return file


_PLACEHOLDER = _pnm(np.zeros((1, 1, 3), np.uint8))
