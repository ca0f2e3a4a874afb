from __future__ import annotations

import pickle

import numpy as np
import pytest
from sources import BytesEntry, UnreadableEntry

from datasets_tools.errors import PictureError, SourceError
from datasets_tools.sources import base
from datasets_tools.sources.base import EntryList, Names, check_name, cuts, first_duplicate


def test_names_are_those_given() -> None:
    given = ["a", "", "übel/ß.jpg", "日本.png", "a" * 1000]
    names = Names(given)
    names.append("last")
    assert [names[index] for index in range(len(names))] == [*given, "last"]
    for outside in (-1, 6):
        with pytest.raises(IndexError):
            names[outside]


def test_names_survive_pickling_and_refuse_what_is_no_unicode() -> None:
    assert pickle.loads(pickle.dumps(Names(["a", "ü"])))[1] == "ü"
    with pytest.raises(UnicodeEncodeError):
        Names(["\udcff"])


@pytest.mark.parametrize("name", ["a\nb", "a\r", "\n", "", "a\u2028b", "\udcff.jpg"])
def test_names_that_break_lists_are_refused_readably(name: str) -> None:
    with pytest.raises(SourceError, match=r"data/train: .* (holds a line break|is not UTF-8)\. Rename it") as caught:
        check_name(name, "data/train")
    assert str(caught.value).encode().decode().splitlines() == [str(caught.value)]


def test_ordinary_names_are_not_refused() -> None:
    for name in ("a b", "[bold]", "a\tb", "ü/日本.jpg", "-rf"):
        check_name(name, "data")


def test_the_first_duplicate_is_found_or_none() -> None:
    assert first_duplicate([]) is None
    assert first_duplicate(["a"]) is None
    assert first_duplicate(["a", "b", "c"]) is None
    assert first_duplicate(["x", "b", "a", "b", "a", "b"]) == (1, 3)
    assert first_duplicate(Names(["x", "y", "x"])) == (0, 2)


def test_names_of_one_hash_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "hash", lambda name: len(name), raising=False)
    assert first_duplicate(["a", "b", "cc", "d"]) is None
    assert first_duplicate(["a", "b", "cc", "b"]) == (1, 3)


@pytest.mark.parametrize(("start", "stop", "length"), [(0, 0, 3), (0, 7, 3), (5, 8, 3), (2, 3, 16)])
def test_cuts_cover_a_range_in_order(start: int, stop: int, length: int) -> None:
    pieces = list(cuts(start, stop, length))
    assert [index for first, last in pieces for index in range(first, last)] == list(range(start, stop))
    assert all(0 < last - first <= length for first, last in pieces)


def test_a_list_of_entries_is_read_in_runs() -> None:
    entries = [BytesEntry(f"{k}.jpg", k % 3, bytes([k])) for k in range(40)]
    listed = EntryList([*entries, UnreadableEntry("bad.jpg", 0)])
    assert listed.labels.dtype == np.int64
    assert listed.labels.tolist() == [*(k % 3 for k in range(40)), 0]
    runs = list(listed.runs(3, 41))
    assert [run.first_key for run in runs] == ["3.jpg", "19.jpg", "35.jpg"]
    assert [len(run) for run in runs] == [16, 16, 6]
    read = [pair for run in runs for pair in pickle.loads(pickle.dumps(run)).read()]
    assert read[:-1] == [(entry.key, entry.data) for entry in entries[3:]]
    assert isinstance(read[-1][1], PictureError)
    assert read[-1][1].key == read[-1][0] == listed.key(40) == "bad.jpg"
