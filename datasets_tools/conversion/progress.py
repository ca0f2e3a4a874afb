"""How far a conversion is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from datasets_tools.conversion.journal import Rejected
from datasets_tools.pictures import Picture


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a conversion is.

    Attributes:
        stage: `pictures`, or `finishing` while the last files are made durable and hashed.
        split: the split at work.
        num_done, num_total: pictures, over all splits.
        num_resumed: of those done, how many an interrupted run had done before.
        num_bad: pictures refused so far.
        num_bytes: written by this run so far.
    """

    stage: Literal["pictures", "finishing"]
    split: str
    num_done: int
    num_total: int
    num_resumed: int
    num_bad: int
    num_bytes: int


ProgressCallback = Callable[[Progress], None]


class Meter:
    """Count pictures as they pass, and tell.

    Args:
        num_total: pictures of the whole conversion.
        callback: told after every picture.
    """

    def __init__(self, num_total: int, callback: ProgressCallback) -> None:
        self._num_total = num_total
        self._callback = callback
        self._split = ""
        self._num_done = self._num_resumed = self._num_bad = self._num_bytes = 0

    def passed(self, split: str, outcome: Picture | Rejected) -> None:
        """Count a picture."""
        self._split = split
        self._num_done += 1
        if isinstance(outcome, Picture):
            self._num_bytes += len(outcome.data)
        else:
            self._num_bad += 1
        self._tell("pictures")

    def written(self, split: str, num_pictures: int, num_bad: int, num_bytes: int) -> None:
        """Count a whole shard that was written elsewhere."""
        self._split = split
        self._num_done += num_pictures
        self._num_bad += num_bad
        self._num_bytes += num_bytes
        self._tell("pictures")

    def resumed(self, split: str, num_pictures: int, num_bad: int) -> None:
        """Count pictures that were done before."""
        self._split = split
        self._num_done += num_pictures
        self._num_resumed += num_pictures
        self._num_bad += num_bad
        if num_pictures:
            self._tell("pictures")

    def finishing(self) -> None:
        """Say that all pictures have passed."""
        self._tell("finishing")

    def _tell(self, stage: Literal["pictures", "finishing"]) -> None:
        self._callback(
            Progress(
                stage,
                self._split,
                self._num_done,
                self._num_total,
                self._num_resumed,
                self._num_bad,
                self._num_bytes,
            )
        )
