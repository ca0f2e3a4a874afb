from __future__ import annotations

import json
import os
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from jpeg_oddities import left_over
from sources import jpeg, pixels
from stores import StoredPicture, file_record, flip_bytes, write_store

from datasets_tools.errors import StoreError
from datasets_tools.inspection.verify import FileProblem, SampleProblem, Verification, verify_store
from datasets_tools.store import Store, beton
from datasets_tools.store.index import HEADER, RECORD


def picture(k: int, split: str = "t") -> StoredPicture:
    height, width = 40 + k, 64 - k
    if k % 4 == 3:
        data = np.asarray(pixels(height, width, k)).tobytes()
        return StoredPicture(f"{split}/{k}.png", data, height, width, label=k % 2, raw=True)
    return StoredPicture(f"{split}/{k}.jpg", jpeg(height, width, k), height, width, label=k % 2)


PICTURES = [picture(k) for k in range(9)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Three shards of three samples, and a small split with further labels."""
    splits = {"train": PICTURES, "val": [picture(k, "v") for k in range(3)]}
    write_store(tmp_path, splits, ("cat", "dog"), num_shards=3, label_sets={"val": {"real": [[0], [], [1, 0]]}})
    return tmp_path


def verify(path: Path, *, deep: bool = True, workers: int = 2) -> Verification:
    return verify_store(path, deep=deep, workers=workers, progress=lambda done, total: None)


def files(found: Verification) -> list[str]:
    return [problem.file for problem in found.files]


def samples(found: Verification) -> list[tuple[str, int, str]]:
    return [(problem.split, problem.sample_id, problem.key) for problem in found.samples]


def resign(path: Path, file: Path) -> None:
    """Put a file's present size and sha256 into the manifest."""
    manifest = json.loads((path / "manifest.json").read_text())
    record = json.loads(file_record(file).model_dump_json())
    for split in manifest["splits"].values():
        for shard in split["shards"]:
            for kind in ("beton", "index"):
                if shard[kind]["name"] == file.name:
                    shard[kind] = record
    (path / "manifest.json").write_text(json.dumps(manifest))


def change_record(path: Path, index: Path, local_id: int, **values: int) -> None:
    """Change an index as one who means it would: its checksum and the manifest are right."""
    data = np.fromfile(index, dtype=np.uint8)
    count = int(data[: HEADER.itemsize].view(HEADER)["num_samples"][0])
    records = data[HEADER.itemsize :][: count * RECORD.itemsize].view(RECORD)
    for field, value in values.items():
        records[field][local_id] = value
    data[: HEADER.itemsize].view(HEADER)["crc32"] = zlib.crc32(data[HEADER.itemsize :])
    data.tofile(index)
    resign(path, index)


@pytest.mark.parametrize("deep", [False, True])
def test_a_whole_store_has_no_problems(path: Path, deep: bool) -> None:
    found = verify(path, deep=deep)
    assert found.ok
    assert (found.files, found.samples) == ((), ())
    assert (found.num_files, found.num_samples) == (6 + 6 + 1, 12)
    assert found.num_bytes == sum(file.stat().st_size for file in path.glob("*.beton"))


def test_progress_rises_to_the_total(path: Path) -> None:
    calls: list[tuple[int, int]] = []
    verify_store(path, deep=False, workers=1, progress=lambda *call: calls.append(call))
    done = [call[0] for call in calls]
    assert done == sorted(done)
    assert calls[-1][0] == calls[-1][1] == sum(file.stat().st_size for file in path.glob("*.beton"))


@pytest.mark.parametrize("workers", [1, 3])
def test_all_damaged_samples_are_named_not_the_first_alone(path: Path, workers: int) -> None:
    split = Store(path).split("train")
    for sample_id in (1, 2, 7):
        flip_bytes(split, sample_id)
    found = verify(path, workers=workers)
    assert samples(found) == [("train", k, PICTURES[k].key) for k in (1, 2, 7)]
    assert all("crc32" in problem.reason for problem in found.samples)
    assert files(found) == ["train-00000-of-00003.beton", "train-00002-of-00003.beton"]
    assert all("sha256" in problem.reason for problem in found.files)
    assert found.num_samples == 12
    assert not found.ok


def test_bytes_between_samples_count_too(path: Path) -> None:
    """No sample is damaged by a changed byte in a page's padding; the file is not what was written all the same."""
    beton_path = path / "val-00001-of-00003.beton"
    with beton_path.open("r+b") as file:
        file.seek(-2000, os.SEEK_END)
        file.write(b"x")
    found = verify(path)
    assert (files(found), found.samples) == ([beton_path.name], ())


def test_a_cut_file_says_which_samples_are_gone(path: Path) -> None:
    split = Store(path).split("train")
    shard = split.shards[1]
    os.truncate(shard.path, int(split.offsets[4]) - shard.start + 10)
    found = verify(path)
    assert [problem.file for problem in found.files] == [shard.path.name]
    assert "was cut short" in found.files[0].reason
    assert samples(found) == [("train", k, PICTURES[k].key) for k in (4, 5)]
    assert all(problem.reason == "the file ends before it does" for problem in found.samples)
    assert found.num_samples == 10


def test_a_damaged_index_is_not_trusted_and_the_others_are_still_checked(path: Path) -> None:
    flip_bytes(Store(path).split("train"), 8)
    index = path / "train-00000-of-00003.index"
    data = bytearray(index.read_bytes())
    data[60] ^= 1
    index.write_bytes(data)
    found = verify(path)
    assert files(found) == [index.name, "train-00002-of-00003.beton"]
    assert samples(found) == [("train", 8, PICTURES[8].key)]
    assert found.num_samples == 9


def test_missing_files_are_all_named(path: Path) -> None:
    for name in ("train-00001-of-00003.beton", "val-00000-of-00003.index", "val.real.json"):
        (path / name).unlink()
    found = verify(path)
    assert files(found) == ["train-00001-of-00003.beton", "val-00000-of-00003.index", "val.real.json"]
    assert all("missing" in problem.reason or "No such file" in problem.reason for problem in found.files)


def test_an_index_of_another_conversion_is_found_although_it_is_whole(path: Path) -> None:
    change_record(path, path / "train-00001-of-00003.index", 1, crc32=5)
    found = verify(path)
    assert samples(found) == [("train", 4, PICTURES[4].key)]
    assert found.files == ()


def test_records_that_lead_outside_the_file_are_named(path: Path) -> None:
    index = path / "train-00002-of-00003.index"
    change_record(path, index, 0, offset=2**63)
    change_record(path, index, 2, label=9)
    found = verify(path)
    assert samples(found) == [("train", 6, PICTURES[6].key), ("train", 8, PICTURES[8].key)]
    assert found.num_samples == 10


def test_tables_that_contradict_the_index_are_found(path: Path) -> None:
    """Both files are whole and belong together, but stock FFCV would read other labels than we do."""
    beton_path, index = path / "val-00002-of-00003.beton", path / "val-00002-of-00003.index"
    data = np.fromfile(beton_path, dtype=np.uint8)
    data[beton.METADATA_START : beton.metadata_end(1)].view(beton.METADATA_ROW)["label"] = 1
    data.tofile(beton_path)
    resign(path, beton_path)
    header = np.fromfile(index, dtype=np.uint8)
    tables = data[: beton.metadata_end(1)].tobytes() + data[-24:].tobytes()
    header[: HEADER.itemsize].view(HEADER)["beton_crc32"] = zlib.crc32(tables)
    header.tofile(index)
    resign(path, index)
    found = verify(path)
    assert found.samples == (SampleProblem("val", 2, "v/2.jpg", "the .beton file's own tables say otherwise"),)


def test_deep_decodes_what_shallow_takes_on_trust(tmp_path: Path) -> None:
    cut = replace(PICTURES[1], data=PICTURES[1].data[:-200])
    text = replace(PICTURES[2], data=b"no picture at all")
    wrong_size = replace(PICTURES[4], height=45)
    write_store(tmp_path, {"train": [PICTURES[0], cut, text, PICTURES[3], wrong_size]}, ("cat", "dog"))
    assert verify(tmp_path, deep=False).ok
    found = verify(tmp_path, deep=True)
    assert [problem.sample_id for problem in found.samples] == [1, 2, 4]
    assert [problem.reason.split(":")[0] for problem in found.samples[:2]] == ["does not decode"] * 2
    assert found.samples[2].reason == "is 44 x 60 pixels, its index says 45 x 60"


def test_deep_finds_what_other_decoders_refuse(tmp_path: Path) -> None:
    """Stray bytes are skipped by libjpeg, and its pixels are right; nvJPEG's or Pillow's may not come at all."""
    unclean = replace(PICTURES[1], data=left_over(PICTURES[1].data, bytes(60)))
    write_store(tmp_path, {"train": [PICTURES[0], unclean]}, ("cat", "dog"))
    assert verify(tmp_path, deep=False).ok
    reason = "decodes, but holds stray bytes that some decoders refuse: convert it again"
    assert verify(tmp_path, deep=True).samples == (SampleProblem("train", 1, "t/1.jpg", reason),)


def test_a_manifest_that_sums_up_wrongly_is_found(path: Path) -> None:
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["splits"]["train"]["max_height"] = 41
    (path / "manifest.json").write_text(json.dumps(manifest))
    found = verify(path)
    assert files(found) == ["manifest.json"]
    assert "about max_height of split train" in found.files[0].reason


def test_altered_label_sets_are_found(path: Path) -> None:
    (path / "val.real.json").write_text("[[1], [], [1, 0]]")
    found = verify(path)
    assert found.files == (
        FileProblem("val.real.json", "is not the file that manifest.json means: its sha256 differs. Copy it again."),
    )


def test_without_a_manifest_there_is_nothing_to_check_against(path: Path) -> None:
    (path / "manifest.json").unlink()
    with pytest.raises(StoreError, match="is not a store"):
        verify(path)
