"""Run the operations' Triton kernels in Triton's interpreter on batches and a large picture: `python THIS FILE OUT`.

The interpreter must be switched on before Triton is imported, so this is a process of its own.
"""

from __future__ import annotations

import sys

import torch
from cuda_cases import FILL, light_picture, operation_batches

from pipelines.augment import cuda_operations
from pipelines.augment.cuda_operations import CudaOperations

if __name__ == "__main__":
    cpu = torch.device("cpu")
    results = [CudaOperations(sampling, FILL, cpu)(pixels, plan) for sampling, pixels, plan in operation_batches()]
    # The interpreter runs one program after the other: a large picture should be few.
    cuda_operations._BLOCK = cuda_operations._STATISTICS_BLOCK = 2**20
    results.append(CudaOperations("nearest", FILL, cpu)(*light_picture()))
    torch.save(results, sys.argv[1])
