"""A picture of a store: a few samples of each class, with the class's name."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from datasets_tools import jpeg
from datasets_tools.errors import DamagedSampleError, MissingPackageError
from datasets_tools.store import Split, Store
from datasets_tools.store.index import StoredFormat

_CELL_PX = 96
_GAP_PX = 4
_NAME_PX = 160
_FONT_PX = 13
_PAPER, _INK = (255, 255, 255), (0, 0, 0)


def contact_sheet(
    store: Store, split: str, *, num_classes: int = 24, per_class: int = 8
) -> tuple[Image.Image, tuple[str, ...]]:
    """Draw a few pictures of each class, one class a row.

    Args:
        store: the store.
        split: the split to draw from.
        num_classes: at most so many classes, spread evenly over all of them.
        per_class: at most so many pictures of each, spread evenly over the class's samples.

    Returns:
        An RGB picture, and what is wrong with the samples that could not be decoded, which are crossed out in it.

    Raises:
        StoreError: there is no such split, or a file of it changed.
    """
    notes: list[str] = []
    labels = store.split(split).labels
    classes = _spread(np.arange(store.num_classes), num_classes)
    pitch = _CELL_PX + _GAP_PX
    sheet = Image.new("RGB", (_NAME_PX + per_class * pitch, _GAP_PX + len(classes) * pitch), _PAPER)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(_FONT_PX)
    for row, label in enumerate(classes.tolist()):
        top = _GAP_PX + row * pitch
        name = _shortened(store.class_names[label], font)
        draw.text((_GAP_PX, top + _CELL_PX // 2), name, fill=_INK, font=font, anchor="lm")
        for column, sample_id in enumerate(_spread(np.flatnonzero(labels == label), per_class).tolist()):
            thumbnail = _thumbnail(store.split(split), sample_id, notes)
            left = _NAME_PX + column * pitch + (_CELL_PX - thumbnail.width) // 2
            sheet.paste(thumbnail, (left, top + (_CELL_PX - thumbnail.height) // 2))
    return sheet, tuple(notes)


def _spread(ids: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Return at most `count` of `ids`, evenly spaced, the first and the last among them."""
    if len(ids) <= count:
        return ids
    return ids[np.linspace(0, len(ids) - 1, count).round().astype(np.int64)]


def _thumbnail(split: Split, sample_id: int, notes: list[str]) -> Image.Image:
    """Return a sample as a small RGB picture, or a cross and a further note."""
    try:
        image = Image.fromarray(_pixels(split, sample_id))
    except DamagedSampleError as error:
        notes.append(str(error))
        return _cross()
    except (jpeg.JpegError, MissingPackageError) as error:
        notes.append(f"{split.name}: sample {sample_id} ({split.key(sample_id)}): {error}")
        return _cross()
    image.thumbnail((_CELL_PX, _CELL_PX))
    return image.convert("RGB")


def _pixels(split: Split, sample_id: int) -> NDArray[np.uint8]:
    """Return a sample's pixels, uint8 (height, width, 3) or, grey, (height, width)."""
    data = split.encoded(sample_id)
    if split.formats[sample_id] == StoredFormat.RAW:
        return data.reshape(int(split.heights[sample_id]), int(split.widths[sample_id]), 3)
    pixels = jpeg.decode(data)
    return pixels[:, :, 0] if pixels.shape[2] == 1 else pixels


def _cross() -> Image.Image:
    cell = Image.new("RGB", (_CELL_PX, _CELL_PX), _PAPER)
    draw = ImageDraw.Draw(cell)
    last = _CELL_PX - 1
    draw.line((0, 0, last, last), _INK)
    draw.line((0, last, last, 0), _INK)
    return cell


def _shortened(name: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """Put a name on one line and cut it so that it fits the name column."""
    name = " ".join(name.split())
    room = _NAME_PX - 2 * _GAP_PX
    if font.getlength(name) <= room:
        return name
    return next(cut for end in range(len(name), -1, -1) if font.getlength(cut := name[:end] + "…") <= room)
