"""What a library will fetch, and whether it can: seen before it tries.

Hugging Face's hub tries again for three quarters of a minute before it says that there is no network, and torch's waits
for as long as the system does. Nothing is fetched here.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import torch

_log = logging.getLogger("fastbot")

# What timm looks for in a repository, where its configuration names no file.
_HUB_FILES = ("model.safetensors", "pytorch_model.bin")
# A server that answers does so within a second; a lookup of its name may take as long as the system likes.
_PATIENCE_S = 5.0


@dataclass(frozen=True, slots=True)
class Download:
    """Weights that a library has in its cache, or fetches.

    Attributes:
        url: from where.
        is_cached: whether they are there already.
        is_allowed: whether the library may ask the network; where not, it says so by itself and at once.
    """

    url: str
    is_cached: bool
    is_allowed: bool = True

    def prepare(self, what: str) -> None:
        """Say that the weights are about to be fetched, where they are, and check that they can be.

        Args:
            what: is fetched, in words.

        Raises:
            OSError: the server does not answer, or there is no address of one.
        """
        if self.is_cached or not self.is_allowed:
            return
        if urlsplit(self.url).scheme not in ("http", "https"):  # torchvision's and timm's own addresses are whole
            raise OSError(f"HF_ENDPOINT makes it {self.url}, which is no address: begin it with https://")
        _log.info("download  %s, from %s", what, self.url)
        check_reachable(self.url)


def of_torch(url: str) -> Download:
    """Return the download of a file that `torch.hub` keeps in its cache."""
    file = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlsplit(url).path).name
    return Download(url, file.is_file())


def of_hub(repository: str, files: Sequence[str] = ()) -> Download:
    """Return the download of weights on Hugging Face's hub.

    Args:
        repository: NAME/NAME, or NAME/NAME@REVISION.
        files: any of which is the weights; by default those that timm looks for.
    """
    from huggingface_hub import constants, try_to_load_from_cache

    name, _, revision = repository.partition("@")
    found = [try_to_load_from_cache(name, file, revision=revision or None) for file in files or _HUB_FILES]
    is_cached = any(isinstance(path, str) for path in found)  # not a string: unknown, or known not to exist
    return Download(f"{constants.ENDPOINT}/{name}", is_cached, not constants.HF_HUB_OFFLINE)


def check_reachable(url: str) -> None:
    """Check that a server answers, whatever it answers; through a proxy, where the environment names one.

    Raises:
        OSError: it does not, within five seconds.
    """
    answer: SimpleQueue[Exception | None] = SimpleQueue()
    Thread(target=lambda: answer.put(_asked(url)), daemon=True).start()  # a name's lookup cannot be given a timeout
    try:
        error = answer.get(timeout=_PATIENCE_S)
    except Empty:
        error = TimeoutError("no answer")
    if error is not None:
        reason = error.reason if isinstance(error, URLError) else error
        raise OSError(
            f"{urlsplit(url).netloc or url} cannot be reached within {_PATIENCE_S:.0f} s: {reason}"
        ) from error


def _asked(url: str) -> Exception | None:
    """Ask a server, and return why it does not answer."""
    try:
        with urlopen(Request(url, method="HEAD"), timeout=_PATIENCE_S):
            return None
    except HTTPError:
        return None
    except (OSError, HTTPException, ValueError) as error:  # the last: an address in the environment is none
        # Libraries bring certificates of their own: theirs may fit where the system's do not.
        return None if isinstance(getattr(error, "reason", None), ssl.SSLError) else error
