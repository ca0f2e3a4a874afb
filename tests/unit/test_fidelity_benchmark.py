from __future__ import annotations

from collections.abc import Generator, Iterable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio
from sources import encoded
from stores import StoredPicture, write_split

from benchmarks.rungs import fidelity
from benchmarks.rungs.fidelity import fidelities, psnr
from datasets_tools.photographs import load
from datasets_tools.store import Split
from pipelines.backends import choose
from pipelines.batch import BatchPlan, Decoded
from pipelines.plan import TrainPlan
from pipelines.spec import DataSpec

HEIGHT, WIDTH = 96, 120


class Grey:
    """Delivers no picture."""

    name = "grey"

    def pixels(self, plans: Iterable[BatchPlan]) -> Generator[Decoded]:
        for plan in plans:
            yield Decoded(torch.full((len(plan.ids), *plan.output_size, 3), 128, dtype=torch.uint8), {})

    def close(self) -> None:
        pass


@pytest.fixture
def split(tmp_path: Path) -> Split:
    pictures = [load("astronaut")[top : top + HEIGHT, 100 : 100 + WIDTH] for top in (0, 100, 200)]
    stored = [
        StoredPicture(f"{k}", encoded(Image.fromarray(pixels), quality=95), HEIGHT, WIDTH)
        for k, pixels in enumerate(pictures)
    ]
    return write_split(tmp_path, stored)


def test_each_picture_has_the_ratio_that_scikit_image_finds() -> None:
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (3, 5, 7, 3), dtype=np.uint8)
    expected = np.clip(pixels + generator.normal(0, (1, 5, 20), (7, 3)).T.reshape(3, 1, 7, 1), 0, 255)
    wanted = [
        peak_signal_noise_ratio(b, a.astype(float), data_range=255) for a, b in zip(pixels, expected, strict=True)
    ]
    np.testing.assert_allclose(psnr(pixels, expected.astype(np.float32)), wanted, rtol=1e-5)


def test_equal_pictures_have_a_finite_ratio() -> None:
    pixels = np.zeros((1, 2, 2, 3), np.uint8)
    assert np.isfinite(psnr(pixels, pixels.astype(np.float32))).all()


def test_an_exact_backend_is_told_from_one_that_is_not(split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    """The backend `torch` resizes in other code than the reference, to 8 bits: rounding alone costs that much."""
    monkeypatch.setattr(fidelity, "NUM_CROPS", 8)
    plan = TrainPlan(DataSpec(global_batch_size=3, crop_size=40), split.heights, split.widths, seed=0)
    exact = choose.build("torch", split, device=torch.device("cpu"), num_threads=1)
    found = fidelities(split, plan, {"torch": exact, "grey": Grey()})
    exact.close()
    assert found["torch"].low > 50
    assert found["torch"].num_crops == found["grey"].num_crops == 9
    assert found["grey"].low <= found["grey"].mean < 20
    assert str(found["torch"]).endswith("dB 5th percentile")
