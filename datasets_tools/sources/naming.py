"""What splits and classes are called, where a source's tables name them freely."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from datasets_tools.errors import SourceError

# Names that mean the validation split; Hugging Face's list, `datasets.data_files.KEYWORDS_IN_DIR_NAME_BASE_PATTERNS`.
_VAL_NAMES = frozenset({"val", "valid", "validation", "dev"})
_TRAIN_NAMES = frozenset({"train", "training"})
# Longer ones do not fit int64, and are identifiers rather than numbers of classes.
MAX_DIGITS = 18
_NUMBER = re.compile(rf"-?[0-9]{{1,{MAX_DIGITS}}}")


def split_name(written: str) -> str:
    """Return a split's name in a store: `validation`, `valid` and `dev` are `val`, `training` is `train`."""
    lower = written.lower()
    if lower in _VAL_NAMES:
        return "val"
    return "train" if lower in _TRAIN_NAMES else lower


def in_order(splits: Iterable[str]) -> list[str]:
    """Return split names in a store's order: train, val, then the others sorted."""
    return sorted(splits, key=lambda name: (name != "train", name != "val", name))


def whole_number(text: str) -> int | None:
    """Return the number that a label looks like: an optional minus and at most 18 digits; else None."""
    return int(text) if _NUMBER.fullmatch(text) else None


def negative_label(where: str, label: int) -> SourceError:
    """Return the error for a label below 0.

    Args:
        where: the picture's place in the source.
        label: what stands there.
    """
    return SourceError(
        f"{where}: label {label} is no class: numbers of classes count from 0, and -1 usually marks a picture without "
        "a label. Remove such rows, or give the pictures a class."
    )


class ClassTable:
    """Classes as they are met, numbered at the end. One rule for all sources whose tables write labels freely.

    Labels that all look like whole numbers are numbers: 0 to K - 1, each there. Labels of which none does are names,
    also 1.5. A mixture is refused: a slip among a thousand numbers would make names of all, in another order. So is a
    negative number, wherever it stands.

    While a source is read, a class is known by its place of first appearance; `resolve` gives its label.
    """

    def __init__(self) -> None:
        self._places: dict[str, int] = {}

    def place(self, name: str, where: str) -> int:
        """Return when a class was first met, counting from 0.

        Args:
            name: the label as written.
            where: its place in the source, for the message.

        Raises:
            SourceError: it is a negative number.
        """
        place = self._places.get(name)
        if place is not None:
            return place
        number = whole_number(name)
        if number is not None and name.startswith("-"):
            raise negative_label(where, number)
        self._places[name] = len(self._places)
        return self._places[name]

    def resolve(self, where: str) -> tuple[list[str], NDArray[np.int64]]:
        """Number the classes.

        Args:
            where: the source, for the message.

        Returns:
            The class names by label, and the label of each place, int64 (K,). Where every name is a number, that
            number is the label; otherwise the sorted names are numbered.

        Raises:
            SourceError: the names are numbers, but not all of 0 to K - 1; or only some are numbers.
        """
        names = list(self._places)
        numbers = [number for name in names if (number := whole_number(name)) is not None]
        if numbers and len(numbers) == len(names):
            labels = np.array(numbers, np.int64)
            return numbered_classes(np.unique(labels), where), labels
        if numbers:
            raise _mixed(names, where)
        ordered = sorted(names)
        ranks = {name: label for label, name in enumerate(ordered)}
        return ordered, np.array([ranks[name] for name in names], np.int64)


def _mixed(names: Sequence[str], where: str) -> SourceError:
    number = next(name for name in names if whole_number(name) is not None)
    other = next(name for name in names if whole_number(name) is None)
    return SourceError(
        f"{where}: some labels are whole numbers ({number!r}), others are names ({other[:40]!r}). Write numbers from 0 "
        "for all classes, or for all of them names that are no numbers."
    )


def numbered_classes(labels: NDArray[np.int64], where: str) -> list[str]:
    """Name classes by their numbers.

    Args:
        labels: those that occur, int64 (K,), sorted, each once.
        where: the source, for the message.

    Raises:
        SourceError: they are not 0 to K - 1.
    """
    if not np.array_equal(labels, np.arange(len(labels))):
        wrong = np.flatnonzero(labels != np.arange(len(labels)))[0]
        found = f"{len(labels):,} numbers from {labels[0]} to {labels[-1]}"
        raise SourceError(
            f"{where}: labels that are numbers must be 0 to {len(labels) - 1} without a gap; found {found}, and no "
            f"{wrong}. Number them so, or write class names instead."
        )
    return [str(label) for label in labels.tolist()]


def check_classes_of_train(
    labels: Mapping[str, NDArray[np.int64]], class_names: Sequence[str], where: Callable[[str, int], str]
) -> None:
    """Refuse a class that the train split has no picture of.

    Args:
        labels: by split, int64 (N,).
        class_names: by label.
        where: names the place of a split's picture in the source, for the message.

    Raises:
        SourceError: another split than train has such a class.
    """
    if "train" not in labels:
        return
    is_trained = np.zeros(len(class_names), bool)
    is_trained[labels["train"]] = True
    for split, found in labels.items():
        foreign = np.flatnonzero(~is_trained[found])
        if len(foreign):
            name = class_names[found[foreign[0]]]
            raise SourceError(
                f"{where(split, int(foreign[0]))}: class {name} is not a class of the train split. Every split must "
                "use the train split's classes: correct the label or leave the picture out."
            )
