"""How busy a GPU's JPEG engine is, by NVIDIA's management library; import it only where `pynvml` may be missing."""

from __future__ import annotations

import pynvml  # type: ignore[import-not-found, import-untyped, unused-ignore]


def utilization(uuid: str) -> float | None:
    """Return the share of the last sampling period that the JPEG engine worked, 0 to 1; None where it is not told.

    Args:
        uuid: of the GPU, as `torch.cuda.get_device_properties` has it.
    """
    try:
        pynvml.nvmlInit()
        try:
            percent, _ = pynvml.nvmlDeviceGetJpgUtilization(pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}"))
        finally:
            pynvml.nvmlShutdown()
    except pynvml.NVMLError:
        return None
    return float(percent) / 100
