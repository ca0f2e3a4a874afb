"""The affine matrices of the geometric operations.

A matrix (a, b, c, d, e, f) says where the centre of output pixel (x, y) comes from, pixels being unit squares and
x' = x + 1/2, y' = y + 1/2: (a x' + b y' + c, d x' + e y' + f). That is what Pillow's `Image.transform` takes.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from pipelines.batch import Operation

GEOMETRIC = (
    Operation.ROTATE,
    Operation.SHEAR_X,
    Operation.SHEAR_Y,
    Operation.TRANSLATE_X,
    Operation.TRANSLATE_Y,
)

# Which entry of the identity an operation's argument replaces.
_ENTRIES = {
    Operation.SHEAR_X: 1,
    Operation.SHEAR_Y: 3,
    Operation.TRANSLATE_X: 2,
    Operation.TRANSLATE_Y: 5,
}


def affine_matrices(
    operations: NDArray[np.int8], arguments: NDArray[np.float32], size: tuple[int, int]
) -> NDArray[np.float64]:
    """Return what each operation does to the places of pixels; the identity for those that move none.

    Args:
        operations: int8 (n,), the `Operation` of each picture.
        arguments: float32 (n,), theirs.
        size: height and width of the pictures.

    Returns:
        float64 (n, 6).

    Source: timm `auto_augment.py`; for rotations Pillow's `Image.rotate`, which rounds to 15 decimals.
    """
    matrices = np.tile([1.0, 0.0, 0.0, 0.0, 1.0, 0.0], (len(operations), 1))
    for operation, entry in _ENTRIES.items():
        rows = operations == operation
        matrices[rows, entry] = arguments[rows]
    for row in np.flatnonzero(operations == Operation.ROTATE):
        matrices[row] = _rotation(float(arguments[row]), size)
    return matrices


def _rotation(degrees: float, size: tuple[int, int]) -> tuple[float, ...]:
    """Rotate about the centre. Each sum is in Pillow's order; its quarter turns need no exception here."""
    angle = -math.radians(degrees % 360.0)
    cosine, sine = round(math.cos(angle), 15), round(math.sin(angle), 15)
    centre_y, centre_x = size[0] / 2, size[1] / 2
    c = cosine * -centre_x + sine * -centre_y + centre_x
    f = -sine * -centre_x + cosine * -centre_y + centre_y
    return cosine, sine, c, -sine, cosine, f
