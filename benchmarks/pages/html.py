"""A report as one HTML file that needs nothing else: its style, its script and its pictures are in it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files

from benchmarks.lines import Line
from benchmarks.measure import NOISY, Result
from benchmarks.pages import conditions
from benchmarks.pages.headlines import Headline, headlines
from benchmarks.pages.measurements import settings
from benchmarks.pages.pictures import pictures
from benchmarks.pages.rows import Row, peer_words, rows
from benchmarks.pages.subjects import about, by_benchmark, title
from benchmarks.pages.svg import Picture, element
from benchmarks.units import figure

# Nothing is fetched from anywhere, whatever a name in the results may hold.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
_METHOD = (
    "Every case had its turn in every round, after a warm-up; a figure is the median of its rounds. Spread is "
    f"(highest - lowest) / median, marked where it exceeds {NOISY:.0%}: there the machine was too busy for it to be "
    "quoted alone. A ratio is the median, over the rounds, of this case's figure to its peer's, with its own spread in "
    "brackets; above 1, the case's figure is the larger one, which for times and memory is the worse."
)
# Named above the table, or in a column of their own.
_NO_COLUMNS = ("corpus", "store", "device")


def page(lines: Sequence[Line], heading: str = "fastbot benchmarks", remarks: Sequence[str] = ()) -> str:
    """Return the page.

    Args:
        lines: of one or more benchmarks, at least one.
        heading: of the page.
        remarks: what a reader must know besides, a line each.
    """
    said = "".join(element("p", escape(words), class_="soft") for words in remarks)
    sections = by_benchmark(lines)
    links = "".join(element("a", escape(title(name)), href=f"#{_anchor(name)}") for name in sections)
    head = (
        f'<meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(heading)}</title><style>{_part('style.css')}</style>"
    )
    body = (
        f"<header><h1>{escape(heading)}</h1>{_lead(lines)}{said}{_headlines(headlines(lines))}"
        f"{_definitions(conditions.of_report(lines))}<p>{escape(_METHOD)}</p>"
        f'<nav aria-label="Benchmarks">{links}</nav></header>'
        f"<main>{''.join(_section(name, found) for name, found in sections.items())}</main>"
        "<footer>Made by <code>fastbot bench report</code> from JSON lines; no figure was typed by hand.</footer>"
    )
    script = f"<script>{_part('page.js')}</script>"
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>{body}{script}</body></html>\n'


def _part(name: str) -> str:
    return files("benchmarks.pages").joinpath(name).read_text()


def _anchor(name: str) -> str:
    return re.sub(r"\W+", "-", name)


def _lead(lines: Sequence[Line]) -> str:
    num_cases = len({(line.device, line.result.benchmark, line.result.case) for line in lines})
    noisy = len({row.result.case for row in rows(lines) if row.noisy})
    count = f"{num_cases} cases, {noisy} of them noisy" if noisy else f"{num_cases} cases, none of them noisy"
    return element(
        "p", escape(f"{' and '.join(dict.fromkeys(line.device for line in lines))}: {count}."), class_="lead"
    )


def _headlines(found: Sequence[Headline]) -> str:
    tiles = "".join(f"<li><b>{escape(line.figure)}</b><span>{escape(line.words)}</span></li>" for line in found)
    return f'<ul class="headlines">{tiles}</ul>' if tiles else ""


def _definitions(words: Iterable[tuple[str, str]]) -> str:
    return f"<dl>{''.join(f'<dt>{escape(name)}</dt><dd>{escape(said)}</dd>' for name, said in words)}</dl>"


def _section(name: str, lines: Sequence[Line]) -> str:
    drawn, left_out = pictures(name, lines)
    missing = "".join(element("p", escape(words), class_="soft") for words in left_out)
    measured = conditions.of_benchmark(lines)
    command = dict(measured).get("Command", "")
    return (
        f'<section id="{_anchor(name)}"><h2>{escape(title(name))}</h2><p class="soft">{escape(about(name))}</p>'
        f'<div class="pictures">{"".join(map(_figure, drawn))}</div>{missing}{_table(name, lines)}'
        f"<details><summary>Measured by <code>{escape(command)}</code></summary>{_definitions(measured)}</details>"
        "</section>"
    )


def _figure(picture: Picture) -> str:
    caption = f"<figcaption>{escape(picture.caption)}</figcaption>"
    return f"<figure><h3>{escape(picture.title)}</h3>{picture.svg}{caption}</figure>"


def _table(name: str, lines: Sequence[Line]) -> str:
    columns = [column for column in conditions.varying(lines) if column not in _NO_COLUMNS]
    devices = len({line.device for line in lines}) > 1
    found = rows(lines)
    has_notes = any(row.result.notes for row in found)
    units = list(dict.fromkeys(row.result.unit for row in found))
    heads = [("case", "")] + [("device", "")] * devices
    heads += [(units[0] if len(units) == 1 else "figure", "number"), ("spread", "number"), ("ratio to", "ratios")]
    heads += [(column.replace("_", " "), "") for column in columns] + [("notes", "")] * has_notes
    head = "".join(f'<th scope="col" class="{kind}">{escape(words)}</th>' for words, kind in heads)
    body = "".join(_row(row, columns, devices, len(units) > 1, has_notes) for row in found)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(f"Results: {title(name)}")}">'
        f'<table class="results"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def _row(row: Row, columns: Sequence[str], with_device: bool, with_unit: bool, has_notes: bool) -> str:
    result, own = row.result, settings(row.lines[0])
    cells = [element("td", escape(result.case), class_="case")]
    cells += [element("td", escape(row.lines[0].device))] * with_device
    unit = f" {result.unit}" if with_unit else ""
    cells.append(_number(result.value, escape(f"{figure(result.value)}{unit}")))
    cells.append(_number(result.spread, _spread(result.spread)))
    ratios = "<br>".join(map(_ratio, row.beside)) or "–"
    cells.append(_number(row.beside[0].ratio if row.beside else -1.0, ratios, "ratios"))
    cells += [element("td", escape(own.get(column, "–"))) for column in columns]
    cells += [element("td", escape(result.notes) or "&nbsp;", class_="notes")] * has_notes
    return f'<tr class="{"ours" if row.ours else ""}">{"".join(cells)}</tr>'


def _number(value: float, content: str, class_: str = "number") -> str:
    return element("td", content, class_=class_, data_value=value if math.isfinite(value) else -1.0)


def _spread(spread: float) -> str:
    return f"{spread:.0%}" if spread <= NOISY else f'<span class="noisy">{spread:.0%} noisy</span>'


def _ratio(result: Result) -> str:
    if math.isnan(result.ratio):
        return f'<span class="ratio">– {escape(result.peer)}</span>'
    spread = _spread(result.ratio_spread)
    return f'<span class="ratio"><b>{result.ratio:.2f}</b> × {escape(peer_words(result))} ({spread})</span>'
