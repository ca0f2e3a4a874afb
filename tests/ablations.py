"""Ablations that nobody trained, for tests of what is made of their results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastbot.ablation.records import Ablation, RunResult, Scores, StoreRecord, asked_for
from fastbot.ablation.trainings import Changes, select_rows
from fastbot.suite_files import load_suite

STORE = StoreRecord(path="stores/small", digest="d" * 64, num_classes=10, num_train=1000, num_val=100, grey=False)


def result(top1: float, **changes: Any) -> RunResult:
    """A training that ended at `top1`."""
    scores = Scores(top1=top1, top5=1.0, loss=0.5)
    values: dict[str, Any] = {
        "steps": 8,
        "final": scores,
        "best": scores,
        "best_step": 8,
        "images_per_s": 100.0,
        "wall_s": 10.0,
        "bad_pictures": 0,
        "machine": "2 cores",
        "conditions": {"num_threads": 2},
    }
    return RunResult(**(values | changes))


def ablation(
    suite: str = "table6", rows: Sequence[str] = (), changes: Changes | None = None, store: StoreRecord = STORE
) -> Ablation:
    """An ablation of a packaged suite, nothing of it trained."""
    chosen = load_suite(suite)
    return asked_for(chosen, changes or Changes(), store, select_rows(chosen, rows), None)


def trained(scores: Mapping[str, Sequence[float]], suite: str = "table6", **options: Any) -> Ablation:
    """An ablation whose rows, by label, ended at these accuracies with seeds 0, 1, ..."""
    empty = ablation(suite, list(scores), **options)
    recipes = {row.label: row.recipe for row in empty.rows}
    return empty.with_results(
        {recipes[label]: {seed: result(top1) for seed, top1 in enumerate(values)} for label, values in scores.items()}
    )
