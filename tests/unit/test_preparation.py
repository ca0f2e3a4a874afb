from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sources import BytesEntry, DyingEntry, GoneEntry, UnreadableEntry, jpeg

from datasets_tools.conversion import preparation
from datasets_tools.conversion.journal import Rejected
from datasets_tools.conversion.preparation import Preparation
from datasets_tools.errors import ConversionError
from datasets_tools.pictures import Picture, Policy
from datasets_tools.sources.base import EntryList, EntryRun

MANY = """
import sys
from sources import BytesEntry, jpeg
from datasets_tools.pictures import Policy
from datasets_tools.conversion.preparation import Preparation
from datasets_tools.sources.base import EntryList
if __name__ == "__main__":
    entries = EntryList([BytesEntry(str(k), 0, jpeg()) for k in range(256)])
    outcomes = Preparation(Policy(), workers=2).outcomes(entries, 0, 256)
    next(outcomes)
    print("started", flush=True)
    sys.stdin.read()
"""


class Watched(EntryList):
    """Entries that remember how many were handed out."""

    handed_out = 0

    def runs(self, start: int, stop: int) -> Iterator[EntryRun]:
        for run in super().runs(start, stop):
            self.handed_out += len(run)
            yield run


def entries(count: int) -> list[Any]:
    return [BytesEntry(str(k), 0, jpeg(8, 8 + k)) for k in range(count)]


def outcomes_of(listed: list[Any], workers: int) -> list[Any]:
    """All outcomes, each copied before the next is asked for."""
    with Preparation(Policy(), workers) as preparation:
        return [
            (outcome.info.key, bytes(outcome.data)) if isinstance(outcome, Picture) else outcome
            for outcome in preparation.outcomes(EntryList(listed), 0, len(listed))
        ]


@pytest.mark.parametrize("workers", [1, 2])
def test_outcomes_come_in_order_bad_ones_included(workers: int) -> None:
    listed = entries(150)
    listed[4] = BytesEntry("4", 0, b"")
    listed[90] = UnreadableEntry("90", 0)
    outcomes = outcomes_of(listed, workers)
    assert outcomes[4] == Rejected("4", "is empty")
    assert outcomes[90] == Rejected("90", "cannot be read: Permission denied")
    for place, outcome in enumerate(outcomes):
        assert place in (4, 90) or outcome == (str(place), listed[place].data)


@pytest.mark.parametrize(("start", "stop"), [(0, 0), (3, 4), (15, 49)])
def test_a_part_of_the_entries_can_be_prepared(start: int, stop: int) -> None:
    with Preparation(Policy(), 2) as preparation:
        for _ in range(2):  # the same workers serve one shard after another
            outcomes = preparation.outcomes(EntryList(entries(50)), start, stop)
            found = [outcome.info.key for outcome in outcomes if isinstance(outcome, Picture)]
            assert found == [str(k) for k in range(start, stop)]


def test_a_run_larger_than_its_slot_arrives_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = [BytesEntry(str(k), 0, jpeg(1200, 1600, seed=k)) for k in range(3)]
    slots = preparation._Slots(os.memfd_create("test"), preparation._SLOT_SIZE)
    preparation._Worker.slots, preparation._Worker.policy = slots, Policy()
    monkeypatch.setattr(preparation, "_SLOT_SIZE", 2 * len(listed[0].data) + 10_000)
    prepared = preparation._work(EntryRun(listed), 0)
    in_slot = [start >= 0 for _, start, _ in prepared]
    assert in_slot == [True, True, False]
    assert bytes(slots.view(0, prepared[1][1], prepared[1][2])) == listed[1].data
    outcome = prepared[2][0]
    assert isinstance(outcome, Picture)
    assert outcome.data == listed[2].data
    slots.close()


def test_at_most_a_window_is_in_flight() -> None:
    watched = Watched(entries(400))
    with Preparation(Policy(), 2) as preparation, closing(preparation.outcomes(watched, 0, 400)) as outcomes:
        for taken in range(1, 100):
            next(outcomes)
            assert watched.handed_out <= taken + 2 * 3 * 16 + 16


def test_leaving_in_the_middle_leaves_the_slots_to_the_next() -> None:
    listed = EntryList(entries(200))
    with Preparation(Policy(), 2) as preparation:
        for _ in range(3):
            with closing(preparation.outcomes(listed, 0, 200)) as outcomes:
                next(outcomes)
        for place, outcome in enumerate(preparation.outcomes(listed, 0, 200)):
            assert isinstance(outcome, Picture)
            assert bytes(outcome.data) == jpeg(8, 8 + place)


def test_a_worker_that_dies_is_an_error_not_a_hang() -> None:
    listed = [*entries(100), DyingEntry("the-one", 0), *entries(10)]
    with pytest.raises(ConversionError, match=r"a worker process died near .*--resume.*--workers 1"):
        outcomes_of(listed, 2)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_source_that_has_gone_is_an_error_and_no_bad_picture(workers: int) -> None:
    listed = [*entries(30), GoneEntry("the-one", 0), *entries(10)]
    with pytest.raises(ConversionError, match=r"the source cannot be read any more, near 16: .*the-one.*--resume"):
        outcomes_of(listed, workers)


def children_of(pid: int) -> Iterator[int]:
    for stat in Path("/proc").glob("[0-9]*/stat"):
        fields = stat.read_text().rpartition(")")[2].split() if stat.exists() else []
        if fields and int(fields[1]) == pid:
            child = int(stat.parent.name)
            yield child
            yield from children_of(child)


def test_workers_end_with_a_killed_parent() -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-c", MANY]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        workers = list(children_of(process.pid))
        assert len(workers) >= 3  # the fork server, its resource tracker, and two workers
        process.kill()
    deadline = time.monotonic() + 20
    while any(alive(pid) for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not [pid for pid in workers if alive(pid)]


def alive(pid: int) -> bool:
    """A zombie counts as ended: who should reap it is not ours to say."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
