"""How colours change: the factors of jitter, and the coefficients of PCA lighting."""

from __future__ import annotations

from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from pipelines import philox
from pipelines.constants import constant
from pipelines.spec import ContrastJitter, HsvJitter, Jitter, NoJitter

_ORDERS_OF_THREE = np.array(list(permutations(range(3))), np.int8)


def _jitter_ranges(jitter: Jitter) -> NDArray[np.float64]:
    """Return float64 (3, 2): the range of each factor, in the order of `BatchPlan.jitter`."""
    match jitter:
        case HsvJitter():
            return np.array([jitter.hue, jitter.saturation, jitter.brightness])
        case ContrastJitter():
            return np.array([[1 - x, 1 + x] for x in (jitter.brightness, jitter.contrast, jitter.saturation)])
        case NoJitter():
            return np.ones((3, 2))


class ColourPlan:
    """Plans the colours of one rank's rows.

    Args:
        jitter: which factors to draw.
        lighting_std: of the coefficients of PCA lighting.
        key: the generator's, from `philox.key`.
        rows: how many.

    Source: BoT section 2.1, steps 4 and 5.
    """

    def __init__(self, jitter: Jitter, lighting_std: float, key: np.uint64, rows: int) -> None:
        self._key = key
        self._low, high = _jitter_ranges(jitter).T
        self._span = high - self._low
        self._jitters = not isinstance(jitter, NoJitter)
        self._shuffles = isinstance(jitter, ContrastJitter)
        self._lighting_std = lighting_std
        self._no_jitter = constant(1, (rows, 3), np.float32)
        self._in_order = constant(range(3), (rows, 3), np.int8)
        self._no_lighting = constant(0, (rows, 3), np.float32)

    def jitter(self, epoch: int, index: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
        """Return float32 (n, 3) factors and the int8 (n, 3) order of the positions `index`, int64 (n,), of an epoch."""
        if not self._jitters:
            return self._no_jitter, self._in_order
        drawn: NDArray[np.float64] = philox.uniforms(self._key, epoch, philox.JITTER, index)
        factors = (self._low + self._span * drawn[:, :3]).astype(np.float32)
        if not self._shuffles:
            return factors, self._in_order
        return factors, _ORDERS_OF_THREE[(drawn[:, 3] * len(_ORDERS_OF_THREE)).astype(np.int64)]

    def lighting(self, epoch: int, index: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return float32 (n, 3): the coefficients of the positions `index`, int64 (n,), of an epoch."""
        if self._lighting_std == 0:
            return self._no_lighting
        drawn: NDArray[np.float64] = philox.normals(self._key, epoch, philox.LIGHTING, index)
        alphas: NDArray[np.float64] = self._lighting_std * drawn[:, :3]
        return alphas.astype(np.float32)
