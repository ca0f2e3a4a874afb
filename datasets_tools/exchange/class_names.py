"""Class names as people write them: whole, by WordNet id, by one of their words, or by number."""

from __future__ import annotations

import difflib
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from datasets_tools.errors import StoreError

_WORDNET_ID = re.compile(r"(n\d{8})(?: |$)")
_NUMBER = re.compile(r"[0-9]{1,9}")
# So many wrong names are told with their near matches; the rest are counted.
_MAX_TOLD = 20


def wordnet_id(class_name: str) -> str | None:
    """Return the WordNet id that a class name begins with, None where there is none.

    Args:
        class_name: for example `n01440764 tench, Tinca tinca`.
    """
    found = _WORDNET_ID.match(class_name)
    return found[1] if found else None


def find_classes(asked: Iterable[str], class_names: Sequence[str]) -> tuple[int, ...]:
    """Return the labels of the classes that someone named.

    Args:
        asked: each one a whole class name, its WordNet id, one of the words in it that commas part (letter case does
            not matter), or its number; the first of these that fits counts, so a name beats a number.
        class_names: all there are, by label.

    Returns:
        Labels, ascending, each once.

    Raises:
        StoreError: a name fits no class, or several; the message lists all such names, with near matches.
    """
    directory = _Directory(class_names)
    labels: set[int] = set()
    problems = []
    for name in asked:
        found = directory.labels(name.strip())
        if len(found) == 1:
            labels.update(found)
        else:
            problems.append(directory.problem(name.strip(), found))
    if len(problems) == 1:
        raise StoreError(f"{problems[0]}.")
    if problems:
        rest = len(problems) - _MAX_TOLD
        lines = problems[:_MAX_TOLD] + ([f"... and {rest:,} more"] if rest > 0 else [])
        raise StoreError("\n  ".join([f"{len(problems):,} of the named classes cannot be taken:", *lines]))
    return tuple(sorted(labels))


class _Directory:
    """Labels by every name they go by."""

    def __init__(self, class_names: Sequence[str]) -> None:
        self._class_names = class_names
        self._by_name: dict[str, list[int]] = defaultdict(list)
        self._by_id: dict[str, list[int]] = defaultdict(list)
        self._by_word: dict[str, list[int]] = defaultdict(list)
        for label, name in enumerate(class_names):
            self._by_name[name].append(label)
            self._by_id[wordnet_id(name) or ""].append(label)
            for word in dict.fromkeys(_words(name)):
                self._by_word[word].append(label)

    def labels(self, name: str) -> Sequence[int]:
        """Return the labels that a name may mean, by the first way of naming that knows it."""
        number = int(name) if _NUMBER.fullmatch(name) else -1
        return (
            self._by_name.get(name)
            or self._by_id.get(wordnet_id(name) or "-")
            or self._by_word.get(name.casefold())
            or ([number] if 0 <= number < len(self._class_names) else [])
        )

    def problem(self, name: str, found: Sequence[int]) -> str:
        """Say why a name cannot be taken, and what could be meant."""
        if found:
            several = ", ".join(f"{label} ({self._class_names[label]})" for label in found)
            return f"{name!r} names classes {several}: use a number or a WordNet id"
        near = difflib.get_close_matches(name.casefold(), self._by_word, n=3)
        meant = dict.fromkeys(self._class_names[label] for word in near for label in self._by_word[word])
        hint = f"did you mean {' or '.join(repr(other) for other in meant)}" if meant else self._range()
        return f"{name!r} is not a class; {hint}"

    def _range(self) -> str:
        return f"there are {len(self._class_names):,}, from {self._class_names[0]!r} to {self._class_names[-1]!r}"


def _words(class_name: str) -> Iterator[str]:
    """Yield what a class may be called in short: the parts between commas, without the WordNet id, and the id."""
    found = wordnet_id(class_name)
    if found:
        yield found
    for part in class_name.removeprefix(found or "").split(","):
        if part.strip():
            yield part.strip().casefold()
