"""DALI's operators for colours and normalization, over pixels that are there: flip, `color_twist`, float."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from nvidia.dali import fn, pipeline_def, types
from torch.utils import dlpack

_TURN_DEGREES = 360.0


def transform(
    pixels: torch.Tensor, jitter: Mapping[str, float] | None, mean: Sequence[float], std: Sequence[float]
) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return what makes float32 (n, 3, H, W) of the pixels that it was built for.

    Every picture has its own draws. The order is the operator's: saturation and hue, brightness, contrast.

    Args:
        pixels: uint8 (n, H, W, 3), on the device it shall work on.
        jitter: `ColorJitter`'s arguments; None: no flip either, it only normalizes.
        mean, std: of levels from 0 to 255.
    """
    on_gpu = pixels.device.type == "cuda"
    given = pixels if on_gpu else pixels.numpy()

    # Neither pipelined nor asynchronous: a call does all of its work, and nothing of the next.
    @pipeline_def(
        batch_size=len(pixels),
        num_threads=torch.get_num_threads(),
        device_id=pixels.device.index or 0 if on_gpu else None,
        exec_pipelined=False,
        exec_async=False,
        exec_dynamic=False,
    )
    def pipeline() -> object:
        (images,) = fn.external_source(
            lambda: (given,), num_outputs=1, device="gpu" if on_gpu else "cpu", layout="HWC", no_copy=True
        )
        if jitter is not None:
            images = fn.color_twist(images, **_draws(jitter))
        return fn.crop_mirror_normalize(
            images,
            mirror=0 if jitter is None else fn.random.coin_flip(),
            mean=list(mean),
            std=list(std),
            dtype=types.FLOAT,
            output_layout="CHW",
        )

    built = pipeline()
    built.build()

    def run(_: torch.Tensor) -> torch.Tensor:
        (batch,) = built.run()
        images = batch.as_tensor()
        return dlpack.from_dlpack(images) if on_gpu else torch.from_numpy(np.asarray(images))

    return run


def _draws(jitter: Mapping[str, float]) -> dict[str, Any]:
    """Return random arguments of `color_twist` for `ColorJitter`'s."""
    ranges = {name: [1 - by, 1 + by] for name, by in jitter.items() if name != "hue"}
    if "hue" in jitter:
        ranges["hue"] = [-_TURN_DEGREES * jitter["hue"], _TURN_DEGREES * jitter["hue"]]
    return {name: fn.random.uniform(range=bounds) for name, bounds in ranges.items()}
