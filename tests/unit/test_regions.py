"""`RegionBatch`: libjpeg's pixels of a window, bit for bit; Pillow's resampling of a box, but for rounding."""

from __future__ import annotations

import ctypes
import io
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
from jpegs import JpegMaker
from native_codec import build
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from datasets_tools import jpeg
from datasets_tools.jpeg import RegionBatch
from datasets_tools.photographs import load
from datasets_tools.pictures import Policy, prepare

HEIGHT, WIDTH = 123, 157
PHOTOGRAPH = Image.fromarray(load("astronaut")[100 : 100 + HEIGHT, 130 : 130 + WIDTH])
# The borders of MCUs (8 and 16 pixels), of the picture, and single pixels next to them.
WINDOWS = [
    (0, 0, HEIGHT, WIDTH),
    (0, 0, 1, 1),
    (HEIGHT - 1, WIDTH - 1, 1, 1),
    (16, 16, 16, 16),
    (15, 15, 18, 18),
    (17, 31, 1, 2),
    (5, 0, 60, 1),
    (8, 64, 40, 8),
    (100, 3, 23, 150),
    (1, 32, 97, 96),
    (112, 144, 11, 13),
]


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, bytes]:
    """JPEGs of every kind that a store may hold, as conversion stores them."""
    made = JpegMaker(tmp_path_factory.mktemp("made"), PHOTOGRAPH).taken()
    return {
        f"{name}, transcode {transcode}": bytes(prepare(name, data, Policy(transcode=transcode)).data)
        for name, data in made.items()
        for transcode in (True, False)
    }


def batch(
    samples: Sequence[bytes | NDArray[np.uint8]],
    windows: ArrayLike,
    boxes: ArrayLike,
    output: tuple[int, int],
    /,
    **changes: Any,
) -> tuple[RegionBatch, NDArray[np.uint8]]:
    """Return a batch and its output, which is filled with a colour that no result has."""
    stored = [np.frombuffer(s, np.uint8) if isinstance(s, bytes) else s.reshape(-1) for s in samples]
    sizes = np.array([s.size for s in stored], np.uint64)
    out = np.full((len(stored), *output, 3), 77, np.uint8)
    shapes = [s.shape[:2] if isinstance(s, np.ndarray) else (HEIGHT, WIDTH) for s in samples]
    arguments = {
        "data": np.concatenate(stored),
        "offsets": np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.uint64),
        "sizes": sizes,
        "raw": np.array([isinstance(s, np.ndarray) for s in samples]),
        "heights": np.array([height for height, _ in shapes], np.int32),
        "widths": np.array([width for _, width in shapes], np.int32),
        "windows": np.array(windows, np.int32),
        "boxes": np.array(boxes, np.float64),
        "out": out,
    }
    return RegionBatch(**(arguments | changes)), out


def regions(samples: Any, windows: ArrayLike, boxes: ArrayLike, output: tuple[int, int], /, **changes: Any) -> Any:
    made, out = batch(samples, windows, boxes, output, **changes)
    made.work()
    assert made.failures() == {}
    return out


def whole(data: bytes) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_a_window_has_the_pixels_of_the_whole_picture(kinds: Mapping[str, bytes], window: tuple[int, ...]) -> None:
    top, left, height, width = window
    found = regions(list(kinds.values()), [window] * len(kinds), [window] * len(kinds), (height, width))
    for name, data, pixels in zip(kinds, kinds.values(), found, strict=True):
        decoded = jpeg.decode(data)
        expected = np.broadcast_to(decoded, (HEIGHT, WIDTH, 3))[top : top + height, left : left + width]
        # libjpeg smooths the blocks of a progressive file that stops early, by what it decoded of their neighbours.
        tolerance = 4 if name == "progressive that ends early, transcode False" else 0
        np.testing.assert_allclose(pixels, expected, rtol=0, atol=tolerance, err_msg=name)


