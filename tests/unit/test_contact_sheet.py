from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sources import BytesEntry, ListSource, encoded

from datasets_tools.contact_sheet import contact_sheet
from datasets_tools.convert import ConvertOptions, convert
from datasets_tools.errors import StoreError
from datasets_tools.store import Store


def store_of_colours(path: Path, num_classes: int, per_class: int) -> Store:
    """Class k is all of one grey level, so that a cell of the sheet shows which class it was drawn from."""
    levels = np.linspace(0, 200, num_classes).round().astype(int)
    entries = [
        BytesEntry(f"{label}/{k}.jpg", label, encoded(Image.new("L", (192, 96), int(level))))
        for label, level in enumerate(levels)
        for k in range(per_class)
    ]
    names = [f"class {label} {'with a long name ' * (label % 2)}" for label in range(num_classes)]
    convert(ListSource({"train": entries}, names), path, ConvertOptions("0"), lambda progress: None)
    return Store(path)


def test_each_row_shows_its_class(tmp_path: Path) -> None:
    sheet = contact_sheet(store_of_colours(tmp_path / "s", 3, 2), "train", per_class=4)
    pixels = np.asarray(sheet.convert("L"))
    pitch = pixels.shape[0] // 3
    for row, level in enumerate((0, 100, 200)):
        middle = pixels[row * pitch + pitch // 2, 160:].astype(int)
        assert (np.abs(middle - level) < 3).sum() == 2 * 96
    # Two pictures a class: the right half of the sheet is paper, the left edge carries ink.
    assert (pixels[:, 160 + 210 :] == 255).all()
    assert (pixels[:, :160] < 128).any()


def test_many_classes_are_sampled_evenly(tmp_path: Path) -> None:
    store = store_of_colours(tmp_path / "s", 101, 1)
    sheet = np.asarray(contact_sheet(store, "train", num_classes=5, per_class=1).convert("L")).astype(int)
    pitch = sheet.shape[0] // 5
    shown = [sheet[row * pitch + pitch // 2, 160 + 48] for row in range(5)]
    np.testing.assert_allclose(shown, [0, 50, 100, 150, 200], atol=2)


def test_an_unknown_split_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no split 'test'"):
        contact_sheet(store_of_colours(tmp_path / "s", 2, 1), "test")
