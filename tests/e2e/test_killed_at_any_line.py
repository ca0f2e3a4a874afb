"""A conversion, or a fetch, ended at one line after another of the modules that write: gone on with, it ends the same.

A child process is traced and ends itself at the n-th line it executes, as a kill would (no handler runs), or raises
KeyboardInterrupt there, as Ctrl-C does. Every n-th line for a prime n, so that lines of a loop are met in turn.
"""

from __future__ import annotations

import itertools
import os
import shutil
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from sources import BytesEntry, ListSource, good_entries

from datasets_tools.conversion import convert as convert_module
from datasets_tools.conversion import shards
from datasets_tools.conversion.convert import ConvertOptions, convert
from datasets_tools.conversion.estimate import Estimate
from datasets_tools.errors import ConversionError
from datasets_tools.exchange.fetch import fetch

ROOT = Path(shards.__file__).parents[1]
WRITING = [
    "conversion/shards", "conversion/journal", "conversion/workspace", "conversion/remote_workspace",
    "conversion/convert", "conversion/engines/local", "exchange/fetch", "remote", "staging", "store/writer",
    "store/index",
]  # fmt: skip
TRACED = frozenset(str(ROOT / f"{name}.py") for name in WRITING)
STRIDE = 37
KILLED, UNINTERRUPTED = 9, 0


def source(*, is_good: bool = False) -> ListSource:
    train = good_entries("t", 7)
    if not is_good:
        train[3] = BytesEntry(train[3].key, train[3].label, b"no picture")
    label_sets = {"val": {"real": [[0], [], [1]]}}
    return ListSource({"train": train, "val": good_entries("v", 3)}, label_sets=label_sets)


@dataclass(frozen=True)
class Case:
    """What is interrupted in a folder, and what goes on with it; `expected` is a whole store."""

    prepare: Callable[[Path, Path], None]
    run: Callable[[Path, Path], object]
    resume: Callable[[Path, Path], object]


def options(folder: Path, **given: Any) -> ConvertOptions:
    return ConvertOptions("0", shards=2, **given)


def fail_once(folder: Path, expected: Path) -> None:
    """Leave behind a conversion that ended because of a bad picture."""
    with pytest.raises(ConversionError):
        convert(source(), folder / "out", options(folder))


def to_url(folder: Path, **given: Any) -> object:
    chosen = options(folder, on_bad_image="skip", work_folder=folder / "work", **given)
    return convert(source(), f"file://{folder}/out", chosen)


CASES: Mapping[str, Case] = {
    "convert": Case(
        lambda folder, expected: None,
        lambda folder, expected: convert(source(), folder / "out", options(folder, on_bad_image="skip")),
        lambda folder, expected: convert(source(), folder / "out", options(folder, on_bad_image="skip", resume=True)),
    ),
    "replaced": Case(
        fail_once,
        lambda folder, expected: convert(source(is_good=True), folder / "out", options(folder, resume=True)),
        lambda folder, expected: convert(source(is_good=True), folder / "out", options(folder, resume=True)),
    ),
    "url": Case(
        lambda folder, expected: None,
        lambda folder, expected: to_url(folder),
        lambda folder, expected: to_url(folder, resume=True),
    ),
    "fetch": Case(
        lambda folder, expected: None,
        lambda folder, expected: fetch(str(expected), folder / "out"),
        lambda folder, expected: fetch(str(expected), folder / "out"),
    ),
}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def end_at(number: int, *, kill: bool) -> None:
    """Trace this process, all its threads for a kill, and end it at its `number`-th line of the writing modules."""
    count = itertools.count()

    def on_line(frame: FrameType, event: str, argument: object) -> Any:
        if event != "line" or not (kill or threading.current_thread() is threading.main_thread()):
            return on_line
        if next(count) == number:
            if kill:
                os._exit(KILLED)
            sys.settrace(None)
            raise KeyboardInterrupt
        return on_line

    def on_call(frame: FrameType, event: str, argument: object) -> Any:
        return on_line if frame.f_code.co_filename in TRACED else None

    threading.settrace(on_call)
    sys.settrace(on_call)


def in_child(work: Callable[[], object]) -> int:
    """Run something in a fork of this process, and return how it ended."""
    child = os.fork()
    if not child:
        try:
            work()
        except BaseException:
            os._exit(KILLED)
        os._exit(UNINTERRUPTED)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "kill"),
    [("convert", True), ("replaced", True), ("url", True), ("fetch", True), ("convert", False), ("replaced", False)],
)
def test_ended_at_any_line_it_is_gone_on_with(
    name: str, kill: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "CHECKPOINT_SAMPLES", 2)
    monkeypatch.setattr(convert_module, "estimate", lambda *_: Estimate(0, 0, 0, 0))
    case, expected = CASES[name], tmp_path / "expected"
    convert(source(is_good=name == "replaced"), expected, options(tmp_path, on_bad_image="skip"))
    (tmp_path / "before").mkdir()
    case.prepare(tmp_path / "before", expected)

    def interrupted() -> None:
        end_at(number, kill=kill)
        case.run(folder, expected)

    interruptions = 0
    for number in itertools.count(0, STRIDE):
        folder = tmp_path / "folder"
        shutil.copytree(tmp_path / "before", folder)
        if in_child(interrupted) == UNINTERRUPTED:
            break
        interruptions += 1
        if not (folder / "out" / "manifest.json").exists():
            case.resume(folder, expected)
        assert contents(folder / "out") == contents(expected), f"ended at line {number}"
        shutil.rmtree(folder)
    assert interruptions > 10
