"""Shards one after another on this machine, the pictures of each prepared by all workers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

from datasets_tools.conversion.preparation import Preparation
from datasets_tools.conversion.progress import Meter
from datasets_tools.conversion.shards import Shard, ShardResult, ShardWriter
from datasets_tools.conversion.workspace import Workspace
from datasets_tools.sources.base import Entries


def run_locally(
    shards: Sequence[Shard],
    splits: Mapping[str, Entries],
    workspace: Workspace,
    preparation: Preparation,
    *,
    retry: bool,
    deliver: Callable[[Shard, ShardResult], None],
    meter: Meter,
) -> None:
    """Write shards; while one is made durable and hashed, the next one is under way.

    Args:
        shards: those that are still to be written.
        splits: the source's entries.
        workspace: where they are built; takes them to where they belong.
        preparation: prepares pictures.
        retry: try pictures again that an interrupted run had to leave out.
        deliver: called with each shard that is where it belongs, in order, in another thread.
        meter: told of every picture.

    Raises:
        ConversionError: a worker died, or the source has gone.
        OSError: something cannot be written.
    """

    def finish(shard: Shard, writer: ShardWriter) -> None:
        result = writer.finish()
        workspace.deliver(shard, result)
        deliver(shard, result)

    finisher = ThreadPoolExecutor(1, "finish")
    finishing: Future[None] | None = None
    try:
        for shard in shards:
            writer = _written(shard, splits[shard.split], workspace.folder, preparation, meter, finishing, retry=retry)
            before, finishing = finishing, finisher.submit(finish, shard, writer)
            if before is not None:
                before.result()
        meter.finishing()
        if finishing is not None:
            finishing.result()
    except BaseException as error:
        finisher.shutdown(cancel_futures=True)
        if finishing is not None and finishing.cancelled():
            writer.abandon(error)
        raise
    finisher.shutdown()


def _written(
    shard: Shard,
    entries: Entries,
    folder: Path,
    preparation: Preparation,
    meter: Meter,
    finishing: Future[None] | None,
    *,
    retry: bool,
) -> ShardWriter:
    """Return a writer that has all of a shard's pictures, or raise what finishing the shard before it came to."""
    writer = ShardWriter(folder, shard, entries.labels, retry=retry)
    meter.resumed(shard.split, writer.next - shard.start, writer.num_rejected)
    try:
        with closing(preparation.outcomes(entries, writer.next, shard.stop)) as outcomes:
            for outcome in outcomes:
                writer.append(outcome)
                meter.passed(shard.split, outcome)
                if finishing is not None and finishing.done():
                    finishing.result()
    except BaseException as error:
        writer.abandon(error)
        raise
    return writer
