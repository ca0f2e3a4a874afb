"""Published trainings of ResNet-50 on many GPUs, which the scaling model is checked against."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Published:
    """What a submission logged.

    Attributes:
        source: the round and the system.
        gpus: H100 SXM.
        batch_size: of all GPUs together.
        images_per_s: of all GPUs together, training alone, as its log says.
    """

    source: str
    gpus: int
    batch_size: int
    images_per_s: float

    @property
    def step_s(self) -> float:
        """Seconds of a step."""
        return self.batch_size / self.images_per_s

    @property
    def measured(self) -> tuple[int, int, float]:
        """What `scaling_model.fitted` takes."""
        return self.gpus, self.batch_size // self.gpus, self.step_s


# Source: MLPerf Training, ResNet-50 v1.5 to 75.9 %, closed division; the throughput of training in the logs of the
# submissions (mlcommons/training_results_v3.0 and _v3.1). In MXNet, with fused convolutions and batch norms: not
# fastbot's figures.
ONE_NODE: Sequence[Published] = (
    Published("MLPerf v3.0, 4 x H100, Dell XE8640", 4, 3264, 29_144),
    Published("MLPerf v3.1, 8 x H100, Eos", 8, 3200, 56_435),
)
MANY_NODES: Sequence[Published] = (
    Published("MLPerf v3.1, 64 x H100", 64, 3200, 318_154),
    Published("MLPerf v3.0, 512 x H100", 512, 20_480, 2.26e6),
    Published("MLPerf v3.0, 3,584 x H100, CoreWeave", 3584, 57_344, 10.1e6),
)
# Those submissions exchange gradients in half precision.
GRADIENT_BYTES = 2
