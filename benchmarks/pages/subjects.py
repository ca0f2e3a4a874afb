"""What each benchmark is about, for the headings of a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.lines import Line

# In the order of a report: title, and the question.
_SUBJECTS: Mapping[str, tuple[str, str]] = {
    "train": ("Training, end to end", "How near does a training from the store come to the slower of loader and step?"),
    "loader": ("Loaders", "JPEG bytes to cropped pixels: each backend beside the stock loaders."),
    "decode": ("Decoding", "JPEG bytes to pixels, without a loader around it."),
    "augment": ("Augmentation", "Colour, lighting, normalization, erasing and mixing beside other people's."),
    "augment_gpu": ("Augmentation on a GPU", "The device stage beside a copy of its bytes."),
    "step": (
        "The training step",
        "Forward, loss, backward and update on pixels that cost nothing, beside other loops.",
    ),
    "table3": ("Table 3 of Bag of Tricks", "Minutes an epoch of ImageNet, with precision and batch size apart."),
    "table5": ("Table 5 of Bag of Tricks", "ResNet-50 and its variants B, C and D: size, arithmetic, and throughput."),
    "scaling": ("Scaling", "More ranks: how much of the ideal is left, and how much goes into communication."),
    "scaling-model": ("Scaling, simulated", "What a model says of 64 to 4,096 GPUs. Nothing of this was measured."),
    "startup": ("Startup", "How long until the first batch, and until the first step?"),
    "memory": ("Memory", "Host and device memory against batch size and store size."),
    "delivery": ("Delivery", "First batches, the wait at the borders of epochs, and memory over time."),
    "plan": ("The plan", "What deciding everything random costs."),
    "convert": ("Conversion", "Photographs to a store, beside the check of the pictures, cp, and FFCV's writer."),
}


def by_benchmark(lines: Sequence[Line]) -> dict[str, list[Line]]:
    """Return lines by benchmark, in a report's order; those it does not know come last."""
    found: dict[str, list[Line]] = {name: [] for name in _SUBJECTS}
    for line in lines:
        found.setdefault(line.result.benchmark, []).append(line)
    return {name: own for name, own in found.items() if own}


def title(benchmark: str) -> str:
    """Return what a benchmark is called in a heading."""
    return _SUBJECTS[benchmark][0] if benchmark in _SUBJECTS else benchmark


def about(benchmark: str) -> str:
    """Return what a benchmark asks; empty for one that is not known."""
    return _SUBJECTS[benchmark][1] if benchmark in _SUBJECTS else ""
