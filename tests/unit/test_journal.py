from __future__ import annotations

from pathlib import Path

import pytest

from datasets_tools.conversion.journal import Journal, Outcome, Rejected, Stored
from datasets_tools.jpeg import Subsampling
from datasets_tools.store.index import Flag, SampleInfo, StoredFormat


def stored(number: int) -> Stored:
    flags = Flag.REENCODED | Flag.RESIZED if number % 2 else Flag(0)
    info = SampleInfo(f"ä/{number}\u2028.jpg", 2**32 - 1, 3, Subsampling.S420, 6, 31, flags, StoredFormat(number % 2))
    return Stored(100 + number, 20, 30, info, "jpeg cmyk" if number % 2 else None)


OUTCOMES: list[Outcome] = [stored(0), stored(1), Rejected("b.jpg", "is empty"), stored(3)]


def write(path: Path, *lines: list[Outcome]) -> None:
    journal = Journal(path)
    list(journal.replayed())
    for line in lines:
        journal.append(line)
    journal.close()


def read(path: Path, *, retry: bool = False) -> list[Outcome]:
    journal = Journal(path, retry=retry)
    outcomes = list(journal.replayed())
    journal.close()
    return outcomes


def test_outcomes_come_back_equal_and_in_order(tmp_path: Path) -> None:
    write(tmp_path / "j", OUTCOMES[:1], OUTCOMES[1:], [])
    assert read(tmp_path / "j") == OUTCOMES


def test_it_can_be_gone_on_with(tmp_path: Path) -> None:
    write(tmp_path / "j", OUTCOMES[:2])
    write(tmp_path / "j", OUTCOMES[2:])
    assert read(tmp_path / "j") == OUTCOMES


def test_wherever_a_kill_tears_the_file_what_was_whole_before_remains(tmp_path: Path) -> None:
    write(tmp_path / "j", OUTCOMES[:1], OUTCOMES[1:])
    data = (tmp_path / "j").read_bytes()
    first = data.index(b"\n") + 1
    for end in range(len(data)):
        (tmp_path / "j").write_bytes(data[:end])
        assert read(tmp_path / "j") == (OUTCOMES[:1] if end >= first else [])
        assert (tmp_path / "j").stat().st_size == (first if end >= first else 0)


def test_a_line_that_is_there_twice_counts_once(tmp_path: Path) -> None:
    write(tmp_path / "j", OUTCOMES[:2], OUTCOMES[2:])
    first, second = (tmp_path / "j").read_bytes().splitlines(keepends=True)
    (tmp_path / "j").write_bytes(first + second + second)
    assert read(tmp_path / "j") == OUTCOMES
    (tmp_path / "j").write_bytes(second)
    assert read(tmp_path / "j") == []


@pytest.mark.parametrize("garbage", [b"\0" * 50, b"00000000 []\n", b"\xff\n", b"deadbeef [[1]]\n"])
def test_what_a_power_cut_leaves_at_the_end_is_dropped(tmp_path: Path, garbage: bytes) -> None:
    write(tmp_path / "j", OUTCOMES)
    with (tmp_path / "j").open("ab") as file:
        file.write(garbage)
    assert read(tmp_path / "j") == OUTCOMES
    write(tmp_path / "j", OUTCOMES)
    assert read(tmp_path / "j") == OUTCOMES * 2


def test_retrying_forgets_the_first_rejected_picture_and_all_after_it(tmp_path: Path) -> None:
    write(tmp_path / "j", OUTCOMES[:1], OUTCOMES[1:], OUTCOMES)
    assert read(tmp_path / "j", retry=True) == OUTCOMES[:2]
    write(tmp_path / "j", OUTCOMES[3:])
    assert read(tmp_path / "j") == [*OUTCOMES[:2], OUTCOMES[3]]
