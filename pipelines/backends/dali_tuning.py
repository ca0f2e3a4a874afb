"""Which form of DALI's decoder is the fastest on this machine: measured once, and kept.

Decoding whole pictures on the JPEG engine, only windows on the GPU's cores, or a mix of both: which wins depends on the
GPU, on its driver, on how large the pictures are, and on the host's threads that feed it.
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import nvidia.dali
import torch

from datasets_tools.store import Split
from pipelines.backends.dali_graph import DEFAULT_FORM, FORMS, Form

_log = logging.getLogger("pipelines")

_WARMUPS, _RUNS = 3, 8


@dataclass(frozen=True, slots=True)
class Situation:
    """What decides which form is the fastest.

    Attributes:
        gpu: its name.
        driver: NVIDIA's version of it.
        dali: its version.
        jpeg_kib: bytes of a mean picture in KiB, to the nearest power of 2.
        num_threads: of DALI's.
    """

    gpu: str
    driver: str
    dali: str
    jpeg_kib: int
    num_threads: int

    @classmethod
    def here(cls, device: torch.device, split: Split, num_threads: int) -> Situation:
        """Return that of a split on a CUDA device."""
        gpu = torch.cuda.get_device_name(device)
        return cls(gpu, _driver(), nvidia.dali.__version__, jpeg_class(split.record.mean_bytes), num_threads)

    def cache_file(self) -> Path:
        """Return where the fastest form is kept: below `$XDG_CACHE_HOME/fastbot/dali`, or that in `~/.cache`."""
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fastbot" / "dali"
        name = f"{self.gpu} driver {self.driver} dali {self.dali} {self.jpeg_kib}KiB {self.num_threads}threads"
        return folder / (re.sub(r"[^A-Za-z0-9.]+", "-", name) + ".json")


@dataclass(frozen=True, slots=True)
class Measurement:
    """How a form did.

    Attributes:
        images_per_s: pictures decoded, cropped and resized.
        engine_use: how busy the GPU's JPEG engine was at the end, 0 to 1; None where nothing tells.
    """

    images_per_s: float
    engine_use: float | None


Measure = Callable[[Form], Measurement]


def fastest_form(measure: Measure, cache_file: Path) -> Form:
    """Return the fastest form: the one that `cache_file` has, or that wins now and is kept there.

    Args:
        measure: called once for each of `FORMS` where nothing is kept; a RuntimeError leaves that form out.
        cache_file: need not exist; one that cannot be read, or written, is told of and done without.
    """
    kept = _kept(cache_file)
    if kept is not None:
        _log.info("dali decodes %s: the fastest here before (%s)", described(kept), cache_file)
        return kept
    measured = _measured(measure)
    if not measured:
        _log.warning("dali decodes %s: no form of its decoder could be measured here", described(DEFAULT_FORM))
        return DEFAULT_FORM
    form = max(measured, key=lambda form: measured[form].images_per_s)
    slowest = min(measurement.images_per_s for measurement in measured.values())
    _log.info(
        "dali decodes %s: %.0f images/s here, the slowest form %.0f; the JPEG engine was %s; kept in %s",
        described(form),
        measured[form].images_per_s,
        slowest,
        _engine_words(measured[form].engine_use),
        cache_file,
    )
    _keep(cache_file, form, measured)
    return form


def described(form: Form) -> str:
    """Return a form in words."""
    return f"{form.decoder} pictures with a hardware load of {form.hardware_load:g}"


def timed(run: Callable[[], object], num_images: int, device: torch.device) -> Measurement:
    """Time a pipeline on a CUDA device.

    Args:
        run: makes one batch.
        num_images: of a batch.
        device: what it runs on.
    """
    for _ in range(_WARMUPS):
        run()
    torch.cuda.synchronize(device)
    started = time.perf_counter()
    for _ in range(_RUNS):
        run()
    engine_use = _engine_use(device)
    torch.cuda.synchronize(device)
    return Measurement(_RUNS * num_images / (time.perf_counter() - started), engine_use)


def jpeg_class(mean_bytes: float) -> int:
    """Return bytes in KiB, to the nearest power of 2."""
    return int(2 ** round(math.log2(max(mean_bytes / 1024, 1))))


def _measured(measure: Measure) -> dict[Form, Measurement]:
    measured = {}
    for form in FORMS:
        try:
            measured[form] = measure(form)
        except RuntimeError as error:
            _log.warning("dali cannot decode %s here: %s", described(form), str(error).splitlines()[0])
    return measured


def _kept(cache_file: Path) -> Form | None:
    try:
        found = json.loads(cache_file.read_text())["form"]
        form = Form(found["decoder"], found["hardware_load"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, LookupError, TypeError) as error:
        _log.warning("%s cannot be read (%s): dali's forms are measured again", cache_file, error)
        return None
    return form if form in FORMS else None


def _keep(cache_file: Path, form: Form, measured: Mapping[Form, Measurement]) -> None:
    known: dict[str, Any] = {
        "form": asdict(form),
        "measured": [asdict(form) | asdict(measurement) for form, measurement in measured.items()],
    }
    aside = cache_file.with_name(f".{cache_file.name}.{os.getpid()}")  # ranks of one machine may write at once
    try:
        cache_file.parent.mkdir(parents=True, exist_ok=True)
        aside.write_text(json.dumps(known, indent=2) + "\n")
        aside.replace(cache_file)
    except OSError as error:
        _log.warning("%s cannot be written (%s): the next run measures dali's forms again", cache_file, error)


def _driver() -> str:
    """Return the version of NVIDIA's kernel driver: torch only tells the CUDA version that it can do."""
    try:
        found = re.search(r"\d+\.\d+(\.\d+)?", Path("/proc/driver/nvidia/version").read_text())
    except OSError:
        found = None
    return found[0] if found else "unknown"


def _engine_use(device: torch.device) -> float | None:
    try:
        from pipelines.backends import jpeg_engine
    except ImportError:
        return None
    return jpeg_engine.utilization(str(torch.cuda.get_device_properties(device).uuid))


def _engine_words(use: float | None) -> str:
    return "used to an unknown degree (pip install nvidia-ml-py would tell)" if use is None else f"busy to {use:.0%}"
