from typing import Any, NewType

from numpy.typing import NDArray

from datasets_tools.jpeg import Buffer

Array = NDArray[Any]
_Batch = NewType("_Batch", object)  # a capsule
_Header = tuple[int, int, int, int, int, bool, bool, int, int, bool]

def inspect(jpeg: Buffer, /) -> _Header: ...
def frame(jpeg: Buffer, /) -> _Header: ...
def check(jpeg: Buffer, /) -> bool: ...
def transcode(jpeg: Buffer, /) -> bytes: ...
def decode(jpeg: Buffer, out: Buffer, height: int, width: int, components: int, tolerant: bool, /) -> None: ...
def encode(pixels: Buffer, height: int, width: int, components: int, quality: int, subsample: bool, /) -> bytes: ...
def resize(
    pixels: Buffer, height: int, width: int, components: int, out: Buffer, out_height: int, out_width: int, /
) -> None: ...
def batch(
    data: Buffer,
    offsets: Array,
    sizes: Array,
    raw: Array,
    heights: Array,
    widths: Array,
    windows: Array,
    boxes: Array,
    out: Array,
    failed: Array,
    messages: Array,
    next: Array,
    out_height: int,
    out_width: int,
    bicubic: bool,
    /,
) -> _Batch: ...
def work(batch: _Batch, /) -> None: ...
def address(batch: _Batch, /) -> int: ...
def work_address() -> int: ...
