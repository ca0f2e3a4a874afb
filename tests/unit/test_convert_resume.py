"""Conversions that ended early, and what goes on with them."""

from __future__ import annotations

import errno
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conversions import contents, mixed_source, run
from sources import BytesEntry, DyingEntry, GoneEntry, ListSource, good_entries, good_source, jpeg

from datasets_tools.conversion import shards as shards_module
from datasets_tools.conversion.convert import ConvertOptions, convert
from datasets_tools.conversion.estimate import Estimate
from datasets_tools.conversion.workspace import check_destination
from datasets_tools.errors import ConversionError
from datasets_tools.pictures import Policy
from datasets_tools.store import Store
from datasets_tools.store.writer import BetonWriter


def test_after_bad_pictures_the_run_can_be_resumed_without_them(tmp_path: Path) -> None:
    with pytest.raises(ConversionError):
        run(mixed_source(), tmp_path / "store")
    run(mixed_source(), tmp_path / "store", on_bad_image="skip", resume=True)
    run(mixed_source(), tmp_path / "skipped", on_bad_image="skip")
    assert contents(tmp_path / "store") == contents(tmp_path / "skipped")


def test_after_bad_pictures_were_replaced_the_run_can_be_resumed(tmp_path: Path) -> None:
    entries = good_entries("t", 20)
    broken = [*entries[:7], BytesEntry(entries[7].key, 1, b""), *entries[8:]]
    with pytest.raises(ConversionError, match="1 of 20"):
        run(ListSource({"train": broken}), tmp_path / "store", shards=2)
    run(ListSource({"train": entries}), tmp_path / "store", shards=2, resume=True)
    run(ListSource({"train": entries}), tmp_path / "good", shards=2)
    assert contents(tmp_path / "store") == contents(tmp_path / "good")


