from __future__ import annotations

import pytest
from jpeg_kinds import PHOTOGRAPHS, RAW, TEXTURES, stored, stored_oddities, stored_raw
from stores import write_split

from datasets_tools.store import Split


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Split:
    """A split of every photograph, then every texture, the raw ones, and the odd JPEGs, in three shards."""
    folder = tmp_path_factory.mktemp("pictures")
    cases = {**PHOTOGRAPHS, **TEXTURES}
    encoded = [stored(key, source, **options) for key, (source, options) in cases.items()]
    return write_split(folder, [*encoded, *map(stored_raw, RAW), *stored_oddities(folder)], num_shards=3)
