"""Labels of the 50,000 validation pictures: from the development kit, or from Kaggle's `LOC_val_solution.csv`."""

from __future__ import annotations

import csv
import gzip
import io
import re
import tarfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from datasets_tools import files
from datasets_tools.errors import SourceError
from datasets_tools.sources.imagenet_classes import VAL_PICTURE, WORDNET_ID
from datasets_tools.sources.imagenet_meta import wnids_by_id

DEVKIT = "ILSVRC2012_devkit_t12"
SOLUTION = "LOC_val_solution.csv"
_META = "data/meta.mat"
_GROUND_TRUTH = "data/ILSVRC2012_validation_ground_truth.txt"
# The real one unpacks to 3 MB.
_MAX_DEVKIT = 256 << 20
_SOLUTION_ID = re.compile(r"ILSVRC2012_val_(\d{8})")


@dataclass(frozen=True, slots=True)
class ValLabels:
    """Classes of validation pictures.

    Attributes:
        origin: the file they come from.
        wnids: WordNet ids by the number in a picture's name, from 1.
    """

    origin: str
    wnids: Mapping[int, str]

    def wnid(self, name: str) -> str:
        """Return the class of a picture.

        Args:
            name: like `ILSVRC2012_val_00000001.JPEG`.

        Raises:
            SourceError: it has none.
        """
        number = val_number(name)
        if number not in self.wnids:
            raise SourceError(f"{self.origin}: has no label for {name}; it has {len(self.wnids):,}. Get it again.")
        return self.wnids[number]


def val_number(name: str) -> int:
    """Return the number of a validation picture, from 1, from its name."""
    match = VAL_PICTURE.fullmatch(name)
    assert match is not None, name
    return int(match[1])


def find_val_labels(folders: Sequence[str], pictures: str) -> ValLabels:
    """Read the labels of validation pictures that lie in no class folders.

    Args:
        folders: where the files of labels may lie.
        pictures: where the pictures lie, for messages.

    Raises:
        SourceError: no file of labels is there, or it is damaged.
    """
    for folder in folders:
        if files.is_file(path := files.join(folder, SOLUTION)):
            return ValLabels(path, _solution(path))
        if files.is_file(path := files.join(folder, f"{DEVKIT}.tar.gz")):
            return ValLabels(path, _devkit(path, *_archived_devkit(path)))
        if files.is_file(files.join(path := files.join(folder, DEVKIT), _META)):
            return ValLabels(path, _devkit(path, *(_content(files.join(path, n)) for n in (_META, _GROUND_TRUTH))))
    raise SourceError(
        f"{pictures}: the pictures lie in no class folders, and no file with their labels was found in "
        f"{' or '.join(folders)}: neither {DEVKIT}.tar.gz (Development kit, Task 1 & 2, of ILSVRC2012 at "
        f"image-net.org) nor Kaggle's {SOLUTION}. Put one of them there."
    )


def _content(path: str) -> bytes:
    try:
        return files.read(path)
    except OSError as error:
        raise SourceError(f"{path}: cannot be read: {files.why(error)}") from error


def _solution(path: str) -> dict[int, str]:
    """Read lines of `ILSVRC2012_val_00048981,n03995372 85 1 499 272 ...`: a class and a box for each object."""
    wnids = {}
    try:
        rows = list(csv.reader(io.StringIO(_content(path).decode(), newline="")))
    except (UnicodeDecodeError, csv.Error) as error:
        raise SourceError(f"{path}: is no CSV file: {error}. Get it again.") from error
    for line, row in enumerate(rows[1:], start=2):
        name, wnid = (row[0], row[1].partition(" ")[0]) if len(row) == 2 else ("", "")
        match = _SOLUTION_ID.fullmatch(name)
        if match is None or not WORDNET_ID.fullmatch(wnid):
            raise SourceError(
                f"{path}, line {line}: {','.join(row)[:60]!r} is not like ILSVRC2012_val_00000001,n01751748 111 108 "
                "230 200. Get the file again."
            )
        wnids[int(match[1])] = wnid
    return wnids


def _archived_devkit(path: str) -> tuple[bytes, bytes]:
    """Return the two files of the development kit's archive."""
    try:
        with gzip.open(io.BytesIO(_content(path))) as stream:
            data = stream.read(_MAX_DEVKIT + 1)
        if len(data) > _MAX_DEVKIT:
            raise SourceError(f"{path}: unpacks to more than {_MAX_DEVKIT:,} bytes; the real one has 3 million.")
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
            members = {member.name.removeprefix(f"{DEVKIT}/"): member for member in archive if member.isreg()}
            found = [archive.extractfile(members[name]) for name in (_META, _GROUND_TRUTH)]
            meta, truth = (file.read() for file in found if file is not None)
    except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
        raise SourceError(f"{path}: cannot be unpacked: {error}. Get it again.") from error
    except KeyError as error:
        raise SourceError(f"{path}: holds no {error.args[0]}: it is not ILSVRC2012's development kit.") from error
    return meta, truth


def _devkit(path: str, meta: bytes, truth: bytes) -> dict[int, str]:
    try:
        wnids = wnids_by_id(meta)
    except ValueError as error:
        raise SourceError(f"{path}: {_META} cannot be read: {error}. Get the development kit again.") from error
    for number, wnid in wnids.items():
        if not WORDNET_ID.fullmatch(wnid):
            raise SourceError(f"{path}: {_META}: class {number} is {wnid[:20]!r}, no WordNet id. Get it again.")
    return dict(enumerate(_truths(path, truth.split(), wnids), start=1))


def _truths(path: str, ids: Iterable[bytes], wnids: Mapping[int, str]) -> Iterable[str]:
    for line, text in enumerate(ids, start=1):
        if not text.isdigit() or len(text) > 9 or int(text) not in wnids:
            raise SourceError(
                f"{path}: {_GROUND_TRUTH}, line {line}: {text[:20]!r} is no ILSVRC2012_ID of {_META}. Get it again."
            )
        yield wnids[int(text)]
