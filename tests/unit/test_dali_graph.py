from __future__ import annotations

from pathlib import Path

import pytest
from stores import StoredPicture, write_split

pytest.importorskip("nvidia.dali")

from pipelines.backends.dali_graph import BatchShape, Form, Largest, decoder_options

SHAPE = BatchShape(256, (224, 224), "bilinear")
MIB = 1 << 20


def test_the_largest_picture_is_as_high_and_wide_as_any_and_no_larger_than_one(tmp_path: Path) -> None:
    sizes = [(20, 70), (60, 30), (40, 40)]
    pictures = [StoredPicture(f"{h}", bytes(3 * h * w), h, w, raw=True) for h, w in sizes]
    assert Largest.of(write_split(tmp_path, pictures)) == Largest(height=60, width=70, area=1800)


@pytest.mark.parametrize(
    ("area", "device_mib", "host_mib"),
    [(375 * 500, 16, 8), (10 * MIB, 60, 40), (100 * MIB, 256, 128)],
    ids=["small: DALI's defaults", "by the pixel", "huge: capped"],
)
def test_memory_is_padded_for_the_largest_picture(area: int, device_mib: int, host_mib: int) -> None:
    options = decoder_options(Form("window", 0.65), SHAPE, Largest(1000, 1000, area))
    assert options["device_memory_padding"] == device_mib * MIB
    assert options["host_memory_padding"] == host_mib * MIB


def test_the_engines_memory_is_hinted_at_where_a_batch_of_it_is_affordable() -> None:
    ordinary, huge = Largest(1600, 1200, 1600 * 1200), Largest(4000, 3000, 4000 * 3000)
    hinted = decoder_options(Form("whole", 0.9), SHAPE, ordinary)
    assert (hinted["preallocate_height_hint"], hinted["preallocate_width_hint"]) == (1600, 1200)
    assert "preallocate_height_hint" not in decoder_options(Form("whole", 0.9), SHAPE, huge)
    assert hinted["hw_decoder_load"] == 0.9
