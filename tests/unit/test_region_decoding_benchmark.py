from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from sources import encoded
from stores import StoredPicture, write_store

from benchmarks.rungs.region_decoding import RegionDecoding, one_pixel
from datasets_tools.jpeg import RegionBatch
from datasets_tools.photographs import load
from fastbot.errors import RunError
from pipelines.plan import TrainPlan
from pipelines.spec import DataSpec, RandomResizedCrop

SIDE = 160
JPEG = encoded(Image.fromarray(load("astronaut")[:SIDE, 100 : 100 + SIDE]), quality=95)


def decoded(boxes: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return the pixel that the codec makes of a box in the whole picture."""
    out = np.empty((1, 1, 1, 3), np.uint8)
    size = np.full(1, SIDE, np.int32)
    regions = RegionBatch(
        np.frombuffer(JPEG, np.uint8),
        np.zeros(1, np.uint64),
        np.full(1, len(JPEG), np.uint64),
        np.zeros(1, np.bool_),
        size,
        size,
        np.array([[0, 0, SIDE, SIDE]], np.int32),
        boxes,
        out,
    )
    regions.work()
    assert not regions.failures()
    return out[0, 0, 0]


@pytest.mark.parametrize(
    ("output", "reduction"),
    [
        ((SIDE, SIDE), 1),
        ((81, 80), 1),
        ((80, 80), 2),
        ((40, 80), 2),
        ((41, 40), 2),
        ((40, 40), 4),
        ((20, 20), 8),
        ((1, 1), 8),
    ],
)
def test_a_picture_is_decoded_as_coarsely_as_for_the_output(output: tuple[int, int], reduction: int) -> None:
    """Pillow's draft mode is libjpeg's own scaling."""
    boxes = one_pixel(np.array([[0.0, 0.0, SIDE, SIDE]]), output)
    coarse = Image.open(io.BytesIO(JPEG))
    coarse.draft("RGB", (SIDE // reduction, SIDE // reduction))
    assert coarse.size == (SIDE // reduction, SIDE // reduction)
    np.testing.assert_array_equal(boxes, [[0, 0, reduction, reduction]])
    np.testing.assert_array_equal(decoded(boxes), np.asarray(coarse)[0, 0])


def test_every_run_decodes_again(tmp_path: Path) -> None:
    """A turn may run a case several times: what is damaged after the first run is met by the second."""
    split = write_store(tmp_path, {"train": [StoredPicture("a", JPEG, SIDE, SIDE)]}).split("train")
    decoding = RegionDecoding(split, TrainPlan(DataSpec(global_batch_size=1), split.heights, split.widths, seed=0), 1)
    decoding.prepare()
    assert decoding.run() == 1
    with split.path.open("r+b") as file:
        file.seek(int(split.offsets[0]))
        file.write(bytes(len(JPEG)))
    with pytest.raises(RunError, match="1 pictures cannot be decoded"):
        decoding.run()
    decoding.close()


@pytest.mark.parametrize("crop_size", [20, 64, 200])
def test_the_whole_window_is_decoded(tmp_path: Path, crop_size: int) -> None:
    """What is missing at the bottom is met, though the one pixel that is made lies at the top."""
    crop = RandomResizedCrop(area=(1, 1), aspect=(1, 1))
    spec = DataSpec(global_batch_size=2, crop_size=crop_size, crop=crop)
    for name, data in (("sound", JPEG), ("cut", JPEG[: len(JPEG) * 3 // 4])):
        pictures = [StoredPicture(key, data, SIDE, SIDE) for key in "ab"]
        split = write_store(tmp_path / name, {"train": pictures}).split("train")
        plan = TrainPlan(spec, split.heights, split.widths, seed=0)
        decoding = RegionDecoding(split, plan, num_threads=2)
        decoding.prepare()
        if name == "sound":
            assert decoding.run() == 2
        else:
            with pytest.raises(RunError, match="2 pictures cannot be decoded"):
                decoding.run()
        decoding.close()
