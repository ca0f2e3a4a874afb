"""A model of data-parallel training on many GPUs: a step's arithmetic, and the exchange of gradients that overlaps it.

A step is `fixed_s + batch x per_image_s` of arithmetic on each GPU. In its backward pass gradients become ready layer
by layer, from the last to the first; a bucket of them is exchanged as soon as it is whole, one bucket after the other.
What of the exchange is left when the arithmetic ends makes the step longer. The time of an exchange is a latency and a
transfer (the alpha-beta model): alpha x messages + beta x bytes.

What it leaves out: the optimizer waits for all gradients; ranks that are late; data; evaluation; and that an exchange
takes arithmetic units from the backward pass. It says what the network allows, not what software reaches.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

# Source: PyTorch's DistributedDataParallel, `bucket_cap_mb` and the size of its first bucket.
BUCKET_BYTES, FIRST_BUCKET_BYTES = 25 * 2**20, 2**20
# Of a step's arithmetic: a backward pass has two products for each of the forward pass, one for each operand.
BACKWARD_SHARE = 2 / 3


@dataclass(frozen=True, slots=True)
class Network:
    """What connects GPUs. Every figure is an assumption, to be replaced by what a cluster measures.

    Attributes:
        gpus_per_node: as many are connected with each other inside a machine.
        node_gb_s: of each GPU inside its machine and in each direction. NVIDIA's data sheet of the H100 SXM: NVLink,
            900 GB/s in both directions together.
        network_gb_s: of each GPU between machines and in each direction. One 400 Gb/s adapter a GPU, as NVIDIA's data
            sheet of the DGX H100 has.
        node_ring_us, node_tree_us, network_ring_us, network_tree_us: latency of a message of a ring or a tree.
        start_us: of every exchange. Source of all five: NCCL, src/graph/tuning.cc, `hwLat` and `baseLat`, protocol
            LL128 of NVLink and of the network (`start_us`: of its trees).
    """

    gpus_per_node: int = 8
    node_gb_s: float = 450.0
    network_gb_s: float = 50.0
    node_ring_us: float = 1.9
    node_tree_us: float = 1.2
    network_ring_us: float = 4.0
    network_tree_us: float = 8.5
    start_us: float = 4.4


@dataclass(frozen=True, slots=True)
class Compute:
    """The arithmetic of a step on one GPU.

    Attributes:
        fixed_s: seconds whatever the batch.
        per_image_s: seconds for each picture.
    """

    fixed_s: float
    per_image_s: float

    def step_s(self, batch_size: int) -> float:
        """Return the seconds of a step with so many pictures."""
        return self.fixed_s + batch_size * self.per_image_s


@dataclass(frozen=True, slots=True)
class Layer:
    """What a layer adds to a step.

    Attributes:
        parameters: numbers that are learned.
        multiply_adds: of one picture.
    """

    parameters: int
    multiply_adds: int


@dataclass(frozen=True, slots=True)
class Bucket:
    """Gradients that are exchanged together.

    Attributes:
        size: in bytes.
        ready: the part of the backward pass after which they are all there, 0 to 1.
    """

    size: float
    ready: float


@dataclass(frozen=True, slots=True)
class Cost:
    """The time of one exchange, or of several.

    Attributes:
        latency_s: what messages take however small they are.
        transfer_s: what their bytes take.
        algorithm: how it is done.
    """

    latency_s: float
    transfer_s: float
    algorithm: str = ""

    @property
    def seconds(self) -> float:
        """Both together."""
        return self.latency_s + self.transfer_s


@dataclass(frozen=True, slots=True)
class Step:
    """A step on many GPUs.

    Attributes:
        gpus, batch_size: how many GPUs, and pictures on each.
        compute: their arithmetic.
        exchange: what its exchanges take in all, overlapped or not.
        exposed_s: what is left of the exchange when the arithmetic has ended.
    """

    gpus: int
    batch_size: int
    compute: Compute
    exchange: Cost
    exposed_s: float

    @property
    def seconds(self) -> float:
        """How long it takes."""
        return self.compute.step_s(self.batch_size) + self.exposed_s

    @property
    def images_per_s(self) -> float:
        """Of all GPUs."""
        return self.gpus * self.batch_size / self.seconds

    @property
    def efficiency(self) -> float:
        """Its rate over that of so many GPUs that exchange nothing."""
        return self.compute.step_s(self.batch_size) / self.seconds

    @property
    def communication_share(self) -> float:
        """The part of the step that it is longer for the exchange."""
        return self.exposed_s / self.seconds

    @property
    def bottleneck(self) -> str:
        """What takes most of the step."""
        of_latency = self.exchange.latency_s / self.exchange.seconds if self.exchange.seconds else 0.0
        parts = {
            "arithmetic": self.batch_size * self.compute.per_image_s,
            "fixed part of a step": self.compute.fixed_s,
            "latency of the exchange": self.exposed_s * of_latency,
            "bandwidth of the exchange": self.exposed_s * (1 - of_latency),
        }
        return max(parts, key=lambda part: parts[part])


def layers_of(model: nn.Module, image_size: int) -> list[Layer]:
    """Return a model's convolutions and matrix products in the order of the forward pass; nothing is computed.

    Args:
        model: on the `meta` device, which has shapes and no numbers.
        image_size: height and width of a picture, in pixels.
    """
    found: list[Layer] = []

    def count(module: nn.Module, _: object, output: torch.Tensor) -> None:
        weight = module.get_parameter("weight")
        products = output.numel() * weight[0].numel()
        found.append(Layer(sum(parameter.numel() for parameter in module.parameters()), products))

    hooks = [each.register_forward_hook(count) for each in model.modules() if isinstance(each, nn.Conv2d | nn.Linear)]
    with torch.no_grad():
        model.eval()(torch.empty(1, 3, image_size, image_size, device="meta"))
    for hook in hooks:
        hook.remove()
    return found


def buckets_of(layers: Sequence[Layer], bytes_each: int) -> list[Bucket]:
    """Return the buckets that DistributedDataParallel exchanges, in the order in which they become ready.

    Args:
        layers: in the order of the forward pass; the time of their backward passes goes with their multiply-adds.
        bytes_each: of a gradient; 4 under fastbot, 2 where gradients are exchanged in half precision.
    """
    total = sum(layer.multiply_adds for layer in layers)
    buckets: list[Bucket] = []
    size = done = 0
    for layer in reversed(layers):
        size += layer.parameters * bytes_each
        done += layer.multiply_adds
        if size >= (BUCKET_BYTES if buckets else FIRST_BUCKET_BYTES):
            buckets.append(Bucket(size, done / total))
            size = 0
    return [*buckets, Bucket(size, 1.0)] if size else buckets


def all_reduce(size: float, gpus: int, network: Network) -> Cost:
    """Return what it takes to add up `size` bytes over all GPUs: the fastest of the algorithms.

    One ring through all GPUs, in 2(n - 1) messages of size / n; or, with several machines, first in each machine, then
    each GPU with those at its place in other machines (as a ring, or as a tree of 2 log2(n) messages), then in each
    machine again.

    Source: Thakur, Rabenseifner and Gropp 2005 (rings and trees); NCCL, src/graph/tuning.cc (which is taken when).
    """
    start = network.start_us * 1e-6
    if gpus == 1:
        return Cost(0.0, 0.0, "none")
    local = min(gpus, network.gpus_per_node)
    nodes = math.ceil(gpus / network.gpus_per_node)
    inside = _ring(size, local, network.node_gb_s, network.node_ring_us)
    if nodes == 1:
        return min(
            Cost(start + inside.latency_s, inside.transfer_s, "ring"),
            Cost(
                start + 2 * math.log2(local) * network.node_tree_us * 1e-6, 2 * size / network.node_gb_s / 1e9, "tree"
            ),
            key=lambda cost: cost.seconds,
        )
    share = size / local
    between = _ring(share, nodes, network.network_gb_s, network.network_ring_us)
    tree_s = 2 * math.log2(nodes) * network.network_tree_us * 1e-6
    flat_gb_s = min(network.node_gb_s, local * network.network_gb_s)
    borders_s = 2 * (nodes - 1) * (network.network_ring_us - network.node_ring_us) * 1e-6
    flat = _ring(size, gpus, flat_gb_s, network.node_ring_us)
    costs = (
        Cost(start + flat.latency_s + borders_s, flat.transfer_s, "ring"),
        Cost(
            start + inside.latency_s + between.latency_s, inside.transfer_s + between.transfer_s, "rings in two levels"
        ),
        Cost(
            start + inside.latency_s + tree_s,
            inside.transfer_s + 2 * share / network.network_gb_s / 1e9,
            "rings and trees",
        ),
    )
    return min(costs, key=lambda cost: cost.seconds)


def simulate(gpus: int, batch_size: int, compute: Compute, buckets: Sequence[Bucket], network: Network) -> Step:
    """Run a step: buckets become ready in the backward pass, and are exchanged in that order, one at a time.

    Args:
        gpus: how many.
        batch_size: pictures on each.
        compute: the arithmetic.
        buckets: as `buckets_of` returns them.
        network: what connects the GPUs.
    """
    ends_s = compute.step_s(batch_size)
    backward_s = BACKWARD_SHARE * ends_s
    free_s = latency_s = transfer_s = 0.0
    algorithm = ""
    for bucket in buckets:
        cost = all_reduce(bucket.size, gpus, network)
        ready_s = ends_s - backward_s * (1 - bucket.ready)
        free_s = max(free_s, ready_s) + cost.seconds
        latency_s, transfer_s, algorithm = latency_s + cost.latency_s, transfer_s + cost.transfer_s, cost.algorithm
    return Step(gpus, batch_size, compute, Cost(latency_s, transfer_s, algorithm), max(0.0, free_s - ends_s))


def fitted(
    measured: Sequence[tuple[int, int, float]], buckets: Sequence[Bucket], network: Network, rounds: int = 8
) -> Compute:
    """Return the arithmetic that explains measured steps, once the exposed exchange of each is taken off.

    Args:
        measured: GPUs, pictures on each, and seconds of a step; with at least two batch sizes.
        buckets, network: of the measured steps.
        rounds: what is exposed depends on the arithmetic, which is what is looked for: so many corrections.
    """
    exposed = [0.0] * len(measured)
    compute = Compute(0.0, 0.0)
    for _ in range(rounds):
        compute = _line([(batch, seconds - own) for (_, batch, seconds), own in zip(measured, exposed, strict=True)])
        exposed = [simulate(gpus, batch, compute, buckets, network).exposed_s for gpus, batch, _ in measured]
    return compute


def _line(points: Sequence[tuple[int, float]]) -> Compute:
    """Return the straight line of least squares."""
    mean_x, mean_y = (sum(values) / len(points) for values in zip(*points, strict=True))
    slope = sum((x - mean_x) * (y - mean_y) for x, y in points) / sum((x - mean_x) ** 2 for x, _ in points)
    return Compute(mean_y - slope * mean_x, slope)


def _ring(size: float, members: int, gb_s: float, latency_us: float) -> Cost:
    steps = 2 * (members - 1)
    return Cost(steps * latency_us * 1e-6, steps / members * size / gb_s / 1e9, "ring")
