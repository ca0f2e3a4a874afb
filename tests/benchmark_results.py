"""Results of benchmarks as rungs write them, with figures that were made up."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks import lines
from benchmarks.lines import Line
from benchmarks.measure import Result, compared

ROUNDS = (1.0, 0.98, 1.03, 0.99, 1.01)
CORPUS: Mapping[str, Any] = {
    "recipe_hash": "972b8ea3169190a10221cc2f29f91b2c07d672aef54e22bdf92c9902c1b88475",
    "num_train": 1000,
    "mean_width": 470.4,
    "mean_height": 388.3,
    "mean_bytes": 111274.2,
    "byte_quantiles": {"0.05": 17884, "0.5": 101376, "0.95": 211436},
    "shares": {"4:4:4": 0.7, "4:2:0": 0.285, "progressive": 0.05},
}
BUSY: Mapping[str, Any] = {
    "seconds": 61.2,
    "cores_busy_elsewhere": 0.31,
    "cores_stolen": 0.02,
    "before": {"load_1min": 1.1, "cpu_mhz": {"lowest": 2445, "highest": 2445}},
    "after": {"load_1min": 2.0, "cpu_mhz": {"lowest": 2400, "highest": 2445}, "cpu_celsius": 61.0},
}
GPU_BUSY: Mapping[str, Any] = {
    **BUSY,
    "after": {
        "gpus": [
            {
                "sm_mhz": "1980",
                "memory_mhz": "2619",
                "power_w": "612.4",
                "celsius": "58",
                "throttled": "0x0",
                "busy_percent": "99",
                "memory_used_mb": "61234",
            }
        ]
    },
}


def result(
    case: str,
    peer: str = "theirs",
    samples: Sequence[float] = ROUNDS,
    ratios: Sequence[float] = ROUNDS,
    *,
    benchmark: str = "loader",
    unit: str = "images/s",
    notes: str = "",
    **details: object,
) -> Result:
    return Result(benchmark, case, peer, unit, tuple(samples), tuple(ratios), notes, details)


def line(of: Result, *, device: str = "a processor", commit: str = "abc1234", **conditions: object) -> Line:
    known = {"cores": 2, "python": "3.11.7", "command": "benchmarks", "machine": BUSY}
    return Line(of, device, {"torch": "2.14.1"}, commit, known | conditions)


def write(file: Path, *found: Line) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(f"{one.json()}\n" for one in found))
    return file


def table(
    benchmark: str, unit: str, medians: Mapping[str, float], pairs: Sequence[tuple[str, str]], spread: float = 1.0
) -> list[Result]:
    """Return the results of cases with these medians; `spread` widens their rounds."""
    figures = {
        case: [median * (1 + spread * (turn - 1) + 0.004 * place * (turn - 1)) for turn in ROUNDS]
        for place, (case, median) in enumerate(medians.items())
    }
    return [compared(benchmark, case, peer, figures, unit) for case, peer in pairs]


def loaders() -> list[Result]:
    medians = {
        "torchvision DataLoader": 398.0,
        "timm's loader": 371.0,
        "stock DALI CPU": 387.0,
        "stock FFCV": 415.0,
        "webdataset": 352.0,
        "spdl": 402.0,
        "litdata": 344.0,
        "turbo's region decode alone": 1380.0,
        "fastbot turbo": 1153.0,
        "fastbot dali": 402.0,
        "fastbot ffcv": 1072.0,
        "fastbot torch": 511.0,
    }
    found = []
    for label, slower in (("1 thread", 1.0), ("2 threads", 0.93)):
        cases = {f"{case}, {label}": slower * median for case, median in medians.items()}
        pairs = [(f"{case}, {label}", f"{case}, {label}") for case in medians if "fastbot" not in case]
        pairs += [(f"fastbot turbo, {label}", f"{case}, {label}") for case in medians if "fastbot" not in case]
        pairs += [(f"fastbot {own}, {label}", f"{stock}, {label}") for own, stock in _STOCK.items()]
        threads = int(label[0])
        own = table("loader", "images/s per core", cases, pairs, spread=1.0 if threads == 1 else 3.0)
        found += [replace(one, details={"threads": threads, "mean_kb": 111.3}) for one in own]
    return found


_STOCK = {"dali": "stock DALI CPU", "ffcv": "stock FFCV", "torch": "torchvision DataLoader"}


def augmentations() -> list[Result]:
    medians = {"hsv, torchvision v2": 210.0, "hsv, kornia": 165.0, "hsv, fastbot float32": 3120.0}
    pairs = [(case, "hsv, torchvision v2") for case in medians] + [("hsv, fastbot float32", "hsv, kornia")]
    return table("augment", "images/s", medians, pairs)


def steps() -> list[Result]:
    found = []
    for precision, ours in (("fp32", 31.0), ("bf16", 44.0)):
        rest = f"resnet50, {precision}, 32 x 128 px"
        medians = {f"fastbot, {rest}": ours, f"timm's loop, {rest}": 0.86 * ours, f"plain PyTorch, {rest}": 0.8 * ours}
        names = list(medians)
        pairs = [(names[0], names[1]), (names[0], names[2]), (names[1], names[1]), (names[2], names[2])]
        for one in table("step", "images/s", medians, pairs):
            ms = 32e3 / one.value
            details: dict[str, Any] = {
                "model": "resnet50",
                "dtype": precision,
                "memory_format": "channels_last",
                "compiled": False,
                "batch_size": 32,
                "size": 128,
                "step_ms": ms,
                "floor": {
                    "arithmetic_ms": 0.61 * ms,
                    "bytes_unfused_ms": 0.42 * ms,
                    "bytes_fused_ms": 0.31 * ms,
                    "matrix_tflops": 0.31,
                },
            }
            if "fastbot" in one.case:
                details["parts_ms"] = {"forward": 0.34 * ms, "backward": 0.6 * ms, "optimizer": 0.04 * ms}
            found.append(replace(one, details=details, notes=f"{ms:.0f} ms, 61% of the matrix rate"))
    return found


def trainings() -> list[Result]:
    medians = {"train": 29.0, "loader alone": 2100.0, "step alone": 30.1}
    pairs = [("train", "loader alone"), ("train", "step alone"), ("loader alone", "step alone")]
    found = table("train", "images/s", medians, [*pairs, ("step alone", "step alone")])
    found[0] = replace(found[0], details={"data_wait_share": 0.031, "of_the_slower": 0.963})
    return found


def scalings(ranks: Sequence[int] = (1, 2)) -> list[Result]:
    return _scaled("scaling", {f"{count} rank{'s' * (count > 1)}": count for count in ranks}, "ranks")


def simulations() -> list[Result]:
    cases = {f"model: {count:,} GPUs": count for count in (1, 64, 128, 256, 512, 1024, 2048, 4096)}
    return [
        replace(one, samples=one.samples[:1], ratios=one.ratios[:1], details={**one.details, "simulated": True})
        for one in _scaled("scaling-model", cases, "gpus")
    ]


def _scaled(benchmark: str, cases: Mapping[str, int], count: str) -> list[Result]:
    medians = {case: 30.0 * number * 0.97 ** math.log2(number) for case, number in cases.items()}
    first = next(iter(medians))
    found = table(benchmark, "images/s", medians, [(case, first) for case in medians])
    return [
        replace(one, details={count: number, "efficiency": 0.97 ** math.log2(number), "communication_share": 0.02})
        for one, number in zip(found, cases.values(), strict=True)
    ]


def startups() -> list[Result]:
    """Return the first batch and the first step of two starts; all have the parts up to the step."""
    parts = {
        "fastbot": {"importing": 1.9, "opening the store": 0.2, "numba": 0.6, "first batch": 0.3, "first step": 2.1},
        "torchvision DataLoader": {"importing": 2.0, "first batch": 2.4, "first step": 2.6},
    }
    medians = {("first batch", "fastbot"): 3.0, ("first step", "fastbot"): 5.2}
    medians |= {("first batch", "torchvision DataLoader"): 4.4, ("first step", "torchvision DataLoader"): 7.0}
    rows = {f"{moment}, {name}": value for (moment, name), value in medians.items()}
    pairs = [(f"{moment}, {name}", f"{moment}, torchvision DataLoader") for moment, name in medians]
    found = table("startup", "s", rows, pairs)
    return [replace(one, details={"parts_s": parts[one.case.partition(", ")[2]]}) for one in found]


def memories() -> list[Result]:
    medians = {"host, batch 16": 812.0, "host, batch 64": 1019.0}
    return table("memory", "MB", medians, [(case, "host, batch 16") for case in medians])


def conversions() -> list[Result]:
    medians = {"check alone": 2363.0, "convert": 1490.0, "FFCV's writer": 310.0, "convert --max-side 400": 820.0}
    pairs = [("check alone", "check alone"), ("convert", "check alone"), ("FFCV's writer", "FFCV's writer")]
    return table("convert", "images/s", medians, [*pairs, ("convert --max-side 400", "FFCV's writer")])


def write_all(folder: Path) -> Path:
    """Write a file for each of several rungs, as `fastbot bench all` does, and return their folder."""
    of_store = {"corpus": CORPUS}
    rungs: Mapping[str, tuple[list[Result], Mapping[str, Any]]] = {
        "loader": (loaders(), {"size": 224, "batch_size": 64, "threads": "1, 2", **of_store}),
        "augment": (augmentations(), {"size": 224, "batch_size": 64, "threads": 1}),
        "step": (steps(), {}),
        "train": (trainings(), {"model": "resnet50", "size": 128, "batch_size": 32, **of_store}),
        "scaling": (scalings(), {"size": 96, "batch_size": 16}),
        "scaling-model": (simulations(), {}),
        "startup": (startups(), of_store),
        "memory": (memories(), of_store),
        "convert": (conversions(), {"threads": 2, "count": 4000, **of_store}),
        "something new": ([result("<b>ours</b> & co.", "<i>theirs</i>", benchmark="something new")], {}),
    }
    for name, (found, settings) in rungs.items():
        lines.append(found, {**settings, "machine": BUSY}, folder / f"{name}.jsonl")
    return folder
