"""From a store to batches on the device: the plan decides everything random, executors carry it out.

Usable without `fastbot`: a person with their own training loop imports this package and iterates batches.
Imports `datasets_tools`, never `fastbot`.
"""
