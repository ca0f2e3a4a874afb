"""The cases of the decoding benchmark: each is checked against Pillow's pixels before anything is timed.

A case decodes all pictures, in the same order, with a number of threads. "region" is the window that a random resized
crop needs of each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from importlib.util import find_spec

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torchvision.io import ImageReadMode, decode_jpeg

from benchmarks.measure import Case, Result
from benchmarks.peers import decoders
from benchmarks.peers.decoders import Decode, PictureDecoder
from benchmarks.peers.photos import Photos
from benchmarks.rungs.region_decoding import decode_regions, one_pixel
from fastbot.errors import RunError

# Pictures that are compared with Pillow's, at the most.
NUM_CHECKED = 32
# How far they may be from Pillow's on average, of 255 levels. A less exact inverse DCT, or chroma that is not
# interpolated, comes to 2 on photographs; colours in another order or a window elsewhere to more than 10.
MAX_LEVELS = 3.0

Pixels = list[NDArray[np.uint8]]
_ALONE, _RESIZED = "fastbot turbo, decode alone", "fastbot turbo, resized"


@dataclass(frozen=True, slots=True)
class Work:
    """What a case does.

    Attributes:
        run: decodes all pictures.
        pixels: of so many first ones.
        expected: what they should be.
        notes: how it differs from the others.
    """

    run: Callable[[], int]
    pixels: Callable[[int], Pixels]
    expected: Callable[[int], Pixels]
    notes: str = ""


@dataclass(slots=True)
class DecodeCases:
    """The cases over one set of pictures.

    Attributes:
        photos: the pictures.
        size: of the crop that is made of a window, in pixels.
        threads: with how many threads everything runs.
        gpu: also on a GPU.
        stack: ends threads and pipelines.
        missing: why decoders are left out, and what to do about it, by name.
        details, notes: of each case, by name.
    """

    photos: Photos
    size: int
    threads: Sequence[int]
    gpu: bool
    stack: ExitStack
    missing: Mapping[str, str] = field(init=False)
    details: dict[str, dict[str, float]] = field(default_factory=dict, init=False)
    notes: dict[str, str] = field(default_factory=dict, init=False)
    _usable: Mapping[str, PictureDecoder] = field(init=False)

    def __post_init__(self) -> None:
        """Look what is installed."""
        self._usable, self.missing = decoders.here()

    def cases(self) -> Iterator[Case]:
        """Yield all cases, each of which has shown that it decodes.

        Raises:
            RunError: its pixels are not those of the pictures.
        """
        for num_threads in self.threads:
            pool = self.stack.enter_context(ThreadPoolExecutor(num_threads, thread_name_prefix="decode"))
            yield from self._compared("full", self._full(pool, num_threads), num_threads)
            yield from self._compared("region", self._region(pool, num_threads), num_threads)

    def described(self, results: Sequence[Result]) -> list[Result]:
        """Return results with their rates in all, and with what the check found."""
        mean_mb = float(self.photos.sizes.mean()) / 1e6
        described: list[Result] = []
        for result in results:
            found = self.details[result.case]
            in_all = result.value * found["threads"]
            details = found | {"images_per_s_in_all": in_all, "jpeg_mb_per_s": in_all * mean_mb}
            words = f"{in_all * mean_mb:,.1f} MB/s of JPEG in all; {found['levels']:.2f} levels off Pillow"
            words += f"; {note}" if (note := self.notes[result.case]) else ""
            is_first = all(result.case != other.case for other in described)
            described.append(replace(result, details=details, notes=words if is_first else ""))
        return described

    def _compared(self, what: str, works: Mapping[str, Work], num_threads: int) -> Iterator[Case]:
        counted = f", {num_threads} thread{'s' if num_threads > 1 else ''}" if len(self.threads) > 1 else ""
        names = {title: f"{what}, {title}{counted}" for title in works}
        others = [name for title, name in names.items() if not title.startswith("fastbot")]
        for title, work in works.items():
            name = names[title]
            levels = levels_off(name, work, min(NUM_CHECKED, len(self.photos)))
            self.details[name] = {"threads": num_threads, "levels": levels}
            self.notes[name] = work.notes
            beside = others if title.startswith("fastbot") else [name]
            beside = [*beside, names[_ALONE]] if title == _RESIZED else beside
            yield Case(name, work.run, beside[0], num_threads, tuple(beside[1:]))

    def _full(self, pool: ThreadPoolExecutor, num_threads: int) -> dict[str, Work]:
        expected = self._by_pillow(decoders.pillow().full)
        each = {"fastbot codec": decoders.ours(), **self._usable}
        works = {name: self._each(pool, num_threads, found, found.full, expected) for name, found in each.items()}
        works |= self._dali(num_threads, expected, regions=False)
        if self.gpu:
            works["torchvision on GPU"] = self._torchvision_on_gpu(expected)
        return works

    def _region(self, pool: ThreadPoolExecutor, num_threads: int) -> dict[str, Work]:
        expected = self._by_pillow(decoders.pillow().region)
        works = {_ALONE: self._codec_alone(pool, num_threads), _RESIZED: self._codec_resized(pool, num_threads)}
        for name, found in self._usable.items():
            works[name] = self._each(pool, num_threads, found, found.region, expected)
        return works | self._dali(num_threads, expected, regions=True)

    def _each(
        self, pool: ThreadPoolExecutor, num_threads: int, decoder: PictureDecoder, decode: Decode, expected: Decode
    ) -> Work:
        """Return a library that decodes one picture a call, from threads that share the pictures out."""
        photos = self.photos

        def share(first: int) -> None:
            for number in range(first, len(photos), num_threads):
                decode(photos, number)

        def run() -> int:
            if num_threads == 1:  # no other thread is waited for
                share(0)
            else:
                list(pool.map(share, range(num_threads)))
            return len(photos)

        return Work(
            run,
            lambda count: [decoder.array(decode(photos, number)) for number in range(count)],
            lambda count: [expected(photos, number) for number in range(count)],
        )

    def _dali(self, num_threads: int, expected: Decode, *, regions: bool) -> dict[str, Work]:
        if find_spec("nvidia") is None or find_spec("nvidia.dali") is None:
            self.missing = {**self.missing, "DALI": "is not installed: pip install fastbot"}
            return {}
        from benchmarks.peers.dali_decoding import DaliDecoding

        works = {}
        for title, mixed in {"DALI": False, **({"DALI mixed, on GPU": True} if self.gpu else {})}.items():
            decoding = DaliDecoding(self.photos, num_threads, regions=regions, mixed=mixed)
            self.stack.callback(decoding.close)
            works[title] = Work(
                decoding.run,
                decoding.pixels,
                lambda count: [expected(self.photos, number) for number in range(count)],
                "image_slice: image_random_crop with given windows" if regions else "",
            )
        return works

    def _torchvision_on_gpu(self, expected: Decode) -> Work:
        def decoded(count: int) -> list[torch.Tensor]:
            files = [torch.from_numpy(self.photos.file(number)) for number in range(count)]
            return decode_jpeg(files, mode=ImageReadMode.RGB, device="cuda")  # type: ignore[no-any-return]

        return Work(
            lambda: len(decoded(len(self.photos))),
            lambda count: [pixels.permute(1, 2, 0).cpu().numpy() for pixels in decoded(count)],
            lambda count: [expected(self.photos, number) for number in range(count)],
            "all pictures as one batch",
        )

    def _codec_alone(self, pool: ThreadPoolExecutor, num_threads: int) -> Work:
        boxes = one_pixel(self.photos.windows.astype(np.float64), (self.size, self.size))
        sides = boxes[:, 2].astype(int)  # by how much the codec shrinks while it decodes, for this size

        def corner(number: int) -> NDArray[np.uint8]:
            top, left, *_ = self.photos.window(number)
            block = (top, left, int(sides[number]), int(sides[number]))
            picture = decoders.pillow().full(self.photos, number)
            return _resized(picture, block, 1)

        note = "shrinks by DCT scaling where the crop allows it; of each window one pixel is made, and compared"
        return self._codec(pool, num_threads, boxes, 1, corner, note)

    def _codec_resized(self, pool: ThreadPoolExecutor, num_threads: int) -> Work:
        def crop(number: int) -> NDArray[np.uint8]:
            picture = decoders.pillow().full(self.photos, number)
            return _resized(picture, self.photos.window(number), self.size)

        note = f"also makes crops of {self.size} x {self.size}"
        return self._codec(pool, num_threads, self.photos.windows.astype(np.float64), self.size, crop, note)

    def _codec(
        self,
        pool: ThreadPoolExecutor,
        num_threads: int,
        boxes: NDArray[np.float64],
        side: int,
        expected: Callable[[int], NDArray[np.uint8]],
        notes: str,
    ) -> Work:
        """Return the codec's batch of regions, as backend `turbo` calls it."""
        photos, out = self.photos, np.empty((len(self.photos), side, side, 3), np.uint8)
        raw = np.zeros(len(photos), np.bool_)
        arrays = (photos.data, photos.offsets, photos.sizes, raw, photos.heights, photos.widths, photos.windows, boxes)

        def run() -> int:
            if num_failed := decode_regions((*arrays, out), pool, num_threads):
                raise RunError(f"{num_failed} of {len(photos)} pictures cannot be decoded: measure a sound store")
            return len(photos)

        def pixels(count: int) -> Pixels:
            run()
            return list(out[:count])

        return Work(run, pixels, lambda count: [expected(number) for number in range(count)], notes)

    def _by_pillow(self, decode: Decode) -> Decode:
        return lambda photos, number: np.asarray(decode(photos, number))


def levels_off(name: str, work: Work, count: int) -> float:
    """Return how far pixels are from what they should be, as a mean over pictures of mean absolute differences.

    Args:
        name: of the case.
        work: the case.
        count: of the pictures that are compared.

    Raises:
        RunError: too far, or of another size.
    """
    differences = []
    for number, (pixels, expected) in enumerate(zip(work.pixels(count), work.expected(count), strict=True)):
        if pixels.shape != expected.shape:
            raise RunError(f"{name}: picture {number} became {pixels.shape}, not {expected.shape}: not the same work")
        differences.append(np.abs(pixels.astype(np.float64) - expected).mean())
    levels = float(np.mean(differences))
    if levels > MAX_LEVELS:
        raise RunError(
            f"{name}: its pixels are {levels:.1f} levels off Pillow's on average, {MAX_LEVELS:g} are allowed: it does "
            "not decode these pictures, so its speed says nothing"
        )
    return levels


def _resized(picture: Image.Image, window: tuple[int, int, int, int], side: int) -> NDArray[np.uint8]:
    """Cut a window out and resize it with the triangle filter."""
    top, left, height, width = window
    cut = picture.crop((left, top, left + width, top + height))
    return np.asarray(cut.resize((side, side), Image.Resampling.BILINEAR))
