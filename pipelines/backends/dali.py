"""NVIDIA DALI: decodes on the GPU through nvJPEG and its JPEG engine, or with DALI's CPU operators without one.

A JPEG's bytes go from the store's memory map straight to DALI's decoder, the pixels from DALI's memory straight to
torch; neither is copied on the way. Of a picture stored raw, the window is copied into a PNM file in memory: DALI's
decoders take no bare pixels. Without a CUDA device nothing here touches CUDA.

DALI loses a whole batch to one bad picture. The bad ones are then looked for on the calling thread, and DALI gets the
batch again, and every later one, without them; samples that fail their checksum it never gets.
"""

from __future__ import annotations

import logging
import re
import weakref
from collections.abc import Generator, Iterable, Iterator
from itertools import chain

import torch
from nvidia.dali.backend import ReleaseUnusedMemory  # type: ignore[attr-defined]  # its stubs lack it
from nvidia.dali.pipeline import Pipeline
from torch.utils.dlpack import from_dlpack

from datasets_tools.store import Split
from pipelines.backends.dali_feed import DaliFeed, FedBatch
from pipelines.backends.dali_graph import DEFAULT_FORM, BatchShape, DaliSource, Form, Largest, build_pipeline
from pipelines.backends.dali_tuning import Measurement, Situation, fastest_form, timed
from pipelines.backends.geometry import check_geometry
from pipelines.backends.rescue import rescue
from pipelines.batch import BatchPlan, Decoded
from pipelines.errors import PipelineError, SpecError

_log = logging.getLogger("pipelines")

# DALI failing on so many batches in a row, without a bad picture in any, is no accident: memory, or the driver.
_MOST_UNEXPLAINED = 3


