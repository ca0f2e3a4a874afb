"""A report as Markdown: what the page has, without its pictures."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.lines import Line
from benchmarks.pages import conditions
from benchmarks.pages.headlines import headlines
from benchmarks.pages.subjects import about, by_benchmark, title
from benchmarks.pages.tables import table_of


def page(lines: Sequence[Line], heading: str = "fastbot benchmarks", remarks: Sequence[str] = ()) -> str:
    """Return the report.

    Args:
        lines: of one or more benchmarks, at least one.
        heading: of the report.
        remarks: what a reader must know besides, a line each.
    """
    parts = [f"# {heading}", _listed(conditions.of_report(lines)), "\n".join(f"- {words}" for words in remarks)]
    if quoted := headlines(lines):
        parts.append("\n".join(f"- **{found.figure}** {found.words}" for found in quoted))
    for name, own in by_benchmark(lines).items():
        parts += [f"## {title(name)}", about(name), _listed(conditions.of_benchmark(own)), table_of(own).rstrip()]
    return "\n\n".join(part for part in parts if part) + "\n"


def _listed(words: conditions.Words) -> str:
    return "\n".join(f"- {name}: {said}" for name, said in words)
