"""Run the Triton kernels in Triton's interpreter on every case, and save what they return: `python THIS FILE OUT`.

The interpreter must be switched on before Triton is imported, so this is a process of its own.
"""

from __future__ import annotations

import sys

import torch
from augment_cases import MIXED_SPECS, SPECS, mixed_plan, pictures

from pipelines.augment.cuda import CudaAugment

SHAPE = (6, 31, 37)  # two blocks of pixels a picture, the second not full
CASES = [(kind, torch.float32, train) for kind in SPECS for train in (True, False)]
CASES += [("hsv", torch.float16, True), ("hsv", torch.bfloat16, True)]
CASES += [(kind, torch.float32, True) for kind in MIXED_SPECS]


def main(path: str) -> None:
    """Save a dictionary from (kind of spec, dtype, train) to images."""
    results = {}
    for kind, dtype, train in CASES:
        spec = (SPECS | MIXED_SPECS)[kind]
        augment = CudaAugment(spec, device=torch.device("cpu"), dtype=dtype, train=train)
        results[kind, dtype, train] = augment(pictures(*SHAPE), mixed_plan(spec, *SHAPE))
    torch.save(results, path)


if __name__ == "__main__":
    main(sys.argv[1])
