"""How many bytes a training step has to move through the device's memory, for two ways to normalize.

Counted per image, in passes over activations: x is a layer's input, y its output, dx and dy their gradients.

The floor is made of the layers that everybody has to move these bytes for:

- convolution, linear: forward reads x and writes y; the gradient of the input reads dy and writes dx (not where the
  input is the images); the gradient of the weights reads dy and x. The same for both ways to normalize.
- batch norm, with an activation right behind it in the same kernel, *unfused*: forward reads x twice (for statistics;
  to normalize) and writes y; backward reads dy and x twice (for two sums; for the gradient) and writes dx: 8 passes.
- the same, *ideally fused*: forward reads x and writes y, the statistics come with the convolution that makes x;
  backward reads dy and x and writes dx, the sums come with its neighbours: 5 passes.

Not in the floor, because kernels exist that take most of it into their neighbours, but in the roofline
(`benchmarks.floor.floor`):

- addition, with an activation right behind it: forward reads both and writes the sum; backward adds up the two
  gradients that meet where the branches parted, which reads both and writes one.
- pooling, and whatever else is no view: forward reads x and writes y; backward reads dy and writes dx.
- activation elsewhere: forward reads x and writes y; backward reads dy and y and writes dx.

For ResNet-50 (torchvision's) at 224 pixels in half precision, at 3.0 TB/s and batches of 1024, the floor is 9,760
images/s unfused and 12,470 ideally fused. With additions it would be 8,030 unfused, with all layers 7,940.

Weights move once a step, whatever the batch: in the type of the activations the forward pass and the gradient of the
input read them, and their gradient is written; in float32 the optimizer reads weight, gradient and momentum and writes
weight and momentum.
"""

from __future__ import annotations

from typing import Literal

from benchmarks.floor.layers import Layer

Normalization = Literal["unfused", "fused"]

# The layers of the floor.
COUNTED = ("convolution", "linear", "batch norm")
_PASSES_OF_WEIGHTS = 3
_FLOAT32_PASSES_OF_WEIGHTS = 5
_FLOAT32_BYTES = 4


def elements_moved(layer: Layer, normalization: Normalization) -> int:
    """Return how many elements a layer reads and writes in a training step, per image.

    Args:
        layer: any kind of layer, also one that the floor leaves out.
        normalization: which of the two ways.
    """
    x, y = layer.read, layer.written
    match layer.kind:
        case "convolution" | "linear":
            return (x + y) * (2 if layer.takes_images else 3)
        case "batch norm":
            return (2 * x + y) + (2 * (y + x) + x) if normalization == "unfused" else (x + y) + (y + x + x)
        case "activation":
            return 0 if layer.is_absorbed else (x + y) + (2 * y + x)
        case _:
            return (x + y) + (y + x)


def weight_bytes(parameters: int, itemsize: int) -> int:
    """Return how many bytes of weights, their gradients and the optimizer's state a step moves.

    Args:
        parameters: numbers that are learned.
        itemsize: bytes of an activation.
    """
    return parameters * (_PASSES_OF_WEIGHTS * itemsize + _FLOAT32_PASSES_OF_WEIGHTS * _FLOAT32_BYTES)
