"""One rank of a training that is timed: `torchrun ... -m MODULE FILE QUESTION`. The first rank writes FILE.

Turns with and without the exchange of gradients follow each other, on all ranks alike. A turn takes as long as its
slowest rank.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from benchmarks.rungs.training import WARM_STEPS, Course, build_trainer, open_pipeline, recipe_of, synchronize
from datasets_tools.store import Store
from fastbot.distributed import Ranks, joined


@dataclass(frozen=True, slots=True)
class Question:
    """What is trained, and for how long.

    Attributes:
        data: a store's folder.
        recipe, overrides: as for `fastbot train`.
        batch_size: pictures on each rank.
        backend: what decodes.
        device: `auto`, `cpu` or `cuda`.
        steps: of a turn.
        turns: with the exchange, and as many without.
    """

    data: str
    recipe: str
    overrides: list[str]
    batch_size: int
    backend: str
    device: str
    steps: int
    turns: int


def answer(question: Question, ranks: Ranks) -> dict[str, list[float]]:
    """Return the images/s of all ranks together in each turn, `with` and `without` the exchange of gradients."""
    recipe = recipe_of(question.recipe, question.overrides, question.batch_size * ranks.world_size)
    store = Store(Path(question.data))
    with closing(open_pipeline(recipe, store, question.backend, ranks)) as pipeline:
        trainer = build_trainer(recipe, pipeline, store, ranks)
        course = Course(trainer, pipeline)
        ways: dict[str, Callable[[], AbstractContextManager[None]]] = {
            "with_exchange": nullcontext,
            "without_exchange": _without_exchange(trainer.model),
        }
        found: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(question.turns):
            for way, entered in ways.items():
                with entered():
                    course.go(WARM_STEPS)
                    found[way].append(_rate(course, question.steps, ranks))
        return found


def _rate(course: Course, steps: int, ranks: Ranks) -> float:
    ranks.barrier()
    began = time.perf_counter()
    pictures = course.go(steps)
    synchronize(ranks.device)
    seconds = torch.tensor(time.perf_counter() - began, device=ranks.device)
    return pictures * ranks.world_size / ranks.max(seconds).item()


def _without_exchange(model: nn.Module) -> Callable[[], AbstractContextManager[None]]:
    """Return what keeps gradients on their rank; a rank that is alone keeps them anyway."""
    parallel = getattr(model, "_orig_mod", model)  # torch.compile wraps what it compiles
    return parallel.no_sync if isinstance(parallel, DistributedDataParallel) else nullcontext


def main() -> None:
    """Answer the question on the command line as one of the ranks that a launcher started."""
    question = Question(**json.loads(sys.argv[2]))
    with joined(question.device) as ranks:
        found = answer(question, ranks)
        if ranks.is_first:
            Path(sys.argv[1]).write_text(json.dumps(found))


if __name__ == "__main__":
    main()
