"""The cases of the decoding benchmark: each is checked against Pillow's pixels before anything is timed.

A case decodes all pictures, in the same order, with a number of threads; on a GPU once, whatever the threads. "region"
is the window that a random resized crop needs of each. A library that fails is left out and named.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

import numpy as np

from benchmarks.measure import Case, Result
from benchmarks.peers import decoders
from benchmarks.peers.peer import is_installed, reason
from benchmarks.peers.photos import Photos
from benchmarks.rungs.decode_works import ALONE, RESIZED, Build, Work, Works
from fastbot.errors import RunError

# Pictures that are compared with Pillow's, at the most.
NUM_CHECKED = 32
# How far they may be from Pillow's on average, of 255 levels. A less exact inverse DCT, or chroma that is not
# interpolated, comes to 2 on photographs; colours in another order or a window elsewhere to more than 10.
MAX_LEVELS = 3.0


@dataclass(frozen=True, slots=True)
class _Sound:
    """A case that decodes the pictures, and how far its pixels are from Pillow's."""

    work: Work
    levels: float


@dataclass(slots=True)
class DecodeCases:
    """The cases over one set of pictures.

    Attributes:
        photos: the pictures.
        size: of the crop that is made of a window, in pixels.
        threads: with how many threads everything runs.
        stack: ends threads and pipelines.
        leave_out: is told the name of what cannot be measured, and why.
        details, notes: of each case, by name.
    """

    photos: Photos
    size: int
    threads: Sequence[int]
    stack: ExitStack
    leave_out: Callable[[str, str], object]
    details: dict[str, dict[str, float | str]] = field(default_factory=dict, init=False)
    notes: dict[str, str] = field(default_factory=dict, init=False)
    _works: Works = field(init=False)
    _cores: dict[str, int] = field(default_factory=dict, init=False)  # by which a case's rate was divided

    def __post_init__(self) -> None:
        """Look what is installed."""
        usable, missing = decoders.here()
        if not (dali := is_installed("nvidia.dali")):
            missing["DALI"] = "is not installed: pip install fastbot"
        for name, problem in missing.items():
            self.leave_out(name, problem)
        self._works = Works(self.photos, self.size, usable, dali, self.stack)

    def on_cpu(self) -> Iterator[Case]:
        """Yield all cases with every number of threads; rates are per core.

        Raises:
            RunError: fastbot's own pixels are not those of the pictures.
        """
        for num_threads in self.threads:
            pool = self.stack.enter_context(ThreadPoolExecutor(num_threads, thread_name_prefix="decode"))
            counted = f", {num_threads} thread{'s' if num_threads > 1 else ''}" if len(self.threads) > 1 else ""
            for what, builds in (
                ("full", self._works.full(pool, num_threads)),
                ("region", self._works.region(pool, num_threads)),
            ):
                yield from self._compared(what, counted, self._sound(what, counted, builds), num_threads)

    def on_gpu(self) -> Iterator[Case]:
        """Yield the cases on a GPU, whose rates are not per core; the first of a kind is the peer of the others."""
        num_threads = self.threads[-1]
        for what, builds in (
            ("full", self._works.full_on_gpu(num_threads)),
            ("region", self._works.region_on_gpu(num_threads)),
        ):
            found = self._sound(what, "", builds)
            for title, sound in found.items():
                name = f"{what}, {title}"
                self._describe(name, sound, 1, {"host_threads": num_threads, "device": "cuda"})
                yield Case(name, sound.work.run, f"{what}, {next(iter(found))}")

    def described(self, results: Sequence[Result]) -> list[Result]:
        """Return results with their rates in all, and with what the check found."""
        mean_mb = float(self.photos.sizes.mean()) / 1e6
        described: list[Result] = []
        for result in results:
            found = self.details[result.case]
            in_all = result.value * self._cores[result.case]
            details = found | {"images_per_s_in_all": in_all, "jpeg_mb_per_s": in_all * mean_mb}
            words = f"{in_all * mean_mb:,.1f} MB/s of JPEG in all; {found['levels']:.2f} levels off Pillow"
            words += f"; {note}" if (note := self.notes[result.case]) else ""
            is_first = all(result.case != other.case for other in described)
            described.append(replace(result, details=details, notes=words if is_first else ""))
        return described

    def _compared(self, what: str, counted: str, found: Mapping[str, _Sound], num_threads: int) -> Iterator[Case]:
        names = {title: f"{what}, {title}{counted}" for title in found}
        others = [name for title, name in names.items() if not title.startswith("fastbot")]
        for title, sound in found.items():
            name = names[title]
            self._describe(name, sound, num_threads, {"threads": num_threads})
            beside = [*others] if title.startswith("fastbot") else [name]
            beside += [names[ALONE]] if title == RESIZED else []
            peer, *further = beside or [name]
            yield Case(name, sound.work.run, peer, num_threads, tuple(further))

    def _sound(self, what: str, counted: str, builds: Mapping[str, Build]) -> dict[str, _Sound]:
        """Return the cases that show the pictures and can run through all of them; leave others out."""
        found = {}
        for title, build in builds.items():
            name = f"{what}, {title}{counted}"
            try:
                work = build()
                levels = levels_off(name, work, min(NUM_CHECKED, len(self.photos)))
                work.run()
            except Exception as error:  # of other people's code, of any kind: it ends this case, not the benchmark
                if title.startswith("fastbot"):
                    raise
                self.leave_out(name, f"fails: {type(error).__name__}: {reason(error)}")
            else:
                found[title] = _Sound(work, levels)
        return found

    def _describe(self, name: str, sound: _Sound, cores: int, details: Mapping[str, float | str]) -> None:
        self.details[name] = {**details, "levels": sound.levels}
        self.notes[name] = sound.work.notes
        self._cores[name] = cores


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
