from __future__ import annotations

import io
import pickle
from collections import Counter

import numpy as np
import pytest
from PIL import Image
from PIL.JpegImagePlugin import get_sampling

from datasets_tools import photographs
from datasets_tools.sources.demo import DemoEntry, DemoSource

FEW = DemoSource(seed=3, train_per_class=6, val_per_class=6)


def decode(stored: bytes) -> Image.Image:
    with Image.open(io.BytesIO(stored)) as picture:
        picture.load()
        return picture


def test_is_balanced_and_about_as_large_as_promised() -> None:
    source = DemoSource()
    assert len(source.class_names) >= 10
    for split, expected in (("train", 2000), ("val", 400)):
        entries = source.splits[split].entries
        assert abs(len(entries) - expected) <= 0.05 * expected
        assert len({entry.key for entry in entries}) == len(entries)
        counts = Counter(entry.label for entry in entries)
        assert set(counts) == set(range(len(source.class_names)))
        assert len(set(counts.values())) == 1


def test_label_names_the_photograph() -> None:
    for entry in (*FEW.splits["train"].entries, *FEW.splits["val"].entries):
        assert FEW.class_names[entry.label] == entry.photograph
        assert entry.key.startswith(f"{entry.photograph}/")


@pytest.mark.parametrize("name", DemoSource().class_names)
def test_no_column_is_in_train_and_val(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the photograph by one whose brightness is its column, and look at the pixels that come out."""
    height, width = photographs.shape(name)
    columns = np.linspace(0, 255, width).round().astype(np.uint8)
    ramp = np.broadcast_to(columns[:, None], (height, width, 3)).copy()
    monkeypatch.setattr(photographs, "load", lambda _: ramp)
    levels = {}
    for split, listed in FEW.splits.items():
        pictures = [np.asarray(decode(e.read()).convert("L")) for e in listed.entries if e.photograph == name]
        levels[split] = min(p.min() for p in pictures), max(p.max() for p in pictures)
    (train_low, train_high), (val_low, val_high) = levels["train"], levels["val"]
    jpeg_noise = 3
    assert train_high <= val_low + jpeg_noise or val_high <= train_low + jpeg_noise
    assert train_high - train_low > 60
    assert val_high - val_low > 60


@pytest.mark.parametrize("name", DemoSource().class_names)
def test_windows_stay_in_disjoint_parts_of_the_photograph(name: str) -> None:
    height, width = photographs.shape(name)
    taken = {split: np.zeros((height, width), bool) for split in ("train", "val")}
    for split, listed in DemoSource(seed=11, train_per_class=100, val_per_class=100).splits.items():
        for entry in listed.entries:
            if entry.photograph == name:
                (top, left, window_height, window_width), size = entry.cut()
                assert min(top, left) >= 0
                assert top + window_height <= height
                assert left + window_width <= width
                assert size[0] <= window_height
                assert size[1] <= window_width
                taken[split][top : top + window_height, left : left + window_width] = True
    assert not (taken["train"] & taken["val"]).any()
    # The cuts use what they may: neither split lives on a corner of the photograph.
    assert taken["train"].mean() > 0.25
    assert taken["val"].mean() > 0.25


def test_bytes_depend_on_seed_split_and_index_only() -> None:
    first, second = (DemoSource(7, 3, 3).splits["train"].entries[4] for _ in range(2))
    assert first.read() == first.read() == second.read() == pickle.loads(pickle.dumps(first)).read()
    photograph, label = first.photograph, first.label
    others = [
        DemoEntry(photograph, label, "train", 4, seed=8),
        DemoEntry(photograph, label, "val", 4, seed=7),
        DemoEntry(photograph, label, "train", 5, seed=7),
    ]
    assert len({first.cut(), *(other.cut() for other in others)}) == 4


def test_sizes_are_those_of_imagenet_where_the_photograph_is_large_enough() -> None:
    cuts = [entry.cut() for entry in DemoSource().splits["train"].entries if entry.photograph == "retina"]
    sizes = Counter(size for _, size in cuts)
    assert sizes[(375, 500)] + sizes[(500, 375)] > 0.8 * len(cuts)
    assert min(sizes[(375, 500)], sizes[(500, 375)]) > 0.3 * len(cuts)


def test_every_picture_is_at_least_large_enough_for_the_demo() -> None:
    sides = [size for split in DemoSource().splits.values() for entry in split.entries for size in [entry.cut()[1]]]
    assert min(min(size) for size in sides) >= 128
    assert max(max(size) for size in sides) == 500


def test_header_agrees_with_the_cut() -> None:
    for entry in FEW.splits["val"].entries:
        picture = decode(entry.read())
        assert picture.format == "JPEG"
        assert picture.size == entry.cut()[1][::-1]


def test_a_few_pictures_are_stored_in_other_ways() -> None:
    entries = [entry for entry in DemoSource(0, 400, 1).splits["train"].entries if entry.photograph == "chelsea"]
    pictures = [decode(entry.read()) for entry in entries]
    samplings = Counter("grey" if picture.mode == "L" else get_sampling(picture) for picture in pictures)
    assert set(samplings) == {"grey", 0, 2}
    assert samplings["grey"] < 0.03 * len(pictures)
    assert 0.02 < samplings[0] / len(pictures) < 0.09
    num_progressive = sum(bool(picture.info.get("progressive")) for picture in pictures)
    assert 0.02 < num_progressive / len(pictures) < 0.09
