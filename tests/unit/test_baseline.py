"""The baseline decoder: libjpeg's pixels in every window of every kind that it takes, and nothing but those kinds.

The oracle is libjpeg's full decode, inside the two native programs.
"""

from __future__ import annotations

import itertools
import subprocess
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from jpegs import PICTURE, JpegMaker, without_huffman_tables
from native_codec import build
from PIL import Image
from sources import encoded, pixels

from datasets_tools import jpeg

NUM_WINDOWS = 24
NUM_MUTATIONS = 3_000
NUM_SANITIZED_MUTATIONS = 30_000
SANITIZERS = ("-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
PORTABLE = "-DCODEC_PORTABLE"
NOT_TAKEN = (
    "progressive",
    "progressive 4:4:4",
    "progressive restarts",
    "rgb",
    "grey, progressive True",
    "grey subsampled",
    "rgb progressive",
    "separate scans",
    "separate scans, 12 blocks",
    "4:1:1",
    "odd sampling",
    "three by two",
    "16-bit tables",
    "progressive that ends early",
    "300 scans",
    "arithmetic",
    "arithmetic progressive",
)


def noise(height: int, width: int, seed: int = 0) -> Image.Image:
    """What photographs are not: coefficients are large, and samples lie beyond 0 and 255 before they are clamped."""
    values = np.random.default_rng(seed).integers(0, 2, (height, width, 3), np.uint8) * 255
    return Image.fromarray(values)


def written(folder: Path, jpegs: Mapping[str, bytes]) -> dict[str, Path]:
    folder.mkdir(exist_ok=True)
    files = {name: folder / f"{number}.jpg" for number, name in enumerate(jpegs)}
    for name, file in files.items():
        file.write_bytes(jpegs[name])
    return files


def taken_windows(program: Path, files: Mapping[str, Path]) -> dict[str, int]:
    """How many windows of each file are taken; all pixels are right, or this fails."""
    result = subprocess.run([program, "1", str(NUM_WINDOWS), *files.values()], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout[-500:] + result.stderr[-4000:]
    counts = [int(line.rsplit(maxsplit=1)[1]) for line in result.stdout.splitlines()]
    return dict(zip(files, counts, strict=True))


@pytest.fixture(scope="module", params=["native", "portable"])
def program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    flags = (PORTABLE,) if request.param == "portable" else ()
    return build("baseline_windows", tmp_path_factory.mktemp(request.param), "-O2", *flags, with_codec=True)


@pytest.fixture(scope="module")
def maker(tmp_path_factory: pytest.TempPathFactory) -> JpegMaker:
    return JpegMaker(tmp_path_factory.mktemp("maker"))


def sampled(maker: JpegMaker) -> dict[str, bytes]:
    """All that is taken: samplings, qualities, tables, restarts, and sizes around those of blocks and MCUs."""
    kinds = {}
    sizes = ((1, 5), (8, 8), (9, 17), (16, 16), (33, 31), (50, 5), (7, 130), (64, 97))
    for (height, width), subsampling in itertools.product(sizes, ("4:4:4", "4:2:2", "4:2:0")):
        picture = pixels(height, width, height)
        for quality in (30, 75, 95, 100):
            kinds[f"{height} x {width} {subsampling} {quality}"] = encoded(
                picture, quality=quality, subsampling=subsampling, optimize=quality == 95
            )
        for restarts in (
            {"restart_marker_blocks": 1},
            {"restart_marker_rows": 1},
            {"restart_marker_rows": 2},
            {"restart_marker_blocks": 7},
        ):
            kinds[f"{height} x {width} {subsampling} {restarts}"] = encoded(
                picture, quality=90, subsampling=subsampling, **restarts
            )
        kinds[f"{height} x {width} {subsampling} noise"] = encoded(
            noise(height, width), quality=100, subsampling=subsampling
        )
        kinds[f"{height} x {width} {subsampling} coarse noise"] = encoded(
            noise(height, width), quality=5, subsampling=subsampling
        )
    for height, width in sizes:
        kinds[f"{height} x {width} grey"] = encoded(pixels(height, width).convert("L"), quality=85)
    return kinds | {"4:4:0": maker.make("sampling=12,11,11")}


def test_windows_of_every_sampling_are_those_of_libjpeg(program: Path, maker: JpegMaker, tmp_path: Path) -> None:
    taken = taken_windows(program, written(tmp_path, sampled(maker)))
    assert {name for name, count in taken.items() if count != NUM_WINDOWS} == set()


def test_transcoded_jpegs_are_taken(program: Path, tmp_path: Path) -> None:
    """With restarts at each row, and a table of their own."""
    jpegs = {name: jpeg.transcode(encoded(PICTURE, progressive=True, subsampling=name)) for name in ("4:4:4", "4:2:0")}
    assert set(taken_windows(program, written(tmp_path, jpegs)).values()) == {NUM_WINDOWS}


def test_other_kinds_are_left_to_libjpeg(program: Path, maker: JpegMaker, tmp_path: Path) -> None:
    jpegs = {name: maker.taken()[name] for name in NOT_TAKEN}
    narrow = {"two columns of chroma": encoded(pixels(9, 4), subsampling="4:2:0")}
    assert set(taken_windows(program, written(tmp_path, jpegs | narrow)).values()) == {0}


def test_what_is_damaged_is_left_to_libjpeg(program: Path, tmp_path: Path) -> None:
    whole = encoded(pixels(64, 64), quality=90)
    scan = whole.index(b"\xff\xda") + 14
    restarts = encoded(pixels(64, 64), quality=90, restart_marker_rows=1)
    marker = restarts.index(b"\xff\xd1")
    damaged = {
        "cut": whole[: scan + (len(whole) - scan) // 2] + b"\xff\xd9",
        "a marker within": whole[: scan + 40] + b"\xff\xd9" + whole[scan + 40 :],
        "a wrong restart": restarts[:marker] + b"\xff\xd4" + restarts[marker + 2 :],
        "no restart": restarts[:marker] + restarts[marker + 2 :],
        "bytes left over": restarts[:marker] + b"\x55\x55" + restarts[marker:],
    }
    files = written(tmp_path, damaged)
    for name, file in files.items():
        # One window: the whole picture.
        result = subprocess.run([program, "1", "1", file], capture_output=True, text=True)
        assert result.stdout.endswith(" 0\n"), name


def test_tables_are_no_other_pictures(program: Path, tmp_path: Path) -> None:
    """A file without tables is not decoded with those of the picture before it."""
    with_tables = encoded(PICTURE, quality=85)
    jpegs = {"before": with_tables, "without": without_huffman_tables(with_tables), "behind": with_tables}
    counts = taken_windows(program, written(tmp_path, jpegs))
    assert counts == {"before": NUM_WINDOWS, "without": 0, "behind": NUM_WINDOWS}


def test_more_tables_than_are_kept(program: Path, tmp_path: Path) -> None:
    jpegs = {str(seed): encoded(pixels(40, 60, seed), quality=60 + seed, optimize=True) for seed in range(20)}
    jpegs |= {f"{seed} again": jpegs[str(seed)] for seed in (0, 19, 18, 0)}
    assert set(taken_windows(program, written(tmp_path, jpegs)).values()) == {NUM_WINDOWS}


def fuzz(program: Path, count: int, folder: Path) -> tuple[int, int, int]:
    maker = JpegMaker(folder)
    jpegs = {
        name: data
        for name, data in sampled(maker).items()
        if name.startswith(("33", "64", "4:4:0")) and "[" not in name and "30" not in name
    }
    result = subprocess.run(
        [program, "1", str(count), *written(folder / "seeds", jpegs).values()],
        env={"ASAN_OPTIONS": "detect_leaks=1", "UBSAN_OPTIONS": "print_stacktrace=1"},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr[-4000:]
    taken, compared, left = (int(word) for word in result.stdout.split() if word.isdigit())
    return taken, compared, left


def test_mutated_jpegs_are_decoded_as_libjpeg_does_or_left(tmp_path: Path) -> None:
    taken, compared, left = fuzz(build("baseline_fuzz", tmp_path, "-O2", with_codec=True), NUM_MUTATIONS, tmp_path)
    assert min(taken, left) > NUM_MUTATIONS // 10
    assert compared > taken // 2


@pytest.mark.slow
@pytest.mark.parametrize("flags", [(), (PORTABLE,)], ids=["native", "portable"])
def test_sanitizers_find_nothing_in_mutated_jpegs(flags: tuple[str, ...], tmp_path: Path) -> None:
    program = build("baseline_fuzz", tmp_path, *SANITIZERS, *flags, with_codec=True)
    taken, compared, left = fuzz(program, NUM_SANITIZED_MUTATIONS, tmp_path)
    assert min(taken, left) > NUM_SANITIZED_MUTATIONS // 10
    assert compared > taken // 2
