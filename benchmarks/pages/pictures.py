"""Which pictures a benchmark gets: bars always, and what its details allow besides."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from benchmarks.lines import Line
from benchmarks.pages import bars, curve, floors, waterfall
from benchmarks.pages.bars import Bar
from benchmarks.pages.groups import groups, is_ours, told_apart
from benchmarks.pages.measurements import settings
from benchmarks.pages.svg import Picture

# A page with a waterfall for every one of 50 steps would be read by nobody; the table has all of them.
_MOST = 6


class NotDrawnError(Exception):
    """A picture cannot be drawn, or not all of it; the message says why."""


Drawer = Callable[[Sequence[Line]], list[Picture]]


def pictures(benchmark: str, lines: Sequence[Line]) -> tuple[list[Picture], list[str]]:
    """Draw a benchmark: bars of what was measured, and then what its details allow.

    Args:
        benchmark: its name.
        lines: of it.

    Returns:
        The pictures, and what was left out and why.
    """
    drawn: list[Picture] = []
    left_out: list[str] = []
    for draw in _SPECIAL.get(benchmark, ()):
        try:
            drawn += draw(lines)
        except NotDrawnError as error:
            left_out.append(str(error))
    measured = [line for line in lines if not line.result.details.get("simulated")]
    return [bars.picture(group) for group in groups(measured)] + drawn, left_out


def _step_waterfalls(lines: Sequence[Line]) -> list[Picture]:
    found = _with_parts([line for line in lines if is_ours(line)] or lines, "parts_ms")
    return _waterfalls(found, "parts_ms", lambda line: _number(line.result.details.get("step_ms")), "ms")


def _startup_waterfalls(lines: Sequence[Line]) -> list[Picture]:
    """Draw each start once: its lines are of earlier and later moments, and all have the parts up to the last one."""
    last: dict[str, Line] = {}
    for line in _with_parts(lines, "parts_s"):
        parts = _numbers(line.result.details["parts_s"])
        start, total = str(parts), sum(parts.values())
        if start not in last or abs(total - line.result.value) < abs(total - last[start].result.value):
            last[start] = line
    return _waterfalls(list(last.values()), "parts_s", lambda line: line.result.value, "s")


def _with_parts(lines: Sequence[Line], key: str) -> list[Line]:
    """Return one line for each case that has parts."""
    found = {line.result.case: line for line in lines if _numbers(line.result.details.get(key))}
    if not found:
        raise NotDrawnError(f"No picture of where the time goes: no result has `{key}` in its details.")
    return list(found.values())


def _waterfalls(lines: Sequence[Line], key: str, whole: Callable[[Line], float | None], unit: str) -> list[Picture]:
    drawn = []
    for line in lines[:_MOST]:
        title = f"Where the time goes: {line.result.case}"
        drawn.append(waterfall.picture(title, _numbers(line.result.details[key]), whole(line), unit))
    if more := len(lines) - len(drawn):
        drawn[-1] = replace(drawn[-1], caption=f"{drawn[-1].caption} {more} more are in the JSON lines alone.")
    return drawn


def _floors(lines: Sequence[Line]) -> list[Picture]:
    found: dict[str, floors.Step] = {}
    for line in lines:
        own = _numbers(line.result.details.get("floor"))
        known = {name: own[name] for name in floors.FLOORS if own.get(name)}
        ms = _number(line.result.details.get("step_ms"))
        if known and ms:
            found[line.result.case] = floors.Step(line.result.case, ms, known, is_ours(line))
    if not found:
        raise NotDrawnError("No picture of the floor: no result has `floor` and `step_ms` in its details.")
    shared, labels = told_apart(list(found))
    steps = [replace(step, label=label) for label, step in zip(labels, found.values(), strict=True)]
    return [floors.picture(steps, shared)]


def _curves(lines: Sequence[Line]) -> list[Picture]:
    """Draw measured ranks by their efficiency, each beside one rank with as many cores."""
    by_work: dict[str, dict[int, Line]] = {}
    for line in _with_efficiency(lines, "ranks"):
        work = {name: value for name, value in settings(line).items() if name not in ("ranks", "threads")}
        by_work.setdefault(str(work), {}).setdefault(line.result.details["ranks"], line)
    return [curve.picture("Speed-up", _points(by_ranks, "ranks")) for by_ranks in by_work.values()]


def _simulated(lines: Sequence[Line]) -> list[Picture]:
    by_gpus = {line.result.details["gpus"]: line for line in _with_efficiency(lines, "gpus")}
    return [curve.picture("Speed-up, simulated", _points(by_gpus, "gpus"), simulated=True)]


def _with_efficiency(lines: Sequence[Line], count: str) -> list[Line]:
    found = [line for line in lines if all(_number(line.result.details.get(key)) for key in (count, "efficiency"))]
    if not found:
        raise NotDrawnError(f"No scaling curve: no result has `{count}` and `efficiency` in its details.")
    return found


def _points(lines: Mapping[int, Line], count: str) -> list[curve.Point]:
    """Return points by efficiency; their range is that of the samples."""
    points = []
    for ranks in sorted(lines):
        result = lines[ranks].result
        speedup = result.details[count] * result.details["efficiency"]
        ends = [speedup * sample / result.value for sample in result.samples] if result.value else [speedup]
        points.append(curve.Point(ranks, speedup, min(ends), max(ends)))
    return points


def _waits(lines: Sequence[Line]) -> list[Picture]:
    return [_shares(lines, "data_wait_share", "Waiting for data")]


def _communication(lines: Sequence[Line]) -> list[Picture]:
    return [_shares(lines, "communication_share", "Communicating")]


def _shares(lines: Sequence[Line], key: str, title: str) -> Picture:
    shares: dict[str, Bar] = {}
    for line in lines:
        share = _number(line.result.details.get(key))
        if share is not None:
            shares[line.result.case] = Bar(line.result.case, share, share, share, is_ours(line))
    if not shares:
        raise NotDrawnError(f"No picture of “{title}”: no result has `{key}` in its details.")
    spoken = ", ".join(f"{bar.label} {bar.value:.1%}" for bar in shares.values())
    drawing = bars.draw(list(shares.values()), f"{title}: {spoken}", lambda share: f"{share:.1%}", limit=1.0)
    return Picture(title, "Share of the time; less is better. The whole width is all of it.", drawing)


def _numbers(found: object) -> dict[str, float]:
    """Return the parts that are numbers; empty for what has none."""
    if not isinstance(found, Mapping):
        return {}
    return {str(name): value for name, part in found.items() if (value := _number(part)) is not None}


def _number(found: object) -> float | None:
    """Return a number that can be drawn: finite, and no less than 0."""
    if isinstance(found, int | float) and not isinstance(found, bool) and math.isfinite(found) and found >= 0:
        return float(found)
    return None


_SPECIAL: Mapping[str, Sequence[Drawer]] = {
    "step": (_step_waterfalls, _floors),
    "table5": (_floors,),
    "train": (_waits,),
    "scaling": (_curves, _communication),
    "scaling-model": (_simulated,),
    "startup": (_startup_waterfalls,),
}
