"""That other people's loaders run from their real packages, and that those which are not here are named."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sized
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sources import encoded, pixels
from stores import StoredPicture, write_split

from benchmarks.peers import peer as peers
from benchmarks.peers import registry
from benchmarks.peers.files import extract, linked
from benchmarks.peers.peer import Peer, PeerInput, is_installed
from benchmarks.peers.registry import PEERS
from fastbot.errors import RunError

COUNT, TIMES, BATCH_SIZE, SIZE, THREADS = 12, 2, 4, 16, 2


@pytest.fixture
def work(tmp_path: Path) -> PeerInput:
    """12 pictures, each of one level of grey, which is its number; an epoch shows each twice."""
    stored = []
    for number in range(COUNT):
        picture = pixels(40 + number, 60, number).point(lambda _, number=number: 10 * number)
        stored.append(StoredPicture(f"{number}.jpg", encoded(picture, quality=95), 40 + number, 60))
    (tmp_path / "store").mkdir()
    (tmp_path / "own").mkdir()
    split = write_split(tmp_path / "store", stored)
    files = linked(extract(split, tmp_path / "files"), tmp_path / "shown", TIMES)
    return PeerInput(split, files, tmp_path / "own", SIZE, BATCH_SIZE, THREADS)


def array(batch: Any) -> np.ndarray:
    """Return a batch as uint8 (n, H, W, 3)."""
    found = batch.numpy() if isinstance(batch, torch.Tensor) else np.array(batch.as_tensor())
    assert found.dtype == np.uint8
    return found.transpose(0, 2, 3, 1) if found.shape[1] == 3 else found


@pytest.mark.parametrize(
    "peer",
    # FFCV compiles its loop in each process
    [pytest.param(peer, marks=[pytest.mark.slow] if peer.name == "ffcv" else [], id=peer.name) for peer in PEERS],
)
def test_a_peer_delivers_the_pictures_in_each_epoch(peer: Peer, work: PeerInput) -> None:
    if problem := peer.problem():
        pytest.skip(problem)
    before = set(multiprocessing.active_children())
    loader = peer.build(work)
    for _ in range(2):
        batches: list[Sized] = []
        found = []
        for batch in loader.batches():
            batches.append(batch)
            found.append(array(batch).copy())
        assert [len(batch) for batch in batches] == [BATCH_SIZE] * (COUNT * TIMES // BATCH_SIZE)
        shown = np.concatenate(found)
        assert shown.shape == (COUNT * TIMES, SIZE, SIZE, 3)
        # Grey pictures say which they are, wherever they were cut; RGB, so that no two channels differ.
        levels = np.rint(shown.mean(axis=(1, 2, 3)) / 10).astype(int)
        if peer.name == "dali":  # whose reader goes on and on: its own epochs begin elsewhere
            assert set(levels.tolist()) <= set(range(COUNT))
        else:
            assert sorted(levels.tolist()) == sorted([*range(COUNT)] * TIMES)
        assert np.abs(shown.astype(int) - 10 * levels[:, None, None, None]).max() <= 3
    assert loader.epoch() == COUNT * TIMES
    loader.close()
    assert set(multiprocessing.active_children()) <= before


def test_a_peer_that_is_not_installed_is_named_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    version = metadata.version

    def absent(name: str) -> str:
        if name in ("spdl-io", "mosaicml"):
            raise metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(metadata, "version", absent)
    chosen = registry.choose(["torchvision", "spdl"])
    assert [peer.name for peer in chosen.here] == ["torchvision"]
    (line,) = chosen.lines()
    assert line.startswith('left out: spdl: spdl-io is not installed: pip install "fastbot[bench]"')
    settings = chosen.settings()
    assert settings["peers"] == {"torchvision": version("torchvision")}
    assert "pip install" in settings["peers_missing"]["spdl"]
    assert "make peers" in (registry.composer_problem() or "")
    with pytest.raises(RunError, match="no peer is left to compare with: spdl-io is not installed"):
        registry.choose(["spdl"])


def test_a_peer_that_cannot_be_imported_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_peer.py").write_text("raise RuntimeError('libfoo.so.7: no such file\\nand more')\n")
    monkeypatch.syspath_prepend(tmp_path)
    peer = Peer("broken", "broken", "torch", "broken_peer", "apt-get install libfoo")
    assert peer.problem() == "torch cannot be imported (libfoo.so.7: no such file): apt-get install libfoo"


def test_pytorchs_cuda_wheels_are_no_dali(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They bring packages below `nvidia`, as here, or there is not even that."""
    (tmp_path / "vendor" / "cuda").mkdir(parents=True)
    monkeypatch.syspath_prepend(tmp_path)
    assert is_installed("vendor")
    assert is_installed("vendor.cuda")
    assert not is_installed("vendor.dali")
    assert not is_installed("absent.dali")
    monkeypatch.setattr(peers, "is_installed", lambda package: False)
    chosen = registry.choose(["torchvision", "dali"])
    assert chosen.missing == {"dali": "nvidia-dali-cuda120 is not installed: pip install fastbot"}


def test_dali_is_found_whatever_cuda_it_is_for(monkeypatch: pytest.MonkeyPatch) -> None:
    dali = pytest.importorskip("nvidia.dali")

    def absent(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", absent)  # of a distribution: that of DALI may have any name
    assert registry.choose(["dali"]).settings()["peers"] == {"dali": dali.__version__}


def test_raw_pictures_are_no_files_of_jpegs(tmp_path: Path) -> None:
    raw = StoredPicture("b", bytes(12), 2, 2, raw=True)
    split = write_split(tmp_path, [StoredPicture("a.jpg", encoded(pixels(24, 32)), 24, 32), raw])
    with pytest.raises(RunError, match=r"split train has 1 raw pictures\. Give a store of JPEGs"):
        extract(split, tmp_path / "files")
    assert not (tmp_path / "files").exists()


def test_an_unknown_peer_is_refused_with_those_there_are() -> None:
    with pytest.raises(RunError, match="--peers nope: there is no such peer; there are torchvision, dali, ffcv, timm"):
        registry.choose(["nope"])
    assert [peer.name for peer in registry.choose(["torchvision", "torchvision"]).here] == ["torchvision"]
