"""Errors of the pipelines.

    PipelineError
    ├── SpecError            a data spec or an argument, or its combination with ranks or a store, makes no sense
    ├── BackendUnavailable   the backend's package, or a device it needs, is not here; says the line that installs it
    └── BadPictureError      a stored picture cannot be decoded; carries its sample id

A `datasets_tools.errors.DamagedSampleError` passes through unchanged.
"""

from __future__ import annotations


class PipelineError(Exception):
    """Base of everything `pipelines` raises for bad input."""


class SpecError(PipelineError):
    """The data spec cannot be carried out as written."""


class BackendUnavailable(PipelineError):
    """The backend cannot run on this machine.

    Args:
        backend: its name, for example `ffcv`.
        reason: what is missing.
        remedy: the line that installs it, or the backend to take instead.
    """

    def __init__(self, backend: str, reason: str, remedy: str) -> None:
        super().__init__(f"backend {backend} cannot run here: {reason}. {remedy}")
        self.backend = backend
        self.reason = reason
        self.remedy = remedy

    def __reduce__(self) -> tuple[type[BackendUnavailable], tuple[str, str, str]]:
        return BackendUnavailable, (self.backend, self.reason, self.remedy)


class BadPictureError(PipelineError):
    """A stored picture cannot be decoded.

    Args:
        sample_id: its id in the split.
        key: its name in the source it was converted from.
        reason: what the decoder said.
    """

    def __init__(self, sample_id: int, key: str, reason: str) -> None:
        super().__init__(
            f"sample {sample_id} ({key}) cannot be decoded: {reason}. Convert the store again from its source."
        )
        self.sample_id = sample_id
        self.key = key
        self.reason = reason

    def __reduce__(self) -> tuple[type[BadPictureError], tuple[int, str, str]]:
        return BadPictureError, (self.sample_id, self.key, self.reason)
