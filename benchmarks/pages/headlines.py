"""The few figures that are quoted: each the ratio of fastbot to something measured beside it, in the same rounds."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.lines import Line
from benchmarks.measure import NOISY
from benchmarks.pages.measurements import settings
from benchmarks.pages.rows import peer_words

# A loader's case over the whole corpus: others have a label, as "fastbot turbo, 50 kB".
_LOADER = re.compile(r"fastbot (?P<backend>turbo|dali on GPU)(, (?P<threads>\d+) threads?)?")
_OWN = re.compile("fastbot|turbo's")
# On a CPU the stage writes float32 in a training by default, on a GPU what the network computes in.
_STAGE = re.compile(r"hsv, fastbot (?P<dtype>float32|bfloat16|float16)")
_STAGE_PEER = "hsv, torchvision v2"
_CONVERSIONS = {
    ("convert", "check alone"): "the check of the pictures alone",
    ("convert --max-side 400", "FFCV's writer"): "FFCV's writer, to 400 pixels",
}


@dataclass(frozen=True, slots=True)
class Headline:
    """A figure to be quoted.

    Attributes:
        figure: it, with its sign.
        words: what it is of.
    """

    figure: str
    words: str


def headlines(lines: Sequence[Line]) -> list[Headline]:
    """Return what of the figures that are quoted there is in some results; it may be none.

    Args:
        lines: in any order.
    """
    return [*_loaders(lines), *_trainings(lines), *_stages(lines), *_conversions(lines)]


def _loaders(lines: Sequence[Line]) -> Iterator[Headline]:
    """Our loader with the most threads beside each stock loader."""
    found = [(match, line) for line in _of("loader", lines) if (match := _LOADER.fullmatch(line.result.case))]
    for backend in dict.fromkeys(match["backend"] for match, _ in found):
        own = [(int(match["threads"] or 0), line) for match, line in found if match["backend"] == backend]
        most = max(threads for threads, _ in own)
        beside = [line for threads, line in own if threads == most and not _OWN.match(line.result.peer)]
        if backend != "turbo":  # whose peers are forms of one loader: the fastest of them counts
            beside = sorted(beside, key=lambda line: line.result.ratio)[:1]
        for line in beside:
            yield _headline(line, f"{peer_words(line.result)}: loading with {backend}, {_size(line)}")


def _trainings(lines: Sequence[Line]) -> Iterator[Headline]:
    for line in _of("train", lines):
        share = line.result.details.get("of_the_slower")
        if isinstance(share, int | float):
            model = settings(line).get("model", "a network")
            yield Headline(
                f"{share:.2f} ×", f"the slower of loader and step: training {model} end to end, {_size(line)}"
            )


def _stages(lines: Sequence[Line]) -> Iterator[Headline]:
    for line in _of("augment", lines):
        match = _STAGE.fullmatch(line.result.case)
        if match and line.result.peer == _STAGE_PEER:
            yield _headline(line, f"torchvision v2: flip, colour jitter and normalization to {match['dtype']}")


def _conversions(lines: Sequence[Line]) -> Iterator[Headline]:
    for line in _of("convert", lines):
        if beside := _CONVERSIONS.get((line.result.case, line.result.peer)):
            yield _headline(line, f"{beside}: converting")


def _of(benchmark: str, lines: Sequence[Line]) -> list[Line]:
    return [line for line in lines if line.result.benchmark == benchmark and math.isfinite(line.result.ratio)]


def _headline(line: Line, words: str) -> Headline:
    result = line.result
    ends = f" (noisy: {min(result.ratios):.2f} to {max(result.ratios):.2f})" if result.ratio_spread > NOISY else ""
    return Headline(f"{result.ratio:.2f} ×", words + ends)


def _size(line: Line) -> str:
    own = settings(line)
    threads = own.get("threads")
    counted = [f"{threads} thread{'s' * (threads != '1')}"] if threads else []
    return ", ".join([f"{own['size']} px" if "size" in own else "", *counted]).strip(", ")
