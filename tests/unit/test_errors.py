"""Errors travel between processes (a user's loader workers, a rank's report) with what they carry."""

from __future__ import annotations

import pickle

import pytest

from datasets_tools.errors import DamagedSampleError, PictureError
from pipelines.errors import BackendUnavailable, BadPictureError


@pytest.mark.parametrize(
    "error",
    [
        PictureError("a/b.jpg", "ends early"),
        DamagedSampleError(7, "sample 7 is damaged"),
        BackendUnavailable("ffcv", "no module", "Run: pip install ffcv"),
        BadPictureError(3, "a/b.jpg", "ends early"),
    ],
)
def test_errors_survive_pickling(error: Exception) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)
