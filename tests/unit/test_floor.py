"""The floor of a training step: its layers against published counts, its bytes against passes counted by hand."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import nn

from benchmarks.floor import rates
from benchmarks.floor.floor import Floor
from benchmarks.floor.layers import Layer, Network, trace
from benchmarks.floor.rates import Rates, device_rates
from benchmarks.floor.traffic import elements_moved, weight_bytes
from fastbot.errors import ModelError
from fastbot.models.registry import build_model

# 3.0 TB/s is what a copy reaches on an H100; no arithmetic is ever in its way here.
H100_COPY = Rates(matrix_flops=1e30, copy_bytes_per_s=3.0e12)


@pytest.fixture(scope="module")
def resnet50() -> Network:
    with torch.device("meta"):
        return trace(torchvision.models.resnet50(), 224)


def test_a_small_network_by_hand() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)  # 10 x 10 images: 5 x 5
            self.norm = nn.BatchNorm2d(8)
            self.conv = nn.Conv2d(8, 8, 3, padding=1, groups=8)
            self.head = nn.Linear(8, 4)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            x = torch.relu(self.norm(self.stem(images)))
            x = torch.relu(x + self.conv(x))
            return torch.sigmoid(self.head(torch.relu(nn.functional.avg_pool2d(x, 5).flatten(1))))

    found = trace(Block(), 10)
    assert found.layers == (
        Layer("convolution", 200 * 27, 300, 200, takes_images=True),
        Layer("batch norm", 0, 200, 200),
        Layer("activation", 0, 200, 200, is_absorbed=True),
        Layer("convolution", 200 * 9, 200, 200),
        Layer("addition", 0, 400, 200),
        Layer("activation", 0, 200, 200, is_absorbed=True),
        Layer("pooling", 0, 200, 8),
        Layer("activation", 0, 8, 8),
        Layer("linear", 32, 8, 4),
        Layer("activation", 0, 4, 4),
    )
    assert found.parameters == (27 * 8 + 8) + 16 + (72 + 8) + 36


def test_concatenations_move_their_parts_and_views_move_nothing() -> None:
    class Branches(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return torch.cat([images[:, :1], images.flatten(1).view_as(images)], 1)

    assert trace(Branches(), 4).layers == (Layer("other", 0, 4 * 16, 4 * 16, takes_images=True),)


def test_resnet50_against_what_is_published(resnet50: Network) -> None:
    """By torchvision: 4.09 G multiply-adds and 25.56 M parameters; by timm's table: 11.1 M activations."""
    meta = torchvision.models.ResNet50_Weights.IMAGENET1K_V1.meta
    assert round(resnet50.multiply_adds / 1e9, 3) == meta["_ops"]
    assert resnet50.parameters == meta["num_params"]
    activations = sum(layer.written for layer in resnet50.layers if layer.kind in ("convolution", "linear"))
    assert round(activations / 1e6, 1) == 11.1
    kinds = [layer.kind for layer in resnet50.layers]
    assert [kinds.count(kind) for kind in ("convolution", "batch norm", "addition", "linear")] == [53, 53, 16, 1]
    assert all(layer.is_absorbed for layer in resnet50.layers if layer.kind == "activation")


@pytest.mark.parametrize(
    ("ours", "theirs", "size"),
    [
        ("inception_v3", torchvision.models.Inception_V3_Weights.IMAGENET1K_V1, 299),
        ("torchvision:vit_b_16", torchvision.models.ViT_B_16_Weights.IMAGENET1K_V1, 224),
    ],
)
def test_other_networks_against_what_torchvision_publishes(
    ours: str, theirs: torchvision.models.WeightsEnum, size: int
) -> None:
    with torch.device("meta"):
        found = trace(build_model(ours, 1000), size)
    assert round(found.multiply_adds / 1e9, 3) == theirs.meta["_ops"]


def test_the_floor_of_resnet50_in_images_per_second(resnet50: Network) -> None:
    """About 9,700 unfused and 12,400 ideally fused, by bytes, in half precision at 3.0 TB/s."""
    floor = Floor(resnet50, H100_COPY, itemsize=2, batch_size=1024)
    assert 1 / floor.bytes_s("unfused") == pytest.approx(9700, rel=0.01)
    assert 1 / floor.bytes_s("fused") == pytest.approx(12400, rel=0.01)
    # As `benchmarks.floor.traffic` says: what it leaves out is a fifth of the unfused bytes.
    everything = 2 * sum(elements_moved(layer, "unfused") for layer in resnet50.layers)
    assert 3.0e12 / (everything + weight_bytes(resnet50.parameters, 2) / 1024) == pytest.approx(7940, rel=0.001)


