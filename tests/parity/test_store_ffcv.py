"""Stock FFCV reads our files, and we read its: same samples, same labels, same bytes, same pixels."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sources import encoded, pixels
from stores import StoredPicture, write_store

pytest.importorskip("ffcv")

import ffcv.types
from ffcv.fields import IntField, RGBImageField
from ffcv.fields.decoders import IntDecoder, SimpleRGBImageDecoder
from ffcv.reader import Reader
from ffcv.writer import DatasetWriter

from benchmarks.peers.stock_ffcv import Loader, OrderOption
from datasets_tools.exchange.adopt import adopt
from datasets_tools.store import Shard, Split, Store, beton
from datasets_tools.store.index import StoredFormat

NUM_SAMPLES = 10
# Kept alive: numba's finalizers fail on FFCV's compiled functions, inside whatever runs when they are collected.
LOADERS: list[Loader] = []


def our_picture(k: int) -> StoredPicture:
    """Pictures of one size over several pages, one larger than a page of 2 MiB; some grey, progressive or raw."""
    picture = pixels(80, 96, seed=k)
    if k in (1, 6, 8):
        return StoredPicture(str(k), np.asarray(picture).tobytes(), 80, 96, label=(k * 7) % 5, raw=True)
    subsampling = "4:4:4" if k % 2 else "4:2:0"
    data = encoded(picture.convert("L") if k == 3 else picture, quality=95, progressive=k == 4, subsampling=subsampling)
    padding = {2: 900_000, 5: 1_500_000, 7: 3_000_000}.get(k, 0)
    return StoredPicture(str(k), data + bytes(padding), 80, 96, label=(k * 7) % 5)


@pytest.fixture(scope="module", params=[1, 3], ids=["one file", "three shards"])
def split(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Split:
    pictures = [our_picture(k) for k in range(NUM_SAMPLES)]
    folder = tmp_path_factory.mktemp("ffcv")
    return write_store(folder, {"train": pictures}, tuple("abcde"), num_shards=request.param).split("train")


def loaded(path: Path, names: tuple[str, str] = ("image", "label"), **options: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return all pixels and labels of a file, as FFCV's own loader gives them."""
    loader = Loader(
        str(path),
        batch_size=4,
        num_workers=1,
        order=OrderOption.SEQUENTIAL,
        drop_last=False,
        pipelines={names[0]: [SimpleRGBImageDecoder()], names[1]: [IntDecoder()]},
        **options,
    )
    LOADERS.append(loader)
    batches = [[np.array(part) for part in batch] for batch in loader]
    columns = [np.concatenate(parts) for parts in zip(*batches, strict=True)]
    by_name = dict(zip(loader.reader.field_names, columns, strict=True))
    return by_name[names[0]], by_name[names[1]].ravel()


def shards(split: Split) -> Iterator[tuple[Shard, slice]]:
    """Yield each shard and which of the split's ids it has."""
    for shard in split.shards:
        yield shard, slice(shard.first_id, shard.first_id + shard.num_samples)


def stored_pixels(split: Split, sample_id: int) -> np.ndarray:
    """Decode a sample of ours without FFCV."""
    data = split.encoded(sample_id).tobytes()
    if split.formats[sample_id] == StoredFormat.RAW:
        return np.frombuffer(data, np.uint8).reshape(split.heights[sample_id], split.widths[sample_id], 3)
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def assert_same_pixels(split: Split, sample_id: int, image: np.ndarray) -> None:
    expected = stored_pixels(split, sample_id).astype(np.float64)
    if split.formats[sample_id] == StoredFormat.RAW:
        np.testing.assert_array_equal(image, expected)
    # FFCV decodes with libjpeg's fast DCT, Pillow with the accurate one: up to 2 levels on these noisy pictures, grey
    # ones included. Another sample of these stores is more than 20 levels away.
    assert np.abs(image - expected).mean() < 2.5
    assert np.abs(image - expected).max() < 20


def test_the_layout_is_ffcvs() -> None:
    assert ffcv.types.HeaderType == beton.HEADER
    assert beton.FIELD_DESCRIPTOR.itemsize == ffcv.types.FieldDescType.itemsize
    assert beton.ALLOCATION == ffcv.types.ALLOC_TABLE_TYPE
    assert beton.VERSION == ffcv.types.CURRENT_VERSION


