"""The least time that a device needs for a training step, from the network's layers and the device's own rates.

- arithmetic: every multiply-add of the forward pass again for the gradient of the weights, and again for that of the
  input, which the layer that takes the images does without; at the rate of a product of large matrices.
- bytes: what `benchmarks.floor.traffic` counts, at the bandwidth of a copy; for unfused and for ideally fused
  normalization.
- roofline: every layer by itself takes the longer of its arithmetic and its bytes, and all layers are counted, also
  those that the bytes of the floor leave out; normalization unfused.
"""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.floor.layers import Layer, Network
from benchmarks.floor.rates import Rates
from benchmarks.floor.traffic import COUNTED, Normalization, elements_moved, weight_bytes


@dataclass(frozen=True, slots=True)
class Floor:
    """The least time of a training step of one network on one device. All times are per image.

    Attributes:
        network: its layers.
        rates: of the device, for the type that it computes in.
        itemsize: bytes of an activation.
        batch_size: images that the weights' bytes are shared by.
    """

    network: Network
    rates: Rates
    itemsize: int
    batch_size: int

    @property
    def arithmetic_s(self) -> float:
        """The time of all products, in seconds."""
        return sum(map(self._arithmetic_s, self.network.layers))

    def bytes_s(self, normalization: Normalization) -> float:
        """Return the time that moving the floor's bytes takes, in seconds."""
        counted = (layer for layer in self.network.layers if layer.kind in COUNTED)
        return sum(self._bytes_s(layer, normalization) for layer in counted) + self._weights_s

    @property
    def roofline_s(self) -> float:
        """The sum over layers of the longer of arithmetic and bytes, in seconds."""
        each = (max(self._arithmetic_s(layer), self._bytes_s(layer, "unfused")) for layer in self.network.layers)
        return sum(each) + self._weights_s

    def as_details(self) -> dict[str, float]:
        """Return the times of a whole step, in milliseconds, and the rates that they are made of."""
        step = 1e3 * self.batch_size
        return {
            "arithmetic_ms": step * self.arithmetic_s,
            "bytes_unfused_ms": step * self.bytes_s("unfused"),
            "bytes_fused_ms": step * self.bytes_s("fused"),
            "roofline_ms": step * self.roofline_s,
            "matrix_tflops": self.rates.matrix_flops / 1e12,
            "copy_gb_s": self.rates.copy_bytes_per_s / 1e9,
        }

    @property
    def _weights_s(self) -> float:
        moved = weight_bytes(self.network.parameters, self.itemsize)
        return moved / self.batch_size / self.rates.copy_bytes_per_s

    def _arithmetic_s(self, layer: Layer) -> float:
        return 2 * layer.multiply_adds * (2 if layer.takes_images else 3) / self.rates.matrix_flops

    def _bytes_s(self, layer: Layer, normalization: Normalization) -> float:
        return elements_moved(layer, normalization) * self.itemsize / self.rates.copy_bytes_per_s