@pytest.mark.parametrize("progressive", [True, False], ids=["progressive", "baseline"])
@pytest.mark.parametrize("subsampling", ["4:2:0", "4:2:2"])
@pytest.mark.parametrize("width", [3, 4, 5, 17, 18, 19, 33, 34])
def test_the_outermost_columns_have_the_pixels_of_the_whole_picture(
    width: int, subsampling: str, progressive: bool
) -> None:
    """Alone in their MCU: libjpeg smooths no chroma in what it takes for a picture of a single column of it."""
    encoded = io.BytesIO()
    PHOTOGRAPH.crop((0, 0, width, 40)).save(encoded, "jpeg", subsampling=subsampling, progressive=progressive)
    data = encoded.getvalue()
    windows = [(3, 0, 30, 1), (3, width - 1, 30, 1)]
    sizes = {"heights": np.full(2, 40, np.int32), "widths": np.full(2, width, np.int32)}
    found = regions([data, data], windows, windows, (30, 1), **sizes)
    for (top, left, height, _), pixels in zip(windows, found, strict=True):
        np.testing.assert_array_equal(pixels, whole(data)[top : top + height, left : left + 1])


def exact_resize(pixels: NDArray[np.uint8], box: tuple[float, ...], output: tuple[int, int], bicubic: bool) -> Any:
    """Pillow's resampling in floats, which it rounds nowhere: float32 (H, W, 3)."""
    top, left, height, width = box
    channels = [Image.fromarray(pixels[..., c].astype(np.float32)) for c in range(3)]
    filter_ = Image.Resampling.BICUBIC if bicubic else Image.Resampling.BILINEAR
    resized = [channel.resize(output[::-1], filter_, (left, top, left + width, top + height)) for channel in channels]
    return np.stack(resized, axis=2).clip(0, 255)


BOXES = [
    (0, 0, 123, 157),
    (0.25, 3.75, 100.5, 99.125),
    (40, 60, 7, 9),
    (3.3, 0.1, 119.5, 40.7),
    (60.9, 70.9, 0.6, 0.4),
    (0, 0, 123, 1),
    (122, 0, 1, 157),
]


@pytest.mark.parametrize("bicubic", [False, True], ids=["bilinear", "bicubic"])
@pytest.mark.parametrize("output", [(224, 224), (64, 48), (7, 5), (1, 1), (2, 300)], ids=str)
@pytest.mark.parametrize("box", BOXES, ids=str)
def test_resampling_is_pillows_but_for_rounding(box: tuple[float, ...], output: tuple[int, int], bicubic: bool) -> None:
    pixels = np.asarray(PHOTOGRAPH)
    found = regions([pixels], [(0, 0, HEIGHT, WIDTH)], [box], output, bicubic=bicubic)[0]
    exact = exact_resize(pixels, box, output, bicubic)
    # Half a level is rounding; the rest is weights of 14 and sums of 6 bits, and a cubic's overshoot between passes.
    assert np.abs(found - exact).max() < 0.7
    assert found.size < 300 or np.abs(found - exact).mean() < 0.3


RESAMPLING = ("resample", "resample_weights", "resample_rows", "resample_columns", "arena", "error")


