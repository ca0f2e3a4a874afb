"""Philox4x32-10 and Box and Muller's transform once more, in numpy, from the papers: the oracle of erasing's noise."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def philox4x32(counter: NDArray[np.uint32], key: tuple[int, int]) -> NDArray[np.uint32]:
    """Return the words (n, 4) of counters (n, 4). Source: Salmon et al. 2011, section 3.3 and table 2."""
    left_high, right_high, left_low, right_low = (counter[:, k].astype(np.uint64) for k in (0, 2, 1, 3))
    keys = [int(word) for word in key]
    for _ in range(10):
        first, second = left_high * np.uint64(0xD2511F53), right_high * np.uint64(0xCD9E8D57)
        left_high = (second // 2**32) ^ left_low ^ np.uint64(keys[0])
        right_high = (first // 2**32) ^ right_low ^ np.uint64(keys[1])
        left_low, right_low = second % 2**32, first % 2**32
        keys = [(keys[0] + 0x9E3779B9) % 2**32, (keys[1] + 0xBB67AE85) % 2**32]
    return np.stack([left_high, left_low, right_high, right_low], axis=1).astype(np.uint32)


def normal_colours(key: NDArray[np.uint32], pixels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the colours (n, 3) of pixels (n,). Source: Box and Muller 1958."""
    counter = np.zeros((len(pixels), 4), np.uint32)
    counter[:, 0] = pixels
    words = philox4x32(counter, (int(key[0]), int(key[1])))
    u0, u1, u2, u3 = (((words // 256).astype(np.float64) + 0.5) / 2**24).T
    red_green = np.sqrt(-2 * np.log(u0)) * np.exp(2j * np.pi * u1)
    blue = np.sqrt(-2 * np.log(u2)) * np.exp(2j * np.pi * u3)
    return np.stack([red_green.real, red_green.imag, blue.real], axis=1)
