"""Two ranks over gloo: what a training keeps records of does not change it."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as multiprocessing
from torch import Tensor

from datasets_tools.store import Store
from fastbot.checkpoint import Conditions, Identity
from fastbot.display import Silent
from fastbot.distributed import Ranks, joined
from fastbot.hooks import ReadMetrics, Results, Save
from fastbot.recipe_files import load_recipe
from fastbot.runs import RunFolder, build_journal
from fastbot.trainer import Trainer
from pipelines.pipeline import Place, open_eval, open_train

WORLD_SIZE, LAST, RESUMED_AT = 2, 4, 2
OVERRIDES = ["ema.decay=0.5", f'epochs="{LAST} steps"']
IDENTITY = Identity("digest", "manifest", {}, ("a",), Conditions({}, 1, WORLD_SIZE, "cpu", "synthetic"))


def build(file: str, store_path: str, ranks: Ranks) -> Trainer:
    store, recipe = Store(Path(store_path)), load_recipe(file, OVERRIDES).resolved()
    place = Place("synthetic", ranks.device, rank=ranks.rank, world_size=ranks.world_size)
    train = open_train(store.split("train"), recipe.data, store.num_classes, place, seed=0)
    val = open_eval(store.split("val"), recipe.data, store.num_classes, place)
    return Trainer(recipe, train, val, store.num_classes, ranks)


def weights(trainer: Trainer) -> dict[str, Tensor]:
    """Return this rank's own, and those of its moving average."""
    average = {f"average.{name}": value for name, value in trainer.average.state_dict().items()}
    return {name: value.clone() for name, value in (trainer.bare.state_dict() | average).items()}


def saving(trainer: Trainer, run: RunFolder) -> Callable[[int], None]:
    """Return what evaluates and saves."""
    metrics = ReadMetrics(trainer, build_journal(run, 0, writes=False), Silent(), 1)
    save = Save(trainer, run, IDENTITY, Results(), metrics)

    def after(step: int) -> None:
        trainer.evaluate()
        save.now(step)

    return after


def _rank(rank: int, port: str, file: str, store_path: str, folder: str) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ |= {"WORLD_SIZE": str(WORLD_SIZE), "LOCAL_WORLD_SIZE": str(WORLD_SIZE)}
    run, found = RunFolder(Path(folder) / "run"), dict[str, Mapping[str, Tensor]]()
    with joined("cpu") as ranks:
        plain, watched, resumed = (build(file, store_path, ranks) for _ in range(3))
        plain.fit([])
        found["plain"] = weights(plain)
        save = saving(watched, run)

        def keep(step: int) -> None:
            save(step)
            if step == RESUMED_AT:
                found["own"] = weights(watched)
                checkpoint = run.checkpoints.load()
                found["saved"] = checkpoint.weights | {f"average.{k}": v for k, v in checkpoint.average.items()}
                resumed.load_state(checkpoint.weights, checkpoint.average, checkpoint.state)
            ranks.barrier()

        watched.fit([keep])
        found["watched"] = weights(watched)
        found["loaded"] = weights(resumed)
        resumed.fit([])
        found["resumed"] = weights(resumed)
        torch.save(found, Path(folder) / f"{rank}.pt")


@pytest.fixture
def found(store_path: Path, tiny_recipe: Path, tmp_path: Path) -> list[dict[str, dict[str, Tensor]]]:
    """What each rank had: trained without a pause; evaluated and saved after every step; gone on from half-way."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    arguments = (port, str(tiny_recipe), str(store_path), str(tmp_path))
    multiprocessing.spawn(_rank, arguments, nprocs=WORLD_SIZE)  # type: ignore[no-untyped-call]
    return [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(WORLD_SIZE)]


def test_evaluations_checkpoints_and_a_resume_change_no_bit(found: list[dict[str, dict[str, Tensor]]]) -> None:
    for own in found:
        torch.testing.assert_close(own["watched"], own["plain"], rtol=0, atol=0)
        torch.testing.assert_close(own["loaded"], own["own"], rtol=0, atol=0)
        torch.testing.assert_close(own["resumed"], own["plain"], rtol=0, atol=0)
    first, second = (own["own"] for own in found)
    for name, saved in found[0]["saved"].items():
        if "running" in name:
            assert not torch.equal(first[name], second[name]), "each rank tracks its own pictures"
        torch.testing.assert_close(saved.double(), (first[name].double() + second[name].double()) / 2)
