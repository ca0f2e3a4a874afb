"""What another project's loader is to a benchmark: where it is found, how it is built, what it delivers."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Sequence, Sized
from dataclasses import dataclass
from importlib import import_module, metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from datasets_tools.store import Split

Epoch = Callable[[], int]


@dataclass(frozen=True, slots=True)
class PeerInput:
    """What a peer reads, and what it shall make of it: random resized crops, in batches.

    Attributes:
        originals: the pictures as a store.
        files: the same bytes, each picture in as many files as it is shown times an epoch; all in one folder, which is
            a class.
        folder: an empty one of its own, for the format that it reads.
        size: height and width of the crops in pixels.
        batch_size: pictures a batch.
        num_threads: worker threads or processes.
    """

    originals: Split
    files: Sequence[Path]
    folder: Path
    size: int
    batch_size: int
    num_threads: int

    @property
    def times(self) -> int:
        """How often an epoch shows each picture."""
        return len(self.files) // len(self.originals)

    @property
    def root(self) -> Path:
        """The folder of classes that file readers are given."""
        return self.files[0].parent.parent


@dataclass(frozen=True, slots=True)
class Running:
    """A loader that stands ready.

    Attributes:
        batches: begins an epoch, as often as wanted, of uint8 batches in the host's memory; a batch's length is its
            number of pictures.
        close: ends its workers.
    """

    batches: Callable[[], Iterable[Sized]]
    close: Callable[[], object] = lambda: None

    def epoch(self) -> int:
        """Run one epoch, and return how many pictures it delivered."""
        return sum(len(pixels) for pixels in self.batches())


class _Module(Protocol):
    """What a peer's module has."""

    def build(self, work: PeerInput) -> Running: ...


@dataclass(frozen=True, slots=True)
class Peer:
    """Another project's loader.

    Attributes:
        name: on the command line.
        title: in the names of cases.
        distribution: that must be installed.
        module: that imports it, and has `build(PeerInput) -> Running`.
        install: the command that brings what is missing.
        notes: how its work differs from the others', if it does.
        package: to import, where any of several distributions brings it; empty where it is that distribution.
    """

    name: str
    title: str
    distribution: str
    module: str
    install: str
    notes: str = ""
    package: str = ""

    def problem(self) -> str | None:
        """Return why it cannot be used and what to do about it, None where it can."""
        return problem_of(self.distribution, self.module, self.install, self.package)

    def version(self) -> str:
        """Return the version that is installed."""
        return _version(self.distribution, self.package)

    def build(self, work: PeerInput) -> Running:
        """Build it in its documented settings."""
        module: _Module = import_module(self.module)
        return module.build(work)


def is_installed(package: str) -> bool:
    """Return whether a package could be imported; `nvidia` alone, which comes with PyTorch, is no `nvidia.dali`."""
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:  # the package around it
        return False


def problem_of(distribution: str, module: str, install: str, package: str = "") -> str | None:
    """Return why a package cannot be used and what to do about it, None where it can.

    Args:
        distribution: that must be installed.
        module: of ours, that imports it.
        install: the command that brings what is missing.
        package: to import, where any of several distributions brings it.
    """
    try:
        _version(distribution, package)
        import_module(module)
    except metadata.PackageNotFoundError:
        return f"{distribution} is not installed: {install}"
    except (ImportError, OSError, RuntimeError) as error:
        return f"{distribution} cannot be imported ({reason(error)}): {install}"
    return None


def _version(distribution: str, package: str) -> str:
    if not package:
        return metadata.version(distribution)
    if not is_installed(package):
        raise metadata.PackageNotFoundError(distribution)
    return str(import_module(package).__version__)


def reason(error: Exception) -> str:
    """Return the first sentence of an error: some list every file that they tried."""
    return str(error).partition("\n")[0].partition(". ")[0]


def running(loader: Iterable[Sized]) -> Running:
    """Return a loader over worker processes that end when nothing refers to it any more.

    Args:
        loader: of which the caller keeps nothing.
    """
    held = [loader]

    def close() -> None:
        held.clear()
        gc.collect()

    return Running(lambda: iter(held[0]), close)
