"""How fast does each backend turn JPEG bytes into cropped pixels, beside other people's loaders?

Every case shows the same pictures, does a random resized crop to `size` and delivers uint8 pixels; rates are per core.
Beside them stands what `turbo` would reach if resizing were free, and how near each backend's pixels are to exact ones.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import torch
import typer

from benchmarks.corpora.derived import Corpus, by_size, large, progressive, whole
from benchmarks.corpora.identity import store_identity
from benchmarks.measure import Effort, Result, measure
from benchmarks.options import Data, JsonFile, Repeats, Seconds
from benchmarks.peers import registry
from benchmarks.peers.files import page_in
from benchmarks.publishing import Publish, publishing
from benchmarks.rungs.loader_cases import LoaderCases, Settings
from datasets_tools.store import Store
from fastbot.errors import RunError
from pipelines.cores import cores

_BY_DEFAULT = Settings()


def run(
    data: Path,
    settings: Settings = _BY_DEFAULT,
    *,
    bins: bool = False,
    progressive_sources: bool = False,
    large_pictures: bool = False,
    publish: Publish = lambda _: None,
) -> list[Result]:
    """Measure every backend that can run here, and the peers that are here, over the `train` split of a store.

    Args:
        data: a store.
        settings: how.
        bins: also measure pictures of about 50, 75, 110 and 160 kB by themselves.
        progressive_sources: also measure the pictures as progressive JPEGs, which the peers read as they are and
            fastbot as it converts them.
        large_pictures: also measure pictures of 1000 x 750 pixels, which are not of the store.
        publish: gets the results of each set of pictures as soon as they are there.

    Raises:
        RunError: before anything is measured: the peers cannot read the same bytes, there are fewer pictures than a
            batch has, a bin is empty, no large photograph is installed, or no peer is.
    """
    split = Store(data).split("train")
    corpora = [whole(split)]
    registry.choose(settings.peers)
    once = replace(settings, threads=settings.threads[-1:])
    results: list[Result] = []
    with tempfile.TemporaryDirectory(prefix="fastbot-loader-") as name:
        folder = Path(name)
        corpora += by_size(split, folder) if bins else []
        corpora += [large(folder)] if large_pictures else []
        corpora += [progressive(split, folder)] if progressive_sources else []
        _check_batches(corpora, settings.batch_size)
        for corpus in corpora:
            found = _measured(corpus, once if corpus.label else settings)
            publish(found)
            results += found
    return results


def _check_batches(corpora: Sequence[Corpus], batch_size: int) -> None:
    for corpus in corpora:
        if len(corpus.ours) < batch_size:
            split, of = corpus.ours, f" of {corpus.label}" if corpus.label else ""
            raise RunError(
                f"{split.path}: split {split.name}{of} has {len(split)} pictures, and a batch {batch_size}: give "
                f"--batch-size {len(split)} or less, or a larger store"
            )


def _measured(corpus: Corpus, settings: Settings) -> list[Result]:
    peers = registry.choose(settings.peers).here
    page_in(corpus.ours.path)
    page_in(corpus.originals.path)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fastbot-loader-")))
        cases = LoaderCases(corpus, settings, peers, folder, stack)
        synchronize: Callable[[], object] = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
        every = [case for num_threads in settings.threads or (cores(),) for case in cases.with_threads(num_threads)]
        # Workers start and kernels compile in the first turn: where turns are repeated, only a second one tells how
        # long one takes.
        effort = Effort(settings.repeats, settings.at_least_s, warmups=2 if settings.at_least_s else 1)
        results = measure("loader", every, effort, unit="images/s per core", synchronize=synchronize)
        return cases.described(results)


def command(
    data: Data,
    size: Annotated[int, typer.Option(min=1, help="Crop size in pixels.")] = 224,
    batch_size: Annotated[int, typer.Option(min=1)] = 64,
    threads: Annotated[
        list[int] | None,
        typer.Option(
            min=1,
            help="Decoding threads, by default one per core; give several to see how they scale. With --bins and the "
            "like, the last counts.",
        ),
    ] = None,
    repeats: Repeats = 5,
    seconds: Seconds = 0.0,
    peers: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help=f"Repeat it for several; by default all of {registry.NAMES} that are here."),
    ] = None,
    bins: Annotated[bool, typer.Option("--bins", help="Also by size: about 50, 75, 110 and 160 kB.")] = False,
    progressive_sources: Annotated[
        bool, typer.Option("--progressive", help="Also progressive JPEGs: ours converted, the peers' as they are.")
    ] = False,
    large_pictures: Annotated[
        bool, typer.Option("--large", help="Also pictures of 1000 x 750 pixels: apt-get install mate-backgrounds.")
    ] = False,
    json_file: JsonFile = None,
) -> None:
    """Measure each backend beside other people's loaders.

    Example: [bold]fastbot bench loader --data corpus --bins --json loader.jsonl[/]
    """
    counts = tuple(threads or (cores(),))
    settings = Settings(size, batch_size, counts, repeats, seconds, tuple(peers or ()))
    chosen = registry.choose(settings.peers)
    for line in chosen.lines():
        typer.echo(line)
    words = ", ".join(map(str, counts))
    known = {"size": size, "batch_size": batch_size, "threads": words, "seconds": seconds, **chosen.settings()}
    title = f"random resized crop to {size}, {words} threads"
    with publishing({**known, **store_identity(data)}, json_file, title, device="cpu") as publish:
        run(
            data,
            settings,
            bins=bins,
            progressive_sources=progressive_sources,
            large_pictures=large_pictures,
            publish=publish,
        )
