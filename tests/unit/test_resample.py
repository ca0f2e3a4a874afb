from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional

from pipelines.resample import filter_taps, resample

# Of pixels, by whether the filter is cubic. Pillow clips between its passes too: with less contrast the cubic filter,
# which overshoots, leaves nothing to clip.
LEVELS = {False: (0, 256), True: (64, 192)}


@dataclass(frozen=True)
class Case:
    """A random picture with a window inside it and a box inside the window."""

    pixels: NDArray[np.uint8]
    window: tuple[int, int, int, int]
    box: tuple[float, float, float, float]
    output_size: tuple[int, int]
    cubic: bool = False


def interval(low: float, high: float) -> st.SearchStrategy[tuple[float, float]]:
    """Start and extent inside [low, high], at least a tenth of a pixel long."""
    ends = (
        st.tuples(st.floats(low, high), st.floats(low, high)).map(sorted).filter(lambda ends: ends[1] - ends[0] > 0.1)
    )
    return ends.map(lambda ends: (ends[0], ends[1] - ends[0]))


def pixel_interval(length: int) -> st.SearchStrategy[tuple[int, int]]:
    return st.integers(0, length - 1).flatmap(
        lambda start: st.integers(1, length - start).map(lambda extent: (start, extent))
    )


@st.composite
def cases(draw: st.DrawFn) -> Case:
    height, width = draw(st.integers(1, 90)), draw(st.integers(1, 90))
    cubic = draw(st.booleans())
    pixels = np.random.default_rng(draw(st.integers(0, 99))).integers(
        *LEVELS[cubic], (height, width, 3), dtype=np.uint8
    )
    (top, window_height), (left, window_width) = draw(pixel_interval(height)), draw(pixel_interval(width))
    box_top, box_height = draw(interval(top, top + window_height))
    box_left, box_width = draw(interval(left, left + window_width))
    output_size = draw(st.tuples(st.integers(1, 40), st.integers(1, 40)))
    window = (top, left, window_height, window_width)
    return Case(pixels, window, (box_top, box_left, box_height, box_width), output_size, cubic)


def ours(case: Case) -> NDArray[np.uint8]:
    output = np.full((*case.output_size, 3), 77, np.uint8)
    window, box = np.array(case.window, np.int32), np.array(case.box)
    resample(case.pixels.reshape(-1), case.pixels.shape[1], window, box, output, case.cubic)
    return output


def pillow(case: Case) -> NDArray[np.uint8]:
    top, left, height, width = case.window
    box_top, box_left, box_height, box_width = case.box
    # PIL refuses a box that leaves the picture by a rounding of float64.
    bottom, right = min(box_top - top + box_height, height), min(box_left - left + box_width, width)
    box = (box_left - left, box_top - top, right, bottom)
    crop = Image.fromarray(case.pixels).crop((left, top, left + width, top + height))
    method = Image.Resampling.BICUBIC if case.cubic else Image.Resampling.BILINEAR
    return np.asarray(crop.resize(case.output_size[::-1], method, box=box))


@settings(max_examples=150, deadline=None)
@given(cases())
def test_equals_pillow_within_its_rounding_between_passes(case: Case) -> None:
    difference = np.abs(ours(case).astype(int) - pillow(case))
    assert difference.max() <= 1


@pytest.mark.parametrize(
    ("window", "output_size"),
    [((3, 5, 283, 283), (224, 224)), ((0, 0, 300, 400), (28, 31)), ((100, 7, 61, 80), (224, 224))],
    ids=["shrunk a little", "shrunk thirteenfold", "enlarged"],
)
@pytest.mark.parametrize("cubic", [False, True], ids=["bilinear", "bicubic"])
def test_is_unbiased_against_pillow(
    window: tuple[int, int, int, int], output_size: tuple[int, int], cubic: bool
) -> None:
    pixels = np.random.default_rng(0).integers(*LEVELS[cubic], (300, 400, 3), dtype=np.uint8)
    case = Case(pixels, window, tuple(map(float, window)), output_size, cubic)
    difference = ours(case).astype(int) - pillow(case)
    assert abs(difference.mean()) < 0.02
    assert np.abs(difference).mean() < 0.25


@pytest.mark.parametrize("output_size", [(224, 224), (28, 31), (100, 300)], ids=str)
def test_the_cubic_filter_overshoots_and_is_clipped_after_both_passes(output_size: tuple[int, int]) -> None:
    """As torch's antialiased one in float64 does, on noise of full contrast."""
    pixels = np.random.default_rng(2).choice(np.array([0, 255], np.uint8), (70, 90, 3))
    case = Case(pixels, (0, 0, 70, 90), (0.0, 0.0, 70.0, 90.0), output_size, cubic=True)
    planes = torch.from_numpy(pixels).permute(2, 0, 1)[None].double()
    resized = functional.interpolate(planes, output_size, mode="bicubic", antialias=True)[0].permute(1, 2, 0)
    assert resized.min() < -2
    assert np.abs(ours(case) - resized.clamp(0, 255).numpy()).max() < 0.51


def test_a_cubic_step_is_pillows() -> None:
    pixels = np.full((8, 40, 3), 100, np.uint8)
    pixels[:, 20:] = 140
    case = Case(pixels, (0, 0, 8, 40), (0.0, 0.0, 8.0, 40.0), (8, 200), cubic=True)
    found = ours(case)
    assert found.min() == 97
    assert found.max() == 143
    np.testing.assert_array_equal(found, pillow(case))


@pytest.mark.parametrize("cubic", [False, True], ids=["bilinear", "bicubic"])
def test_same_size_is_a_copy(cubic: bool) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    copied = ours(Case(pixels, (2, 3, 11, 17), (2.0, 3.0, 11.0, 17.0), (11, 17), cubic))
    np.testing.assert_array_equal(copied, pixels[2:13, 3:20])


@pytest.mark.parametrize("cubic", [False, True], ids=["bilinear", "bicubic"])
@pytest.mark.parametrize("value", [0, 1, 254, 255])
def test_a_flat_picture_stays_flat(value: int, cubic: bool) -> None:
    pixels = np.full((50, 70, 3), value, np.uint8)
    assert (ours(Case(pixels, (1, 2, 45, 60), (1.3, 2.9, 44.1, 55.7), (33, 91), cubic)) == value).all()


@pytest.mark.parametrize("cubic", [False, True], ids=["bilinear", "bicubic"])
def test_nothing_outside_the_window_is_read(cubic: bool) -> None:
    pixels = np.full((60, 60, 3), 255, np.uint8)
    pixels[10:30, 20:50] = 9
    assert (ours(Case(pixels, (10, 20, 20, 30), (10.0, 20.0, 20.0, 30.0), (224, 224), cubic)) == 9).all()


@settings(max_examples=100, deadline=None)
@given(pixel_interval(500), st.data(), st.integers(1, 300), st.booleans())
def test_taps_stay_in_the_window_and_sum_to_one(
    pixels: tuple[int, int], data: st.DataObject, outputs: int, cubic: bool
) -> None:
    low, high = pixels[0], pixels[0] + pixels[1]
    start, extent = data.draw(interval(low, high))
    first, weights = filter_taps(start, extent, low, high, outputs, cubic)
    assert low <= first.min()
    assert first.max() + weights.shape[1] <= high
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-6)
