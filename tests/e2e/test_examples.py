"""The examples of docs/pipelines.md, run as they stand, on the small store."""

from __future__ import annotations

import importlib.util
import math
import runpy
import sys
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from deliveries import threads_ended
from torch import nn

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["plain_pytorch", "timm_model", "lightning_module"])
def test_without_a_store_the_usage_is_told(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if name == "timm_model":
        pytest.importorskip("timm")
    if name == "lightning_module" and importlib.util.find_spec("lightning") is None:
        monkeypatch.setitem(sys.modules, "lightning", _stand_in())
    file = EXAMPLES / f"{name}.py"
    monkeypatch.setattr(sys, "argv", [str(file)])
    with pytest.raises(SystemExit, match=rf"usage: python {file} STORE"):
        runpy.run_path(str(file), run_name="__main__")


def test_plain_pytorch(store_path: Path) -> None:
    before = threading.active_count()
    assert 0 <= example("plain_pytorch").main(str(store_path), num_epochs=1) <= 1
    assert threads_ended(before)


def test_timm(store_path: Path) -> None:
    pytest.importorskip("timm")
    assert math.isfinite(example("timm_model").main(str(store_path), num_epochs=1))


def test_lightning(store_path: Path) -> None:
    pytest.importorskip("lightning")
    example("lightning_module").main(str(store_path))


class _Module(nn.Module):
    """What the example needs of `lightning.LightningModule`."""

    device = torch.device("cpu")

    def __init__(self) -> None:
        super().__init__()
        self.logged: dict[str, float] = {}

    def log(self, name: str, value: torch.Tensor, **options: Any) -> None:
        self.logged[name] = float(value)


class _Trainer:
    """Calls a module's methods in Lightning's order, without Lightning."""

    def __init__(self, *, max_epochs: int, **options: Any) -> None:
        self._max_epochs = max_epochs

    def fit(self, module: Any) -> None:
        optimizer, train, val = module.configure_optimizers(), module.train_dataloader(), module.val_dataloader()
        for _ in range(self._max_epochs):
            for number, batch in enumerate(train):
                loss = module.training_step(module.transfer_batch_to_device(batch, module.device, 0), number)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            assert number + 1 == len(train)
            with torch.no_grad():
                for number, batch in enumerate(val):
                    module.validation_step(module.transfer_batch_to_device(batch, module.device, 0), number)
        module.teardown("fit")
        assert 0 <= module.logged["top1"] <= 1


def _stand_in() -> ModuleType:
    lightning = ModuleType("lightning")
    lightning.LightningModule, lightning.Trainer = _Module, _Trainer  # type: ignore[attr-defined]
    return lightning


def test_the_lightning_module_driven_by_hand(store_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lightning need not be installed: its part is played by the few lines above."""
    monkeypatch.setitem(sys.modules, "lightning", _stand_in())
    before = threading.active_count()
    example("lightning_module").main(str(store_path))
    assert threads_ended(before)
