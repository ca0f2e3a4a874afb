from __future__ import annotations

import torch

from pipelines.recycling import RecycledMemory

SHAPE = (4, 5, 6, 3)


def test_memory_comes_back_when_the_tensor_is_gone() -> None:
    memory = RecycledMemory()
    tensor = memory.empty(SHAPE, torch.float32)
    address = tensor.data_ptr()
    del tensor
    assert memory.empty(SHAPE, torch.float32).data_ptr() == address


def test_memory_stays_while_a_view_of_it_lives() -> None:
    memory = RecycledMemory()
    view = memory.empty(SHAPE, torch.float32).permute(0, 3, 1, 2)[1]
    assert memory.empty(SHAPE, torch.float32).untyped_storage().data_ptr() != view.untyped_storage().data_ptr()


def test_memory_stays_while_numpy_looks_at_it() -> None:
    memory = RecycledMemory()
    array = memory.empty(SHAPE, torch.float32).numpy()
    assert memory.empty(SHAPE, torch.float32).data_ptr() != array.ctypes.data


def test_memory_stays_while_the_backward_pass_needs_it() -> None:
    memory = RecycledMemory()
    weight = torch.tensor(2.0, requires_grad=True)
    tensor = memory.empty(SHAPE, torch.float32).fill_(3)
    total = (tensor * weight).sum()
    del tensor
    memory.empty(SHAPE, torch.float32).fill_(7)
    total.backward()
    assert weight.grad == 3 * 4 * 5 * 6 * 3


def test_another_size_gets_memory_of_its_own() -> None:
    memory = RecycledMemory()
    memory.empty(SHAPE, torch.float32)
    larger = memory.empty((8, 5, 6, 3), torch.bfloat16).fill_(1)
    assert larger.shape == (8, 5, 6, 3)
    assert larger.dtype == torch.bfloat16
    assert larger.sum() == 720
