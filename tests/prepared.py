"""What tests of `prepare` share: a picture, two policies, and the pixels or the reason that come out."""

from __future__ import annotations

import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from sources import pixels

from datasets_tools.errors import PictureError
from datasets_tools.pictures import Picture, Policy, prepare
from datasets_tools.store.index import StoredFormat

PICTURE = pixels(48, 64)
KEEP = Policy()
RAW = Policy(raw_share=1)


def opened(data: bytes | memoryview) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def raw(picture: Picture) -> NDArray[np.uint8]:
    """The pixels of a raw sample."""
    assert picture.info.stored_format is StoredFormat.RAW
    return np.frombuffer(picture.data, dtype=np.uint8).reshape(picture.height, picture.width, 3)


def reason(data: bytes, policy: Policy = KEEP, key: str = "a/b.jpg") -> str:
    with pytest.raises(PictureError) as caught:
        prepare(key, data, policy)
    assert str(caught.value).startswith(f"{key}: ")
    return caught.value.reason
