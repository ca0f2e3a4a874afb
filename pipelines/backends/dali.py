"""NVIDIA DALI: decodes only a picture's window, on the GPU through nvJPEG, or with its CPU operators without one.

A JPEG's bytes go from the store's memory map straight to DALI's decoder, the pixels from DALI's memory straight to
torch; neither is copied on the way. Of a picture stored raw, the window is copied into a PNM file in memory: DALI's
decoders take no bare pixels. Without a CUDA device nothing here touches CUDA.
"""

from __future__ import annotations

import re
import weakref
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from itertools import chain

import numpy as np
import torch
from numpy.typing import NDArray
from nvidia.dali import fn, types
from nvidia.dali.pipeline import Pipeline
from torch.utils.dlpack import from_dlpack

from datasets_tools.store import Split
from datasets_tools.store.index import StoredFormat
from pipelines.backends.raw import raw_window
from pipelines.backends.torch import read_window
from pipelines.batch import BatchPlan
from pipelines.errors import BadPictureError, PipelineError

# JPEG or PNM bytes; then top and left, height and width of the window; then where in it the box starts and ends.
_INPUT_TYPES = [types.UINT8, types.INT32, types.INT32, types.FLOAT, types.FLOAT]
_DaliInputs = tuple[
    list[NDArray[np.uint8]], NDArray[np.int32], NDArray[np.int32], NDArray[np.float32], NDArray[np.float32]
]


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

    Source: the resampling is DALI's `INTERP_LINEAR` with antialiasing, a triangle filter with half-pixel centres.
    """

    name = "dali"

    def __init__(self, split: Split, *, device: torch.device, num_threads: int, ahead: int = 2) -> None:
        self._split = split
        self._device = device
        self._num_threads = num_threads
        self._depth = ahead + 1
        self._feed = _Feed(split, self._depth)
        self._pipeline: Pipeline | None = None
        self._built_for: tuple[int, tuple[int, int]] | None = None
        self._stream: weakref.ref[Generator[torch.Tensor]] | None = None

    def pixels(self, plans: Iterable[BatchPlan]) -> Generator[torch.Tensor]:
        """Yield one uint8 (n, H, W, 3) RGB tensor per plan; every tensor is fresh memory.

        Raises:
            BadPictureError: a picture cannot be decoded; the batches before it have been yielded.
            DamagedSampleError: a sample's bytes fail their checksum; likewise.
            PipelineError: DALI failed on a batch of which every picture can be decoded.
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
        self._pipeline = self._built_for = None

    def _run(self, plans: Iterator[BatchPlan]) -> Generator[torch.Tensor]:
        first = next(plans, None)
        if first is None:
            return
        self._prepare(len(first.ids), first.output_size)
        self._feed.begin(chain([first], plans))
        try:
            while (images := self._next_images()) is not None:
                yield images
        except BaseException:
            # After an error DALI calls a pipeline invalid, and one left early still holds batches of this iterator.
            self._drop_pipeline()
            raise

    def _prepare(self, num_rows: int, output_size: tuple[int, int]) -> None:
        if self._built_for == (num_rows, output_size):
            return
        self._pipeline = self._build(num_rows, output_size)
        self._built_for = (num_rows, output_size)

    def _build(self, num_rows: int, output_size: tuple[int, int]) -> Pipeline:
        on_gpu = self._device.type == "cuda"
        pipeline = Pipeline(
            batch_size=num_rows,
            num_threads=self._num_threads,
            device_id=_device_index(self._device) if on_gpu else None,
            prefetch_queue_depth=self._depth,
        )
        with pipeline:
            encoded, anchors, shapes, starts, ends = fn.external_source(
                source=self._feed,
                num_outputs=5,
                dtype=_INPUT_TYPES,
                ndim=[1] * 5,
                no_copy=True,  # `_Feed` holds everything until its batch has been delivered
            )
            windows = fn.decoders.image_slice(
                encoded,
                anchors,
                shapes,
                axes=[0, 1],
                normalized_anchor=False,
                normalized_shape=False,
                adjust_orientation=False,
                jpeg_fancy_upsampling=True,  # as libjpeg does by default; DALI's own default is off
                device="mixed" if on_gpu else "cpu",
            )
            pipeline.set_outputs(
                fn.resize(
                    windows,
                    size=output_size,
                    roi_start=starts,
                    roi_end=ends,
                    interp_type=types.INTERP_LINEAR,
                    antialias=True,
                )
            )
        pipeline.build()
        return pipeline

    def _next_images(self) -> torch.Tensor | None:
        """Return the next batch, or None after the last."""
        assert self._pipeline is not None
        self._feed.fill()
        try:
            # Given a stream, DALI orders its work before that stream instead of making the host wait.
            on_gpu = self._device.type == "cuda"
            (images,) = self._pipeline.run(torch.cuda.current_stream(self._device) if on_gpu else None)
        except StopIteration:
            message = ""
        except RuntimeError as error:
            message = str(error)
        else:
            self._feed.delivered()
            return from_dlpack(images.as_tensor())
        # Raised out here: the traceback of DALI's own exception would keep the pipeline, and so its threads, alive.
        if message:
            raise self._explain(self._feed.delivered(), message)
        self._feed.finish()
        self._pipeline.reset()
        return None

    def _explain(self, plan: BatchPlan, message: str) -> PipelineError:
        """Find the picture that DALI failed on: it fails a batch as a whole, and names a row only sometimes."""
        named = re.search(r"sample #(\d+)", message)
        suspects = plan.ids[[int(named[1])]] if named else plan.ids
        for sample_id in suspects.tolist():
            try:
                read_window(self._split, sample_id, [0, 0, 1, 1])
            except BadPictureError as error:
                return error.with_traceback(None)
        reason = _reason(message)
        if named:
            return BadPictureError(int(suspects[0]), self._split.key(int(suspects[0])), reason)
        return PipelineError(
            f"DALI failed on batch {plan.step} of epoch {plan.epoch}, every picture of which can be decoded: {reason}. "
            "The torch backend may carry on where DALI cannot"
        )


