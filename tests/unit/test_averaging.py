from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from fastbot.averaging import build_average


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))


def change(network: nn.Module, step: int) -> None:
    with torch.no_grad():
        for tensor in network.state_dict().values():
            tensor.add_(step)


@pytest.mark.parametrize("every", [1, 3])
def test_the_average_is_that_of_float64(every: int) -> None:
    network = model()
    average = build_average(network, 0.9, every)
    expected = {name: tensor.double().numpy().copy() for name, tensor in network.state_dict().items()}
    for step in range(1, 13):
        change(network, step)
        average.update(step)
        if step % every == 0:
            for name, tensor in network.state_dict().items():
                now = tensor.double().numpy()
                expected[name] = 0.9**every * expected[name] + (1 - 0.9**every) * now
    for name, tensor in average.state_dict().items():
        if tensor.is_floating_point():
            np.testing.assert_allclose(tensor.numpy(), expected[name], rtol=1e-5)
    assert average.state_dict()["1.num_batches_tracked"] == network.state_dict()["1.num_batches_tracked"]


def test_the_average_goes_on_from_its_weights() -> None:
    first, second = model(), model()
    averages = build_average(first, 0.5), build_average(second, 0.5)
    change(first, 1)
    averages[0].update(1)
    second.load_state_dict(first.state_dict())
    averages[1].load_state_dict(averages[0].state_dict())
    for network, average in zip((first, second), averages, strict=True):
        change(network, 2)
        average.update(2)
    torch.testing.assert_close(averages[0].state_dict(), averages[1].state_dict())
    assert not torch.equal(averages[1].state_dict()["0.weight"], second.state_dict()["0.weight"])


def test_without_a_decay_the_model_stands_for_its_average() -> None:
    network = model()
    average = build_average(network, None)
    average.update(1)
    assert average.model is network
    assert average.state_dict() == {}
