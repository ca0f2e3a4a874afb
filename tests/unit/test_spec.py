"""What a `DataSpec` takes, and what it does not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from pipelines.spec import DataSpec, RandomResizedCrop


@pytest.mark.parametrize("wrong", [True, False, "16", b"16"])
@pytest.mark.parametrize(
    "field",
    [
        "global_batch_size",
        "crop_size",
        "flip",
        "lighting_std",
        "crop.attempts",
        "crop.area",
        "mean",
        "size_ramp.end_epoch",
    ],
)
def test_nothing_passes_for_a_number_that_is_none(field: str, wrong: Any) -> None:
    name, _, inner = field.partition(".")
    value = [wrong, 1, 1] if name == "mean" else [wrong, 1] if inner == "area" else wrong
    with pytest.raises(ValidationError, match="it should be a number"):
        DataSpec.model_validate({name: {inner: value} if inner else value})


@pytest.mark.parametrize("field", ["global_batch_size", "crop_size"])
@pytest.mark.parametrize("wrong", [1.5, float("nan"), 0, -1, 10**30, None])
def test_a_count_is_a_whole_number_that_arrays_can_hold(field: str, wrong: Any) -> None:
    with pytest.raises(ValidationError, match=field):
        DataSpec.model_validate({field: wrong})


def test_no_side_is_longer_than_a_jpegs() -> None:
    assert DataSpec(crop_size=65_535).crop_size == 65_535
    with pytest.raises(ValidationError, match="less than 65536"):
        DataSpec(crop_size=65_536)


def test_numbers_of_numpy_are_numbers() -> None:
    spec = DataSpec.model_validate({"global_batch_size": np.int64(16), "flip": np.float32(0.25), "lighting_std": 0})
    assert (spec.global_batch_size, spec.flip, spec.lighting_std) == (16, 0.25, 0.0)
    assert type(spec.global_batch_size) is int


def test_a_spec_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        RandomResizedCrop().attempts = 3  # type: ignore[misc]
