"""What limits training on this machine: measuring each part for a few seconds, and saying what to change.

`page_cache`, `reading`, `stages` and `model_step` measure; `examination` is their order; `limits` draws the conclusion
from the figures alone. Nothing here opens a store or prints: that is the command line's.
"""
