"""Which cases stand beside each other in a picture: those that are compared with each other at equal settings."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.lines import Line
from benchmarks.pages.measurements import settings

# What cases of other people's code are called, in part. All else that is compared with another case is fastbot's.
_OTHERS = re.compile(
    r"stock |torchvision|PyTorch|timm|kornia|webdataset|spdl|litdata|composer|numpy|Pillow|OpenCV|FFCV|DALI|eager|"
    r"plain |^cp\b",
    re.IGNORECASE,
)


def is_ours(line: Line) -> bool:
    """Return whether a case is fastbot's, and no peer."""
    case = line.result.case
    if "fastbot" in case:
        return True
    return line.result.peer != case and not _OTHERS.search(case)


@dataclass(frozen=True, slots=True)
class Group:
    """Cases of one unit.

    Attributes:
        title: what their names have in common; may be empty.
        unit: of their figures.
        cases: each a label, and the first of its lines.
    """

    title: str
    unit: str
    cases: tuple[tuple[str, Line], ...]


def groups(lines: Sequence[Line]) -> list[Group]:
    """Put the cases of a benchmark into groups; cases that are alone stand in one for each unit.

    A case stands beside the first that it is compared with, and beside the others of its own settings: where a loader
    with two threads is also compared with itself with one, both have their own group.

    Args:
        lines: of one benchmark.
    """
    first = _first_lines(lines)
    links = {name: name for name in first}  # towards a name that stands for the group
    for line in lines:
        case, peer = line.result.case, line.result.peer
        if peer in first and (line is first[case] or _comparable(first[case], first[peer])):
            links[_root(links, peer)] = _root(links, case)
    members: dict[str, list[Line]] = {}
    for name, line in first.items():
        members.setdefault(_root(links, name), []).append(line)
    alone: dict[str, list[Line]] = {}
    for found in members.values():
        if len(found) == 1:
            alone.setdefault(found[0].result.unit, []).extend(found)
    together = [found for found in members.values() if len(found) > 1]
    return [_group(found) for found in [*together, *alone.values()]]


def _first_lines(lines: Sequence[Line]) -> dict[str, Line]:
    found: dict[str, Line] = {}
    for line in lines:
        found.setdefault(line.result.case, line)
    return found


def _comparable(case: Line, peer: Line) -> bool:
    return _scale(settings(case)) == _scale(settings(peer))


def _scale(found: Mapping[str, str]) -> list[str | None]:
    """Return the settings by which a case is also compared with itself, larger or smaller."""
    return [found.get(name) for name in ("threads", "ranks", "batch_size", "size")]


def _root(links: Mapping[str, str], name: str) -> str:
    while links[name] != name:
        name = links[name]
    return name


def told_apart(names: Sequence[str]) -> tuple[str, list[str]]:
    """Return the parts that all names share, between commas, and of each name the rest."""
    parts = [name.split(", ") for name in names]
    shared = [part for part in parts[0] if all(part in others for others in parts)] if len(names) > 1 else []
    return ", ".join(shared), [", ".join(part for part in own if part not in shared) or ", ".join(own) for own in parts]


def _group(lines: Sequence[Line]) -> Group:
    shared, labels = told_apart([line.result.case for line in lines])
    return Group(shared, lines[0].result.unit, tuple(zip(labels, lines, strict=True)))
