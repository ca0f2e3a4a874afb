"""Pictures that are in no store: found, read and prepared as a conversion would, and made a split for a pipeline."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from datasets_tools import files
from datasets_tools.errors import PictureError, SourceError
from datasets_tools.pictures import Picture, Policy, prepare
from datasets_tools.sources.picture_files import FileRun, is_picture_name
from datasets_tools.store import Split
from datasets_tools.store.index import IndexBuilder, StoredFormat
from datasets_tools.store.manifest import Counts, FileRecord, ShardRecord, SplitRecord
from datasets_tools.store.writer import BetonWriter

_NAME = "pictures"


def find_pictures(locations: Iterable[str]) -> Iterator[str | PictureError]:
    """Yield the files that are asked for, or what is wrong with one location.

    Args:
        locations: files, of any name, and folders, of which all files named like pictures are taken, also in folders
            below; paths or URLs.
    """
    for location in locations:
        try:
            yield from _below(location) if files.is_folder(location) else [location]
        except (OSError, SourceError) as error:
            yield PictureError(location, _reason(location, error))


def read_picture(location: str, policy: Policy) -> Picture | PictureError:
    """Return a picture as a conversion would store it, or what is wrong with it.

    Args:
        location: a path or URL.
        policy: what is asked of it.
    """
    try:
        (_, data) = next(FileRun(str(Path.cwd()), (location,)).read())
        return data if isinstance(data, PictureError) else prepare(location, data, policy)
    except PictureError as error:
        return error
    except OSError as error:
        return PictureError(location, f"cannot be read: {files.why(error)}")


def write_pictures(folder: Path, pictures: Sequence[Picture]) -> Split:
    """Return pictures as a split whose files lie in a folder; all labels are 0.

    Args:
        folder: which exists and is empty.
        pictures: as `read_picture` returns them; at least one.

    Raises:
        OSError: it cannot be written.
    """
    index, sizes = IndexBuilder(len(pictures)), [len(picture.data) for picture in pictures]
    beton_path, index_path = folder / f"{_NAME}.beton", folder / f"{_NAME}.index"
    with BetonWriter(beton_path, len(pictures)) as writer:
        for picture, size in zip(pictures, sizes, strict=True):
            place = {"height": picture.height, "width": picture.width, "label": 0}
            raw = picture.info.stored_format == StoredFormat.RAW
            offset = writer.append(picture.data, **place, raw=raw)
            index.append(picture.info, offset=offset, size=size, **place)
        beton_crc32 = writer.finish()
    index.write(index_path, beton_crc32)
    shard = ShardRecord(
        beton=FileRecord.of_file(beton_path), index=FileRecord.of_file(index_path), num_samples=len(pictures)
    )
    record = SplitRecord(
        shards=(shard,),
        num_samples=len(pictures),
        class_counts=(len(pictures),),
        max_height=max(picture.height for picture in pictures),
        max_width=max(picture.width for picture in pictures),
        max_bytes=max(sizes),
        mean_bytes=sum(sizes) / len(sizes),
        counts=Counts(kept=len(pictures)),
        quarantined=(),
    )
    return Split(folder, _NAME, record)


def _below(folder: str) -> Iterator[str]:
    found = False
    for name in filter(is_picture_name, files.walk(folder)):
        found = True
        yield files.join(folder, name)
    if not found:
        raise SourceError(f"{folder}: holds no file that is named like a picture")


def _reason(location: str, error: OSError | SourceError) -> str:
    return files.why(error) if isinstance(error, OSError) else str(error).removeprefix(f"{location}: ")