@pytest.mark.parametrize("failing", ["append", "finish"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_no_space_left_is_one_clear_line_and_can_be_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str, number: int
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(number, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(BetonWriter, failing, full)
        with pytest.raises(ConversionError, match=r"store: no space left.*free space.*--resume") as caught:
            run(good_source(), tmp_path / "store", workers=2)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "store").exists()
    run(good_source(), tmp_path / "store", resume=True)
    run(good_source(), tmp_path / "other")
    assert contents(tmp_path / "store") == contents(tmp_path / "other")


@pytest.mark.parametrize(
    ("last", "message"), [(DyingEntry("x", 0), "a worker process died"), (GoneEntry("x", 0), "cannot be read any more")]
)
def test_after_a_dead_worker_or_a_lost_source_the_run_can_be_resumed(
    tmp_path: Path, last: DyingEntry | GoneEntry, message: str, monkeypatch: pytest.MonkeyPatch, not_estimated: None
) -> None:
    monkeypatch.setattr(shards_module, "CHECKPOINT_SAMPLES", 8)
    entries = good_entries("t", 120)
    with pytest.raises(ConversionError, match=message):
        run(ListSource({"train": [*entries[:-1], last]}), tmp_path / "store", workers=2)
    assert not (tmp_path / "store").exists()
    read: list[str] = []
    good = BytesEntry("x", 0, jpeg())
    resumed = [WatchedEntry(entry.key, entry.label, entry.data, read) for entry in [*entries[:-1], good]]
    run(ListSource({"train": resumed}), tmp_path / "store", resume=True)
    assert 0 < len(read) < 100
    run(ListSource({"train": [*entries[:-1], good]}), tmp_path / "other")
    assert contents(tmp_path / "store") == contents(tmp_path / "other")


@dataclass(frozen=True)
class WatchedEntry(BytesEntry):
    """Tells who is read."""

    read_keys: list[str]

    def read(self) -> bytes:
        self.read_keys.append(self.key)
        return self.data


@pytest.fixture
def not_estimated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the run meet what the estimate would meet first."""
    monkeypatch.setattr("datasets_tools.conversion.convert.estimate", lambda *_: Estimate(0, 0, 0, 0))


@pytest.fixture
def interrupted(tmp_path: Path, not_estimated: None) -> Path:
    """A destination whose conversion was interrupted after some pictures."""
    with pytest.raises(ConversionError):
        run(ListSource({"train": [*good_entries("t", 20), GoneEntry("x", 0)]}), tmp_path / "store")
    return tmp_path / "store"


def test_an_interrupted_conversion_is_neither_lost_nor_taken_up_unasked(interrupted: Path) -> None:
    with pytest.raises(ConversionError, match=r"\.store\.partial: holds a conversion that was interrupted.*--resume"):
        run(good_source(), interrupted)


@pytest.mark.parametrize(
    ("options", "change"),
    [
        ({"policy": Policy(max_side=20)}, "--max-side: not given then, 20 now"),
        ({"shards": 2}, "--shards: 1 then, 2 now"),
        ({"on_bad_image": "repair"}, "--on-bad-image: fail or skip then, repair now"),
        ({"policy": Policy(transcode=False)}, "--no-transcode: not given then, given now"),
        ({}, "pictures of train: 21 then, 22 now"),
    ],
)
def test_another_conversion_cannot_be_resumed(interrupted: Path, options: dict[str, Any], change: str) -> None:
    count = 20 if options else 21
    source = ListSource({"train": [*good_entries("t", count), BytesEntry("x", 0, jpeg())]})
    with pytest.raises(ConversionError, match=f"was another one .*{change}"):
        run(source, interrupted, resume=True, **options)


def test_too_many_bad_pictures_are_listed_in_a_file(tmp_path: Path) -> None:
    bad = [BytesEntry(f"bad{k}", 0, b"") for k in range(30)]
    source = ListSource({"train": [*good_entries("t", 4), *bad]})
    with pytest.raises(ConversionError, match="and 10 others") as caught:
        run(source, tmp_path / "store")
    assert len(str(caught.value).splitlines()) < 30
    listed = tmp_path / ".store.partial" / "bad-pictures.txt"
    assert listed.read_text().splitlines() == [f"train/bad{k}: is empty" for k in range(30)]
    run(source, tmp_path / "store", on_bad_image="skip", resume=True)
    assert "bad-pictures.txt" not in contents(tmp_path / "store")


def test_resuming_what_is_whole_already_is_done_at_once(tmp_path: Path) -> None:
    before = run(good_source(), tmp_path / "store")
    assert run(good_source(), tmp_path / "store", resume=True) == before


@pytest.mark.parametrize(
    ("options", "change"),
    [
        ({"policy": Policy(max_side=20)}, r"\(--max-side: not given then, 20 now\)"),
        (
            {"policy": Policy(check=False, exif="apply")},
            r"\(--exif: ignore then, apply now; --no-check: not given then, given now\)",
        ),
        ({"on_bad_image": "repair"}, r"\(--on-bad-image: fail or skip then, repair now\)"),
        ({"shards": 2}, r"\(files of train \(--shards\): 1 then, 2 now; files of val \(--shards\): 1 then, 2 now\)"),
        ({"fastbot_version": "1"}, r"\(fastbot: 0 then, 1 now\)"),
    ],
)
def test_a_whole_store_of_other_options_is_not_taken_for_the_result(
    tmp_path: Path, options: dict[str, Any], change: str
) -> None:
    run(good_source(), tmp_path / "store")
    before = contents(tmp_path / "store")
    with pytest.raises(ConversionError, match=rf"store: is a whole store, of another conversion {change}\. Choose"):
        convert(good_source(), tmp_path / "store", ConvertOptions(**{"fastbot_version": "0", "resume": True} | options))
    assert contents(tmp_path / "store") == before


def test_a_whole_store_of_another_source_is_not_taken_for_the_result(tmp_path: Path) -> None:
    run(good_source(), tmp_path / "store")
    with pytest.raises(ConversionError, match=r"pictures of train: \d+ then, 7 now"):
        run(good_source(7), tmp_path / "store", resume=True)
    other = good_source()
    other.name = "folder"
    with pytest.raises(ConversionError, match=r"\(layout: \w+ then, folder now\)"):
        run(other, tmp_path / "store", resume=True)
    renamed = good_source()
    renamed.class_names = tuple(f"new {name}" for name in renamed.class_names)
    with pytest.raises(ConversionError, match=r"\(classes: 2 then and now, but with other names or labels\)"):
        run(renamed, tmp_path / "store", resume=True)


@pytest.mark.parametrize("resume", [False, True])
def test_a_destination_can_be_checked_before_the_source_is_listed(interrupted: Path, resume: bool) -> None:
    check_destination(interrupted.with_name("other"), resume=resume)
    (interrupted.parent / "file").write_text("mine")
    for wrong in ("file", "file/below"):
        with pytest.raises(ConversionError, match="is no folder"):
            check_destination(interrupted.parent / wrong, resume=resume)
    with nullcontext() if resume else pytest.raises(ConversionError, match="--resume"):
        check_destination(interrupted, resume=resume)


def test_a_split_that_has_vanished_is_no_reason_to_go_on_without_it(tmp_path: Path, not_estimated: None) -> None:
    lost = [*good_entries("v", 3), GoneEntry("x", 0)]
    with pytest.raises(ConversionError, match="cannot be read any more"):
        run(ListSource({"train": good_entries("t", 4), "val": lost}), tmp_path / "store")
    with pytest.raises(ConversionError, match="pictures of val: 4 then, none now"):
        run(ListSource({"train": good_entries("t", 4)}), tmp_path / "store", resume=True)


def test_what_a_kill_before_the_first_checkpoint_left_does_not_come_into_the_store(tmp_path: Path) -> None:
    partial = tmp_path / ".store.partial"
    partial.mkdir()
    (partial / "run.json").write_text("{}")
    (partial / "train-00000-of-00003.beton").write_bytes(bytes(5000))
    (partial / "train-00000-of-00003.journal").write_bytes(b"")
    run(good_source(), tmp_path / "store")
    run(good_source(), tmp_path / "other")
    assert contents(tmp_path / "store") == contents(tmp_path / "other")


@pytest.fixture
def all_but_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A destination whose conversion was killed when only the renaming was left to do."""

    def killed(*_: Any) -> None:
        raise OSError(errno.EIO, "killed")

    with monkeypatch.context() as patched:
        patched.setattr("datasets_tools.conversion.workspace.publish", killed)
        with pytest.raises(ConversionError, match="killed"):
            run(good_source(), tmp_path / "store")
    return tmp_path / "store"


def test_another_conversions_whole_store_is_not_handed_over(tmp_path: Path, all_but_renamed: Path) -> None:
    with pytest.raises(ConversionError, match="holds the whole store of another conversion"):
        run(good_source(7), all_but_renamed, resume=True)
    run(good_source(), all_but_renamed, resume=True)


def test_resuming_where_nothing_was_begun_begins(tmp_path: Path) -> None:
    run(good_source(), tmp_path / "store", resume=True)
    assert len(Store(tmp_path / "store").split("train")) == 6


def test_a_kill_just_before_the_renaming_is_made_good(tmp_path: Path, all_but_renamed: Path) -> None:
    assert [path.name for path in tmp_path.iterdir()] == [".store.partial"]
    run(good_source(), all_but_renamed, resume=True)
    run(good_source(), tmp_path / "other")
    assert contents(all_but_renamed) == contents(tmp_path / "other")