@pytest.mark.parametrize(
    ("layer", "unfused", "fused"),
    [
        (Layer("convolution", 1, 30, 20), 3 * 50, 3 * 50),
        (Layer("convolution", 1, 30, 20, takes_images=True), 2 * 50, 2 * 50),
        (Layer("linear", 1, 30, 20), 3 * 50, 3 * 50),
        (Layer("batch norm", 0, 10, 10), 80, 50),
        (Layer("activation", 0, 10, 10), 50, 50),
        (Layer("activation", 0, 10, 10, is_absorbed=True), 0, 0),
        (Layer("addition", 0, 20, 10), 60, 60),
        (Layer("pooling", 0, 40, 10), 100, 100),
    ],
)
def test_passes_over_activations(layer: Layer, unfused: int, fused: int) -> None:
    assert elements_moved(layer, "unfused") == unfused
    assert elements_moved(layer, "fused") == fused


def test_times_of_a_step_by_hand() -> None:
    layers = (
        Layer("convolution", 1000, 30, 20, takes_images=True),  # 4000 operations; 100 elements
        Layer("batch norm", 0, 20, 20),  # 160, or 100
        Layer("convolution", 10, 20, 10),  # 60 operations; 90
        Layer("addition", 0, 20, 10),  # 60, in the roofline alone
    )
    floor = Floor(Network(layers, parameters=5), Rates(1000.0, 100.0), itemsize=2, batch_size=4)
    weights_s = 5 * (3 * 2 + 5 * 4) / 4 / 100
    assert floor.arithmetic_s == pytest.approx(4.060)
    assert floor.bytes_s("unfused") == pytest.approx(2 * (100 + 160 + 90) / 100 + weights_s)
    assert floor.bytes_s("fused") == pytest.approx(2 * (100 + 100 + 90) / 100 + weights_s)
    assert floor.roofline_s == pytest.approx(4.0 + 3.2 + 1.8 + 1.2 + weights_s)
    details = floor.as_details()
    assert details["arithmetic_ms"] == pytest.approx(4 * 4060)
    assert details["roofline_ms"] == pytest.approx(4e3 * floor.roofline_s)
    assert (details["matrix_tflops"], details["copy_gb_s"]) == (1e-9, 1e-7)


def test_tracing_leaves_the_model_as_it_is() -> None:
    model = nn.Sequential(nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2)).eval()
    trace(model, 8)
    assert not model.training
    assert model[1].num_batches_tracked == 0
    assert model[0].weight.device.type == "cpu"


def test_images_that_are_too_small_are_said() -> None:
    with torch.device("meta"):
        model = build_model("inception_v3", 10)
    with pytest.raises(ModelError, match="InceptionV3 cannot be run on images of 32 pixels: .*Take a larger size"):
        trace(model, 32)


def test_rates_are_measured_and_tf32_is_left_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "_SIDES", (64,))
    monkeypatch.setattr(rates, "_COPIES", (1024,))
    before = torch.backends.cuda.matmul.allow_tf32
    found = device_rates(torch.device("cpu"), torch.float32, tf32=not before)
    assert torch.backends.cuda.matmul.allow_tf32 == before
    assert 0 < found.matrix_flops < 1e15
    assert 0 < found.copy_bytes_per_s < 1e14


def test_rates_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """One work takes two ticks of a second: from before it to after it there is one."""
    monkeypatch.setattr(rates, "_SIDES", (8,))
    monkeypatch.setattr(rates, "_COPIES", (100,))
    ticks = iter(range(1000))
    monkeypatch.setattr("benchmarks.floor.rates.time.perf_counter", lambda: float(next(ticks)))
    found = device_rates(torch.device("cpu"), torch.float32)
    assert found == Rates(matrix_flops=2 * 8**3, copy_bytes_per_s=2 * 4 * 100)


@pytest.mark.gpu
def test_rates_of_a_gpu() -> None:
    device = torch.device("cuda", 0)
    half, single = (device_rates(device, dtype).matrix_flops for dtype in (torch.float16, torch.float32))
    assert half > single
