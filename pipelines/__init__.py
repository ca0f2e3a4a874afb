"""From a store to batches on the device: the plan decides everything random, executors carry it out.

Usable without `fastbot`: a person with their own training loop calls `pipelines.open` and iterates batches.
Imports `datasets_tools`, never `fastbot`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipelines.loader import Loader, open

__all__ = ["Loader", "open"]


def __getattr__(name: str) -> Any:
    # On demand: who imports a part of this package, such as its errors, does not wait for torch.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from pipelines import loader

    return getattr(loader, name)
