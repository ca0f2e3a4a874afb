"""Free space, asked for before a long copy rather than missed at its end."""

from __future__ import annotations

import shutil
from pathlib import Path

from datasets_tools.errors import ConversionError


def check_space(destination: Path, num_bytes: int) -> None:
    """Refuse a copy that would not fit.

    Args:
        destination: what will be written; it and folders above it may be missing yet.
        num_bytes: how large it will be at least.

    Raises:
        ConversionError: fewer bytes are free.
    """
    absolute = destination.absolute()
    folder = next(folder for folder in (absolute, *absolute.parents) if folder.is_dir())
    free = shutil.disk_usage(folder).free
    if num_bytes > free:
        raise ConversionError(
            f"{destination}: not enough space: {num_bytes / 1e6:,.1f} MB are needed, {free / 1e6:,.1f} MB are free. "
            "Free space, or choose another destination."
        )
