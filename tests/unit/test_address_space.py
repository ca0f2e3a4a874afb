from __future__ import annotations

import gc
import mmap
import os
from pathlib import Path

import numpy as np
import pytest

from datasets_tools.errors import StoreError
from datasets_tools.store.address_space import map_file, map_files

PAGE = mmap.PAGESIZE


def write(folder: Path, *contents: bytes) -> list[Path]:
    paths = [folder / f"file {k}" for k in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    return paths


def mappings_of(path: Path) -> int:
    return Path("/proc/self/maps").read_text().count(str(path))


@pytest.mark.parametrize("sizes", [[1], [PAGE], [PAGE + 1, 1, 3 * PAGE, PAGE - 1], [5, 5]])
def test_each_file_begins_at_a_page_and_zeros_follow_it(tmp_path: Path, sizes: list[int]) -> None:
    contents = [os.urandom(size) for size in sizes]
    data, starts = map_files(write(tmp_path, *contents), sizes)
    assert data.dtype == np.uint8
    assert not data.flags.writeable
    assert data.size == starts[-1] + sizes[-1]
    ends = [*starts[1:], data.size]
    for start, end, content in zip(starts, ends, contents, strict=True):
        assert start % PAGE == 0
        assert data[start:end].tobytes() == content + bytes(end - start - len(content))


def test_it_cannot_be_made_writeable(tmp_path: Path) -> None:
    data, _ = map_files(write(tmp_path, b"x"), [1])
    with pytest.raises(ValueError):
        data.flags.writeable = True


def test_the_mapping_lives_as_long_as_any_view(tmp_path: Path) -> None:
    paths = write(tmp_path, b"a" * 100, b"b" * PAGE)
    data, starts = map_files(paths, [100, PAGE])
    view = data[starts[1] :].view("<u2").reshape(2, -1)[1]
    del data
    gc.collect()
    assert view.tobytes() == b"b" * (PAGE // 2)
    assert mappings_of(paths[1]) == 1
    del view
    gc.collect()
    assert mappings_of(paths[0]) == mappings_of(paths[1]) == 0


def test_no_descriptor_stays_open(tmp_path: Path) -> None:
    paths = write(tmp_path, b"a", b"b")
    before = len(list(Path("/proc/self/fd").iterdir()))
    data, _ = map_files(paths, [1, 1])
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert data[0] == ord("a")


def test_a_missing_file_and_one_that_changed_are_named_and_nothing_stays_mapped(tmp_path: Path) -> None:
    paths = write(tmp_path, b"a", b"b")
    with pytest.raises(StoreError, match="file 1: has 1 bytes, not 2: it changes"):
        map_files(paths, [1, 2])
    paths[1].unlink()
    with pytest.raises(StoreError, match="file 1: cannot be read: No such file"):
        map_files(paths, [1, 1])
    gc.collect()
    assert mappings_of(paths[0]) == 0


def test_what_does_not_fit_into_memory_says_so(tmp_path: Path) -> None:
    path = tmp_path / "huge"
    with pytest.raises(StoreError, match="huge: .* bytes cannot be mapped into memory: Cannot allocate memory"):
        map_files([path], [1 << 60])


def test_one_file_is_all_of_it(tmp_path: Path) -> None:
    (path,) = write(tmp_path, b"abc")
    assert map_file(path).tobytes() == b"abc"


def test_what_is_no_file_with_bytes_is_refused_without_waiting(tmp_path: Path) -> None:
    (empty,) = write(tmp_path, b"")
    os.mkfifo(tmp_path / "pipe")
    for path, said in ((empty, "is empty"), (tmp_path, "is no file"), (tmp_path / "pipe", "is no file")):
        with pytest.raises(StoreError, match=said):
            map_file(path)
