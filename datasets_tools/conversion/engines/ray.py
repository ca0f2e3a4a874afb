"""Shards as tasks of a Ray cluster: one CPU each, tried again where a process or a node dies.

The nodes either share the folder in which the store is built, or upload their shards themselves. Every node needs the
same fastbot, and the source at the same path or URL. A task that is tried again goes on from the shard's journal, when
it can see it.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from datasets_tools.conversion.engines.ray_task import Job, PassingError, carry_out, not_shared
from datasets_tools.conversion.progress import Meter
from datasets_tools.conversion.shards import Shard, ShardResult, finished
from datasets_tools.conversion.workspace import RUN_NAME, Workspace
from datasets_tools.errors import ConversionError, DataError, MissingPackageError
from datasets_tools.pictures import Policy
from datasets_tools.sources.base import Entries

try:
    import ray
except ImportError as error:
    raise MissingPackageError(
        "--engine ray needs Ray, which is not installed. Install it: pip install 'fastbot[ray]'"
    ) from error

# A task's further attempts, whatever ended one: a process, a node, a source or a disk that does not answer.
_NUM_RETRIES = 3
# Enough that no CPU waits for the next one.
_TASKS_PER_CPU = 2
# An NFS client goes on for up to 60 s not seeing a name that it did not find before.
_SIGHT_PATIENCE_S = 90.0
_CANCEL_PATIENCE_S = 30.0
_KNOCK_PATIENCE_S = 10.0


def run_on_ray(
    shards: Sequence[Shard],
    splits: Mapping[str, Entries],
    workspace: Workspace,
    policy: Policy,
    *,
    address: str | None,
    retry: bool,
    deliver: Callable[[Shard, ShardResult], None],
    meter: Meter,
    say: Callable[[str], None],
) -> None:
    """Write shards on a Ray cluster.

    Args:
        shards: those that are still to be written.
        splits: the source's entries.
        workspace: where they are built, on a file system that all nodes share; unless it has a URL: then every node
            builds on its own disk and uploads.
        policy: for every picture.
        address: of the cluster; None for that in RAY_ADDRESS, or else a Ray of this machine that is started for it.
        retry: try pictures again that an interrupted run had to leave out.
        deliver: called with each shard that is where it belongs, in any order.
        meter: told of every shard.
        say: called with lines for the user.

    Raises:
        ConversionError: there is no cluster, a shard failed at every attempt, or a node does not see the folder.
        OSError: something cannot be written here.
    """
    folder = workspace.folder.absolute()
    job = Job(folder, (folder / RUN_NAME).read_bytes(), workspace.url, policy, retry)
    with _connected(address):
        num_cpus = int(ray.cluster_resources().get("CPU", 0))
        _say_what_limits(len(shards), num_cpus, say)
        # Once, not with every task: the entries of a large split are tens of megabytes.
        job_there = ray.put(job)
        entries = {split: ray.put(splits[split]) for split in {shard.split for shard in shards}}
        task = ray.remote(num_cpus=1, max_retries=_NUM_RETRIES, retry_exceptions=[PassingError])(carry_out)

        def start(shard: Shard) -> ray.ObjectRef[ShardResult]:
            return task.remote(job_there, shard, entries[shard.split])

        # Closed here: after an error below, tasks must be stopped before the cluster is left.
        with closing(_as_they_come(shards, start, max(1, num_cpus) * _TASKS_PER_CPU)) as results:
            for shard, result in results:
                if workspace.url is None:
                    _await_sight(folder, shard)
                workspace.note(shard, result)
                deliver(shard, result)
                meter.written(shard.split, len(shard), len(result.rejected), result.total_bytes)


@contextmanager
def _connected(address: str | None) -> Iterator[None]:
    """Connect to a cluster, or start one; a caller who is connected already stays so."""
    if ray.is_initialized():
        yield
        return
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # of a Ray that is started here: nobody asked to report
    try:
        _check_answers(address)
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise ConversionError(
            f"no Ray cluster at {address}: {error}. Name the address of one that runs with --ray-address; if it asks "
            "for tokens, as `ray start` has it, set Ray's RAY_AUTH_MODE here as well. --engine local needs no cluster."
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _check_answers(address: str) -> None:
    """Knock at a cluster's port: Ray itself would go on trying for minutes.

    Raises:
        OSError: nobody opens.
    """
    host, _, port = address.rpartition(":")
    if host and port.isdecimal() and "://" not in address:
        socket.create_connection((host, int(port)), timeout=_KNOCK_PATIENCE_S).close()


def _say_what_limits(num_shards: int, num_cpus: int, say: Callable[[str], None]) -> None:
    if num_cpus == 0:
        say("note: the cluster has no CPUs yet; waiting until it has")
    elif num_shards < num_cpus:
        shards = "1 shard" if num_shards == 1 else f"{num_shards} shards"
        say(f"note: {shards} for the cluster's {num_cpus} CPUs: with more --shards, more of them would work")


def _as_they_come(
    shards: Sequence[Shard], start: Callable[[Shard], ray.ObjectRef[ShardResult]], most_under_way: int
) -> Generator[tuple[Shard, ShardResult]]:
    """Yield shards and their results, keeping so many tasks under way; what is under way when it ends is stopped."""
    waiting = deque(shards)
    under_way: dict[ray.ObjectRef[ShardResult], Shard] = {}
    try:
        while waiting or under_way:
            while waiting and len(under_way) < most_under_way:
                shard = waiting.popleft()
                under_way[start(shard)] = shard
            (reference, *_), _ = ray.wait(list(under_way))
            shard = under_way.pop(reference)
            yield shard, _result(shard, reference)
    finally:
        for reference in under_way:
            ray.cancel(reference)  # as Ctrl-C would: a task keeps what it has done
        if under_way:
            ray.wait(list(under_way), num_returns=len(under_way), timeout=_CANCEL_PATIENCE_S)


def _result(shard: Shard, reference: ray.ObjectRef[ShardResult]) -> ShardResult:
    try:
        result: ShardResult = ray.get(reference)
        return result
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, DataError):
            raise error.cause from None
        raise
    except ray.exceptions.RayError as error:
        raise ConversionError(
            f"shard {shard.name}: its task died {_NUM_RETRIES + 1} times, the last time by {type(error).__name__}: "
            "killed from outside, out of memory, or a picture that crashes the decoder. What was done is kept: go on "
            "with --resume; --engine local --workers 1 finds a picture that is to blame."
        ) from error


def _await_sight(folder: Path, shard: Shard) -> None:
    """Wait until files that another node has written are seen here."""
    deadline_s = time.monotonic() + _SIGHT_PATIENCE_S
    while finished(folder, shard) is None:
        if time.monotonic() > deadline_s:
            raise ConversionError(f"shard {shard.name}: a node has written it, but it is not in {not_shared(folder)}")
        time.sleep(0.5)
