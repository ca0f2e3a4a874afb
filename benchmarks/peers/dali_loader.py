"""DALI: `readers.file`, `decoders.image_random_crop`, `resize`, as in its ResNet-50 example."""

from __future__ import annotations

from collections.abc import Iterator, Sized
from typing import Any

from nvidia.dali import fn, pipeline_def, types

from benchmarks.peers.peer import PeerInput, Running

_DEPTH = 2  # DALI's own: batches under way


def build(work: PeerInput, *, fancy_upsampling: bool = False, hardware_load: float | None = None) -> Running:
    """Build its pipeline.

    Args:
        work: which pictures, and how.
        fancy_upsampling: off by default in DALI; on, its chroma is libjpeg's, as ours and everybody else's is.
        hardware_load: decode on the GPU, so much of it on the JPEG engine; None: on the CPU.
    """
    pipeline = _pipeline(work, fancy_upsampling, hardware_load)
    pipeline.build()
    pipeline.schedule_run()  # the first of all begins several batches: dropped here
    while not pipeline.empty():
        pipeline.outputs()
    steps, held = len(work.files) // work.batch_size, [pipeline]
    del pipeline

    def batches() -> Iterator[Sized]:
        # As `run` does, but each epoch begins and ends with nothing under way: every other loader's does.
        for step in range(steps + _DEPTH):
            if step >= _DEPTH:
                yield held[0].outputs()[0]
            if step < steps:
                held[0].schedule_run()

    return Running(batches, held.clear)


def _pipeline(work: PeerInput, fancy_upsampling: bool, hardware_load: float | None) -> Any:
    on_gpu: dict[str, Any] = {} if hardware_load is None else {"device": "mixed", "hw_decoder_load": hardware_load}

    @pipeline_def(batch_size=work.batch_size, num_threads=work.num_threads, device_id=0 if on_gpu else None)
    def pipeline() -> object:
        encoded, _ = fn.readers.file(file_root=str(work.root), random_shuffle=True)
        pixels = fn.decoders.image_random_crop(
            encoded,
            random_area=[0.08, 1.0],
            random_aspect_ratio=[3 / 4, 4 / 3],
            num_attempts=10,
            output_type=types.RGB,
            jpeg_fancy_upsampling=fancy_upsampling,
            **on_gpu,
        )
        return fn.resize(pixels, size=[work.size, work.size], interp_type=types.INTERP_LINEAR)

    return pipeline()
