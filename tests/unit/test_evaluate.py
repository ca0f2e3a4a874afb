"""Scoring against known logits; the oracles are plain Python, ImageNet-ReaL's its published `real_acc`."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.transforms import functional

from fastbot.distributed import Ranks
from fastbot.evaluate import FlipAveraged, Predictions, evaluate, evaluate_label_lists
from fastbot.losses import CrossEntropy
from fastbot.precision import build_precision
from pipelines.batch import Batch
from pipelines.plan import EvalPlan
from pipelines.spec import DataSpec, EvalSpec

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


@dataclass
class Share(Numbered):
    """What the plan of one rank of several shows of the same pictures."""

    rank: int
    world_size: int

    def batches(self) -> Iterator[Batch]:
        side = np.full(NUM_SAMPLES, 4, np.int32)
        spec = DataSpec(eval=EvalSpec(resize_size=4, crop_size=4, global_batch_size=ROWS))
        plan = EvalPlan(spec, side, side, rank=self.rank, world_size=self.world_size)
        for step in range(plan.steps_per_epoch):
            rows = plan.batch(0, step)
            images = torch.from_numpy(rows.ids.astype(np.float32)).reshape(-1, 1, 1, 1)
            labels = self.labels[rows.ids]
            yield Batch(images, labels, labels, rows.ids, torch.from_numpy(rows.weight.copy()))


class Together(Ranks):
    """A rank that adds to its own values those that the other ranks had."""

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        return values + sum(OTHERS.pop(0) for _ in range(self.world_size - 1))


OTHERS: list[torch.Tensor] = []


@pytest.mark.parametrize("world_size", [1, 2, 3, 5])
def test_predictions_of_any_number_of_ranks_are_those_of_one(
    world_size: int, logits: torch.Tensor, pipeline: Numbered
) -> None:
    observers = [Predictions(NUM_SAMPLES, NUM_CLASSES, CPU) for _ in range(world_size)]
    for rank, observer in enumerate(observers):
        share = Share(pipeline.labels, rank, world_size)
        evaluate(KnownLogits(logits), share, CrossEntropy(), FP32, ALONE, observers=[observer])
    silent = replace(ALONE, world_size=1)
    OTHERS[:] = [torch.from_numpy(observer.total(silent) + 1) for observer in observers[1:]]
    found = observers[0].total(Together(0, 0, world_size, world_size, CPU))
    assert found.tolist() == [best(logits, sample_id, 5) for sample_id in range(NUM_SAMPLES)]


def test_a_sample_of_weight_0_has_no_prediction(logits: torch.Tensor, pipeline: Numbered) -> None:
    observer = Predictions(NUM_SAMPLES, NUM_CLASSES, CPU)
    ids = np.array([3, 7, 7])
    batch = Batch(torch.zeros(3), pipeline.labels[ids], pipeline.labels[ids], ids, torch.tensor([1.0, 1.0, 0.0]))
    observer.update(logits[ids], batch)
    found = observer.total(ALONE)
    assert [row for row in range(NUM_SAMPLES) if (found[row] >= 0).any()] == [3, 7]
    assert found[7].tolist() == best(logits, 7, 5)


def test_flips_are_averaged_as_logits() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 9, 5))
    images = torch.randn(6, 3, 7, 7).contiguous(memory_format=torch.channels_last)
    both = torch.stack([model(images), model(functional.hflip(images))])
    torch.testing.assert_close(FlipAveraged(model)(images), both.mean(dim=0))
    assert not torch.allclose(both[0], both[1])


def test_a_flipped_evaluation_scores_the_average() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 9, 5))
    images, labels, ids = torch.randn(40, 3, 5, 5), torch.randint(5, (40,)), np.arange(40)

    class Given:
        def batches(self) -> Iterator[Batch]:
            yield Batch(images, labels, labels, ids, torch.ones(40))

    model.eval()
    with torch.no_grad():
        logits = (model(images) + model(functional.hflip(images))) / 2
    scores = evaluate(model, Given(), CrossEntropy(), FP32, ALONE, flip=True)  # type: ignore[arg-type]
    assert scores["top1"] == pytest.approx((logits.argmax(dim=1) == labels).float().mean().item())
    assert scores["loss"] == pytest.approx(nn.functional.cross_entropy(logits, labels).item(), rel=1e-5)
    plain = evaluate(model, Given(), CrossEntropy(), FP32, ALONE)  # type: ignore[arg-type]
    assert plain["loss"] != scores["loss"]
    lists = [[label] for label in labels.tolist()]
    by_lists = evaluate_label_lists(model, Given(), lists, FP32, ALONE, flip=True)  # type: ignore[arg-type]
    assert by_lists["top1"] == scores["top1"]
    assert not model.training
