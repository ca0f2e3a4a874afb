from __future__ import annotations

from pathlib import Path

import pytest
from stores import StoredPicture, write_store

from benchmarks.loader import run
from fastbot.errors import RunError


@pytest.mark.parametrize(("raw", "num_shards"), [(True, 1), (False, 2)])
def test_what_stock_loaders_cannot_read_is_not_compared(tmp_path: Path, raw: bool, num_shards: int) -> None:
    picture = StoredPicture("a", bytes(12), 2, 2, raw=raw)
    write_store(tmp_path, {"train": [picture, picture]}, num_shards=num_shards)
    with pytest.raises(RunError, match=f"has {num_shards} shards and {2 * raw} raw pictures"):
        run(tmp_path)
