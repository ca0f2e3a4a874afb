"""ILSVRC2012's original archives: the train tar of one tar for each class, and the flat val tar."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from datasets_tools.errors import SourceError
from datasets_tools.sources.imagenet_classes import VAL_PICTURE, WORDNET_ID, checked_pictures
from datasets_tools.sources.imagenet_labels import ValLabels
from datasets_tools.sources.tar import Member, TarArchive
from datasets_tools.sources.tar_entries import TarEntries, listed
from datasets_tools.wording import counted

TRAIN_TAR = "ILSVRC2012_img_train.tar"
VAL_TAR = "ILSVRC2012_img_val.tar"


@dataclass(frozen=True, slots=True)
class ClassTar:
    """The tar file of one class, itself a member of `location` where `inner` says so."""

    wnid: str
    location: str
    inner: Member | None = None


class ClassTars:
    """Training pictures in one tar file for each class.

    Args:
        description: what was found, in a few words.
        tars: of the classes.

    Attributes:
        wnids: the classes, sorted.
        notes: what was left out; complete once the entries are listed.

    Raises:
        SourceError: a class comes twice.
    """

    def __init__(self, description: str, tars: Sequence[ClassTar]) -> None:
        self.description = description
        self._tars = {tar.wnid: tar for tar in sorted(tars, key=lambda tar: tar.wnid)}
        self.wnids = tuple(self._tars)
        self.notes: list[str] = []
        if len(self._tars) < len(tars):
            raise SourceError(f"{tars[0].location}: holds the tar file of a class twice. Get it again.")

    def entries(self, labels: Mapping[str, int]) -> TarEntries:
        """List the pictures.

        Args:
            labels: by WordNet id.

        Raises:
            SourceError: an archive is damaged, or a class empty.
        """
        entries, num_others = TarEntries(), 0
        for tar, archive, members in listed(self._location, _listed_class, self._tars.values()):
            by_name = {member.name: member for member in members}
            pictures = checked_pictures(archive.name, [member.name for member in members])
            for name in pictures:
                member = by_name[name]
                entries.append(f"{tar.wnid}/{name}", labels[tar.wnid], tar.location, member.start, member.size)
            num_others += len(members) - len(pictures)
            self.notes.extend(archive.notes)
        if num_others:
            others = counted(num_others, "file that is no picture is", "files that are no pictures are")
            self.notes.append(f"{self._location}: {others} left out")
        return entries

    @property
    def _location(self) -> str:
        return next(iter(self._tars.values())).location


def train_archive(location: str) -> ClassTars:
    """Find the classes of the train archive.

    Args:
        location: of ILSVRC2012_img_train.tar, a path or URL.

    Raises:
        SourceError: it is damaged, or is not a tar file of tar files.
    """
    tars = []
    for member in TarArchive(location):
        wnid, dot, extension = _base_name(member).partition(".")
        if (dot, extension) != (".", "tar") or not WORDNET_ID.fullmatch(wnid):
            raise SourceError(
                f"{location}: holds {member.name}; ILSVRC2012's holds n01440764.tar and so on, one tar file for each "
                "class. Use `fastbot convert webdataset` for other tar files."
            )
        tars.append(ClassTar(wnid, location, member))
    if not tars:
        raise SourceError(f"{location}: is empty. Get it again.")
    return ClassTars(location, tars)


class ValTar:
    """The validation pictures in one tar file.

    Args:
        location: of ILSVRC2012_img_val.tar, a path or URL.
        labels: their classes.

    Attributes:
        description, wnids, notes: as of `ClassTars`.

    Raises:
        SourceError: the archive is damaged, holds a picture twice, or one without a label.
    """

    def __init__(self, location: str, labels: ValLabels) -> None:
        archive = TarArchive(location)
        members = list(archive)
        pictures = {name: member for member in members if VAL_PICTURE.fullmatch(name := _base_name(member))}
        checked_pictures(location, [name for name in map(_base_name, members) if VAL_PICTURE.fullmatch(name)])
        self._location = location
        self._rows = sorted((labels.wnid(name), name, member) for name, member in pictures.items())
        self.description = f"{location} (labels of {labels.origin})"
        self.wnids = tuple(sorted({wnid for wnid, _, _ in self._rows}))
        self.notes = list(archive.notes)
        if len(members) > len(pictures):
            others = counted(len(members) - len(pictures), "other file is", "other files are")
            self.notes.append(f"{location}: {others} left out")

    def entries(self, labels: Mapping[str, int]) -> TarEntries:
        """List the pictures, by class.

        Args:
            labels: by WordNet id.
        """
        entries = TarEntries()
        for wnid, name, member in self._rows:
            entries.append(f"{wnid}/{name}", labels[wnid], self._location, member.start, member.size)
        return entries


def _listed_class(tar: ClassTar) -> tuple[ClassTar, TarArchive, list[Member]]:
    archive = TarArchive(tar.location, tar.inner)
    return tar, archive, [member._replace(name=_base_name(member)) for member in archive]


def _base_name(member: Member) -> str:
    return member.name.rpartition("/")[2]
