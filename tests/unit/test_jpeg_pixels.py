"""From pixels: area resampling and encoding."""

from __future__ import annotations

import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from sources import encoded, pixels

from datasets_tools import jpeg
from datasets_tools.jpeg import Subsampling

PHOTO = np.asarray(pixels(120, 160, seed=3))


def by_pillow(data: bytes) -> NDArray[np.uint8]:
    array = np.asarray(Image.open(io.BytesIO(data)))
    return array if array.ndim == 3 else array[..., None]


# Resize


def by_areas(source: NDArray[np.uint8], height: int, width: int) -> NDArray[np.float64]:
    """Repeat every pixel until both grids fit, and take means: area resampling by its definition, in float64."""
    tall = source.astype(np.float64).repeat(height, axis=0)
    rows = tall.reshape(height, source.shape[0], *tall.shape[1:]).mean(axis=1)
    wide = rows.repeat(width, axis=1)
    return wide.reshape(height, width, source.shape[1], source.shape[2]).mean(axis=2)


@pytest.mark.parametrize("components", [1, 3])
@pytest.mark.parametrize(
    ("height", "width"), [(120, 160), (119, 159), (96, 128), (60, 80), (37, 41), (120, 1), (1, 160), (1, 1), (7, 160)]
)
def test_resizing_is_the_exact_mean_rounded(height: int, width: int, components: int) -> None:
    source = np.ascontiguousarray(PHOTO[..., :components])
    expected = by_areas(source, height, width)
    resized = jpeg.resize(source, height, width)
    assert resized.shape == (height, width, components)
    tie = np.abs(expected % 1 - 0.5) < 1e-9
    np.testing.assert_array_equal(resized[~tie], np.rint(expected[~tie]))
    assert np.abs(resized - expected).max() <= 0.5 + 1e-9


def test_resizing_by_whole_factors_is_pillows_reduce() -> None:
    for factor in (2, 4, 5):
        reduced = np.asarray(Image.fromarray(PHOTO).reduce(factor))
        resized = jpeg.resize(PHOTO, 120 // factor, 160 // factor)
        assert np.abs(resized.astype(int) - reduced).max() <= 1


@pytest.mark.parametrize("value", [0, 1, 127, 255])
def test_flat_pictures_stay_flat_even_at_the_largest_size(value: int) -> None:
    for shape, size in (((65500, 2, 1), (3, 1)), ((2, 65500, 3), (1, 7)), ((301, 299, 3), (173, 97))):
        assert np.all(jpeg.resize(np.full(shape, value, np.uint8), *size) == value)


def test_resizing_refuses_what_it_cannot_do() -> None:
    for height, width in ((0, 1), (1, 0), (121, 160), (120, 161), (-1, 5)):
        with pytest.raises(ValueError, match="cannot be shrunk"):
            jpeg.resize(PHOTO, height, width)


# Encode


@pytest.mark.parametrize("quality", [1, 50, 90, 100])
@pytest.mark.parametrize(("subsampling", "name"), [(Subsampling.S420, "4:2:0"), (Subsampling.S444, "4:4:4")])
def test_encoding_gives_pillows_pixels(quality: int, subsampling: Subsampling, name: str) -> None:
    data = jpeg.encode(PHOTO, quality=quality, subsampling=subsampling)
    expected = encoded(Image.fromarray(PHOTO), quality=quality, subsampling=name)
    header = jpeg.inspect(data)
    assert header.subsampling == subsampling
    assert (header.progressive, header.huffman, header.complete) == (False, True, True)
    assert np.abs(by_pillow(data).astype(int) - by_pillow(expected)).max() <= 1
    assert jpeg.check(data) is True


def test_grey_is_encoded_as_grey() -> None:
    grey = np.asarray(Image.fromarray(PHOTO).convert("L"))[..., None]
    data = jpeg.encode(grey, quality=95, subsampling=Subsampling.S420)
    assert jpeg.inspect(data).subsampling == Subsampling.GREY
    np.testing.assert_array_equal(by_pillow(data), by_pillow(encoded(Image.fromarray(grey[..., 0]), quality=95)))


def test_sizes_from_one_pixel_on_are_encoded() -> None:
    for height, width in ((1, 1), (1, 9), (17, 1), (8, 65500)):
        source = np.full((height, width, 3), 200, np.uint8)
        assert jpeg.decode(jpeg.encode(source, quality=90, subsampling=Subsampling.S420)).shape == source.shape


@pytest.mark.parametrize(
    "wrong",
    [
        PHOTO[..., 0],
        PHOTO[..., :2],
        PHOTO[:, ::2],
        PHOTO.astype(np.float32),
        np.zeros((0, 5, 3), np.uint8),
        np.zeros((1, 65501, 3), np.uint8),
    ],
)
def test_pixels_of_another_kind_are_refused(wrong: NDArray[np.uint8]) -> None:
    for function in (
        lambda: jpeg.encode(wrong, quality=90, subsampling=Subsampling.S420),
        lambda: jpeg.resize(wrong, 1, 1),
    ):
        with pytest.raises(ValueError):
            function()


@pytest.mark.parametrize(
    ("quality", "subsampling"), [(0, Subsampling.S420), (101, Subsampling.S420), (90, Subsampling.S422)]
)
def test_encoding_refuses_other_options(quality: int, subsampling: Subsampling) -> None:
    with pytest.raises(ValueError, match="quality is 1 to 100"):
        jpeg.encode(PHOTO, quality=quality, subsampling=subsampling)
