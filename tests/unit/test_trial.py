"""Trial batches on shapes agree with real ones."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fastbot.errors import RunError
from fastbot.models.registry import build_model
from fastbot.models.trial import least_size, refusal_of


@pytest.mark.parametrize(
    ("name", "rows", "size"),
    [
        ("resnet18d", 1, 32),
        ("resnet18d", 1, 64),
        ("resnet18d", 2, 32),
        ("inception_v3", 2, 74),
        ("torchvision:squeezenet1_1", 2, 8),
        ("timm:vit_tiny_patch16_224", 1, 64),
    ],
)
def test_shapes_are_refused_as_pictures_are(name: str, rows: int, size: int) -> None:
    pytest.importorskip("timm")
    model = build_model(name, 5)
    refused = refusal_of(model, rows, size)
    said = None
    try:
        model(torch.zeros(rows, 3, size, size))
    except (RuntimeError, ValueError, AssertionError) as error:
        said = str(error)
    assert said == (refused and str(refused))


def test_a_trial_leaves_the_network_and_the_generator_as_they_are() -> None:
    model = build_model("resnet18d", 5)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    torch.manual_seed(3)
    assert refusal_of(model, 4, 64) is None
    assert refusal_of(model, 1, 32) is not None
    assert torch.initial_seed() == 3
    assert torch.rand(3).tolist() == torch.rand(3, generator=torch.Generator().manual_seed(3)).tolist()
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_the_least_side_is_named_where_there_is_one() -> None:
    model = build_model("torchvision:squeezenet1_1", 5)
    least = least_size(model, 2, 8)
    assert least is not None
    model(torch.zeros(2, 3, least, least))
    with pytest.raises(RuntimeError):
        model(torch.zeros(2, 3, least - 1, least - 1))
    assert least_size(nn.Flatten(), 2, 600) is None


class ReadsValues(nn.Module):
    """Takes every picture, and cannot be run on shapes alone."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        assert float(images.sum()) == 0
        out: torch.Tensor = self.norm(images)
        return out


class Remembering(ReadsValues):
    """Keeps what it was shown, and has no memory for more pictures than there may be."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most
        self.shown: list[int] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.shown.append(len(images))
        if len(images) > self._most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().forward(images)

    def __deepcopy__(self, memo: object) -> Remembering:
        copied = Remembering(self._most)
        copied.shown = self.shown
        return copied


@pytest.mark.parametrize(("rows", "tried"), [(1, 1), (2, 2), (2048, 2)])
def test_what_needs_memory_is_tried_with_two_pictures_at_most(rows: int, tried: int) -> None:
    model = Remembering(most=rows)
    assert refusal_of(model, rows, 8) is None
    assert model.shown == [rows, tried], "of shapes, and then really"


def test_no_memory_is_no_refusal() -> None:
    with pytest.raises(
        RunError, match="there is no memory for Remembering with two pictures of 8 px: CUDA out of memory"
    ):
        refusal_of(Remembering(most=0), 2, 8)


def test_what_shapes_cannot_tell_is_tried_on_a_copy() -> None:
    model = ReadsValues()
    assert refusal_of(model, 2, 8) is None
    assert model.norm.num_batches_tracked == 0
