"""Run the operations' Triton kernels in Triton's interpreter on every batch: `python THIS FILE OUT`.

The interpreter must be switched on before Triton is imported, so this is a process of its own.
"""

from __future__ import annotations

import sys

import torch
from cuda_cases import FILL, operation_batches

from pipelines.augment.cuda_operations import CudaOperations

if __name__ == "__main__":
    cpu = torch.device("cpu")
    results = [CudaOperations(sampling, FILL, cpu)(pixels, plan) for sampling, pixels, plan in operation_batches()]
    torch.save(results, sys.argv[1])
