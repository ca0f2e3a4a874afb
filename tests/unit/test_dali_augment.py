from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks.peers.dali_augment import transform

MEAN, STD = (120.0, 110.0, 100.0), (60.0, 50.0, 40.0)


def normalized(pixels: torch.Tensor) -> np.ndarray:
    levels = (pixels.numpy().astype(np.float64) - MEAN) / STD
    return levels.transpose(0, 3, 1, 2)


def test_evaluation_only_normalizes() -> None:
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 5, 7, 3), dtype=np.uint8))
    run = transform(pixels, None, MEAN, STD)
    for _ in range(2):
        np.testing.assert_allclose(run(pixels).numpy(), normalized(pixels), atol=1e-5)


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation", "hue"])
def test_training_mirrors_and_changes_colours(name: str) -> None:
    """With next to nothing to change, a picture is itself or its mirror image, and both occur; else colours differ."""
    pixels = torch.from_numpy(np.random.default_rng(1).integers(50, 200, (32, 4, 6, 3), dtype=np.uint8))
    expected = normalized(pixels)
    found = transform(pixels, {name: 1e-6}, MEAN, STD)(pixels).numpy()
    plain = np.abs(found - expected).max(axis=(1, 2, 3)) < 0.06  # DALI rounds to whole levels
    mirrored = np.abs(found - expected[..., ::-1]).max(axis=(1, 2, 3)) < 0.06
    assert (plain ^ mirrored).all()
    assert plain.any()
    assert mirrored.any()
    changed = transform(pixels, {name: 0.4}, MEAN, STD)(pixels).numpy()
    assert np.minimum(np.abs(changed - expected).max(axis=(1, 2, 3)), 1).mean() > 0.1
