"""Other people's loaders, by name; those that are not here are left out, and named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.peers.peer import Peer, problem_of
from fastbot.errors import RunError

_EXTRA = 'pip install "fastbot[bench]"'

PEERS = (
    Peer(
        "torchvision",
        "torchvision DataLoader",
        "torchvision",
        "benchmarks.peers.torchvision_loader",
        "pip install torchvision",
    ),
    Peer(
        "dali",
        "stock DALI CPU",
        "nvidia-dali-cuda120",
        "benchmarks.peers.dali_loader",
        "pip install fastbot",
        package="nvidia.dali",  # of nvidia-dali-cuda110, -cuda120, -cuda130 or a build of one's own
    ),
    Peer("ffcv", "stock FFCV", "ffcv", "benchmarks.peers.ffcv_loader", 'pip install "fastbot[ffcv]"'),
    Peer(
        "timm",
        "timm's loader",
        "timm",
        "benchmarks.peers.timm_loader",
        _EXTRA,
        "decodes with Pillow; without its PrefetchLoader, which normalizes",
    ),
    Peer("webdataset", "webdataset", "webdataset", "benchmarks.peers.webdataset_loader", _EXTRA, "decodes with Pillow"),
    Peer(
        "spdl",
        "spdl",
        "spdl-io",
        "benchmarks.peers.spdl_loader",
        f"{_EXTRA}, and FFmpeg's libraries: apt-get install ffmpeg",
        "decodes, crops and resizes with FFmpeg",
    ),
    Peer("litdata", "litdata", "litdata", "benchmarks.peers.litdata_loader", _EXTRA),
)
NAMES = ", ".join(peer.name for peer in PEERS)


@dataclass(frozen=True, slots=True)
class Chosen:
    """The peers of a run.

    Attributes:
        here: those that can be used.
        missing: why others cannot, and what to do about it, by name.
    """

    here: tuple[Peer, ...]
    missing: Mapping[str, str]

    def settings(self) -> dict[str, Any]:
        """Return what a JSON line says of them."""
        return {
            "peers": {peer.name: peer.version() for peer in self.here},
            "peers_missing": dict(self.missing),
        }

    def lines(self) -> list[str]:
        """Return one line of text for each that is missing."""
        return [f"left out: {name}: {problem}" for name, problem in self.missing.items()]


def choose(names: Sequence[str] = ()) -> Chosen:
    """Look which peers can be used.

    Args:
        names: that are wanted; none: all.

    Raises:
        RunError: there is no peer of that name, or none of those can be used.
    """
    known = {peer.name: peer for peer in PEERS}
    if unknown := [name for name in names if name not in known]:
        raise RunError(f"--peers {unknown[0]}: there is no such peer; there are {NAMES}")
    wanted = [known[name] for name in dict.fromkeys(names)] or list(PEERS)
    problems = {peer.name: peer.problem() for peer in wanted}
    missing = {name: problem for name, problem in problems.items() if problem is not None}
    here = tuple(peer for peer in wanted if peer.name not in missing)
    if not here:
        raise RunError(f"no peer is left to compare with: {'; '.join(missing.values())}")
    return Chosen(here, missing)


def composer_problem() -> str | None:
    """Return why composer's training loop cannot be used and what to do about it, None where it can.

    It pins an old PyTorch, so it lives in an environment of its own, which sees everything of ours.
    """
    install = "make peers, and call .venv-peers/bin/python -m benchmarks"
    return problem_of("mosaicml", "benchmarks.peers.composer", install)
