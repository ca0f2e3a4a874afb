"""What results were measured under, in words: of a whole report, and of one benchmark."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks.lines import Line
from benchmarks.pages.measurements import corpus_of, settings

Words = list[tuple[str, str]]
_QUANTILES = ("0.05", "0.5", "0.95")


def of_report(lines: Sequence[Line]) -> Words:
    """Return what all results have in common, by name; where they differ, all of it."""
    versions: dict[str, list[str]] = {}
    for line in lines:
        for name, version in line.versions.items():
            versions.setdefault(name, []).append(version)
    packages = ", ".join(f"{name} {_each(found)}" for name, found in versions.items())
    return [
        ("Device", _each(line.device for line in lines)),
        ("Cores", _each(str(line.conditions.get("cores", "unknown")) for line in lines)),
        ("Commit", _each(line.commit for line in lines)),
        ("Versions", f"Python {_each(str(line.conditions.get('python', 'unknown')) for line in lines)}, {packages}"),
    ]


def of_benchmark(lines: Sequence[Line]) -> Words:
    """Return what the results of one benchmark were measured under, by name."""
    found = {
        "Settings": "; ".join(f"{name} {value}" for name, value in constant(lines).items()),
        "Corpus": _each(words for line in lines if (words := _corpus(corpus_of(line)))),
        "Command": _each(str(line.conditions.get("command", "")) for line in lines),
        "Other load": _load([_machine(line) for line in lines]),
        "Clocks": _each(words for line in lines if (words := _clocks(_machine(line)))),
    }
    return [(name, words) for name, words in found.items() if words]


def constant(lines: Sequence[Line]) -> dict[str, str]:
    """Return the settings that all lines share."""
    every = [settings(line) for line in lines]
    return {name: value for name, value in every[0].items() if all(other.get(name) == value for other in every)}


def varying(lines: Sequence[Line]) -> list[str]:
    """Return the names of the settings that differ from line to line."""
    every = [settings(line) for line in lines]
    names = dict.fromkeys(name for own in every for name in own)
    return [name for name in names if name not in constant(lines)]


def _each(words: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(words))


def _machine(line: Line) -> Mapping[str, Any]:
    machine = line.conditions.get("machine")
    return machine if isinstance(machine, Mapping) else {}


def _corpus(corpus: Mapping[str, Any]) -> str:
    if not corpus.get("recipe_hash"):
        return str(corpus.get("store", ""))
    quantiles = corpus.get("byte_quantiles", {})
    sizes = ", ".join(f"{quantiles[name] / 1e3:.0f} kB at {name}" for name in _QUANTILES if name in quantiles)
    shares = ", ".join(f"{name} {share:.1%}" for name, share in corpus.get("shares", {}).items())
    mean = (
        f"{corpus['mean_width']:.0f} x {corpus['mean_height']:.0f} px, {corpus['mean_bytes'] / 1e3:.1f} kB on average"
    )
    return f"{corpus['recipe_hash'][:12]}: {corpus['num_train']:,} pictures, {mean} ({sizes}); {shares}"


def _load(machines: Sequence[Mapping[str, Any]]) -> str:
    """Return the most that others had of the processor while any of these was measured."""
    elsewhere = [float(machine["cores_busy_elsewhere"]) for machine in machines if "cores_busy_elsewhere" in machine]
    if not elsewhere:
        return ""
    stolen = max(float(machine.get("cores_stolen", 0)) for machine in machines)
    return f"other processes kept up to {max(elsewhere):.2f} cores busy, the hypervisor's other guests {stolen:.2f}"


def _clocks(machine: Mapping[str, Any]) -> str:
    shown = [(when, words) for when in ("before", "during", "after") if (words := _reading(machine.get(when) or {}))]
    return "; ".join(f"{when} {words}" for when, words in shown)


def _reading(shown: Mapping[str, Any]) -> str:
    words = []
    if clocks := shown.get("cpu_mhz"):
        ends = dict.fromkeys((f"{clocks['lowest']:,}", f"{clocks['highest']:,}"))
        words.append(f"CPU {' to '.join(ends)} MHz")
    if celsius := shown.get("cpu_celsius"):
        words.append(f"{celsius:.0f} °C")
    for place, gpu in enumerate(shown.get("gpus", [])):
        seen = {name: _seen(value) for name, value in gpu.items()}
        words.append(
            f"GPU {place} {seen.get('sm_mhz')} MHz (memory {seen.get('memory_mhz')}), {seen.get('power_w')} W, "
            f"{seen.get('celsius')} °C, throttling {seen.get('throttled')}"
        )
    return ", ".join(words)


def _seen(value: object) -> str:
    """Return a single reading, or the ends of those that were taken while a rung ran."""
    if isinstance(value, Mapping):
        return " to ".join(dict.fromkeys(f"{value[end]:g}" for end in ("lowest", "highest")))
    return " or ".join(map(str, value)) if isinstance(value, Sequence) and not isinstance(value, str) else str(value)
