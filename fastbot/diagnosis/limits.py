"""Which part is the limit, and the one setting to change: from figures alone, whoever measured them.

Parts that need the same resource take turns on it, so their times for a picture add up; parts on different resources
run beside each other, and the slowest resource sets the pace. Its slowest part is the limit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from fastbot.diagnosis.figures import AT_RANDOM, IN_ORDER, Figure, Part, Resource

# FFCV's ImageNet recipe stores pictures of at most 400 pixels for crops of 224; a quarter more is worth converting.
_SIDE_FOR_CROP = 400 / 224
_WORTH_SHRINKING = 1.25

# Of what the CPU does, that much must be the pipeline's before a GPU for the model is advised.
_MUCH_OF_THE_CPU = 0.2


@dataclass(frozen=True, slots=True)
class Situation:
    """What decides which advice fits.

    Attributes:
        cores: that this process may use.
        threads: that decoding was measured with.
        device: `cpu` or `cuda`: where batches go.
        gpus: that PyTorch sees.
        backend: that decoded.
        usable_backends: that could.
        order: kind of the recipe's order.
        auto_augment, jitter: kinds of the recipe's.
        precision: kind of the recipe's.
        crop_size: in pixels.
        mean_side: the longer side of a mean picture, in pixels.
        progressive_share, raw_share: of the pictures, 0 to 1.
        fits_in_memory: the split's files fit the memory that is free, so that only a first epoch reads the disk.
    """

    cores: int
    threads: int
    device: str
    gpus: int
    backend: str
    usable_backends: frozenset[str]
    order: str
    auto_augment: str
    jitter: str
    precision: str
    crop_size: int
    mean_side: float
    progressive_share: float
    raw_share: float
    fits_in_memory: bool

    @property
    def max_side(self) -> int:
        """What `fastbot convert --max-side` would be for these crops, in pixels."""
        return math.ceil(self.crop_size * _SIDE_FOR_CROP / 10) * 10

    @property
    def decodes_on_gpu(self) -> bool:
        """Whether the GPU decodes."""
        return self.backend == "dali" and self.device == "cuda"


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What follows from the figures.

    Attributes:
        limit: the part that sets the pace.
        images_per_s: what all parts together come to, if nothing else is lost.
        sharing: the parts that take turns on the limit's resource, the limit among them.
        times_over: how many models of this speed the pipeline could feed; None where no model was measured.
        advice: the one setting to change, or that there is none.
    """

    limit: Part
    images_per_s: float
    sharing: tuple[Part, ...]
    times_over: float | None
    advice: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """How figures compare with each other.

    Attributes:
        in_order_gain: reading the disk in order, over reading it at random.
        pipeline_share: of the time that model and pipeline spend on the same resource.
        times_over: how many models of this speed the pipeline could feed; infinity where no model was measured.
    """

    in_order_gain: float
    pipeline_share: float
    times_over: float


@dataclass(frozen=True, slots=True)
class Rule:
    """Advice for a limit, where it applies; it is formatted with the situation as `s` and the comparison as `c`."""

    part: Part
    applies: Callable[[Situation, Comparison], bool]
    advice: str


def _shrinkable(s: Situation, _: Comparison) -> bool:
    return s.mean_side > _WORTH_SHRINKING * s.max_side


def _idle_gpu(s: Situation, _: Comparison) -> bool:
    return s.device == "cpu" and s.gpus > 0


def _always(_: Situation, __: Comparison) -> bool:
    return True


_SHRINK = (
    "convert again with --max-side {s.max_side}: the longer side of a picture has {s.mean_side:.0f} pixels on average, "
    "for crops of {s.crop_size}"
)

