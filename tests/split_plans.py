"""Plans of splits whose pictures have sizes of their own."""

from __future__ import annotations

from typing import Any

import numpy as np

from pipelines.plan import EvalPlan, TrainPlan
from pipelines.spec import DataSpec

# Everything that a recipe can ask for.
RICH: dict[str, Any] = {
    "order": {"kind": "repeat"},
    "jitter": {"kind": "contrast"},
    "auto_augment": {"kind": "rand"},
    "erasing": {"probability": 0.5},
    "mix": {"kind": "mixup_cutmix", "group": 8, "draw": "sample"},
}


def data_spec(**fields: Any) -> DataSpec:
    return DataSpec.model_validate({"global_batch_size": 32} | fields)


def sizes(count: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.integers(200, 600, count, dtype=np.int32), rng.integers(200, 600, count, dtype=np.int32)


def train_plan(count: int = 100, seed: int = 0, rank: int = 0, world_size: int = 1, **fields: Any) -> TrainPlan:
    return TrainPlan(data_spec(**fields), *sizes(count), seed=seed, rank=rank, world_size=world_size)


def eval_plan(count: int, batch_size: int = 32, rank: int = 0, world_size: int = 1, **fields: Any) -> EvalPlan:
    sizes_of_eval = {"global_batch_size": batch_size, "resize_size": 146, "crop_size": 128}
    return EvalPlan(data_spec(eval=sizes_of_eval | fields), *sizes(count), rank=rank, world_size=world_size)
