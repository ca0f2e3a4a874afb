from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sources import encoded
from stores import StoredPicture, write_store

from datasets_tools.errors import StoreError
from datasets_tools.inspection.contact_sheet import contact_sheet
from datasets_tools.store import Store

HEIGHT, WIDTH = 96, 192


def grey(key: str, label: int, level: int, *, raw: bool = False) -> StoredPicture:
    data = bytes([level]) * (HEIGHT * WIDTH * 3) if raw else encoded(Image.new("L", (WIDTH, HEIGHT), level))
    return StoredPicture(key, data, HEIGHT, WIDTH, label, raw=raw)


def store_of_greys(path: Path, num_classes: int, per_class: int, *, raw: bool = False) -> Store:
    """Class k is all of one grey level, so that a cell of the sheet shows which class it was drawn from."""
    levels = np.linspace(0, 200, num_classes).round().astype(int).tolist()
    pictures = [
        grey(f"{label}/{k}", label, level, raw=raw) for label, level in enumerate(levels) for k in range(per_class)
    ]
    names = [f"class {label} {'with a long name ' * (label % 2)}" for label in range(num_classes)]
    return write_store(path, {"train": pictures}, names)


@pytest.mark.parametrize("raw", [False, True])
def test_each_row_shows_its_class(tmp_path: Path, raw: bool) -> None:
    sheet = contact_sheet(store_of_greys(tmp_path / "s", 3, 2, raw=raw), "train", per_class=4)
    pixels = np.asarray(sheet.convert("L"))
    pitch = pixels.shape[0] // 3
    for row, level in enumerate((0, 100, 200)):
        middle = pixels[row * pitch + pitch // 2, 160:].astype(int)
        assert (np.abs(middle - level) < 3).sum() == 2 * 96
    # Two pictures a class: the right half of the sheet is paper, the left edge carries ink.
    assert (pixels[:, 160 + 210 :] == 255).all()
    assert (pixels[:, :160] < 128).any()


def test_raw_pictures_are_shown_as_they_lie(tmp_path: Path) -> None:
    """Rows above rows and red before blue: a gradient would come out sheared or tinted otherwise."""
    pixels = np.zeros((90, 60, 3), np.uint8)
    pixels[:45, :, 0] = 255
    pixels[45:, :, 2] = 255
    store = write_store(tmp_path / "s", {"train": [StoredPicture("a", pixels.tobytes(), 90, 60, raw=True)]})
    sheet = contact_sheet(store, "train", per_class=1)
    centre = 160 + 48
    assert sheet.getpixel((centre, 4 + 20)) == (255, 0, 0)
    assert sheet.getpixel((centre, 4 + 76)) == (0, 0, 255)


def test_many_classes_are_sampled_evenly(tmp_path: Path) -> None:
    store = store_of_greys(tmp_path / "s", 101, 1)
    sheet = np.asarray(contact_sheet(store, "train", num_classes=5, per_class=1).convert("L")).astype(int)
    pitch = sheet.shape[0] // 5
    shown = [sheet[row * pitch + pitch // 2, 160 + 48] for row in range(5)]
    np.testing.assert_allclose(shown, [0, 50, 100, 150, 200], atol=2)


def test_a_name_of_two_lines_is_drawn_on_one(tmp_path: Path) -> None:
    sheets = [
        contact_sheet(write_store(tmp_path / f"{k}", {"train": [grey("a", 0, 9)]}, (name,)), "train")
        for k, name in enumerate(("two\nlines", "two lines"))
    ]
    np.testing.assert_array_equal(*map(np.asarray, sheets))


def test_an_unknown_split_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no split 'test'"):
        contact_sheet(store_of_greys(tmp_path / "s", 2, 1), "test")
