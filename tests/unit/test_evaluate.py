"""Scoring against known logits; the oracles are plain Python, ImageNet-ReaL's its published `real_acc`."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

from fastbot.distributed import Ranks
from fastbot.evaluate import evaluate, evaluate_label_lists
from fastbot.losses import CrossEntropy
from fastbot.precision import build_precision
from pipelines.batch import Batch

CPU = torch.device("cpu")
ALONE = Ranks(rank=0, local_rank=0, world_size=1, local_world_size=1, device=CPU)
FP32 = build_precision("fp32", CPU, tf32=False)
NUM_SAMPLES, NUM_CLASSES, ROWS = 43, 12, 8


class KnownLogits(nn.Module):
    """Returns the logits of the sample whose id the picture's only pixel is."""

    def __init__(self, logits: torch.Tensor) -> None:
        super().__init__()
        self._logits = logits

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        assert not self.training
        return self._logits[images[:, 0, 0, 0].long()]


@dataclass
class Numbered:
    """A pipeline whose pictures are their own ids; the last batch is padded with the last sample."""

    labels: torch.Tensor

    def batches(self) -> Iterator[Batch]:
        for start in range(0, NUM_SAMPLES, ROWS):
            rows = np.arange(start, start + ROWS)
            ids = np.minimum(rows, NUM_SAMPLES - 1)
            labels, weight = self.labels[ids], torch.from_numpy((rows < NUM_SAMPLES).astype(np.float32))
            yield Batch(torch.from_numpy(ids.astype(np.float32)).reshape(-1, 1, 1, 1), labels, labels, ids, weight)


@pytest.fixture
def logits() -> torch.Tensor:
    return torch.randn(NUM_SAMPLES, NUM_CLASSES, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def pipeline() -> Numbered:
    return Numbered(torch.randint(NUM_CLASSES, (NUM_SAMPLES,), generator=torch.Generator().manual_seed(1)))


def best(logits: torch.Tensor, sample_id: int, count: int) -> list[int]:
    row = logits[sample_id].tolist()
    return sorted(range(len(row)), key=lambda k: -row[k])[:count]


def hit_rate(logits: torch.Tensor, label_lists: list[list[int]], count: int) -> float:
    """ImageNet-ReaL: the share of pictures with labels, of which any of the `count` best predictions is one."""
    hits = [bool(set(best(logits, i, count)) & set(right)) for i, right in enumerate(label_lists) if right]
    return sum(hits) / len(hits)


def test_accuracy_on_label_lists_is_that_of_their_authors(logits: torch.Tensor, pipeline: Numbered) -> None:
    draw = random.Random(2)
    label_lists = [draw.sample(range(NUM_CLASSES), draw.choice([0, 1, 1, 2, 5])) for _ in range(NUM_SAMPLES)]
    scores = evaluate_label_lists(KnownLogits(logits), pipeline, label_lists, FP32, ALONE)
    assert scores == {
        "top1": pytest.approx(hit_rate(logits, label_lists, 1)),
        "top5": pytest.approx(hit_rate(logits, label_lists, 5)),
        "num_samples": sum(map(bool, label_lists)),
    }
    assert 0 < scores["top1"] < scores["top5"] < 1


def test_lists_of_one_label_score_as_labels_do(logits: torch.Tensor, pipeline: Numbered) -> None:
    model = KnownLogits(logits)
    by_labels = evaluate(model, pipeline, CrossEntropy(), FP32, ALONE)
    by_lists = evaluate_label_lists(model, pipeline, [[label] for label in pipeline.labels.tolist()], FP32, ALONE)
    assert by_lists == {"top1": by_labels["top1"], "top5": by_labels["top5"], "num_samples": NUM_SAMPLES}
    assert by_labels["top1"] == pytest.approx(hit_rate(logits, [[k] for k in pipeline.labels.tolist()], 1))


def test_fewer_than_five_classes_are_all_in_the_top_five(pipeline: Numbered) -> None:
    model = KnownLogits(torch.randn(NUM_SAMPLES, 3))
    scores = evaluate_label_lists(model, pipeline, [[i % 3] for i in range(NUM_SAMPLES)], FP32, ALONE)
    assert scores["top5"] == 1


def test_without_any_label_there_is_no_accuracy(logits: torch.Tensor, pipeline: Numbered) -> None:
    scores = evaluate_label_lists(KnownLogits(logits), pipeline, [[]] * NUM_SAMPLES, FP32, ALONE)
    assert scores == {
        "top1": pytest.approx(float("nan"), nan_ok=True),
        "top5": pytest.approx(float("nan"), nan_ok=True),
        "num_samples": 0,
    }


@pytest.mark.parametrize("training", [True, False])
def test_the_model_is_left_in_its_mode_also_after_an_error(
    training: bool, logits: torch.Tensor, pipeline: Numbered
) -> None:
    model = KnownLogits(logits).train(training)
    evaluate(model, pipeline, CrossEntropy(), FP32, ALONE)
    assert model.training == training
    with pytest.raises(IndexError):
        evaluate(KnownLogits(logits[:5]).train(training), pipeline, CrossEntropy(), FP32, ALONE)
    assert model.training == training
