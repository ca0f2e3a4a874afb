from __future__ import annotations

import numpy as np
import pytest

from pipelines import philox
from pipelines.crops import centre_boxes, ramped_size, random_resized_crops
from pipelines.spec import SizeRamp

KEY = philox.key(11)


def crops(
    height: int,
    width: int,
    area: tuple[float, float] = (0.08, 1.0),
    aspect: tuple[float, float] = (3 / 4, 4 / 3),
    attempts: int = 10,
    count: int = 500,
) -> np.ndarray:
    index = np.arange(count)
    heights, widths = np.full(count, height, np.int32), np.full(count, width, np.int32)
    drawn: np.ndarray = random_resized_crops(KEY, 0, index, heights, widths, area, aspect, attempts)
    return drawn


def test_a_crop_is_int32_rows_inside_the_picture() -> None:
    drawn = crops(375, 500)
    assert drawn.shape == (500, 4)
    assert drawn.dtype == np.int32
    top, left, height, width = drawn.T
    assert min(top.min(), left.min()) >= 0
    assert min(height.min(), width.min()) >= 1
    assert (top + height).max() == 375
    assert (left + width).max() == 500


def test_the_whole_square_is_the_only_crop_of_full_area() -> None:
    assert np.unique(crops(64, 64, area=(1.0, 1.0), aspect=(1.0, 1.0)), axis=0).tolist() == [[0, 0, 64, 64]]


@pytest.mark.parametrize(
    ("height", "width", "aspect", "expected"),
    [
        (100, 1000, (3 / 4, 4 / 3), [0, 433, 100, 133]),  # too wide: 100 * 4/3 columns
        (1000, 100, (3 / 4, 4 / 3), [433, 0, 133, 100]),
        (1, 5000, (3 / 4, 4 / 3), [0, 2499, 1, 1]),
        (1, 5000, (1e-3, 1e-2), [0, 2499, 1, 1]),  # never less than a pixel
        (90, 100, (0.75, 0.75), [0, 16, 90, 68]),  # 67.5 columns: halves round to even
    ],
)
def test_a_crop_that_never_fits_becomes_the_largest_centre_crop(
    height: int, width: int, aspect: tuple[float, float], expected: list[int]
) -> None:
    drawn = crops(height, width, area=(1.0, 1.0), aspect=aspect, count=20)
    assert np.unique(drawn, axis=0).tolist() == [expected]


def test_a_single_pixel_is_cropped_to_itself() -> None:
    assert np.unique(crops(1, 1), axis=0).tolist() == [[0, 0, 1, 1]]


def test_centre_boxes_of_the_usual_size() -> None:
    boxes = centre_boxes(np.array([256, 512, 375], np.int32), np.array([256, 768, 500], np.int32), 256, 224)
    # 375 x 500 becomes 256 x 341, of which the crop takes rows 16 to 240 and columns 58 to 282 (58.5 rounds to even).
    np.testing.assert_allclose(
        boxes,
        [
            [16, 16, 224, 224],
            [32, 160, 448, 448],
            [16 * 375 / 256, 58 * 500 / 341, 224 * 375 / 256, 224 * 500 / 341],
        ],
        rtol=1e-15,
    )


@pytest.mark.parametrize(
    ("start", "final", "epochs", "multiple", "expected"),
    [
        # FFCV's own ramp of 88 epochs: halfway between 160 and 192 the nearest multiple of 32 changes.
        (160, 192, (65, 76), 32, {0: 160, 65: 160, 70: 160, 71: 192, 76: 192, 87: 192}),
        (160, 192, (0, 2), 32, {1: 192}),  # 5.5 and 4.5 times 32: halves round to even
        (128, 160, (0, 2), 32, {1: 128}),
        (128, 224, (10, 20), 4, {11: 136, 12: 148, 13: 156, 14: 168, 15: 176}),
        (64, 100, (0, 2), 32, {0: 64, 1: 96, 2: 100}),  # from `end_epoch` on the crop's own size, whatever the multiple
        (100, 210, (0, 100), 32, {1: 100, 10: 100, 50: 160, 99: 210, 100: 210}),  # never beyond the ends
    ],
)
def test_crops_grow_as_in_the_recipe_of_ffcv(
    start: int, final: int, epochs: tuple[int, int], multiple: int, expected: dict[int, int]
) -> None:
    ramp = SizeRamp(start_size=start, start_epoch=epochs[0], end_epoch=epochs[1], multiple=multiple)
    assert {epoch: ramped_size(ramp, final, epoch) for epoch in expected} == expected


def test_crops_have_one_size_without_a_ramp() -> None:
    assert {ramped_size(None, 224, epoch) for epoch in (0, 1, 100)} == {224}
