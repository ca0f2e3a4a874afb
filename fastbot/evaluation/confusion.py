"""Which classes a model confuses: exact counts, from what it predicted for each sample and which classes were right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Fills up rows of right classes, and stands for the prediction of a sample that did not count; equals no class.
NO_CLASS = -1

Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Confusion:
    """How often each class was taken for each other one.

    A sample stands in the row of its right class: in the diagonal where the prediction is right, else in the column of
    the class that was predicted. Where it has several right classes (ImageNet-ReaL), it stands in the row of each, and
    a right prediction in the diagonal of each. So a row's sum is the class's samples, and its diagonal those of them
    that were predicted rightly, under either rule.

    Attributes:
        class_names: by label, K of them.
        samples, top1, top5: int64 (K,): samples of each class, and those whose best prediction, or any of whose best
            five, is right.
        truth, prediction, pictures: int64, the cells that are not 0 and what they hold, by row, then by column; of K
            squared cells there are at most as many as samples.
    """

    class_names: tuple[str, ...]
    samples: Integers
    top1: Integers
    top5: Integers
    truth: Integers
    prediction: Integers
    pictures: Integers

    @property
    def num_classes(self) -> int:
        """How many classes there are."""
        return len(self.class_names)

    def matrix(self) -> Integers:
        """Return all cells, int64 (K, K)."""
        dense = np.zeros((self.num_classes, self.num_classes), np.int64)
        dense[self.truth, self.prediction] = self.pictures
        return dense

    def most_confused(self) -> tuple[Integers, Integers]:
        """Return, for each class, the other one it was most often taken for, and how often.

        Of several the first by label counts; `NO_CLASS` and 0 where the class was never taken for another.
        """
        wrong = self.truth != self.prediction
        truth, prediction, pictures = self.truth[wrong], self.prediction[wrong], self.pictures[wrong]
        order = np.lexsort((prediction, -pictures, truth))
        rows, first = np.unique(truth[order], return_index=True)
        with_class, times = np.full(self.num_classes, NO_CLASS, np.int64), np.zeros(self.num_classes, np.int64)
        with_class[rows], times[rows] = prediction[order][first], pictures[order][first]
        return with_class, times

    def worst(self, count: int) -> list[int]:
        """Return the labels of the classes with the lowest top-1, worst first.

        Classes without samples, and those without a miss, are left out.

        Of equals, those with more samples come first, then those with lower labels.
        """
        present = np.flatnonzero(self.samples > self.top1)
        share = self.top1[present] / self.samples[present]
        order = np.lexsort((present, -self.samples[present], share))
        labels: list[int] = present[order][:count].tolist()
        return labels


def confusion_of(
    predictions: Integers, right: Sequence[Sequence[int]] | Integers, class_names: Sequence[str]
) -> Confusion:
    """Count what was predicted for each sample against what is right.

    Args:
        predictions: int64 (N, up to 5), each sample's best classes, best first; `NO_CLASS` throughout a row that did
            not count.
        right: the class of each sample, int64 (N,), or lists of right classes; a sample with an empty one does not
            count.
        class_names: by label.
    """
    table = table_of(right)
    num_classes = len(class_names)
    hits = (predictions[:, :, None] == table[:, None, :]) & (table != NO_CLASS)[:, None, :]
    first, any_of_five = hits[:, 0].any(axis=1), hits.any(axis=(1, 2))
    counts = (table != NO_CLASS) & (predictions[:, :1] != NO_CLASS)
    columns = np.where(first[:, None], table, predictions[:, :1])
    cells, pictures = np.unique((table * num_classes + columns)[counts], return_counts=True)
    truth, prediction = np.divmod(cells, num_classes)
    return Confusion(
        class_names=tuple(class_names),
        samples=_by_class(table, counts, num_classes),
        top1=_by_class(table, counts & first[:, None], num_classes),
        top5=_by_class(table, counts & any_of_five[:, None], num_classes),
        truth=truth,
        prediction=prediction,
        pictures=pictures.astype(np.int64),
    )


def table_of(right: Sequence[Sequence[int]] | Integers) -> Integers:
    """Return right classes as rows, int64 (N, longest), each class once, filled up with `NO_CLASS`.

    Args:
        right: as for `confusion_of`. There is at least one column.
    """
    if isinstance(right, np.ndarray):
        return right.reshape(-1, 1)
    unique = [list(dict.fromkeys(classes)) for classes in right]
    longest = max(1, *map(len, unique)) if unique else 1
    return np.array([[*classes, *[NO_CLASS] * (longest - len(classes))] for classes in unique], np.int64)


def _by_class(table: Integers, counted: NDArray[np.bool_], num_classes: int) -> Integers:
    return np.bincount(table[counted], minlength=num_classes).astype(np.int64)
