"""Batches of random pictures for tests of what comes after the pipeline."""

from __future__ import annotations

import numpy as np
import torch

from pipelines.batch import Batch


def random_batch(num_rows: int = 6, num_classes: int = 5, *, size_px: int = 32, mixed: bool = False) -> Batch:
    """Return normal pictures, channels-last, as a pipeline would deliver them; the same every time."""
    generator = torch.Generator().manual_seed(num_rows)
    images = torch.randn(num_rows, 3, size_px, size_px, generator=generator)
    labels = torch.randint(num_classes, (num_rows,), generator=generator)
    soft = torch.rand(num_rows, num_classes, generator=generator).softmax(dim=1)
    return Batch(
        images=images.contiguous(memory_format=torch.channels_last),
        labels=labels,
        targets=soft if mixed else labels,
        ids=np.arange(num_rows),
        weight=torch.ones(num_rows),
    )
