"""The store: its formats, its writer, its reader."""

from datasets_tools.store.reading import Split, Store, Verify
from datasets_tools.store.shard_reader import Shard

__all__ = ["Shard", "Split", "Store", "Verify"]
