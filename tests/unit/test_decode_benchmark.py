"""That every decoder decodes the same pictures, that one which does not is refused, and that all is written down."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from sources import encoded, pixels
from stores import StoredPicture, write_store

from benchmarks.measure import Effort, Result
from benchmarks.peers import decoders
from benchmarks.peers.photos import Photos
from benchmarks.rungs import decode
from benchmarks.rungs.decode_cases import DecodeCases, levels_off
from benchmarks.rungs.decode_works import Build, Work, Works
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


@pytest.mark.parametrize("fails", ["build", "pixels", "run"])
def test_a_library_that_fails_is_left_out_and_named(store: Path, monkeypatch: pytest.MonkeyPatch, fails: str) -> None:
    """As FFCV, DALI or a GPU's decoder may: the others' results stay."""

    def flat(level: int) -> Callable[[int], list[NDArray[np.uint8]]]:
        return lambda count: [np.full((2, 2, 3), level, np.uint8)] * count

    def broken() -> Work:
        if fails == "build":
            raise ValueError("no such engine\nand more")
        return Work(_fail if fails == "run" else lambda: 5, flat(255 if fails == "pixels" else 0), flat(0))

    full = Works.full

    def with_broken(works: Works, pool: ThreadPoolExecutor, num_threads: int) -> dict[str, Build]:
        return {"broken": broken, **full(works, pool, num_threads)}

    monkeypatch.setattr(Works, "full", with_broken)
    monkeypatch.setattr(decoders, "here", lambda: ({"Pillow": decoders.pillow()}, {"OpenCV": "is not here"}))
    left_out: dict[str, str] = {}
    results = decode.run(store, size=48, effort=Effort(1), leave_out=left_out.__setitem__)
    assert left_out.keys() == {"OpenCV", "full, broken"}
    reasons = {
        "build": "fails: ValueError: no such engine",
        "pixels": "fails: RunError: full, broken: its pixels are 255.0 levels off Pillow's",
        "run": "fails: MemoryError: of the device",
    }
    assert left_out["full, broken"].startswith(reasons[fails])
    assert {(result.case, result.peer) for result in results} >= {
        ("full, fastbot codec", "full, Pillow"),
        ("region, fastbot turbo, resized", "region, Pillow"),
    }


def _fail() -> int:
    raise MemoryError("of the device")


def test_fastbot_itself_must_not_fail(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = decoders.PictureDecoder(
        lambda photos, number: None, lambda photos, number: None, lambda _: np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    )
    monkeypatch.setattr(decoders, "ours", lambda: wrong)
    with pytest.raises(RunError, match="full, fastbot codec: its pixels are"):
        decode.run(store, size=48, effort=Effort(1))


def test_a_gpu_decodes_once_whatever_the_threads(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With works that stand for a GPU's: their rates are not per core, and the first is the others' peer."""
    work = Work(lambda: 5, lambda n: [np.zeros((2, 2, 3), np.uint8)], lambda n: [np.zeros((2, 2, 3), np.uint8)])
    monkeypatch.setattr(Works, "full_on_gpu", lambda works, num_threads: {"a": lambda: work, "b": lambda: work})
    monkeypatch.setattr(Works, "region_on_gpu", lambda works, num_threads: {"c": lambda: work})
    photos = decode.photos_of(decode.Store(store).split("train"), 3, 48)
    with ExitStack() as stack:
        cases = DecodeCases(photos, 48, (1, 2), stack, lambda name, problem: None)
        found = [*cases.on_gpu()]
        assert [(case.name, case.peer, case.per) for case in found] == [
            ("full, a", "full, a", 1),
            ("full, b", "full, a", 1),
            ("region, c", "region, c", 1),
        ]
        (result,) = cases.described([Result("decode", "full, b", "full, a", "images/s", (10.0,), (1.0,))])
    assert result.details["images_per_s_in_all"] == 10.0
    assert result.details["device"] == "cuda"
    assert "threads" not in result.details


def test_turns_are_long_enough_and_many() -> None:
    parameters = inspect.signature(decode.command).parameters
    assert parameters["seconds"].default == 1.0
    assert parameters["repeats"].default >= 5
    assert decode.effort_of(5, 1.0).warmups == 2


def test_a_decoder_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    usable, missing = decoders.here()
    assert "OpenCV" not in usable
    assert missing["OpenCV"].endswith("pip install opencv-python")


@pytest.mark.parametrize("size", [4, 8, 20])
def test_whatever_the_codec_shrinks_by_its_pixels_are_compared(store: Path, size: int) -> None:
    """To 4 pixels it shrinks by up to 8 while it decodes: the blocks of the DCT and the window have other borders."""
    results = decode.run(store, size=size, effort=Effort(1))
    (alone,) = {result.details["levels"] for result in results if result.case.endswith("decode alone")}
    assert alone < 3.0


@pytest.mark.parametrize("name", ["ours", *decoders.DECODERS])
def test_a_region_is_cut_where_pillow_cuts_it(name: str) -> None:
    if name == "ours":
        decoder = decoders.ours()  # nothing excuses it
    else:
        try:
            decoder = decoders.DECODERS[name][0]()
        except (ImportError, RuntimeError) as error:
            pytest.skip(str(error).splitlines()[0])
    photos = Photos.of([np.frombuffer(photograph(0), np.uint8).copy()], [(HEIGHT, WIDTH)], [(31, 17, 90, 101)])
    original = load("astronaut")[:HEIGHT, 100 : 100 + WIDTH].astype(float)
    found = decoder.array(decoder.region(photos, 0))
    assert found.shape == (90, 101, 3)
    # Against the photograph before it was encoded; a window that lies one pixel off differs by more.
    assert np.abs(found - original[31:121, 17:118]).mean() < 4
    assert np.abs(found - original[31:121, 16:117]).mean() > np.abs(found - original[31:121, 17:118]).mean() + 1
