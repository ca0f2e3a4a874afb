"""What is wrong with a spec, in its author's words: keys as they are written, what was found there, what is allowed."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from datasets_tools.wording import rule

Table = type[BaseModel]

# Of keys that an unknown one may have been meant for.
_MOST_HINTS = 3


def explain(error: ValidationError, spec: Table, name: str, noun: str) -> str:
    """Return a line for each problem that pydantic found in a spec.

    Args:
        error: what it raised.
        spec: the type that the values were for.
        name: where they came from, for example a file.
        noun: what this spec's keys are called, for example `a recipe key`.
    """
    return "\n".join(_line(details, spec, name, noun) for details in error.errors())


@dataclass(frozen=True, slots=True)
class _Place:
    """Where in a spec something is.

    Attributes:
        path: keys, as they are written, and numbers of values.
        tables: those that the innermost table of the path may be; several where its kind decides.
        table: the one that it is; None where its kind says none of them.
    """

    path: Sequence[str]
    tables: Sequence[Table]
    table: Table | None

    @property
    def key(self) -> str:
        return ".".join(self.path)

    @property
    def parent(self) -> str:
        return ".".join(self.path[:-1])


def _located(location: Sequence[str | int], spec: Table) -> _Place:
    """Follow pydantic's location, where a table whose kind decides is followed by that kind, which nobody wrote."""
    path, tables, table = list[str](), [spec], spec
    parts = iter(location)
    for part in parts:
        path.append(str(part))
        if found := _tables_at(table, str(part)):
            tables, kind = found, next(parts, None) if len(found) > 1 else None
            if len(found) > 1 and kind is None:
                return _Place(path, tables, None)
            table = next(each for each in found if len(found) == 1 or _kind(each) == kind)
    return _Place(path, tables, table)


def _tables_at(table: Table, key: str) -> list[Table]:
    field = table.model_fields.get(key)
    return list(_tables(field.annotation)) if field else []


def _tables(annotation: Any) -> Iterator[Table]:
    if get_origin(annotation) in (Union, UnionType, Annotated):
        for argument in get_args(annotation):
            yield from _tables(argument)
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation


def _kind_or_none(table: Table) -> str | None:
    return _kind(table) if "kind" in table.model_fields else None


def _kind(table: Table) -> str:
    return str(table.model_fields["kind"].default)


def _line(details: ErrorDetails, spec: Table, name: str, noun: str) -> str:
    place, found = _located(details["loc"], spec), details["input"]
    key, shown = place.key or name, reprlib.repr(found)
    where = f" ({name})" if place.path else ""
    match details["type"]:
        case "extra_forbidden" | "invalid_key":
            return _unknown_key(place, spec, name, noun)
        case "missing" if place.path[-1].isdecimal():
            return f"{place.parent} is {shown}{where}: its value number {int(place.path[-1]) + 1} is missing"
        case "missing":
            return f"{key} is missing{where}: it has no default"
        case "union_tag_invalid":
            return f"{key}.kind is {details['ctx']['tag']!r}{where}: choose {_kinds(place.tables)}"
        case "union_tag_not_found":
            return f"{key} has no kind{where}: choose {_kinds(place.tables)}"
        case "model_type" | "model_attributes_type":
            return f"{key} is {shown}{where}: it should be {_what_is_allowed(place.tables)}"
    value = "" if isinstance(found, dict | BaseModel) else f" is {shown}"
    return f"{key}{value}{where}: {rule(details['msg'])}"


def _kinds(tables: Sequence[Table]) -> str:
    *others, last = map(_kind, tables)
    return f"{', '.join(others)} or {last}" if others else last


def _what_is_allowed(tables: Sequence[Table]) -> str:
    if len(tables) > 1:
        return f"a table whose kind is {_kinds(tables)}"
    return f"a table of any of {', '.join(tables[0].model_fields)}"


def _unknown_key(place: _Place, spec: Table, name: str, noun: str) -> str:
    assert place.table is not None, "a key is unknown to a table that is known"
    last = place.path[-1]
    if place.parent and last in map(_kind_or_none, place.tables):
        return f"{place.key} is not {noun} ({name}): {last} is a kind. Write {place.parent}.kind={last}"
    if having := [table for table in place.tables if last in table.model_fields]:
        here = f"{place.parent}.kind is {_kind(place.table)}"
        return f"{place.key} has no meaning where {here} ({name}): leave it out, or choose kind {_kinds(having)}"
    if hints := _meant(place, spec):
        return f"{place.key} is not {noun} ({name}). Did you mean {' or '.join(hints[:_MOST_HINTS])}?"
    where = f"of {place.parent}" if place.parent else "outside of tables"
    return f"{place.key} is not {noun} ({name}). The keys {where} are {', '.join(place.table.model_fields)}"


def _meant(place: _Place, spec: Table) -> list[str]:
    """Return keys that an unknown one may have been meant for: in another table, misspelt, or both."""
    assert place.table is not None
    last, elsewhere = place.path[-1], _keys_by_name(spec)
    if last in elsewhere:
        return elsewhere[last]
    if near := difflib.get_close_matches(last, place.table.model_fields, n=1):
        return [".".join([*place.path[:-1], *near])]
    return [key for match in difflib.get_close_matches(last, elsewhere, n=1) for key in elsewhere[match]]


def _keys_by_name(spec: Table) -> dict[str, list[str]]:
    """Return every key of a spec, in dotted form, by its last part."""
    by_name: dict[str, list[str]] = {}
    for key in dict.fromkeys(_keys(spec)):
        by_name.setdefault(key.rpartition(".")[2], []).append(key)
    return by_name


def _keys(table: Table, prefix: str = "") -> Iterator[str]:
    for name in table.model_fields:
        yield prefix + name
        for inner in _written_tables_at(table, name):
            yield from _keys(inner, f"{prefix}{name}.")


def _written_tables_at(table: Table, key: str) -> list[Table]:
    """Return the tables at a key, without those that their authors write as one value."""
    return [each for each in _tables_at(table, key) if not getattr(each, "written_as_value", False)]
