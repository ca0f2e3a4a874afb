"""Run the final stage's Triton kernels in Triton's interpreter on every case: `python THIS FILE OUT`.

The interpreter must be switched on before Triton is imported, so this is a process of its own.
"""

from __future__ import annotations

import sys

import torch
from cuda_cases import FINAL_CASES, FinalCase

from pipelines.augment.cuda import CudaAugment


def _run(case: FinalCase) -> torch.Tensor:
    pixels, plan = case.batch()
    augment = CudaAugment(case.spec, device=torch.device("cpu"), dtype=case.dtype, train=case.train)
    return augment(pixels, plan)


if __name__ == "__main__":
    torch.save({name: _run(case) for name, case in FINAL_CASES.items()}, sys.argv[1])
