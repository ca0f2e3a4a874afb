"""A recipe that trains in a second: 4 steps an epoch of the small store, 32 pixels."""

TINY_RECIPE = """
name = "tiny"
about = "a few steps of a small network"
epochs = 2
[model]
name = "resnet18d"
[data]
global_batch_size = 16
crop_size = 32
eval = { resize_size = 36, crop_size = 32, global_batch_size = 16 }
[schedule]
kind = "cosine"
warmup = "2 steps"
[run]
log_every = 1
"""
