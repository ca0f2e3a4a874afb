"""That every decoder decodes the same pictures, that one which does not is refused, and that all is written down."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sources import encoded, pixels
from stores import StoredPicture, write_store

from benchmarks.measure import Effort
from benchmarks.peers import decoders
from benchmarks.peers.photos import Photos
from benchmarks.rungs import decode
from benchmarks.rungs.decode_cases import Work, levels_off
from datasets_tools.photographs import load
from fastbot.errors import RunError

HEIGHT, WIDTH = 160, 200


def photograph(top: int, subsampling: str = "4:2:0") -> bytes:
    picture = Image.fromarray(load("astronaut")[top : top + HEIGHT, 100 : 100 + WIDTH])
    return encoded(picture, quality=90, subsampling=subsampling)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Five pictures in colour, a grey one, and raw pixels."""
    files = [photograph(40 * k, "4:4:4" if k % 2 else "4:2:0") for k in range(5)]
    stored = [StoredPicture(f"{k}.jpg", data, HEIGHT, WIDTH) for k, data in enumerate(files)]
    stored.append(StoredPicture("grey.jpg", encoded(pixels(24, 32).convert("L")), 24, 32))
    stored.append(StoredPicture("raw", bytes(12), 2, 2, raw=True))
    write_store(tmp_path / "store", {"train": stored})
    return tmp_path / "store"


def test_all_decode_the_same_pictures(store: Path) -> None:
    results = decode.run(store, size=48, threads=(1, 2), effort=Effort(1))
    cases = {result.case for result in results}
    here = [*decoders.here()[0], "DALI"]
    regions = ["fastbot turbo, decode alone", "fastbot turbo, resized", *here]
    expected = [f"full, {name}" for name in ["fastbot codec", *here]] + [f"region, {name}" for name in regions]
    assert cases == {f"{case}, {count}" for case in expected for count in ("1 thread", "2 threads")}
    assert {result.peer for result in results} <= cases
    exact = [result for result in results if any(name in result.case for name in ("codec", "Pillow", "torchvision"))]
    assert {result.details["levels"] for result in exact} == {0.0}
    for result in results:
        assert result.value > 0
        assert result.details["images_per_s_in_all"] == result.value * result.details["threads"]
        mean_mb = sum(len(photograph(40 * k, "4:4:4" if k % 2 else "4:2:0")) for k in range(5)) / 5e6
        assert result.details["jpeg_mb_per_s"] == pytest.approx(result.details["images_per_s_in_all"] * mean_mb)


def test_pictures_come_in_the_order_and_with_the_windows_of_a_training(store: Path) -> None:
    photos = decode.photos_of(decode.Store(store).split("train"), 3, 48)
    assert len(photos) == 3
    files = {photograph(40 * k, "4:4:4" if k % 2 else "4:2:0") for k in range(5)}
    assert {photos.file(k).tobytes() for k in range(3)} < files
    assert len({photos.window(k) for k in range(3)}) == 3
    for top, left, height, width in photos.windows.tolist():
        assert 0 <= top <= HEIGHT - height
        assert 0 <= left <= WIDTH - width


def test_a_store_without_pictures_in_colour_is_refused(tmp_path: Path) -> None:
    grey = StoredPicture("grey.jpg", encoded(pixels(24, 32).convert("L")), 24, 32)
    write_store(tmp_path, {"train": [grey]})
    with pytest.raises(RunError, match="no JPEG in colour"):
        decode.run(tmp_path)


@pytest.mark.parametrize("wrong", ["colours", "shape"])
def test_whoever_decodes_something_else_is_refused(wrong: str) -> None:
    right = load("astronaut")[:64, 100:180]
    pixels = right[:, :, ::-1] if wrong == "colours" else right[:, 1:]
    work = Work(lambda: 1, lambda count: [pixels], lambda count: [right])
    with pytest.raises(RunError, match="levels off Pillow" if wrong == "colours" else r"became \(64, 79, 3\)"):
        levels_off("wrong", work, 1)


def test_the_difference_is_a_mean_over_pictures() -> None:
    zero, two = np.zeros((2, 2, 3), np.uint8), np.full((4, 4, 3), 2, np.uint8)
    work = Work(lambda: 2, lambda count: [zero, two], lambda count: [zero, np.zeros_like(two)])
    assert levels_off("case", work, 2) == 1.0


def test_a_decoder_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    usable, missing = decoders.here()
    assert "OpenCV" not in usable
    assert missing["OpenCV"].endswith("pip install opencv-python")


@pytest.mark.parametrize("name", ["ours", *decoders.DECODERS])
def test_a_region_is_cut_where_pillow_cuts_it(name: str) -> None:
    build = decoders.ours if name == "ours" else decoders.DECODERS[name][0]
    try:
        decoder = build()
    except (ImportError, RuntimeError) as error:
        pytest.skip(str(error).splitlines()[0])
    photos = Photos.of([np.frombuffer(photograph(0), np.uint8).copy()], [(HEIGHT, WIDTH)], [(31, 17, 90, 101)])
    original = load("astronaut")[:HEIGHT, 100 : 100 + WIDTH].astype(float)
    found = decoder.array(decoder.region(photos, 0))
    assert found.shape == (90, 101, 3)
    # Against the photograph before it was encoded; a window that lies one pixel off differs by more.
    assert np.abs(found - original[31:121, 17:118]).mean() < 4
    assert np.abs(found - original[31:121, 16:117]).mean() > np.abs(found - original[31:121, 17:118]).mean() + 1
