"""Whatever stands in a store's files, opening and reading it ends in our own errors, never in a crash or wild memory.

The files are changed where it hurts: any byte, any cut, any number of any table set to any value. Where a checksum
would catch the change, it is put right again, so that the checks behind it are reached too. FASTBOT_FUZZ_EXAMPLES says
how long to go on.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import tracemalloc
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from stores import StoredPicture, write_store

from datasets_tools.errors import StoreError
from datasets_tools.exchange.adopt import adopt
from datasets_tools.inspection.verify import verify_store
from datasets_tools.store import Store, beton
from datasets_tools.store.index import HEADER, RECORD
from datasets_tools.store.manifest import Manifest

NUM_SAMPLES = 5
DATA_START = beton.metadata_end(NUM_SAMPLES)
BETON, INDEX, LABELS, MANIFEST = "train.beton", "train.index", "train.real.json", "manifest.json"
# Opening maps files and copies a few numbers; a manifest of a few kilobytes is parsed. All of it is far below this.
MAX_MEMORY = 16 << 20

fuzz = settings(
    max_examples=int(os.environ.get("FASTBOT_FUZZ_EXAMPLES", "40")),
    deadline=None,
    derandomize="FASTBOT_FUZZ_EXAMPLES" not in os.environ,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def pictures() -> list[StoredPicture]:
    found = []
    for k in range(NUM_SAMPLES):
        pixels = np.full((4 + k, 6, 3), 40 * k, dtype=np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "JPEG")
        data = pixels.tobytes() if k == 2 else buffer.getvalue()
        found.append(StoredPicture(f"picture {k}", data, 4 + k, 6, label=k % 2, raw=k == 2))
    return found


class Files(dict[str, bytes]):
    """Contents by name, which a failing example does not print."""

    def __repr__(self) -> str:
        return "Files(...)"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """The files of a good store."""
    folder = tmp_path_factory.mktemp("original")
    write_store(
        folder, {"train": pictures()}, ("cat", "dog"), label_sets={"train": {"real": [[0], [1], [], [0, 1], [1]]}}
    )
    return Files({path.name: path.read_bytes() for path in folder.iterdir()})


@pytest.fixture
def folder(tmp_path: Path, original: Files) -> Path:
    restore(tmp_path, original)
    return tmp_path


def restore(folder: Path, original: Files) -> None:
    for name, content in original.items():
        (folder / name).write_bytes(content)


@contextmanager
def bounded_memory() -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < MAX_MEMORY


def exercise(folder: Path) -> None:
    """Open a store and read all there is; anything but our errors fails the test."""
    with bounded_memory():
        messages = []
        try:
            read_all(Store(folder))
        except StoreError as error:
            messages.append(str(error))
        try:
            found = verify_store(folder, deep=True, workers=1, progress=lambda done, total: None)
            messages += [f"{problem.file} {problem.reason}" for problem in found.files]
            messages += [f"{problem.key} {problem.reason}" for problem in found.samples]
        except StoreError as error:
            messages.append(str(error))
    "".join(messages).encode()  # raises where one could not be printed
    assert max(map(len, messages), default=0) < 1000


def read_all(store: Store) -> None:
    for split in store.splits.values():
        for sample_id in range(len(split)):
            split.key(sample_id)
            split.info(sample_id)
            split.encoded(sample_id).tobytes()
        split.verify(np.arange(len(split)))
        for name in split.record.label_sets:
            split.label_lists(name)


def sign(folder: Path) -> None:
    """Put right every checksum and size that a change made wrong, as one who means harm would."""
    index, content = bytearray((folder / INDEX).read_bytes()), (folder / BETON).read_bytes()
    if len(index) >= HEADER.itemsize:
        header = np.frombuffer(index, dtype=HEADER, count=1)
        if len(content) >= DATA_START:
            tables = content[:DATA_START] + content[-NUM_SAMPLES * beton.ALLOCATION.itemsize :]
            header["beton_crc32"] = zlib.crc32(tables)
        header["crc32"] = zlib.crc32(index[HEADER.itemsize :])
        del header
        (folder / INDEX).write_bytes(index)
    manifest = json.loads((folder / MANIFEST).read_bytes())
    split = manifest["splits"]["train"]
    for record in (split["shards"][0]["beton"], split["shards"][0]["index"], split["label_sets"]["real"]):
        content = (folder / record["name"]).read_bytes()
        record.update(size=len(content), sha256=hashlib.sha256(content).hexdigest())
    (folder / MANIFEST).write_text(json.dumps(manifest))


EXTREME = st.one_of(
    st.sampled_from([0, 1, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**63 - 1, 2**63, 2**64 - 1]),
    st.integers(0, 2**64 - 1),
    st.integers(0, 5000),
)


def set_number(row: Any, field: str, value: int) -> None:
    """Set a number of any width, cut to it."""
    size = row[field].dtype.itemsize
    row[field] = np.frombuffer((value % 256**size).to_bytes(size, "little"), dtype=row[field].dtype)[0]


@fuzz
@given(st.sampled_from([INDEX, MANIFEST, LABELS]), st.data())
def test_changed_bytes(folder: Path, original: Files, name: str, data: st.DataObject) -> None:
    restore(folder, original)
    content = bytearray(original[name])
    for position in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=4)):
        content[position] = data.draw(st.integers(0, 255))
    (folder / name).write_bytes(content)
    if name != MANIFEST and data.draw(st.booleans()):
        sign(folder)
    exercise(folder)


@fuzz
@given(st.one_of(st.integers(0, DATA_START + 4), st.integers(-200, -1)), st.integers(0, 255), st.booleans())
def test_changed_bytes_of_the_beton_tables(
    folder: Path, original: Files, position: int, value: int, signed: bool
) -> None:
    restore(folder, original)
    content = bytearray(original[BETON])
    content[position] = value
    (folder / BETON).write_bytes(content)
    if signed:
        sign(folder)
    exercise(folder)


@fuzz
@given(st.sampled_from([BETON, INDEX, MANIFEST, LABELS]), st.floats(0, 1), st.booleans(), st.booleans())
def test_cut_and_grown_files(folder: Path, original: Files, name: str, share: float, grown: bool, signed: bool) -> None:
    restore(folder, original)
    content = original[name]
    kept = int(share * len(content)) if name != BETON else int(share * (DATA_START + 50))
    (folder / name).write_bytes(content + bytes(kept % 5000) if grown else content[:kept])
    if signed and name != MANIFEST:
        sign(folder)
    exercise(folder)


@fuzz
@given(
    st.lists(
        st.tuples(st.integers(0, NUM_SAMPLES - 1), st.sampled_from(RECORD.names or ()), EXTREME),
        min_size=1,
        max_size=3,
    )
)
def test_any_number_of_a_record(folder: Path, original: Files, changes: list[tuple[int, str, int]]) -> None:
    restore(folder, original)
    content = bytearray(original[INDEX])
    records = np.frombuffer(content, dtype=RECORD, count=NUM_SAMPLES, offset=HEADER.itemsize)
    for sample_id, field, value in changes:
        set_number(records[sample_id], field, value)
    del records
    (folder / INDEX).write_bytes(content)
    sign(folder)
    exercise(folder)


@fuzz
@given(st.sampled_from(HEADER.names or ()), EXTREME, st.booleans())
def test_any_number_of_the_index_header(folder: Path, original: Files, field: str, value: int, signed: bool) -> None:
    restore(folder, original)
    content = bytearray(original[INDEX])
    header = np.frombuffer(content, dtype=HEADER, count=1)
    header[field] = value.to_bytes(8, "little") if field == "magic" else value % 256 ** header[field].dtype.itemsize
    del header
    (folder / INDEX).write_bytes(content)
    if signed:
        sign(folder)
    exercise(folder)


BETON_NUMBERS = [
    *(("header", field) for field in beton.HEADER.names or ()),
    *(("image", field) for field in beton.IMAGE_RECORD.names or ()),
    ("row", "label"),
    *(("allocation", field) for field in beton.ALLOCATION.names or ()),
]


@fuzz
@given(
    st.lists(
        st.tuples(st.sampled_from(BETON_NUMBERS), st.integers(0, NUM_SAMPLES - 1), EXTREME), min_size=1, max_size=2
    )
)
def test_any_number_of_the_beton_read_as_ours_and_as_stock(
    folder: Path, original: Files, changes: list[tuple[tuple[str, str], int, int]]
) -> None:
    restore(folder, original)
    content = bytearray(original[BETON])
    header = np.frombuffer(content, dtype=beton.HEADER, count=1)
    rows = np.frombuffer(content, dtype=beton.METADATA_ROW, count=NUM_SAMPLES, offset=beton.METADATA_START)
    allocations = np.frombuffer(content, dtype=beton.ALLOCATION, offset=len(content) - NUM_SAMPLES * 24)
    for (table, field), sample_id, value in changes:
        tables = {"header": header[0], "image": rows[sample_id]["image"], "row": rows[sample_id]}
        set_number(tables.get(table, allocations[sample_id]), field, value)
    del header, rows, allocations, tables
    (folder / BETON).write_bytes(content)
    sign(folder)
    exercise(folder)
    adopt_or_refuse(folder)


def adopt_or_refuse(folder: Path) -> None:
    destination = folder / "adopted"
    with bounded_memory():
        try:
            adopt([folder / BETON], destination, class_names=("cat", "dog"), fastbot_version="0")
            read_all(Store(destination))
        except StoreError:
            assert not destination.exists()
    shutil.rmtree(destination, ignore_errors=True)


@fuzz
@given(st.integers(0, DATA_START + 3000), st.integers(0, 255))
def test_a_stock_file_of_changed_bytes(folder: Path, original: Files, position: int, value: int) -> None:
    content = bytearray(original[BETON])
    content[position if position < DATA_START else position - DATA_START + beton.MIN_PAGE_SIZE] = value
    (folder / BETON).write_bytes(content)
    adopt_or_refuse(folder)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["../../etc/passwd", "a\nb", "\ud800", ".", "train.beton", "9" * 400]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def paths(content: Any, prefix: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the way to every value in a JSON document."""
    yield prefix
    inner = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in inner:
        yield from paths(value, (*prefix, key))


