"""Which store a result was measured on: the one way in which every rung says so."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.corpora.corpus import STATISTICS_NAME, CorpusStatistics
from datasets_tools.store import Store
from datasets_tools.store.manifest import MANIFEST_NAME


def store_identity(data: Path) -> Mapping[str, Any]:
    """Return what a line of results says of the store, for the settings of a rung.

    Args:
        data: the store's folder.

    Returns:
        `store`, the SHA-256 of its manifest, which names the bytes of all its files; `num_pictures`, `mean_bytes` (of
        a file), `mean_width` and `mean_height` (pixels) of its split `train`; `corpus`, what a corpus came out as,
        empty for a store that is none.

    Raises:
        StoreError: it is no store, has no split `train`, or its statistics as a corpus cannot be read.
    """
    split = Store(data).split("train")
    is_corpus = (data / STATISTICS_NAME).is_file()
    return {
        "store": hashlib.sha256((data / MANIFEST_NAME).read_bytes()).hexdigest(),
        "num_pictures": len(split),
        "mean_bytes": round(float(split.sizes.mean()), 1),
        "mean_width": round(float(split.widths.mean()), 1),
        "mean_height": round(float(split.heights.mean()), 1),
        "corpus": asdict(CorpusStatistics.load(data)) if is_corpus else {},
    }
