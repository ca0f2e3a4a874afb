"""ILSVRC2012 in every form it comes in: the original archives, extracted class folders, Kaggle's CLS-LOC.

Each form yields the same samples in the same order: by WordNet id, then by file name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from datasets_tools import files
from datasets_tools.errors import SourceError
from datasets_tools.sources.base import Entries, Options
from datasets_tools.sources.imagenet_classes import NUM_CLASSES, class_names, official_wnids
from datasets_tools.sources.imagenet_extra import real_labels, v2_pictures
from datasets_tools.sources.imagenet_layouts import Layout, find_layout

NUM_PICTURES = {"train": 1_281_167, "val": 50_000}


class ImageNetSource:
    """List the pictures of ILSVRC2012.

    Args:
        location: the folder that holds the archives, or `train` and `val`, or Kaggle's `ILSVRC`; a path or URL.
        partial: take a copy that is not whole; its classes are numbered in the order of their WordNet ids.
        v2: the folder or plain tar file of an ImageNet-V2: class folders 0 to 999. Becomes the split `v2`.
        real: ImageNet-ReaL's `real.json`: the right classes of each validation picture. Becomes val's label set `real`.

    Attributes:
        class_names: like `n01440764 tench`, by label.
        splits: the entries of each split.
        label_sets: `real` of val, where asked for.
        notes: what was recognised and passed over, one line each.

    Raises:
        SourceError: the location holds no such layout, or a damaged or incomplete one.
    """

    name = "imagenet"

    def __init__(self, location: str, *, partial: bool = False, v2: str | None = None, real: str | None = None) -> None:
        try:
            layout = find_layout(location)
        except OSError as error:
            raise SourceError(f"{location}: cannot be reached: {files.why(error)}.") from error
        wnids = _classes(location, layout)
        labels = {wnid: label for label, wnid in enumerate(wnids)}
        splits: dict[str, Entries] = {name: found.entries(labels) for name, found in layout.splits.items()}
        missing = _missing(splits, wnids)
        if missing and not partial:
            raise SourceError(
                f"{location}: is not the whole of ILSVRC2012: {missing}. Add what is missing, or pass --partial to "
                "convert what is there."
            )
        notes = [layout.description, *(note for found in layout.splits.values() for note in found.notes)]
        if missing:
            notes.append(f"{location}: partial: {missing}; classes are numbered by the WordNet ids that are there")
        absent = [name for name in NUM_PICTURES if name not in splits]
        notes.extend(f"{location} has no {name} pictures: training needs both" for name in absent)
        if v2 is not None or real is not None:
            _check_official(location, wnids)
        if v2 is not None:
            splits["v2"], more = v2_pictures(v2, partial=partial)
            notes.extend(more)
        self.options: Options = _given(partial=bool(missing), v2=v2 is not None, real=real is not None)
        self.class_names: Sequence[str] = class_names(wnids)
        self.splits: Mapping[str, Entries] = splits
        self.label_sets: Mapping[str, Mapping[str, Sequence[Sequence[int]]]] = (
            {} if real is None else {"val": {"real": real_labels(real, splits.get("val"))}}
        )
        self.notes: Sequence[str] = tuple(notes)


def _given(**options: bool) -> Options:
    return {name: True for name, given in options.items() if given}


def _classes(location: str, layout: Layout) -> tuple[str, ...]:
    """Return the WordNet ids of the train split, of val's where there is no train."""
    wnids = next(iter(layout.splits.values())).wnids
    for name, found in layout.splits.items():
        others = sorted(set(found.wnids) - set(wnids))
        if others:
            raise SourceError(
                f"{location}: {name} has pictures of {len(others):,} classes that train does not have "
                f"({_few(others)}). Every split must use the train split's classes: add them there, or remove "
                "the pictures."
            )
    return tuple(wnids)


def _missing(splits: Mapping[str, Entries], wnids: Sequence[str]) -> str:
    """Say how the numbers of pictures and classes differ from ILSVRC2012's; nothing where they agree."""
    found = {f"{name} pictures": len(splits[name]) if name in splits else 0 for name in NUM_PICTURES}
    found["classes"] = len(wnids)
    expected = {**{f"{name} pictures": number for name, number in NUM_PICTURES.items()}, "classes": NUM_CLASSES}
    said = [f"{found[what]:,} {what} (of {number:,})" for what, number in expected.items() if found[what] != number]
    strangers = sorted(set(wnids) - set(official_wnids()))
    if strangers:
        said.append(f"{len(strangers):,} classes are not ILSVRC2012's ({_few(strangers)})")
    return ", ".join(said)


def _check_official(location: str, wnids: Sequence[str]) -> None:
    """Refuse V2's and ReaL's labels, which are numbers of the 1,000 classes, for any other classes."""
    strangers = sorted(set(wnids) - set(official_wnids()))
    if strangers:
        raise SourceError(
            f"{location}: class {strangers[0]} is not one of ILSVRC2012's {NUM_CLASSES:,} ({len(strangers):,} such "
            "classes); ImageNet-V2 and ImageNet-ReaL are labelled with their numbers. Leave out --v2 and --real, or "
            "remove such classes."
        )
    if tuple(wnids) != official_wnids():
        raise SourceError(
            f"{location}: has {len(wnids):,} classes; ImageNet-V2 and ImageNet-ReaL are labelled with the numbers of "
            f"all {NUM_CLASSES:,}. Leave out --v2 and --real, or add the missing classes."
        )


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