@fuzz
@given(st.data())
def test_any_value_of_the_manifest(folder: Path, original: Files, data: st.DataObject) -> None:
    restore(folder, original)
    content = json.loads(original[MANIFEST])
    way = data.draw(st.sampled_from([way for way in paths(content) if way]))
    inner = content
    for key in way[:-1]:
        inner = inner[key]
    action = data.draw(st.sampled_from(["replace", "remove", "add"]))
    if action == "replace":
        inner[way[-1]] = data.draw(JSON)
    elif action == "remove":
        del inner[way[-1]]
    elif isinstance(inner, dict):
        inner[data.draw(st.text(max_size=5))] = data.draw(JSON)
    else:
        inner.append(data.draw(JSON))
    (folder / MANIFEST).write_text(json.dumps(content))
    exercise(folder)


@fuzz
@given(st.one_of(st.binary(max_size=200), JSON.map(lambda value: json.dumps(value).encode())))
def test_any_content_of_the_manifest_and_of_a_label_set(folder: Path, original: Files, content: bytes) -> None:
    restore(folder, original)
    (folder / MANIFEST).write_bytes(content)
    with pytest.raises(StoreError):
        Manifest.load(folder)
    restore(folder, original)
    (folder / LABELS).write_bytes(content)
    sign(folder)
    exercise(folder)