def test_plain_loops_have_the_bits_of_the_vectors(tmp_path: Path) -> None:
    """Both under UBSan: nothing may depend on how a sum of 32 bits overflows."""
    flags = ("-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    written = []
    for name, more in {"native": (), "portable": ("-DCODEC_PORTABLE",)}.items():
        (folder := tmp_path / name).mkdir()
        program = build("resample_dump", folder, *flags, *more, with_codec=RESAMPLING)
        written.append(subprocess.run([program, "200"], capture_output=True, check=True).stdout)
    assert len(written[0]) > 1_000_000
    assert written[0] == written[1]


def test_nothing_outside_of_the_window_is_seen() -> None:
    pixels = np.asarray(PHOTOGRAPH).copy()
    window = (20, 30, 50, 60)
    expected = exact_resize(pixels[20:70, 30:90], (0, 0, 50, 60), (33, 44), False)
    pixels[:20], pixels[70:], pixels[:, :30], pixels[:, 90:] = 255, 0, 255, 0
    assert np.abs(regions([pixels], [window], [window], (33, 44))[0] - expected).max() < 0.7


def test_a_constant_stays_what_it_is() -> None:
    for level in (0, 1, 127, 254, 255):
        pixels = np.full((HEIGHT, WIDTH, 3), level, np.uint8)
        for bicubic in (False, True):
            found = regions([pixels], [(0, 0, HEIGHT, WIDTH)], [(1.3, 2.7, 99.1, 101.9)], (31, 200), bicubic=bicubic)
            assert (found == level).all()


@pytest.mark.parametrize(("output", "denominator"), [((40, 40), 2), ((22, 22), 4), ((11, 11), 8)])
def test_a_small_output_is_decoded_coarsely_and_stays_close(output: tuple[int, int], denominator: int) -> None:
    """Means over whole blocks of 8 / denominator pixels: what DCT scaling keeps."""
    picture = Image.fromarray(load("chelsea"))
    encoded = io.BytesIO()
    picture.save(encoded, "jpeg", quality=95)
    height, width = picture.height, picture.width
    box = (16, 24, 11 * 8, 11 * 8)
    assert min(box[2] / output[0], box[3] / output[1]) >= denominator
    shape = {"heights": np.array([height], np.int32), "widths": np.array([width], np.int32)}
    found = regions([encoded.getvalue()], [(0, 0, height, width)], [box], output, **shape)[0]
    exact = exact_resize(whole(encoded.getvalue()), box, output, False)
    assert np.sqrt(((found - exact) ** 2).mean()) < 3.21  # 38 dB


def test_threads_share_a_batch(kinds: Mapping[str, bytes]) -> None:
    samples, window = list(kinds.values()) * 4, (10, 20, 90, 100)
    alone = regions(samples, [window] * len(samples), [window] * len(samples), (50, 60))
    shared, out = batch(samples, [window] * len(samples), [window] * len(samples), (50, 60))
    threads = [Thread(target=shared.work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    np.testing.assert_array_equal(out, alone)


def test_compiled_code_works_on_a_batch_by_addresses(kinds: Mapping[str, bytes]) -> None:
    samples, window = [*kinds.values(), b"no JPEG"], (10, 20, 90, 100)
    expected, expected_out = batch(samples, [window] * len(samples), [window] * len(samples), (50, 60))
    expected.work()
    by_address, out = batch(samples, [window] * len(samples), [window] * len(samples), (50, 60))
    work = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(jpeg.work_address())  # lets go of the interpreter's lock
    threads = [Thread(target=work, args=(by_address.address,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    np.testing.assert_array_equal(out, expected_out)
    assert by_address.failures() == expected.failures() != {}


def test_arrays_are_held_as_long_as_the_batch(kinds: Mapping[str, bytes]) -> None:
    """A bytearray says whether it is held: it cannot grow then."""
    data, window = bytearray(kinds["4:2:0, transcode True"]), [(0, 0, 9, 9)]
    held, _ = batch([bytes(data)], window, window, (9, 9), data=data)
    with pytest.raises(BufferError):
        data.append(0)
    del held
    data.append(0)
    with pytest.raises(ValueError, match="the output is 9 x 0 pixels"):
        batch([bytes(data)], window, window, (0, 9), data=data)
    data.append(0)


def test_stopping_leaves_the_rest_undone(kinds: Mapping[str, bytes]) -> None:
    stopped, out = batch([kinds["4:2:0, transcode True"]], [(0, 0, 9, 9)], [(0, 0, 9, 9)], (9, 9))
    stopped.stop()
    stopped.work()
    assert (out == 77).all()
    assert stopped.failures() == {}


def test_a_damaged_row_is_zeros_and_says_why(kinds: Mapping[str, bytes]) -> None:
    sound = kinds["4:2:0, transcode False"]
    samples = [sound, sound[: len(sound) // 2], sound, b"no JPEG", sound]
    windows = [(0, 0, HEIGHT, WIDTH)] * len(samples)
    made, out = batch(samples, windows, windows, (30, 30))
    made.work()
    failures = made.failures()
    assert set(failures) == {1, 3}
    assert failures[1].startswith("ends early: ")
    assert failures[3] == "is no JPEG: it does not begin with FF D8"
    assert not out[[1, 3]].any()
    for row in (0, 2, 4):
        np.testing.assert_array_equal(out[row], regions([sound], windows[:1], windows[:1], (30, 30))[0])


def test_another_size_than_the_store_says_is_refused(kinds: Mapping[str, bytes]) -> None:
    window = [(0, 0, 10, 10)]
    made, out = batch(
        [kinds["4:4:4, transcode True"]], window, window, (5, 5), heights=np.array([HEIGHT + 1], np.int32)
    )
    made.work()
    reason = f"is {HEIGHT} pixels high and {WIDTH} wide, the store says {HEIGHT + 1} and {WIDTH}"
    assert made.failures() == {0: reason}
    assert not out.any()


OUTSIDE = {
    "window below": {"windows": [(1, 0, HEIGHT, WIDTH)]},
    "window to the right": {"windows": [(0, 1, HEIGHT, WIDTH)]},
    "window above": {"windows": [(-1, 0, 10, 10)]},
    "window of nothing": {"windows": [(0, 0, 0, 10)]},
    "window of 2**31 - 1": {"windows": [(0, 2, 10, 2**31 - 1)]},
    "box outside": {"boxes": [(0, 0, HEIGHT, WIDTH + 1)]},
    "box before": {"boxes": [(-0.5, 0, 10, 10)]},
    "box of nothing": {"boxes": [(0, 0, 0, 10)]},
    "box of nan": {"boxes": [(0, 0, np.nan, 10)]},
    "box of inf": {"boxes": [(0, 0, np.inf, 10)]},
    "sample beyond the data": {"sizes": [2**63]},
    "sample before the data": {"offsets": [2**64 - 1]},
    "picture of no height": {"heights": [0]},
    "raw of another size": {"raw": [True]},
}


@pytest.mark.parametrize("change", OUTSIDE.values(), ids=OUTSIDE.keys())
def test_what_leaves_its_sample_picture_or_window_is_refused(
    kinds: Mapping[str, bytes], change: dict[str, list[Any]]
) -> None:
    dtypes = {"windows": np.int32, "boxes": np.float64, "heights": np.int32, "raw": np.bool_}
    arrays = {name: np.array(value, dtypes.get(name, np.uint64)) for name, value in change.items()}
    window = [(0, 0, HEIGHT, WIDTH)]
    made, out = batch([kinds["4:2:0, transcode True"]], window, window, (8, 8), **arrays)
    made.work()
    assert list(made.failures()) == [0]
    assert not out.any()


def test_arrays_of_another_type_or_shape_are_refused(kinds: Mapping[str, bytes]) -> None:
    sample, window = [kinds["4:2:0, transcode True"]], [(0, 0, 8, 8)]
    for name, array in {
        "offsets": np.zeros(1, np.int64),
        "windows": np.zeros((1, 3), np.int32),
        "out": np.zeros((1, 8, 8, 4), np.uint8),
        "boxes": np.zeros((1, 8))[:, ::2],
        "heights": np.zeros(2, np.int32),
    }.items():
        with pytest.raises(ValueError, match=name):
            batch(sample, window, window, (8, 8), **{name: array})


def test_an_output_whose_size_overflows_is_refused() -> None:
    """4,239,809,835 x 2,900,561,549 x 3 is 13 modulo 2**64: a row of 13 bytes seems to hold it."""
    arrays = [bytearray(size) for size in (8, 8, 1, 4, 4, 16, 32, 13, 1, 256, 8)]
    with pytest.raises(ValueError, match="the output is 2900561549 x 4239809835 pixels, 1 to 65500 a side"):
        jpeg._codec.batch(b"", *arrays, 4239809835, 2900561549, False)  # type: ignore[arg-type]


# In a process of its own, which gets no more memory than it has and 512 MiB.
_SHORT_OF_MEMORY = """
import resource
import numpy as np
from datasets_tools.jpeg import RegionBatch

used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (512 << 20),) * 2)
side = np.full(1, 65_500, np.int32)
whole = np.array([[0, 0, 65_500, 65_500]], np.int32)
regions = RegionBatch(
    np.zeros(100, np.uint8), np.zeros(1, np.uint64), np.full(1, 100, np.uint64), np.zeros(1, bool), side, side,
    whole, whole.astype(np.float64), np.ones((1, 60_000, 1, 3), np.uint8),
)
regions.work()
regions.failures()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_no_memory_is_no_pictures_fault() -> None:
    result = subprocess.run([sys.executable, "-c", _SHORT_OF_MEMORY], capture_output=True, text=True)
    assert result.stderr.splitlines()[-1] == (
        "MemoryError: no memory to decode 1 pictures, the largest of 4290250000 pixels"
    )
