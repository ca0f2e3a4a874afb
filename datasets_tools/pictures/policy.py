"""What is asked of every picture of a conversion, and what follows from sizes and keys alone."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import Literal

from datasets_tools.errors import ConversionError


@dataclass(frozen=True, slots=True)
class Policy:
    """What is asked of every picture.

    Attributes:
        max_side: shrink so that the longer side is at most this, in pixels.
        short_side: shrink so that the shorter side is at most this.
        min_side: with `max_side`: do not shrink the shorter side below this, even if the longer one stays too long.
        quality: of JPEGs that are encoded, 1 to 100, libjpeg's scale.
        subsampling: of colour JPEGs that are encoded.
        exif: ignore the EXIF orientation, as ImageNet's benchmark does, or turn pictures as it says.
        raw_share: how many of all pictures are stored as raw pixels, 0 to 1; a hash of the key chooses them.
        transcode: rewrite progressive JPEGs without loss as baseline with a restart marker at each row.
        check: decode every picture; otherwise look at the markers alone of JPEGs whose bytes are kept.
        repair: store what can be decoded of a damaged picture, and mark it; otherwise refuse it.
        max_pixels: refuse larger pictures before decoding; by default twice Pillow's `MAX_IMAGE_PIXELS`, where Pillow
            itself refuses.

    Raises:
        ConversionError: a value is out of range, or two of them contradict each other.
    """

    max_side: int | None = None
    short_side: int | None = None
    min_side: int | None = None
    quality: int = 90
    subsampling: Literal["4:2:0", "4:4:4"] = "4:2:0"
    exif: Literal["ignore", "apply"] = "ignore"
    raw_share: float = 0.0
    transcode: bool = True
    check: bool = True
    repair: bool = False
    max_pixels: int = 178_956_970

    def __post_init__(self) -> None:
        for name in ("max_side", "short_side", "min_side", "max_pixels"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConversionError(f"{name} is {value}; it must be at least 1 pixel")
        if not 1 <= self.quality <= 100:
            raise ConversionError(f"quality is {self.quality}; libjpeg's range is 1 to 100")
        if not 0 <= self.raw_share <= 1:
            raise ConversionError(f"raw_share is {self.raw_share}; it is a share of the pictures, 0 to 1")
        self._check_sides()

    def _check_sides(self) -> None:
        if self.short_side is not None and (self.max_side is not None or self.min_side is not None):
            raise ConversionError(
                "short_side is given with max_side or min_side; each decides the size alone: "
                "give short_side, or max_side with or without min_side"
            )
        if self.min_side is not None and self.max_side is None:
            raise ConversionError("min_side is given without max_side, which is what it limits: give both, or neither")
        if self.min_side is not None and self.max_side is not None and self.min_side > self.max_side:
            raise ConversionError(
                f"min_side is {self.min_side}, more than max_side, {self.max_side}: no picture satisfies both"
            )


def fitted(height: int, width: int, policy: Policy) -> tuple[int, int]:
    """Return the height and width that a picture is stored with: never larger, rounded to nearest, at least 1 pixel.

    Args:
        height, width: of the picture, in pixels; both may be swapped, and so are both results.
        policy: its three sides count.
    """
    longer, shorter = max(height, width), min(height, width)
    target, side = 1, 1  # the scale, as an exact fraction
    if policy.short_side is not None:
        target, side = policy.short_side, shorter
    elif policy.max_side is not None:
        target, side = policy.max_side, longer
        if policy.min_side is not None and policy.min_side * side > target * shorter:
            target, side = policy.min_side, shorter
    if target >= side:
        return height, width
    return _scaled(height, target, side), _scaled(width, target, side)


def _scaled(length: int, target: int, side: int) -> int:
    return max(1, (2 * length * target + side) // (2 * side))


def is_raw(key: str, share: float) -> bool:
    """Say whether a picture is among the share that is stored as raw pixels: a hash of its key decides.

    What a smaller share chooses, a larger one chooses too.
    """
    if not share:
        return False
    return int.from_bytes(blake2b(key.encode(), digest_size=8).digest(), "big") < share * 2**64
