from __future__ import annotations

import fcntl
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from sources import GoneEntry, good_source

from datasets_tools.conversion.convert import ConvertOptions, convert
from datasets_tools.conversion.engines import ray_task
from datasets_tools.conversion.engines.ray_task import Job, PassingError, carry_out
from datasets_tools.conversion.shards import Shard, finished, journal_path
from datasets_tools.conversion.workspace import RUN_NAME
from datasets_tools.errors import ConversionError, MissingPackageError
from datasets_tools.pictures import Policy
from datasets_tools.sources.base import EntryList

SHARD = Shard("train", "train", 0, 6)
ENTRIES = good_source().splits["train"]


def job(folder: Path) -> Job:
    (folder / RUN_NAME).write_bytes(b"purpose")
    return Job(folder, b"purpose", url=None, policy=Policy(), retry=True)


def test_a_task_writes_a_shard_into_the_shared_folder(tmp_path: Path) -> None:
    result = carry_out(job(tmp_path), SHARD, ENTRIES)
    assert result == finished(tmp_path, SHARD)
    assert result.record.num_samples == 6


def test_a_node_that_does_not_see_the_folder_says_so(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    told = job(tmp_path)
    for unseen in (replace(told, folder=tmp_path / "elsewhere"), replace(told, purpose=b"another")):
        with pytest.raises(ConversionError, match=r"shard train, on node .*does not see .*all nodes share") as caught:
            carry_out(unseen, SHARD, ENTRIES)
        assert not isinstance(caught.value, PassingError)
    assert not list(tmp_path.glob("**/*.beton"))


def test_a_node_of_other_versions_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match=r"pillow.*but the driver .*pillow.*1\.0"):
        carry_out(replace(job(tmp_path), versions={"pillow": "1.0"}), SHARD, ENTRIES)


def test_a_source_that_is_gone_may_come_back(tmp_path: Path) -> None:
    with pytest.raises(PassingError, match=r"shard train, on node .*cannot be read any more"):
        carry_out(job(tmp_path), SHARD, EntryList([GoneEntry("a.jpg", 0)] * 6))


def test_a_full_disk_may_be_emptied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("datasets_tools.conversion.shards.write_whole", full)
    with pytest.raises(PassingError, match=r"No space left on device.*--resume"):
        carry_out(job(tmp_path), SHARD, ENTRIES)
    monkeypatch.undo()
    assert carry_out(job(tmp_path), SHARD, ENTRIES).record.num_samples == 6


def test_two_attempts_never_write_one_shard_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_task, "_LOCK_PATIENCE_S", 0.0)
    told = job(tmp_path)
    with journal_path(tmp_path, SHARD).open("w") as lost:
        fcntl.flock(lost, fcntl.LOCK_EX)
        with pytest.raises(PassingError, match="another process is writing this shard"):
            carry_out(told, SHARD, ENTRIES)
    assert carry_out(told, SHARD, ENTRIES).record.num_samples == 6


def test_a_node_uploads_from_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    (tmp_path / "store").mkdir()
    uploading = replace(job(tmp_path), url=f"file://{tmp_path}/store")
    result = carry_out(uploading, SHARD, ENTRIES)
    assert sorted(path.name for path in (tmp_path / "store").iterdir()) == ["train.beton", "train.index"]
    assert (tmp_path / "store/train.beton").stat().st_size == result.record.beton.size
    with pytest.raises(PassingError):
        carry_out(uploading, SHARD, EntryList([GoneEntry("a.jpg", 0)] * 6))
    assert not list((tmp_path / "tmp").iterdir())


def test_without_ray_the_line_that_installs_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "datasets_tools.conversion.engines.ray", raising=False)
    with pytest.raises(MissingPackageError, match=r"pip install 'fastbot\[ray\]'"):
        convert(good_source(), tmp_path / "store", ConvertOptions("0", engine="ray"))
    assert not list(tmp_path.iterdir())
