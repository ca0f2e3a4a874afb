"""The model of many GPUs against what is known in closed form, and against published trainings."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import nn

from benchmarks.mlperf_points import MANY_NODES, ONE_NODE
from benchmarks.rungs.scaling_projection import published
from benchmarks.scaling_model import (
    BUCKET_BYTES,
    Bucket,
    Compute,
    Layer,
    Network,
    all_reduce,
    buckets_of,
    fitted,
    layers_of,
    simulate,
)

# How far the step that one machine's figures predict may be from the one that a submission logged.
NEAR = 0.05
NO_LATENCY: Mapping[str, Any] = dict.fromkeys(
    ("node_ring_us", "node_tree_us", "network_ring_us", "network_tree_us", "start_us"), 0.0
)


@pytest.mark.parametrize("number", range(len(MANY_NODES)))
def test_one_machine_of_mlperf_predicts_many(number: int) -> None:
    """64, 512 and 3,584 GPUs, of which the fit has seen none."""
    name, predicted, logged = published()[1][number]
    assert predicted == pytest.approx(logged, rel=NEAR), name


def test_the_fit_explains_what_it_is_of() -> None:
    """By hand: (112.0 - 56.7) ms over 816 - 400 pictures are 0.133 ms a picture, and 3.5 ms are left."""
    compute, _ = published()
    assert 1e3 * compute.per_image_s == pytest.approx(0.133, abs=5e-4)
    assert 1e3 * compute.fixed_s == pytest.approx(3.5, abs=0.15)
    assert [round(1e3 * point.step_s, 1) for point in ONE_NODE] == [112.0, 56.7]


def test_a_fit_finds_the_arithmetic_behind_simulated_steps() -> None:
    true, network, buckets = Compute(2e-3, 1e-4), Network(), [Bucket(8e6, 0.0), Bucket(4e7, 1.0)]
    points = [
        (gpus, batch, simulate(gpus, batch, true, buckets, network).seconds) for gpus, batch in ((4, 96), (8, 32))
    ]
    found = fitted(points, buckets, network)
    assert found.fixed_s == pytest.approx(2e-3)
    assert found.per_image_s == pytest.approx(1e-4)


@pytest.mark.parametrize("gpus", [2, 4, 8])
def test_a_ring_moves_twice_all_but_one_share(gpus: int) -> None:
    cost = all_reduce(45e6, gpus, Network(node_gb_s=450, **NO_LATENCY))
    assert cost.seconds == pytest.approx(2 * (gpus - 1) / gpus * 45e6 / 450e9)


def test_two_levels_move_the_share_of_a_place_between_machines() -> None:
    """64 GPUs in 8 machines: 7/8 of the gradients twice inside, then an eighth, 7/8 of it twice, between them."""
    slow_messages = {**NO_LATENCY, "node_ring_us": 10.0, "network_tree_us": 100.0}
    cost = all_reduce(40e6, 64, Network(node_gb_s=400, network_gb_s=10, **slow_messages))
    assert cost.algorithm == "rings in two levels"
    assert cost.latency_s == pytest.approx(14 * 10e-6)
    assert cost.transfer_s == pytest.approx(2 * 7 / 8 * 40e6 / 400e9 + 2 * 7 / 8 * 5e6 / 10e9)


def test_small_messages_go_through_trees_and_the_largest_through_one_ring() -> None:
    """In one ring both kinds of links are busy at the same time, but 8,190 messages follow each other."""
    small, large = (all_reduce(size, 4096, Network()) for size in (1e4, 1e10))
    assert (small.algorithm, large.algorithm) == ("rings and trees", "ring")
    assert large.transfer_s == pytest.approx(2 * 4095 / 4096 * 1e10 / 400e9), "8 adapters of 50 GB/s each"
    assert large.latency_s == pytest.approx((4.4 + 7168 * 1.9 + 1022 * 4.0) * 1e-6)
    # 512 machines: 9 levels up and 9 down; 7 steps there and 7 back inside.
    assert small.latency_s == pytest.approx((4.4 + 14 * 1.9 + 18 * 8.5) * 1e-6)


def test_one_gpu_exchanges_nothing() -> None:
    step = simulate(1, 10, Compute(1e-3, 1e-4), [Bucket(1e9, 1.0)], Network())
    assert (step.exposed_s, step.efficiency) == (0, 1)
    assert step.seconds == pytest.approx(2e-3)


def test_an_exchange_hides_behind_the_backward_pass_until_it_does_not() -> None:
    """Two buckets of 1 ms: the backward pass takes 2 ms of 3; the first is ready half-way, the second at its end."""
    network, compute = Network(gpus_per_node=2, node_gb_s=1.0, **NO_LATENCY), Compute(3e-3, 0.0)
    early, late = Bucket(1e6, 0.5), Bucket(1e6, 1.0)
    assert simulate(2, 1, compute, [early], network).exposed_s == pytest.approx(0, abs=1e-12)
    assert simulate(2, 1, compute, [early, late], network).exposed_s == pytest.approx(1e-3)
    assert simulate(2, 1, compute, [Bucket(2e6, 0.5), late], network).exposed_s == pytest.approx(2e-3)
    assert simulate(2, 1, compute, [late, late], network).communication_share == pytest.approx(2 / 5)


@pytest.mark.parametrize(
    ("compute", "network", "bottleneck"),
    [
        (Compute(0.0, 1e-3), Network(), "arithmetic"),
        (Compute(1e-3, 1e-9), Network(), "fixed part of a step"),
        (Compute(0.0, 1e-9), Network(network_gb_s=1e-3), "bandwidth of the exchange"),
        (Compute(0.0, 1e-9), Network(network_tree_us=1e6, network_ring_us=1e6), "latency of the exchange"),
    ],
)
def test_the_bottleneck_is_what_takes_longest(compute: Compute, network: Network, bottleneck: str) -> None:
    assert simulate(1024, 32, compute, [Bucket(1e6, 1.0)], network).bottleneck == bottleneck


def test_buckets_fill_from_the_last_layer_on() -> None:
    """As DistributedDataParallel's: 1 MB at least for the first, 25 MB for the others; what is left is the last."""
    mega = 2**20
    layers = [Layer(mega, 60), Layer(6 * mega, 20), Layer(mega // 4, 15), Layer(mega // 4, 5)]
    first, *others = buckets_of(layers, bytes_each=4)
    assert first == Bucket(mega, 0.05)
    assert others == [Bucket(25 * mega, 0.4), Bucket(4 * mega, 1.0)]
    assert others[0].size == BUCKET_BYTES


def test_layers_are_counted_without_computing() -> None:
    """A convolution of 3 to 8 channels over 5 x 5 outputs, and a product of 8 to 10."""
    with torch.device("meta"):
        model = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10))
    assert layers_of(model, 10) == [Layer(8 * 27 + 8, 25 * 8 * 27), Layer(8 * 10 + 10, 80)]


def test_resnet_50_has_the_papers_size() -> None:
    """BoT table 5: 25 M parameters and 3.8 G multiply-adds, all but batch norms' being in these layers."""
    from fastbot.models.registry import build_model

    with torch.device("meta"):
        layers = layers_of(build_model("resnet50v1", 1000, "default", False), 224)
    assert math.isclose(sum(layer.parameters for layer in layers), 25.5e6, rel_tol=0.01)
    assert math.isclose(sum(layer.multiply_adds for layer in layers), 3.86e9, rel_tol=0.01)