class DaliBackend:
    """Decode, crop and resize with DALI.

    On CUDA the pixels are ready in the order of the stream that is current when the next batch is asked for: use them
    on that stream. Their memory goes back to DALI in the order of the same stream.

    The pipeline is built for the first plan and kept from epoch to epoch; its threads are idle in between, and end
    with `close`, or when an iterator is closed before its end or fails. One iterator at a time: another one closes it.

    Args:
        split: the stored samples that plans refer to by id.
        device: where pixels are made; on CUDA, decoding happens there too.
        num_threads: DALI's worker threads, at least 1.
        ahead: batches worked on while the consumer has one.
        form: how a GPU decodes; None measures all forms at the first plan on a machine, and takes the fastest.

    Source: the resampling is DALI's `INTERP_LINEAR` and `INTERP_CUBIC` with antialiasing: Pillow's filters, with
    half-pixel centres, but with the border repeated where Pillow leaves out what lies beyond it.
    """

    name = "dali"

    def __init__(
        self,
        split: Split,
        *,
        device: torch.device,
        num_threads: int,
        ahead: int = 2,
        form: Form | None = None,
    ) -> None:
        self._split = split
        self._device = device
        self._num_threads = num_threads
        self._depth = ahead + 1
        self._form = form if device.type == "cuda" else form or DEFAULT_FORM
        self._feed = DaliFeed(split, self._depth)
        self._pipeline: Pipeline | None = None
        self._shape: BatchShape | None = None
        self._num_unexplained = 0
        self._stream: weakref.ref[Generator[Decoded]] | None = None

    def pixels(self, plans: Iterable[BatchPlan]) -> Generator[Decoded]:
        """Yield the pixels of each plan, on the device; every tensor is fresh memory.

        Raises:
            SpecError: a plan leaves its pictures, or has another shape than the first.
            StoreError: a file was cut after the store was opened; the batches before it have been yielded.
            PipelineError: DALI fails again and again on batches of which every picture can be decoded.
        """
        self._close_stream()
        stream = self._run(iter(plans))
        self._stream = weakref.ref(stream)
        return stream

    def close(self) -> None:
        """Release the pipeline and its threads."""
        self._close_stream()
        self._drop_pipeline()

    def _close_stream(self) -> None:
        stream = self._stream() if self._stream else None
        if stream is not None:
            stream.close()

    def _drop_pipeline(self) -> None:
        """Let go of the pipeline, which waits for what it has begun and ends its threads."""
        self._pipeline = None

    def _run(self, plans: Iterator[BatchPlan]) -> Generator[Decoded]:
        first = next(plans, None)
        if first is None:
            return
        if _shape(first) != self._shape:
            self._drop_pipeline()
            self._shape = _shape(first)
        if self._form is None:
            self._form = self._fastest_form(first)
        self._feed.begin(self._checked(chain([first], plans), self._shape))
        try:
            while (decoded := self._next()) is not None:
                yield decoded
        except BaseException:
            # After an error DALI calls a pipeline invalid, and one left early still holds batches of this iterator.
            self._drop_pipeline()
            raise

    def _checked(self, plans: Iterable[BatchPlan], shape: BatchShape) -> Iterator[BatchPlan]:
        for plan in plans:
            if _shape(plan) != shape:
                raise SpecError(
                    f"batch {plan.step} of epoch {plan.epoch} is {_shape(plan)}, the first was {shape}: give batches "
                    "of another shape to another call of `pixels`"
                )
            check_geometry(plan, self._split)
            yield plan

    def _next(self) -> Decoded | None:
        """Return the next batch, or None after the last."""
        while True:
            self._feed.fill()
            if self._pipeline is None:
                self._pipeline = self._build(self._feed, self._form)
            try:
                (images,) = self._pipeline.run(_current_stream(self._device))
            except StopIteration:
                message = ""
            except RuntimeError as error:
                message = str(error)
            else:
                self._num_unexplained = 0
                return self._completed(self._feed.delivered(), from_dlpack(images.as_tensor()))
            # Out here: the traceback of DALI's own exception would keep the pipeline, and so its threads, alive.
            if not message:
                self._feed.finish()
                self._pipeline.reset()
                return None
            self._drop_pipeline()
            if (decoded := self._recovered(message)) is not None:
                return decoded

    def _build(self, source: DaliSource, form: Form | None) -> Pipeline:
        assert form is not None
        assert self._shape is not None
        return build_pipeline(
            source,
            form,
            self._shape,
            Largest.of(self._split),
            device=self._device,
            num_threads=self._num_threads,
            depth=self._depth,
        )

    def _completed(self, batch: FedBatch, pixels: torch.Tensor) -> Decoded:
        """Put the rows that DALI was not given into a batch."""
        return Decoded(pixels, rescue(self._split, batch.plan, batch.withheld, pixels))

    def _recovered(self, message: str) -> Decoded | None:
        """Find the rows that made DALI fail on the oldest batch under way, and start over from it without them.

        Returns:
            None where they were found; otherwise the batch as the calling thread decodes it.
        """
        plan, withheld = self._feed.oldest.plan, self._feed.oldest.withheld
        pixels = torch.empty((len(plan.ids), *plan.output_size, 3), dtype=torch.uint8, device=self._device)
        failed = rescue(self._split, plan, range(len(plan.ids)), pixels)
        named = {int(row) for row in re.findall(r"sample #(\d+)", message)}  # only sometimes
        for row in named - failed.keys():
            self._tell_of(int(plan.ids[row]), message)
        blamed = (failed.keys() | named).difference(withheld)
        self._feed.refused.update(plan.ids[list(blamed)].tolist())
        if not blamed:
            self._not_explained(plan, message)
            self._feed.delivered()
        self._feed.begin_again()
        return None if blamed else Decoded(pixels, failed)

    def _tell_of(self, sample_id: int, message: str) -> None:
        _log.warning(
            "sample %d (%s) is decoded on the CPU from now on: DALI says %s",
            sample_id,
            self._split.key(sample_id),
            _reason(message),
        )

    def _not_explained(self, plan: BatchPlan, message: str) -> None:
        """Tell of a batch that was slow for no picture's fault; raise when it is not the first."""
        self._num_unexplained += 1
        reason = (
            f"DALI failed on batch {plan.step} of epoch {plan.epoch}, every picture of which can be decoded: "
            f"{_reason(message)}"
        )
        if self._num_unexplained >= _MOST_UNEXPLAINED:
            raise PipelineError(f"{reason}. It did so {_MOST_UNEXPLAINED} times in a row: take another backend")
        _log.warning("%s. The batch was decoded on the CPU", reason)

    def _fastest_form(self, plan: BatchPlan) -> Form:
        check_geometry(plan, self._split)
        inputs = self._feed.prepared(plan).inputs

        def measure(form: Form) -> Measurement:
            pipeline = self._build(lambda: inputs, form)
            return timed(lambda: pipeline.run(_current_stream(self._device)), len(plan.ids), self._device)

        form = fastest_form(measure, Situation.here(self._device, self._split, self._num_threads).cache_file())
        ReleaseUnusedMemory()  # of the forms that lost: DALI's pools keep it
        return form


def _shape(plan: BatchPlan) -> BatchShape:
    return BatchShape(len(plan.ids), plan.output_size, plan.interpolation)


def _current_stream(device: torch.device) -> torch.cuda.Stream | None:
    """Return the stream that DALI orders its work before, given one; without, the host waits."""
    return torch.cuda.current_stream(device) if device.type == "cuda" else None


def _reason(message: str) -> str:
    """Return the one line of DALI's message that says what happened: the one after `encountered:`."""
    lines: list[str] = [line.strip() for line in message.partition("encountered:")[2].splitlines() if line.strip()]
    return lines[0].rstrip(" :") if lines else message
