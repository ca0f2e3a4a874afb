"""Classes one by one; the oracle is scikit-learn, and plain Python where there are several right classes."""

from __future__ import annotations

import random
from collections import Counter

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn import metrics

from fastbot.evaluation.confusion import NO_CLASS, Confusion, confusion_of

K, N = 7, 400
NAMES = tuple(f"class {label}" for label in range(K))


def scores_and_labels(seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return class scores that are right often enough to be interesting; class 6 has no samples."""
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, K - 1, N)
    scores = draw.normal(size=(N, K))
    scores[np.arange(N), labels] += 1
    return scores, labels


def best(scores: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.argsort(-scores, axis=1)[:, :5]


def test_the_matrix_is_scikit_learns() -> None:
    scores, labels = scores_and_labels()
    found = confusion_of(best(scores), labels, NAMES)
    expected = metrics.confusion_matrix(labels, scores.argmax(axis=1), labels=range(K))
    np.testing.assert_array_equal(found.matrix(), expected)
    np.testing.assert_array_equal(found.samples, np.bincount(labels, minlength=K))
    recall = metrics.recall_score(labels, scores.argmax(axis=1), labels=range(K), average=None, zero_division=0)
    np.testing.assert_allclose(found.top1 / np.maximum(1, found.samples), recall)


def test_top5_of_a_class_is_scikit_learns() -> None:
    scores, labels = scores_and_labels()
    found = confusion_of(best(scores), labels, NAMES)
    for label in range(K - 1):
        rows = labels == label
        expected = metrics.top_k_accuracy_score(labels[rows], scores[rows], k=5, normalize=False, labels=range(K))
        assert found.top5[label] == expected
    assert found.samples[K - 1] == found.top5[K - 1] == 0


def test_samples_that_did_not_count_are_nowhere() -> None:
    scores, labels = scores_and_labels()
    predictions = best(scores)
    predictions[::3] = NO_CLASS
    counted = np.arange(N) % 3 != 0
    found = confusion_of(predictions, labels, NAMES)
    expected = metrics.confusion_matrix(labels[counted], scores.argmax(axis=1)[counted], labels=range(K))
    np.testing.assert_array_equal(found.matrix(), expected)
    assert found.samples.sum() == counted.sum()


def test_lists_of_one_class_are_labels() -> None:
    scores, labels = scores_and_labels()
    by_labels = confusion_of(best(scores), labels, NAMES)
    by_lists = confusion_of(best(scores), [[label] for label in labels.tolist()], NAMES)
    for name in ("samples", "top1", "top5", "truth", "prediction", "pictures"):
        np.testing.assert_array_equal(getattr(by_lists, name), getattr(by_labels, name))


def test_of_several_right_classes_each_has_the_sample() -> None:
    scores, _ = scores_and_labels()
    draw = random.Random(1)
    right = [draw.sample(range(K), draw.choice([0, 1, 1, 2, 3])) for _ in range(N)]
    cells: Counter[tuple[int, int]] = Counter()
    top5 = [0] * K
    for sample, classes in zip(best(scores).tolist(), right, strict=True):
        is_right = sample[0] in classes
        for label in classes:
            cells[label, label if is_right else sample[0]] += 1
            top5[label] += bool(set(sample) & set(classes))
    found = confusion_of(best(scores), [[*classes, *classes[:1]] for classes in right], NAMES)  # repeats mean nothing
    assert {(i, j): count for (i, j), count in np.ndenumerate(found.matrix()) if count} == cells
    assert found.top5.tolist() == top5
    assert found.samples.tolist() == [sum(label in classes for classes in right) for label in range(K)]
    np.testing.assert_array_equal(found.matrix().sum(axis=1), found.samples)
    np.testing.assert_array_equal(found.matrix().diagonal(), found.top1)


def of_matrix(matrix: list[list[int]]) -> Confusion:
    """Return the confusion of predictions that make this matrix."""
    pairs = [(i, j) for i, row in enumerate(matrix) for j, count in enumerate(row) for _ in range(count)]
    truth, predicted = np.array(pairs).T
    return confusion_of(predicted[:, None], truth, NAMES[: len(matrix)])


def test_the_most_confused_and_the_worst() -> None:
    found = of_matrix([[5, 0, 0, 0], [1, 0, 1, 0], [0, 3, 9, 4], [0, 0, 0, 0]])
    others, times = found.most_confused()
    assert others.tolist() == [NO_CLASS, 0, 3, NO_CLASS]
    assert times.tolist() == [0, 1, 4, 0]
    assert found.worst(2) == [1, 2]
    assert found.worst(99) == [1, 2]


def test_nothing_counted_is_an_empty_table() -> None:
    found = confusion_of(np.full((4, 3), NO_CLASS), np.array([0, 1, 2, 0]), NAMES[:3])
    assert found.matrix().sum() == found.samples.sum() == 0
    assert found.worst(5) == []


@pytest.mark.parametrize("num_classes", [20_000])
def test_many_classes_need_no_square_of_memory(num_classes: int) -> None:
    labels = np.arange(num_classes)
    found = confusion_of(((labels + 1) % num_classes)[:, None], labels, [str(k) for k in labels])
    assert len(found.pictures) == num_classes
    assert found.most_confused()[0][-1] == 0
