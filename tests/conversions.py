"""Conversions of made-up sources, and what they leave."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sources import BytesEntry, ListSource, encoded, jpeg, pixels

from datasets_tools.conversion.convert import ConvertOptions, convert
from datasets_tools.store.manifest import Manifest


def run(source: ListSource, destination: Path, **options: Any) -> Manifest:
    return convert(source, destination, ConvertOptions("0", **options), lambda progress: None)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def mixed_source() -> ListSource:
    """Good pictures of both classes among some that are converted and some that are refused."""
    data = [
        jpeg(),
        encoded(pixels(30, 40), "PNG"),
        encoded(pixels(30, 40).convert("CMYK")),
        b"GIF87a but not really",
        jpeg()[:-500],
        b"",
        jpeg(100, 50, seed=3),
        encoded(pixels(30, 40, 1), "PNG"),
    ]
    entries = [BytesEntry(f"{k}.jpg", k % 2, content) for k, content in enumerate(data)]
    val = [BytesEntry("bad.jpg", 0, b"no picture"), BytesEntry("v", 1, jpeg()), BytesEntry("w", 0, jpeg())]
    return ListSource({"train": entries, "val": val})
