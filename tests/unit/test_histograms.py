"""What can be checked of a picture: any store can be drawn, and the bars are the store's numbers."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from stores import StoredPicture, write_store

from datasets_tools.inspection.histograms import draw_histograms, histograms
from datasets_tools.store import Store


def store(path: Path, num_classes: int, num_pictures: int, *, val: bool = False, names: str = "class {}") -> Store:
    """Pictures of many sizes and one giant; class k has the more pictures the smaller k is."""
    generator = np.random.default_rng(0)
    labels = np.minimum(generator.geometric(1 / num_classes, num_pictures) - 1, num_classes - 1)
    pictures = [
        StoredPicture(f"{k}", bytes(20_000 + 97 * k), 200 + k % 300, 300 + k % 200, int(label))
        for k, label in enumerate(labels)
    ]
    pictures.append(StoredPicture("giant", bytes(900_000), 5_000, 4_000, 0))
    splits = {"train": pictures} | ({"val": pictures[:3]} if val else {})
    return write_store(path, splits, [names.format(label) for label in range(num_classes)])


def axes_of(figure: Figure) -> list[Axes]:
    return [axes for part in figure.subfigs for axes in part.axes]


@pytest.mark.parametrize("num_classes", [1, 10, 1000])
def test_a_png_is_written_for_any_number_of_classes(tmp_path: Path, num_classes: int) -> None:
    draw_histograms(store(tmp_path / "store", num_classes, 40, val=True), tmp_path / "out.png")
    image = Image.open(tmp_path / "out.png")
    assert image.format == "PNG"
    assert np.asarray(image.convert("L")).std() > 10
    assert image.width > image.height > 900


def test_bars_are_the_counts_sorted(tmp_path: Path) -> None:
    made = store(tmp_path / "store", 10, 200)
    classes = axes_of(histograms(made))[2]
    counts = made.split("train").record.class_counts
    assert [bar.get_width() for bar in classes.patches] == sorted(counts, reverse=True)
    shown = [label.get_text() for label in classes.get_yticklabels()]
    assert [counts[int(name.removeprefix("class "))] for name in shown] == sorted(counts, reverse=True)


def test_many_classes_are_one_curve(tmp_path: Path) -> None:
    made = store(tmp_path / "store", 300, 400)
    classes = axes_of(histograms(made))[2]
    counts = np.array(made.split("train").record.class_counts)
    values, edges, _ = classes.patches[0].get_data()
    np.testing.assert_array_equal(values, np.sort(counts)[::-1])
    assert len(edges) == 301
    legend = classes.get_legend().get_texts()[0].get_text()
    assert legend == f"most {counts.max():,}, median {np.median(counts):,.0f}, fewest {counts.min():,}"


def test_a_giant_is_told_and_does_not_stretch_the_axis(tmp_path: Path) -> None:
    made = store(tmp_path / "store", 2, 999)
    sides, sizes, _ = axes_of(histograms(made))
    for axes, values, limit in (
        (sides, made.split("train").widths, 600),
        (sizes, made.split("train").sizes / 1e3, 200),
    ):
        assert axes.get_xlim()[1] < limit
        assert "1 picture is larger than shown" in axes.get_xlabel()
        counts, _, _ = axes.patches[0].get_data()
        assert counts.sum() == len(values) - 1
    assert "largest 4,000 px" in sides.get_legend().get_texts()[0].get_text()
    assert "largest 900 kB" in sizes.get_legend().get_texts()[0].get_text()


@pytest.mark.parametrize("name", ["$x_{}$ and $", "猫 {}", "two\nlines {}", "n00000001 ca, t {}", "x" * 300 + "{}"])
def test_odd_class_names_are_drawn_in_silence(tmp_path: Path, name: str) -> None:
    made = store(tmp_path / "store", 3, 10, names=name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw_histograms(made, tmp_path / "out.png")
    shown = [label.get_text() for label in axes_of(histograms(made))[2].get_yticklabels()]
    assert all(len(text) <= 26 and "\n" not in text for text in shown)


def test_an_empty_split_is_drawn(tmp_path: Path) -> None:
    made = write_store(tmp_path / "store", {"train": [StoredPicture("a", b"abc", 1, 2)], "val": []})
    draw_histograms(made, tmp_path / "out.png")
    assert np.asarray(Image.open(tmp_path / "out.png").convert("L")).std() > 1
