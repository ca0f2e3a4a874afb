"""The comment that a packaged recipe opens with."""

from __future__ import annotations

from pathlib import Path

import fastbot

FILES = sorted((Path(fastbot.__file__).parent / "recipes").glob("*.toml"))


def header(name: str) -> str:
    """Return the comment lines at the top of a packaged recipe."""
    text = next(file for file in FILES if file.stem == name).read_text()
    lines = text.splitlines(keepends=True)
    return "".join(lines[: next(number for number, line in enumerate(lines) if not line.startswith("#"))])
