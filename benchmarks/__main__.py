"""`python -m benchmarks NAME`, the same as `fastbot bench NAME`, from a checkout that is not installed, too."""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as `fastbot` does, before the suite imports PyTorch

    from benchmarks.suite import app
    from fastbot.cli import main

    main(sys.argv[1:] or ["--help"], app, "python -m benchmarks")