# The first that applies to the limit is the advice; the last of each part always applies.
RULES: tuple[Rule, ...] = (
    Rule(
        Part.DISK,
        lambda s, _: s.raw_share > 0.5,
        "convert again without --raw-share: raw pixels are several times as large as JPEGs",
    ),
    Rule(
        Part.DISK,
        lambda s, c: s.order == "shuffle" and c.in_order_gain > 2,
        "data.order.kind=blocks: this disk is {c.in_order_gain:.1f} times as fast where it reads in order",
    ),
    Rule(Part.DISK, _shrinkable, _SHRINK),
    Rule(Part.DISK, _always, "copy the store to a local NVMe disk, and train from there"),
    Rule(
        Part.DECODE,
        lambda s, _: s.progressive_share > 0.25,
        "convert again with --transcode: {s.progressive_share:.0%} of the pictures are progressive JPEGs, which decode "
        "several times slower",
    ),
    Rule(Part.DECODE, _idle_gpu, "--device cuda: the GPU decodes, augments and trains"),
    Rule(
        Part.DECODE,
        lambda s, _: s.threads * max(1, s.gpus) < s.cores,
        "more cores: training takes all {s.cores} by itself, and this was measured with --threads {s.threads}",
    ),
    Rule(
        Part.DECODE,
        lambda s, _: s.device == "cuda" and s.backend != "dali" and "dali" in s.usable_backends,
        "--backend dali: the GPU decodes",
    ),
    Rule(
        Part.DECODE,
        lambda s, _: s.device == "cuda" and s.backend != "dali",
        "install DALI, so that the GPU decodes: `fastbot doctor` says how",
    ),
    Rule(
        Part.DECODE,
        lambda s, _: not s.decodes_on_gpu and s.backend != "turbo" and "turbo" in s.usable_backends,
        "--backend turbo: of the decoders on CPUs it is the fastest",
    ),
    Rule(Part.DECODE, _shrinkable, _SHRINK),
    Rule(Part.DECODE, lambda s, _: s.decodes_on_gpu, "--nproc with another GPU: this one's decoder is busy"),
    Rule(Part.DECODE, _always, "more CPU cores, or a GPU with --backend dali"),
    Rule(Part.AUGMENT, _idle_gpu, "--device cuda: the GPU augments"),
    Rule(
        Part.AUGMENT,
        lambda s, _: s.auto_augment == "rand",
        "data.auto_augment.layers=1: operations on 8-bit pixels are most of the work (this changes what is trained)",
    ),
    Rule(
        Part.AUGMENT,
        lambda s, _: s.jitter != "none",
        "data.jitter.kind=none: colours are most of the work (this changes what is trained)",
    ),
    Rule(Part.AUGMENT, _always, "more CPU cores, or a GPU: what is left to do for each pixel cannot be left out"),
    Rule(
        Part.TRANSFER,
        lambda s, _: not s.decodes_on_gpu and "dali" in s.usable_backends,
        "--backend dali: JPEGs go to the GPU, which are smaller than their pixels",
    ),
    Rule(
        Part.TRANSFER,
        _always,
        "the GPU's slot: copies leave from pinned memory already. `nvidia-smi -q -d PCIE` shows its link's width",
    ),
    Rule(Part.MODEL, _idle_gpu, "--device cuda: the GPU trains"),
    Rule(
        Part.MODEL,
        lambda s, _: s.device == "cpu" and s.precision == "fp16",
        "precision.kind=fp32: fp16 is slow on a CPU",
    ),
    Rule(
        Part.MODEL,
        lambda s, c: s.device == "cpu" and c.pipeline_share > _MUCH_OF_THE_CPU,
        "a GPU for the model: here the pipeline takes {c.pipeline_share:.0%} of the time that both spend on the CPU",
    ),
    Rule(Part.MODEL, _always, "nothing in the pipeline: it could feed this model {c.times_over:.1f} times over"),
)


class _Rate(NamedTuple):
    resource: Resource
    images_per_s: float


def diagnose(figures: Sequence[Figure], situation: Situation) -> Diagnosis:
    """Return which part is the limit, and what to change.

    Args:
        figures: of an examination. Those count that are decisive and were measured, at least one; a disk that only a
            first epoch reads does not.
        situation: what decides which advice fits.
    """
    rates = {
        figure.part: _Rate(figure.resource, figure.images_per_s)
        for figure in figures
        if figure.decisive and figure.images_per_s is not None
    }
    if situation.fits_in_memory:
        rates.pop(Part.DISK, None)
    resource, pace = _slowest(rates.values())
    sharing = tuple(part for part, rate in rates.items() if rate.resource == resource)
    limit = min(sharing, key=lambda part: rates[part].images_per_s)
    comparison = _compared(figures, rates)
    rule = next(rule for rule in RULES if rule.part == limit and rule.applies(situation, comparison))
    times_over = comparison.times_over if Part.MODEL in rates else None
    return Diagnosis(limit, pace, sharing, times_over, rule.advice.format(s=situation, c=comparison))


def _slowest(rates: Iterable[_Rate]) -> _Rate:
    """Return the slowest resource, and the pictures per second of its parts together."""
    seconds: dict[Resource, float] = {}
    for rate in rates:
        seconds[rate.resource] = seconds.get(rate.resource, 0.0) + 1 / rate.images_per_s
    slowest = max(seconds, key=lambda resource: seconds[resource])
    return _Rate(slowest, 1 / seconds[slowest])


def _compared(figures: Sequence[Figure], rates: Mapping[Part, _Rate]) -> Comparison:
    reads = {figure.variant: figure.images_per_s or 0.0 for figure in figures if figure.part == Part.DISK}
    in_order_gain = reads[IN_ORDER] / reads[AT_RANDOM] if len(reads) == 2 else 1.0
    pipeline = [rate for part, rate in rates.items() if part != Part.MODEL]
    model = rates.get(Part.MODEL)
    if model is None or not pipeline:
        return Comparison(in_order_gain, pipeline_share=1.0, times_over=math.inf)
    beside = sum(1 / rate.images_per_s for rate in pipeline if rate.resource == model.resource)
    return Comparison(
        in_order_gain,
        pipeline_share=beside / (beside + 1 / model.images_per_s),
        times_over=_slowest(pipeline).images_per_s / model.images_per_s,
    )