class _Feed:
    """The source of a pipeline's inputs: what DALI calls for each batch.

    Inputs are prepared by `fill`, before DALI calls, so that an error of a plan or of a sample never travels through
    DALI. It ends the plans early instead: DALI finishes what came before it.

    Args:
        split: the stored samples.
        depth: batches that are under way in DALI.
    """

    def __init__(self, split: Split, depth: int) -> None:
        self._split = split
        self._depth = depth
        self._plans: Iterator[BatchPlan] = iter(())
        self._ready: deque[_DaliInputs] = deque()
        self._under_way: deque[tuple[BatchPlan, _DaliInputs]] = deque()
        self._failure: Exception | None = None

    def begin(self, plans: Iterator[BatchPlan]) -> None:
        """Start on other plans."""
        self._plans = plans
        self._ready.clear()
        self._under_way.clear()
        self._failure = None

    def fill(self) -> None:
        """Prepare what DALI will call for in its next run."""
        try:
            while len(self._under_way) < self._depth and (plan := next(self._plans, None)) is not None:
                inputs = self._inputs(plan)
                self._under_way.append((plan, inputs))
                self._ready.append(inputs)
        except Exception as error:
            self._failure, self._plans = error, iter(())

    def __call__(self) -> _DaliInputs:
        if not self._ready:
            raise StopIteration
        return self._ready.popleft()

    def delivered(self) -> BatchPlan:
        """Return the plan of the oldest batch under way, and let go of its inputs."""
        return self._under_way.popleft()[0]

    def finish(self) -> None:
        """Raise what ended the plans early, if anything did."""
        if self._failure is not None:
            raise self._failure

    def _inputs(self, plan: BatchPlan) -> _DaliInputs:
        split, ids = self._split, plan.ids.tolist()
        anchors, shapes = (np.array(part, order="C") for part in np.hsplit(plan.windows, 2))
        starts = plan.boxes[:, :2] - anchors
        ends = starts + plan.boxes[:, 2:]
        raw = split.formats[plan.ids] == StoredFormat.RAW
        encoded = [
            _pnm(raw_window(split, sample_id, window)) if is_raw else split.encoded(sample_id)
            for sample_id, window, is_raw in zip(ids, plan.windows.tolist(), raw.tolist(), strict=True)
        ]
        anchors[raw] = 0  # their files are the windows: decoding a PNM costs by all of its pixels
        return encoded, anchors, shapes, starts.astype(np.float32), ends.astype(np.float32)


def _pnm(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return uint8 (height, width, 3) RGB pixels as a binary PPM file: uint8 (size,).

    Source: the Netpbm format, https://netpbm.sourceforge.net/doc/ppm.html.
    """
    height, width, _ = pixels.shape
    header = np.frombuffer(b"P6\n%d %d\n255\n" % (width, height), np.uint8)
    file = np.empty(header.size + pixels.size, np.uint8)
    file[: header.size] = header
    file[header.size :].reshape(pixels.shape)[:] = pixels
    return file


def _device_index(device: torch.device) -> int:
    return torch.cuda.current_device() if device.index is None else device.index


def _reason(message: str) -> str:
    """Return the one line of DALI's message that says what happened: the one after `encountered:`."""
    lines: list[str] = [line.strip() for line in message.partition("encountered:")[2].splitlines() if line.strip()]
    return lines[0].rstrip(" :") if lines else message
