"""What is said of a store that a result was measured on."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

import pytest
from stores import StoredPicture, write_store

from benchmarks.corpora.corpus import STATISTICS_NAME, CorpusStatistics
from benchmarks.corpora.identity import store_identity
from datasets_tools.errors import StoreError

PICTURES = [StoredPicture("a", b"1234", height=10, width=20), StoredPicture("b", b"12", height=30, width=21)]


def test_a_store_is_named_by_its_manifest_and_described(tmp_path: Path) -> None:
    write_store(tmp_path, {"train": PICTURES})
    assert store_identity(tmp_path) == {
        "store": hashlib.sha256((tmp_path / "manifest.json").read_bytes()).hexdigest(),
        "num_pictures": 2,
        "mean_bytes": 3.0,
        "mean_width": 20.5,
        "mean_height": 20.0,
        "corpus": {},
    }


def test_other_pictures_are_another_store(tmp_path: Path) -> None:
    found = []
    for name, pictures in {"both": PICTURES, "one": PICTURES[:1]}.items():
        write_store(tmp_path / name, {"train": pictures})
        found.append(store_identity(tmp_path / name)["store"])
    assert found[0] != found[1]


def test_a_corpus_has_its_statistics(tmp_path: Path) -> None:
    write_store(tmp_path, {"train": PICTURES})
    statistics = CorpusStatistics("ab" * 32, 0, "x", 2, 0, 20.5, 20.0, 21, 30, 3.0, {"0.5": 3}, 0.0, {}, {}, 0.0, 0.0)
    (tmp_path / STATISTICS_NAME).write_text(json.dumps(asdict(statistics)))
    assert store_identity(tmp_path)["corpus"] == asdict(statistics)


def test_what_is_no_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="nonsense"):
        store_identity(tmp_path / "nonsense")
