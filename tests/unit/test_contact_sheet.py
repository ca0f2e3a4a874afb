from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sources import encoded
from stores import StoredPicture, flip_bytes, write_store

from datasets_tools import jpeg as codec
from datasets_tools.errors import MissingPackageError, StoreError
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
    sheet, notes = contact_sheet(store_of_greys(tmp_path / "s", 3, 2, raw=raw), "train", per_class=4)
    assert not notes
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
    sheet, _ = contact_sheet(store, "train", per_class=1)
    centre = 160 + 48
    assert sheet.getpixel((centre, 4 + 20)) == (255, 0, 0)
    assert sheet.getpixel((centre, 4 + 76)) == (0, 0, 255)


def test_many_classes_are_sampled_evenly(tmp_path: Path) -> None:
    store = store_of_greys(tmp_path / "s", 101, 1)
    sheet = np.asarray(contact_sheet(store, "train", num_classes=5, per_class=1)[0].convert("L")).astype(int)
    pitch = sheet.shape[0] // 5
    shown = [sheet[row * pitch + pitch // 2, 160 + 48] for row in range(5)]
    np.testing.assert_allclose(shown, [0, 50, 100, 150, 200], atol=2)


def test_a_name_of_two_lines_is_drawn_on_one(tmp_path: Path) -> None:
    sheets = [
        contact_sheet(write_store(tmp_path / f"{k}", {"train": [grey("a", 0, 9)]}, (name,)), "train")[0]
        for k, name in enumerate(("two\nlines", "two lines"))
    ]
    np.testing.assert_array_equal(*map(np.asarray, sheets))


def test_pictures_that_cannot_be_shown_are_crossed_out_and_named(tmp_path: Path) -> None:
    whole = grey("whole", 0, 9)
    cut = replace(whole, key="cut", data=whole.data[: len(whole.data) // 2])
    store = write_store(tmp_path / "s", {"train": [whole, cut, replace(whole, key="flipped")]})
    flip_bytes(store.split("train"), 2)
    sheet, notes = contact_sheet(store, "train", per_class=3)
    cells = [np.asarray(sheet.convert("L"))[4:100, 160 + 100 * k : 256 + 100 * k] for k in range(3)]
    for cell in cells[1:]:
        assert (cell.diagonal() < 128).all()
        assert (cell[:, ::-1].diagonal() < 128).all()
        assert (cell > 250).mean() > 0.9
    assert np.abs(cells[0][48].astype(int) - 9).max() <= 2
    assert len(notes) == 2
    assert notes[0].startswith("train: sample 1 (cut): ")
    assert "sample 2 (flipped) is damaged" in notes[1]


def test_a_picture_beyond_pillows_limit_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", HEIGHT * WIDTH // 3)
    sheet, notes = contact_sheet(store_of_greys(tmp_path / "s", 1, 1), "train")
    assert not notes
    assert sheet.getpixel((160 + 48, 4 + 48)) == (0, 0, 0)


def test_without_the_codec_raw_pictures_are_still_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(data: object) -> None:
        raise MissingPackageError("the JPEG codec is not built")

    monkeypatch.setattr(codec, "decode", absent)
    pictures = [grey("a", 0, 9), grey("b", 0, 9, raw=True)]
    _, notes = contact_sheet(write_store(tmp_path / "s", {"train": pictures}), "train")
    assert notes == ("train: sample 0 (a): the JPEG codec is not built",)


def test_an_unknown_split_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no split 'test'"):
        contact_sheet(store_of_greys(tmp_path / "s", 2, 1), "test")
