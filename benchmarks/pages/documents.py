"""The documents with figures in them: `docs/performance.md` and the README, generated from committed JSON.

A table stands between `<!-- table: FILE -->` and `<!-- end -->`, FILE being relative to `benchmarks/results/`. The
figures that are quoted stand between `<!-- performance -->` and `<!-- end -->`, for each folder of committed results.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from benchmarks.lines import Line
from benchmarks.pages.headlines import headlines
from benchmarks.pages.measurements import gather, kind_of_device
from benchmarks.pages.tables import table
from fastbot.errors import RunError

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
DOCUMENTS = (ROOT / "docs" / "performance.md", ROOT / "README.md")
_TABLE = re.compile(r"(<!-- table: (?P<file>\S+) -->\n).*?(<!-- end -->)", re.DOTALL)
_PERFORMANCE = re.compile(r"(<!-- performance -->\n).*?(<!-- end -->)", re.DOTALL)


def rendered(document: str, results: Path) -> str:
    """Return a document with everything that is generated in it made anew.

    Args:
        document: its text.
        results: the folder of committed results.

    Raises:
        RunError: a file of results is missing or damaged.
    """
    with_tables = _TABLE.sub(lambda found: found[1] + table(results / found["file"]) + found[3], document)
    return _PERFORMANCE.sub(lambda found: found[1] + performance(results) + found[2], with_tables)


def performance(results: Path) -> str:
    """Return the figures that are quoted, for each folder of results, and what is not measured yet.

    Args:
        results: the folder of committed results.
    """
    by_folder = {folder: gather([folder]) for folder in sorted(results.iterdir()) if any(folder.glob("**/*.jsonl"))}
    parts = [_quoted(folder.relative_to(results), lines) for folder, lines in by_folder.items() if headlines(lines)]
    if not any(kind_of_device(line) == "cuda" for lines in by_folder.values() for line in lines):
        parts.append("On a GPU: not measured yet.\n")
    return "\n".join(parts)


def refresh() -> list[Path]:
    """Make the documents anew.

    Returns:
        Those that changed.

    Raises:
        RunError: this is no checkout, or a file of results is missing or damaged.
    """
    changed = outdated()
    for document, text in changed.items():
        document.write_text(text)
    return list(changed)


def outdated() -> dict[Path, str]:
    """Return the documents that differ from their results, and what they should hold.

    Raises:
        RunError: this is no checkout, or a file of results is missing or damaged.
    """
    found: dict[Path, str] = {}
    for document in DOCUMENTS:
        if not document.is_file():
            raise RunError(f"{document}: is missing; only a checkout of fastbot has documents. Give FILES to report on")
        text = document.read_text()
        if (new := rendered(text, RESULTS)) != text:
            found[document] = new
    return found


def _quoted(folder: Path, lines: Sequence[Line]) -> str:
    """Return a folder's figures as a list under a line of conditions."""
    devices = " and ".join(dict.fromkeys(line.device for line in lines))
    cores = " or ".join(dict.fromkeys(str(line.conditions["cores"]) for line in lines))
    commits = ", ".join(dict.fromkeys(line.commit for line in lines))
    where = f"[all of it](docs/performance.md), [its JSON](benchmarks/results/{folder})"
    rows = [f"- **{found.figure}** {found.words}" for found in headlines(lines)]
    return "\n".join([f"{devices}, {cores} cores, at {commits} ({where}):", "", *rows]) + "\n"
