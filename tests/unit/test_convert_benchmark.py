from __future__ import annotations

from pathlib import Path

import pytest
from sources import encoded, pixels
from stores import StoredPicture, write_store

from benchmarks.rungs.convert import Pictures, linked, run
from datasets_tools.store import Store
from fastbot.errors import RunError


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Two baseline pictures and a progressive one between them."""
    kinds = (False, True, False)
    jpegs = [encoded(pixels(24, 32, seed), progressive=kind) for seed, kind in enumerate(kinds)]
    pictures = [StoredPicture(f"{seed}.jpg", jpeg, 24, 32) for seed, jpeg in enumerate(jpegs)]
    write_store(tmp_path / "store", {"train": pictures})
    return tmp_path / "store"


def test_every_row_has_its_peer(store: Path) -> None:
    pytest.importorskip("ffcv")
    results = run(store, count=4, workers=1, repeats=1, memory_counts=(1, 3))
    names = [result.case for result in results]
    assert {"convert", "convert --no-check", "convert --max-side 400", "peak memory, 3 pictures"} <= {*names}
    assert {result.peer for result in results} <= {*names}
    assert [result.peer for result in results if result.case == "convert"] == [
        "check alone",
        "decoding to pixels alone",
    ]
    assert [result.ratio for result in results if result.case == result.peer] == [1.0] * 5
    assert min(result.value for result in results) > 0
    assert [result.unit for result in results][-2:] == ["MB", "MB"]


def test_kept_pictures_are_the_baseline_ones(store: Path, tmp_path: Path) -> None:
    pictures = Pictures.of(Store(store).split("train"), tmp_path / "files")
    assert pictures.kept == [0, 2]
    assert [file.read_bytes()[:2] for file in pictures.files] == [b"\xff\xd8"] * 3


def test_files_repeat_under_other_names(tmp_path: Path) -> None:
    files = [tmp_path / "a", tmp_path / "b"]
    for file in files:
        file.write_text(file.name)
    folder = linked(files, tmp_path / "linked", 1001)
    links = sorted(folder.rglob("*.jpg"))
    assert [link.parent.name for link in links[-2:]] == ["0000", "0001"]
    assert [link.read_text() for link in (links[0], links[1], links[-1])] == ["a", "b", "a"]


def test_raw_pictures_are_refused(tmp_path: Path) -> None:
    write_store(tmp_path / "store", {"train": [StoredPicture("a", bytes(12), 2, 2, raw=True)]})
    with pytest.raises(RunError, match="has 1 raw pictures"):
        run(tmp_path / "store", count=1, workers=1, repeats=1)


def test_progressive_pictures_alone_are_refused(tmp_path: Path) -> None:
    jpeg = encoded(pixels(24, 32), progressive=True)
    write_store(tmp_path / "store", {"train": [StoredPicture("a", jpeg, 24, 32)]})
    with pytest.raises(RunError, match="all JPEGs of split train are progressive"):
        run(tmp_path / "store", count=1, workers=1, repeats=1)
