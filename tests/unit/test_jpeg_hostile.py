"""The JPEG codec on bytes that no encoder wrote: it answers or raises `JpegError`, and nothing else ever happens."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from jpegs import PICTURE, JpegMaker
from native_codec import build
from sources import encoded

from datasets_tools import jpeg
from datasets_tools.jpeg import JpegError

NUM_MUTATIONS = 400
NUM_SANITIZED_MUTATIONS = 10_000
MAX_PIXELS = 1 << 20
SANITIZERS = ("-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    maker = JpegMaker(tmp_path_factory.mktemp("native"))
    turned = encoded(PICTURE, exif=b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0")
    return [*maker.taken().values(), *maker.cmyk().values(), maker.make("scans=600"), turned]


def mutated(data: bytes, generator: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(generator.randint(1, 3)):
        place = generator.randrange(min(len(changed), generator.choice((700, len(changed)))) or 1)
        kind = generator.randrange(4)
        if kind == 0 and changed:
            changed[place] ^= 1 << generator.randrange(8)
        elif kind == 1:
            del changed[place : place + generator.randrange(1, 100)]
        elif kind == 2:
            changed[place:place] = changed[place : place + generator.randrange(1, 300)]
        else:
            changed[place:] = b"\xff\xd9" if generator.random() < 0.5 else b""
        if not changed:
            break
    return bytes(changed)


def refusal(function: Callable[[bytes], object], data: bytes) -> str | None:
    """What `function` says against the data; any exception but `JpegError` is the test's failure."""
    try:
        function(data)
    except JpegError as error:
        return str(error)
    return None


def test_mutated_jpegs_are_answered_or_refused(seeds: list[bytes]) -> None:
    generator = random.Random(0)
    reasons = []
    for _ in range(NUM_MUTATIONS):
        data = mutated(generator.choice(seeds), generator)
        if refusal(jpeg.frame, data) is None:
            header = jpeg.frame(data)
            if header.height * header.width > MAX_PIXELS:
                continue
        refusal(jpeg.inspect, data)
        reasons.append(refusal(jpeg.check, data))
        decoding, transcoding = refusal(jpeg.decode, data), refusal(jpeg.transcode, data)
        assert (decoding is None) == (reasons[-1] is None) or "4 components" in str(decoding)
        assert (transcoding is None) <= (decoding is None)
    refused = [reason for reason in reasons if reason is not None]
    assert min(len(refused), len(reasons) - len(refused)) > NUM_MUTATIONS // 20
    assert all(5 < len(reason) < 256 and reason.isprintable() for reason in refused)
    assert len(set(refused)) > 20


@pytest.mark.slow
def test_sanitizers_find_nothing_in_mutated_jpegs(seeds: list[bytes], tmp_path: Path) -> None:
    """Every C function, through a program without Python, under AddressSanitizer (with leaks) and UBSan."""
    fuzzer = build("jpeg_fuzz", tmp_path, *SANITIZERS, with_codec=True)
    files = []
    for number, data in enumerate(seeds):
        files.append(tmp_path / f"{number}.jpg")
        files[-1].write_bytes(data)
    result = subprocess.run(
        [fuzzer, "1", str(NUM_SANITIZED_MUTATIONS), *files],
        env={"ASAN_OPTIONS": "detect_leaks=1", "UBSAN_OPTIONS": "print_stacktrace=1"},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr[-4000:]
    passed, failed = (int(word) for word in result.stdout.split() if word.isdigit())
    assert passed > 1000
    assert failed > 1000
