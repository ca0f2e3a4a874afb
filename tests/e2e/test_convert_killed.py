"""A conversion killed at random moments, again and again, ends byte-identical to one that was left alone."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from sources import encoded, jpeg, pixels

# Small enough to be cut many times: a checkpoint after every few pictures.
CONVERT = """
import sys
from datasets_tools.conversion import shards
from fastbot.cli import main
if __name__ == "__main__":
    shards.CHECKPOINT_SAMPLES = 5
    main(sys.argv[1:])
"""


def command(pictures: Path, store: Path, *options: str) -> list[str]:
    arguments = ["convert", "folder", str(pictures), str(store), "--on-bad-image", "skip", *options]
    return [sys.executable, "-c", CONVERT, *arguments]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of every fate: kept, rewritten, encoded anew, left out."""
    root = tmp_path_factory.mktemp("pictures")
    for split, count in (("train", 70), ("val", 12)):
        for label, name in enumerate(("cat", "dog")):
            folder = root / split / name
            folder.mkdir(parents=True)
            for k in range(count):
                size = 200 + 10 * (k % 13), 300
                data = (
                    encoded(pixels(*size, seed=k), progressive=True) if k % 5 == 1
                    else encoded(pixels(*size, seed=k), "PNG") if k % 11 == 2
                    else b"no picture" if k % 17 == 3
                    else jpeg(*size, seed=100 * label + k)
                )  # fmt: skip
                (folder / f"{k:03d}.jpg").write_bytes(data)
    return root


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def started(pictures: Path, store: Path, *options: str) -> subprocess.Popen[bytes]:
    """Start a conversion, and return when it has begun to write."""
    partial = store.with_name(f".{store.name}.partial")

    def state() -> dict[str, int]:
        with suppress(FileNotFoundError):  # the whole store gets its name just now
            return {path.name: path.stat().st_mtime_ns for path in partial.glob("*.beton")}
        return {}

    before = state()
    process = subprocess.Popen(command(pictures, store, "--resume", *options), stdout=subprocess.DEVNULL)
    while process.poll() is None and state() == before:
        time.sleep(0.002)
    return process


def killed_at(pictures: Path, store: Path, delays_s: Iterator[float], *options: str) -> int:
    """Start a conversion until it ends by itself, kill the others after a time, and return how many were killed."""
    kills = 0
    while not store.exists():
        with started(pictures, store, *options) as process:
            try:
                process.wait(next(delays_s))
            except subprocess.TimeoutExpired:
                process.kill()
                kills += 1
        assert not store.exists() or (store / "manifest.json").exists()
    return kills


@pytest.fixture(scope="module")
def whole(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, bytes], float]:
    """The store of a conversion that was left alone, and for how long it was writing."""
    store = tmp_path_factory.mktemp("whole") / "store"
    with started(pictures, store, "--shards", "3", "--workers", "2") as process:
        begun = time.monotonic()
        assert process.wait() == 0
    return contents(store), time.monotonic() - begun


def test_killed_a_few_times(pictures: Path, whole: tuple[dict[str, bytes], float], tmp_path: Path) -> None:
    kill_until(2, pictures, whole, tmp_path, "1")


@pytest.mark.slow
def test_killed_at_twenty_random_moments(pictures: Path, whole: tuple[dict[str, bytes], float], tmp_path: Path) -> None:
    kill_until(20, pictures, whole, tmp_path, "2")


def kill_until(
    num_kills: int, pictures: Path, whole: tuple[dict[str, bytes], float], folder: Path, workers: str
) -> None:
    """Convert with kills, and compare, until there were enough kills."""
    expected, slowest_s = whole
    generator = random.Random(0)
    delays_s = (generator.uniform(0, slowest_s) for _ in range(50 * num_kills))
    kills = attempt = 0
    while kills < num_kills:
        store = folder / str(attempt)
        kills += killed_at(pictures, store, delays_s, "--shards", "3", "--workers", workers)
        assert contents(store) == expected
        attempt += 1
