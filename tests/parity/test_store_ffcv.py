"""Stock FFCV reads our files: same samples, same labels, same pixels."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from sources import BytesEntry, ListSource, encoded, pixels

pytest.importorskip("ffcv")

import ffcv.types
from ffcv.fields.decoders import IntDecoder, SimpleRGBImageDecoder
from ffcv.loader import Loader, OrderOption
from ffcv.reader import Reader

from datasets_tools import beton
from datasets_tools.convert import ConvertOptions, convert
from datasets_tools.store import Split, Store

NUM_SAMPLES = 10


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Split:
    """Pictures of one size over several pages, one of them larger than a page of 2 MiB; one is skipped."""
    entries = []
    for k in range(NUM_SAMPLES):
        picture = pixels(80, 96, seed=k).convert("L" if k == 3 else "RGB")
        data = encoded(picture, quality=95, progressive=k == 4, subsampling="4:4:4" if k % 2 else "4:2:0")
        padding = {2: 900_000, 5: 1_500_000, 7: 3_000_000}.get(k, 0)
        entries.append(BytesEntry(str(k), (k * 7) % 5, data + bytes(padding)))
    entries.insert(6, BytesEntry("bad", 0, b""))
    folder = tmp_path_factory.mktemp("ffcv") / "store"
    source = ListSource({"train": entries}, class_names=tuple("abcde"))
    convert(source, folder, ConvertOptions("0", on_bad_image="skip"), lambda progress: None)
    return Store(folder).split("train")


def test_the_layout_is_ffcvs() -> None:
    assert ffcv.types.HeaderType == beton.HEADER
    assert beton.FIELD_DESCRIPTOR.itemsize == ffcv.types.FieldDescType.itemsize
    assert beton.ALLOCATION == ffcv.types.ALLOC_TABLE_TYPE
    assert beton.VERSION == ffcv.types.CURRENT_VERSION


def test_its_reader_finds_our_fields_rows_and_allocations(split: Split) -> None:
    reader = Reader(str(split.path))
    assert reader.field_names == ["image", "label"]
    assert reader.num_samples == NUM_SAMPLES
    assert reader.page_size == 4 * 2**20
    np.testing.assert_array_equal(reader.metadata["f1"], split.labels)
    np.testing.assert_array_equal(reader.metadata["f0"]["height"], split.heights)
    np.testing.assert_array_equal(reader.metadata["f0"]["width"], split.widths)
    np.testing.assert_array_equal(reader.metadata["f0"]["data_ptr"], split.offsets)
    np.testing.assert_array_equal(reader.alloc_table["size"], split.sizes)


@pytest.mark.parametrize("os_cache", [True, False])
def test_its_loader_yields_our_labels_and_pixels(split: Split, os_cache: bool) -> None:
    loader = Loader(
        str(split.path),
        batch_size=4,
        num_workers=1,
        os_cache=os_cache,
        order=OrderOption.SEQUENTIAL,
        drop_last=False,
        pipelines={"image": [SimpleRGBImageDecoder()], "label": [IntDecoder()]},
    )
    images, labels = [], []
    for image, label in loader:
        images.append(np.array(image))
        labels.append(np.array(label).ravel())
    np.testing.assert_array_equal(np.concatenate(labels), split.labels)
    for k, image in enumerate(np.concatenate(images)):
        expected = np.asarray(Image.open(io.BytesIO(split.encoded(k).tobytes())).convert("RGB"), dtype=np.float64)
        # FFCV decodes with libjpeg's fast DCT, Pillow with the accurate one: up to 2 levels on these noisy pictures of
        # quality 95, grey ones included. Another sample of this store is more than 20 levels away.
        assert np.abs(image - expected).mean() < 2.5
        assert np.abs(image - expected).max() < 20
