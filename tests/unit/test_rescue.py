from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from plans import geometry_plan
from stores import StoredPicture, flip_bytes, write_split

from datasets_tools.errors import DamagedSampleError
from datasets_tools.photographs import load
from pipelines.backends.rescue import rescue
from pipelines.errors import BadPictureError

HEIGHT, WIDTH = 90, 120
RESAMPLING = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


@pytest.mark.parametrize("interpolation", RESAMPLING)
def test_rows_are_what_pillow_makes_of_them_or_named(tmp_path: Path, interpolation: str) -> None:
    photograph = Image.fromarray(load("coffee")[:HEIGHT, :WIDTH])
    buffer = io.BytesIO()
    photograph.save(buffer, "jpeg", quality=95)
    jpeg = buffer.getvalue()
    data = [jpeg, photograph.tobytes(), jpeg[: len(jpeg) // 2], jpeg]
    split = write_split(tmp_path, [StoredPicture(f"{i}", d, HEIGHT, WIDTH, raw=i == 1) for i, d in enumerate(data)])
    flip_bytes(split, 3)
    ids, box = [0, 1, 2, 3, 0], (10.25, 20.5, 60.5, 70.25)
    plan = geometry_plan(ids, [(5, 9, 80, 100)] * 5, [box] * 5, (32, 40))
    pixels = torch.full((5, 32, 40, 3), 77, dtype=torch.uint8)
    failed = rescue(split, replace(plan, interpolation=interpolation), range(4), pixels)

    assert {row: type(error) for row, error in failed.items()} == {2: BadPictureError, 3: DamagedSampleError}
    assert not pixels[2:4].any()
    assert (pixels[4] == 77).all()
    window = (9, 5, 109, 85)
    inside = (box[1] - 9, box[0] - 5, box[1] - 9 + box[3], box[0] - 5 + box[2])
    for row, picture in enumerate([Image.open(io.BytesIO(jpeg)), photograph]):
        expected = picture.crop(window).resize((40, 32), RESAMPLING[interpolation], box=inside)
        assert np.abs(pixels[row].numpy().astype(int) - np.asarray(expected)).max() <= 2
