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
from sources import BytesEntry, DyingEntry, UnreadableEntry, jpeg

from datasets_tools.errors import ConversionError
from datasets_tools.pictures import Encoding, Picture
from datasets_tools.preparation import Rejected, prepared

MANY = """
import sys
from sources import BytesEntry, jpeg
from datasets_tools.pictures import Encoding
from datasets_tools.preparation import prepared
if __name__ == "__main__":
    outcomes = prepared([BytesEntry(str(k), 0, jpeg()) for k in range(64)], Encoding(), workers=2)
    next(outcomes)
    print("started", flush=True)
    sys.stdin.read()
"""


class Watched(list[Any]):
    """Entries that remember how many were handed out."""

    handed_out = 0

    def __getitem__(self, index: Any) -> Any:
        found = super().__getitem__(index)
        self.handed_out += len(found)
        return found


def entries(count: int) -> list[BytesEntry]:
    return [BytesEntry(str(k), 0, jpeg(8, 8 + k)) for k in range(count)]


@pytest.mark.parametrize("workers", [1, 2])
def test_outcomes_come_in_order_bad_ones_included(workers: int) -> None:
    listed: list[Any] = entries(11)
    listed[4] = BytesEntry("4", 0, b"")
    listed[9] = UnreadableEntry("9", 0)
    outcomes = list(prepared(listed, Encoding(), workers))
    assert outcomes[4] == Rejected("4", "is empty")
    assert outcomes[9] == Rejected("9", "cannot be read: Permission denied")
    assert [outcome.width for outcome in outcomes if isinstance(outcome, Picture)] == [8, 9, 10, 11, 13, 14, 15, 16, 18]


def test_at_most_a_window_is_in_flight() -> None:
    watched = Watched(entries(100))
    with closing(prepared(watched, Encoding(), workers=2)) as outcomes:
        for taken in range(1, 20):
            next(outcomes)
            assert watched.handed_out <= taken + 2 * 16 + 4


def test_a_worker_that_dies_is_an_error_not_a_hang() -> None:
    listed = [*entries(10), DyingEntry("the-one", 0), *entries(10)]
    with pytest.raises(ConversionError, match=r"a worker process died near .*--workers 1"):
        list(prepared(listed, Encoding(), workers=2))


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
