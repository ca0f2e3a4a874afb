from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from PIL import Image
from sklearn.datasets import load_sample_image

from datasets_tools import photographs
from datasets_tools.errors import SourceError


@pytest.fixture
def fresh_caches() -> Iterator[None]:
    """Let a test change what is installed."""
    photographs._packaged_paths.cache_clear()
    photographs._wallpaper_paths.cache_clear()
    yield
    photographs._packaged_paths.cache_clear()
    photographs._wallpaper_paths.cache_clear()


@pytest.mark.parametrize("name", ["astronaut", "chelsea", "retina", "rocket", "hubble_deep_field"])
def test_pixels_are_those_of_skimage(name: str) -> None:
    np.testing.assert_array_equal(photographs.load(name), getattr(skimage.data, name)())


@pytest.mark.parametrize("name", ["camera", "brick", "moon"])
def test_grey_photographs_have_three_equal_channels(name: str) -> None:
    grey = getattr(skimage.data, name)()
    assert grey.ndim == 2
    assert photographs.is_grey(name)
    np.testing.assert_array_equal(photographs.load(name), np.stack([grey] * 3, axis=-1))


@pytest.mark.parametrize("name", ["china", "flower"])
def test_pixels_are_those_of_sklearn(name: str) -> None:
    assert not photographs.is_grey(name)
    np.testing.assert_array_equal(photographs.load(name), load_sample_image(f"{name}.jpg"))


def test_every_packaged_photograph_loads_in_its_shape() -> None:
    loaders = photographs.photographs()
    assert len(loaders) == 18
    for name, loader in loaders.items():
        pixels = loader()
        assert pixels.dtype == np.uint8
        assert pixels.shape == (*photographs.shape(name), 3)


def test_load_is_cached_and_read_only() -> None:
    pixels = photographs.load("coffee")
    assert photographs.load("coffee") is pixels
    with pytest.raises(ValueError, match="read-only"):
        pixels[0, 0, 0] = 1


def test_cut_of_the_same_size_is_the_very_pixels() -> None:
    picture = photographs.cut("coffee", (20, 30, 100, 150), (100, 150))
    np.testing.assert_array_equal(np.asarray(picture), skimage.data.coffee()[20:120, 30:180])


def test_cut_reads_no_pixel_outside_its_window(monkeypatch: pytest.MonkeyPatch) -> None:
    white_with_black_window = np.full((200, 300, 3), 255, np.uint8)
    white_with_black_window[40:140, 50:250] = 0
    monkeypatch.setattr(photographs, "load", lambda name: white_with_black_window)
    picture = photographs.cut("any", (40, 50, 100, 200), (33, 77))
    assert picture.size == (77, 33)
    assert np.asarray(picture).max() == 0


def test_cut_never_enlarges() -> None:
    with pytest.raises(AssertionError, match="enlarge"):
        photographs.cut("coffee", (0, 0, 100, 100), (100, 101))


def test_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(SourceError, match=r"no photograph is called lena.*astronaut.*mate-backgrounds"):
        photographs.load("lena")


@pytest.mark.usefixtures("fresh_caches")
@pytest.mark.parametrize(("module", "distribution"), [("skimage", "scikit-image"), ("sklearn", "scikit-learn")])
def test_absent_package_is_named(module: str, distribution: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == module else found(name))
    with pytest.raises(SourceError, match=f"pip install {distribution}"):
        photographs.photographs()


@pytest.mark.usefixtures("fresh_caches")
def test_absent_file_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(photographs, "_SKIMAGE", ("astronaut.png", "gone.png"))
    with pytest.raises(SourceError, match=r"data/gone\.png: not there"):
        photographs.photographs()


@pytest.mark.usefixtures("fresh_caches")
def test_wallpapers_are_what_the_folder_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(photographs, "_WALLPAPER_FOLDER", tmp_path)
    assert photographs.wallpapers() == {}
    photographs._wallpaper_paths.cache_clear()
    (tmp_path / "nature").mkdir()
    Image.new("RGB", (70, 50), "red").save(tmp_path / "nature" / "TestLeaf.jpg")
    assert list(photographs.wallpapers()) == ["TestLeaf"]
    assert photographs.shape("TestLeaf") == (50, 70)
    assert photographs.wallpapers()["TestLeaf"]().shape == (50, 70, 3)
