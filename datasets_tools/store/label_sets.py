"""Further labels of a split: a JSON list with, for each sample, the list of its right classes (as ImageNet-ReaL's)."""

from __future__ import annotations

from pathlib import Path

from datasets_tools.digest import Digest
from datasets_tools.errors import StoreError
from datasets_tools.store.json_files import parse_json, read_bounded
from datasets_tools.store.manifest import FileRecord

# A million samples of ten classes each; what is larger is no label set, and is not read.
_MAX_BYTES = 1 << 26

LabelLists = tuple[tuple[int, ...], ...]


def read_label_lists(path: Path, record: FileRecord, num_samples: int, num_classes: int) -> LabelLists:
    """Read a label set and check it.

    Args:
        path: the file.
        record: what the manifest says of it.
        num_samples: of the split.
        num_classes: labels are below it.

    Returns:
        For each sample the classes that are right; none where nobody knows.

    Raises:
        StoreError: the file is missing, is not the one the manifest means, or holds something else.
    """
    data = read_bounded(path, min(_MAX_BYTES, _most_bytes(num_samples, num_classes)))
    # Before it is parsed: what another put there may be anything.
    if len(data) != record.size or Digest(data).text() != record.sha256:
        raise StoreError(f"{path}: is not the file that manifest.json means: its sha256 differs. Copy it again.")
    content = parse_json(str(path), data)
    if not isinstance(content, list) or len(content) != num_samples:
        found = f"{len(content):,}" if isinstance(content, list) else "no"
        raise StoreError(f"{path}: holds {found} lists of labels, not one for each of {num_samples:,} samples.")
    return tuple(_checked(path, sample_id, labels, num_classes) for sample_id, labels in enumerate(content))


def _most_bytes(num_samples: int, num_classes: int) -> int:
    """Return a length above that of the JSON in which every sample has every class."""
    return num_samples * (num_classes * (len(str(num_classes)) + 2) + 64) + 64


def _checked(path: Path, sample_id: int, labels: object, num_classes: int) -> tuple[int, ...]:
    # `type is int`: JSON's true is no label.
    if not isinstance(labels, list) or not all(type(label) is int and 0 <= label < num_classes for label in labels):
        raise StoreError(f"{path}: the labels of sample {sample_id} are no list of classes 0 to {num_classes - 1}.")
    return tuple(labels)
