"""ILSVRC2012's classes and the names of its files."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cache
from importlib import resources

from datasets_tools.errors import SourceError
from datasets_tools.sources.base import check_name
from datasets_tools.sources.picture_files import is_picture_name

NUM_CLASSES = 1000
WORDNET_ID = re.compile(r"n\d{8}")
VAL_PICTURE = re.compile(r"ILSVRC2012_val_(\d{8})\.JPEG")


@cache
def _words() -> dict[str, str]:
    """Return the words of the 1,000 classes by WordNet id. Source: torchvision's `IMAGENET1K` categories."""
    text = resources.files("datasets_tools.sources").joinpath("imagenet_classes.txt").read_text(encoding="utf-8")
    return {wnid: words for wnid, _, words in (line.partition(" ") for line in text.splitlines())}


def official_wnids() -> tuple[str, ...]:
    """Return the WordNet ids of the 1,000 classes by label: sorted."""
    return tuple(_words())


def class_names(wnids: Iterable[str]) -> tuple[str, ...]:
    """Return WordNet ids followed by their words, like `n01440764 tench`; an unknown id stays alone."""
    words = _words()
    return tuple(f"{wnid} {words[wnid]}" if wnid in words else wnid for wnid in wnids)


def checked_pictures(where: str, names: Sequence[str]) -> list[str]:
    """Return the names of pictures among a class's files, sorted.

    Args:
        where: the class's folder or archive, for messages.
        names: of all its files.

    Raises:
        SourceError: there is no picture, two have one name, or a name cannot be stored.
    """
    pictures = sorted(name for name in names if is_picture_name(name) and not name.startswith("."))
    if not pictures:
        raise SourceError(f"{where}: holds no picture: none of its {len(names):,} files is called like one. Remove it.")
    for name, following in zip(pictures, [*pictures[1:], None], strict=True):
        if name == following:
            raise SourceError(f"{where}: holds {name!r} twice. Get it again, or remove one.")
        check_name(name, where)
    return pictures
