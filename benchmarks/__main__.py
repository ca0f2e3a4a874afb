"""`python -m benchmarks NAME`, the same as `fastbot bench NAME`."""

from benchmarks.suite import app

app()
