"""What the machine shows before, during and after a rung, from readings that were made up."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Sequence

import pytest
import torch

from benchmarks import hardware, machine
from benchmarks.machine import Reading, between, gpus, read, with_descendants
from benchmarks.watching import Watch


def reading(at: float, busy_s: float, stolen_s: float, own_s: float, **shown: object) -> Reading:
    return Reading(at, busy_s, stolen_s, own_s, shown)


def test_between_two_readings_others_had_what_this_process_did_not() -> None:
    before, after = reading(100, 1000, 5, 40, load_1min=1), reading(110, 1025, 6, 60, load_1min=2)
    assert between(before, after) == {
        "seconds": 10,
        "cores_busy_elsewhere": 0.5,  # 25 s were busy, 20 s of it its own
        "cores_stolen": 0.1,
        "before": {"load_1min": 1},
        "after": {"load_1min": 2},
    }


def test_others_never_had_less_than_nothing() -> None:
    """The counters of a process and of the machine are of different ticks."""
    assert between(reading(0, 0, 0, 0), reading(1, 1, 0, 1.02))["cores_busy_elsewhere"] == 0


def test_two_readings_of_one_moment() -> None:
    assert between(reading(1, 1, 1, 1), reading(1, 1, 1, 1))["cores_stolen"] == 0


def test_this_process_counts_its_own_time_and_its_childrens() -> None:
    before = read()
    subprocess.run([sys.executable, "-c", "import time\nwhile time.process_time() < 0.2: pass"], check=True)
    after = read()
    assert after.own_s - before.own_s >= 0.15
    assert after.busy_s >= before.busy_s


def test_descendants_are_found_in_other_sessions() -> None:
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as child:
        assert child.pid in list(with_descendants(os.getpid()))
        child.kill()


_SHOWN = "1980, 2619, 612.40, 58, 0x0000000000000000, 99, 61234\n345, 2619, 71.02, 31, 0x0000000000000001, 0, 3"


def test_what_nvidia_smi_shows_is_read_by_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def query(*fields: str) -> str:
        asked.extend(fields)
        return _SHOWN

    monkeypatch.setattr(machine, "query", query)
    first, second = gpus()
    assert asked[0] == "clocks.sm"
    assert (first["sm_mhz"], first["power_w"], first["throttled"]) == ("1980", "612.40", "0x0000000000000000")
    assert second["celsius"] == "31"


def test_no_gpu_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    assert hardware.query("name") == ""
    assert gpus() == []
    assert "gpus" not in read().shown


def test_the_cpu_is_called_by_its_model() -> None:
    assert hardware.name_of(torch.device("cpu")) == hardware.cpu_model() != ""


def watched(seen: Sequence[str], *, has_gpu: bool = True, every_s: float = 2.0) -> Watch:
    """Return a watch that looked once for each of `seen`, power and reason for throttling of a GPU."""
    readings = iter(seen)

    def read_gpus() -> list[dict[str, str]]:
        power, throttled = next(readings).split()
        return [{"power_w": power, "throttled": throttled}]

    now = iter(every_s * place for place in range(1, 2 * len(seen) + 2) for _ in range(2))
    clocks = iter([{"cpu_mhz": {"lowest": 2000 - place, "highest": 3000 + place}} for place in range(len(seen))])
    watch = Watch(lambda: next(clocks), read_gpus, lambda: has_gpu, lambda: next(now))
    for _ in seen:
        watch.look()
        watch.summary()  # waits for the thread
    return watch


def test_a_watch_keeps_the_ends_and_the_median_of_all_looks() -> None:
    assert watched(["300 0x0", "700 0x4", "650.5 0x4"]).summary() == {
        "looks": 3,
        "cpu_mhz": {"lowest": 1998, "highest": 3002},
        "gpus": [{"power_w": {"lowest": 300, "median": 650.5, "highest": 700}, "throttled": ["0x0", "0x4"]}],
    }


def test_without_a_gpu_at_work_none_is_asked() -> None:
    assert "gpus" not in watched(["300 0x0"], has_gpu=False).summary()


def test_a_watch_does_not_look_more_often_than_every_two_seconds() -> None:
    moments = iter([0.0, 0.0, 1.9, 2.0, 2.0])
    watch = Watch(dict, list, lambda: False, lambda: next(moments))
    for _ in range(3):
        watch.look()
    assert watch.summary() == {"looks": 2}


def test_a_gpu_that_is_still_being_read_is_not_read_twice() -> None:
    may_end = threading.Event()
    begun: list[int] = []

    def read_gpus() -> list[dict[str, str]]:
        begun.append(1)
        may_end.wait(10)
        return [{"power_w": "[N/A]"}]

    moments = iter([0.0, 0.0, 5.0, 5.0])
    watch = Watch(dict, read_gpus, lambda: True, lambda: next(moments))
    watch.look()
    watch.look()
    may_end.set()
    assert watch.summary() == {"looks": 2, "gpus": [{"power_w": ["[N/A]"]}]}
    assert begun == [1]
