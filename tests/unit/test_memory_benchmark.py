from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest
from answering import ask_here
from sources import encoded, pixels
from stores import StoredPicture, write_store

from benchmarks.corpora.repeated import repeated
from benchmarks.rungs import fresh_process, memory
from benchmarks.rungs.delivery_answers import Setting
from benchmarks.rungs.memory import Extent
from benchmarks.rungs.memory_use import host_mb
from datasets_tools.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    pictures = [StoredPicture(f"{seed}.jpg", encoded(pixels(24, 32, seed)), 24, 32, seed % 3) for seed in range(64)]
    return write_store(tmp_path / "store", {"train": pictures, "val": pictures[:2]}, ("a", "b", "c"), num_shards=2)


def test_every_size_stands_beside_the_peer(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fresh_process, "ask", ask_here)
    setting = Setting(str(store.path), "turbo", "cpu", 32, 16, threads=1)
    published: list[int] = []
    results = memory.run(
        setting,
        Extent((32, 64), (100,), batches=2, looks=(2, 4)),
        publish=lambda group: published.append(len(group)),
    )
    stock = "torchvision DataLoader"
    assert [(result.case, result.peer) for result in results] == [
        (f"batches of 32, {name}", f"batches of 32, {stock}") for name in ("fastbot", stock)
    ] + [
        (f"batches of 64, {name}", f"batches of 64, {stock}") for name in ("fastbot", stock)
    ] + [
        (f"store of 128, {name}", f"store of 128, {stock}") for name in ("fastbot", stock)
    ] + [("2 batches, fastbot",) * 2, ("4 batches, fastbot", "2 batches, fastbot")]  # fmt: skip
    assert all(result.value > 10 and result.unit == "MB" for result in results), "Python alone has more"
    assert published == [2, 2, 2, 2], "each as soon as it is there"
    assert results[4].details == {"batch_size": 32, "store_size": 128, "threads": 1}


def test_a_repeated_store_has_the_pictures_of_the_one_it_is_of(store: Store, tmp_path: Path) -> None:
    """With 64 pictures, 150 are three times as many."""
    large, small = repeated(store, 150, tmp_path / "large").split("train"), store.split("train")
    assert len(large) == 192
    assert large.labels.tolist() == small.labels.tolist() * 3
    for sample_id in (0, 31, 63):
        same = [large.encoded(sample_id + 64 * turn).tobytes() for turn in range(3)]
        assert {*same} == {small.encoded(sample_id).tobytes()}


def _hold(megabytes: int, ready: object, done: object) -> None:
    held = bytearray(megabytes << 20)
    held[::4096] = b"x" * len(held[::4096])
    ready.set()  # type: ignore[attr-defined]
    done.wait()  # type: ignore[attr-defined]


def test_the_memory_of_children_counts() -> None:
    before, context = host_mb(), multiprocessing.get_context("fork")
    ready, done = context.Event(), context.Event()
    child = context.Process(target=_hold, args=(64, ready, done))
    child.start()
    assert ready.wait(30)
    during = host_mb()
    done.set()
    child.join()
    assert during - before > 60
    assert host_mb() < during - 60
