"""Which packages are installed, in which versions, without importing any of them."""

from __future__ import annotations

from importlib import metadata

from fastbot import __version__

# Another version of any of these may decode, resize, augment or train a little differently.
_PACKAGES = ("torch", "torchvision", "numpy", "numba", "nvidia-dali-cuda120", "nvidia-dali-cuda130", "ffcv", "timm")


def version_of(distribution: str) -> str | None:
    """Return the version of what is installed under a name, None where nothing is."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def versions() -> dict[str, str]:
    """Return the version of fastbot and of every installed package that pixels or weights depend on, by name."""
    found = {name: version_of(name) for name in _PACKAGES}
    return {"fastbot": __version__} | {name: version for name, version in found.items() if version is not None}
