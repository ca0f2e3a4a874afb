"""What the cases of the decoding benchmark do: every decoder over one set of pictures, beside what it should make."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torchvision.io import ImageReadMode, decode_jpeg

from benchmarks.peers import decoders
from benchmarks.peers.decoders import Decode, PictureDecoder
from benchmarks.peers.photos import Photos
from benchmarks.rungs.region_decoding import decode_regions, one_pixel
from fastbot.errors import RunError

Pixels = list[NDArray[np.uint8]]
ALONE, RESIZED = "fastbot turbo, decode alone", "fastbot turbo, resized"


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


# Builds are put off: other people's code may fail there, too.
Build = Callable[[], Work]


@dataclass(frozen=True, slots=True)
class Works:
    """All decoders over one set of pictures.

    Attributes:
        photos: the pictures.
        size: of the crop that is made of a window, in pixels.
        usable: libraries that decode one picture a call, by name.
        dali: whether DALI takes part.
        stack: ends threads and pipelines.
    """

    photos: Photos
    size: int
    usable: Mapping[str, PictureDecoder]
    dali: bool
    stack: ExitStack

    def full(self, pool: ThreadPoolExecutor, num_threads: int) -> dict[str, Build]:
        """Return what decodes whole pictures on the CPU, by title."""
        each = {"fastbot codec": decoders.ours(), **self.usable}
        builds: dict[str, Build] = {
            title: partial(self._each, pool, num_threads, found, regions=False) for title, found in each.items()
        }
        return builds | self._dali("DALI", num_threads, regions=False, mixed=False)

    def region(self, pool: ThreadPoolExecutor, num_threads: int) -> dict[str, Build]:
        """Return what decodes windows on the CPU, by title."""
        builds: dict[str, Build] = {
            ALONE: partial(self._codec_alone, pool, num_threads),
            RESIZED: partial(self._codec_resized, pool, num_threads),
        }
        for title, found in self.usable.items():
            builds[title] = partial(self._each, pool, num_threads, found, regions=True)
        return builds | self._dali("DALI", num_threads, regions=True, mixed=False)

    def full_on_gpu(self, num_threads: int) -> dict[str, Build]:
        """Return what decodes whole pictures on a GPU, by title; DALI's host has so many threads."""
        torchvision: dict[str, Build] = {"torchvision on GPU": self._torchvision_on_gpu}
        return torchvision | self._dali("DALI mixed, on GPU", num_threads, regions=False, mixed=True)

    def region_on_gpu(self, num_threads: int) -> dict[str, Build]:
        """Return what decodes windows on a GPU, by title; DALI's host has so many threads."""
        return self._dali("DALI mixed, on GPU", num_threads, regions=True, mixed=True)

    def _each(self, pool: ThreadPoolExecutor, num_threads: int, decoder: PictureDecoder, *, regions: bool) -> Work:
        """Return a library that decodes one picture a call, from threads that share the pictures out."""
        photos, decode = self.photos, decoder.region if regions else decoder.full

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
            self._by_pillow(regions=regions),
        )

    def _dali(self, title: str, num_threads: int, *, regions: bool, mixed: bool) -> dict[str, Build]:
        def build() -> Work:
            from benchmarks.peers.dali_decoding import DaliDecoding

            decoding = DaliDecoding(self.photos, num_threads, regions=regions, mixed=mixed)
            self.stack.callback(decoding.close)
            notes = "image_slice: image_random_crop with given windows" if regions else ""
            return Work(decoding.run, decoding.pixels, self._by_pillow(regions=regions), notes)

        return {title: build} if self.dali else {}

    def _torchvision_on_gpu(self) -> Work:
        def decoded(count: int) -> list[torch.Tensor]:
            files = [torch.from_numpy(self.photos.file(number)) for number in range(count)]
            return decode_jpeg(files, mode=ImageReadMode.RGB, device="cuda")  # type: ignore[no-any-return]

        return Work(
            lambda: len(decoded(len(self.photos))),
            lambda count: [pixels.permute(1, 2, 0).cpu().numpy() for pixels in decoded(count)],
            self._by_pillow(regions=False),
            "all pictures as one batch",
        )

    def _codec_alone(self, pool: ThreadPoolExecutor, num_threads: int) -> Work:
        boxes = one_pixel(self.photos.windows.astype(np.float64), (self.size, self.size))
        sides = boxes[:, 2].astype(int)  # by how much the codec shrinks while it decodes, for this size
        # The first whole block of the DCT: what lies between two of them is interpolated, which Pillow does not do.
        boxes[:, :2] = np.ceil(boxes[:, :2] / boxes[:, 2:]) * boxes[:, 2:]

        def corner(number: int) -> NDArray[np.uint8]:
            top, left = boxes[number, :2].astype(int).tolist()
            block = (top, left, int(sides[number]), int(sides[number]))
            return _resized(decoders.pillow().full(self.photos, number), block, 1)

        note = "shrinks by DCT scaling where the crop allows it; of each window one pixel is made, and compared"
        return self._codec(pool, num_threads, boxes, 1, corner, note)

    def _codec_resized(self, pool: ThreadPoolExecutor, num_threads: int) -> Work:
        def crop(number: int) -> NDArray[np.uint8]:
            return _resized(decoders.pillow().full(self.photos, number), self.photos.window(number), self.size)

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

    def _by_pillow(self, *, regions: bool) -> Callable[[int], Pixels]:
        pillow = decoders.pillow()
        decode: Decode = pillow.region if regions else pillow.full
        return lambda count: [np.asarray(decode(self.photos, number)) for number in range(count)]


def _resized(picture: Image.Image, window: tuple[int, int, int, int], side: int) -> NDArray[np.uint8]:
    """Cut a window out and resize it with the triangle filter."""
    top, left, height, width = window
    cut = picture.crop((left, top, left + width, top + height))
    return np.asarray(cut.resize((side, side), Image.Resampling.BILINEAR))