def test_its_reader_finds_our_fields_rows_and_allocations(split: Split) -> None:
    for shard, ids in shards(split):
        reader = Reader(str(shard.path))
        assert reader.field_names == ["image", "label"]
        assert reader.num_samples == shard.num_samples
        np.testing.assert_array_equal(reader.metadata["f1"], split.labels[ids])
        np.testing.assert_array_equal(reader.metadata["f0"]["height"], split.heights[ids])
        np.testing.assert_array_equal(reader.metadata["f0"]["width"], split.widths[ids])
        np.testing.assert_array_equal(reader.metadata["f0"]["mode"], split.formats[ids])
        np.testing.assert_array_equal(reader.metadata["f0"]["data_ptr"] + shard.start, split.offsets[ids])
        np.testing.assert_array_equal(reader.alloc_table["size"], split.sizes[ids])
        assert reader.page_size >= split.sizes[ids].max()


@pytest.mark.parametrize("os_cache", [True, False])
def test_its_loader_yields_our_labels_and_pixels(split: Split, os_cache: bool) -> None:
    """The last shard stands for all: FFCV compiles for seconds for each file."""
    *_, (shard, ids) = shards(split)
    images, labels = loaded(shard.path, os_cache=os_cache)
    np.testing.assert_array_equal(labels, split.labels[ids])
    for sample_id, image in enumerate(images, ids.start):
        assert_same_pixels(split, sample_id, image)


class Pictures:
    """What `DatasetWriter` takes, in the order of the fields."""

    def __init__(self, label_first: bool) -> None:
        self._label_first = label_first

    def __len__(self) -> int:
        return 60

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        sample = np.asarray(pixels(200, 240, seed=index)), (index * 7) % 11
        return sample[::-1] if self._label_first else sample


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Write a stock file once for each set of options."""
    folder = tmp_path_factory.mktemp("stock")
    files: dict[tuple[str, int, bool], Path] = {}

    def write(mode: str, num_workers: int, label_first: bool) -> Path:
        key = (mode, num_workers, label_first)
        if key not in files:
            files[key] = folder / f"train_{mode}_{num_workers}_{label_first}.beton"
            fields = {"pixels": RGBImageField(write_mode=mode, smart_threshold=60_000), "target": IntField()}
            ordered = dict(reversed(fields.items())) if label_first else fields
            writer = DatasetWriter(str(files[key]), ordered, page_size=1 << 21, num_workers=num_workers)
            writer.from_indexed_dataset(Pictures(label_first), chunksize=5)
        return files[key]

    return write


@pytest.mark.parametrize(
    ("mode", "num_workers", "label_first"),
    [
        ("jpg", 1, False),
        ("jpg", 2, True),
        ("raw", 1, True),
        ("raw", 2, False),
        ("proportion", 2, False),
        ("smart", 1, False),
    ],
)
def test_files_it_wrote_hold_the_same_for_us(
    tmp_path: Path, written: Any, mode: str, num_workers: int, label_first: bool
) -> None:
    path = written(mode, num_workers, label_first)
    adopt([path], tmp_path / "store", class_names=None, fastbot_version="0")
    split = Store(tmp_path / "store").split("train")
    reader, content = Reader(str(path)), path.read_bytes()
    image_field = "f1" if label_first else "f0"
    sizes = dict(zip(reader.alloc_table["sample_id"].tolist(), reader.alloc_table["size"].tolist(), strict=True))
    np.testing.assert_array_equal(split.labels, [(index * 7) % 11 for index in range(60)])
    for sample_id, row in enumerate(reader.metadata[image_field]):
        start = int(row["data_ptr"])
        assert split.encoded(sample_id).tobytes() == content[start : start + sizes[sample_id]]
        assert split.formats[sample_id] == row["mode"]
    assert set(split.formats.tolist()) == {"jpg": {0}, "raw": {1}, "proportion": {0, 1}, "smart": {0}}[mode]


def test_files_it_wrote_have_the_same_pixels_for_us(tmp_path: Path, written: Any) -> None:
    path = written("proportion", 2, False)
    adopt([path], tmp_path / "store", class_names=None, fastbot_version="0")
    split = Store(tmp_path / "store").split("train")
    images, labels = loaded(path, ("pixels", "target"))
    np.testing.assert_array_equal(labels, split.labels)
    for sample_id, image in enumerate(images):
        assert_same_pixels(split, sample_id, image)
