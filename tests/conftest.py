"""Fixtures that many tests share."""

from __future__ import annotations

import os
from pathlib import Path

# Before torch is imported: threads that wait sleep instead of spinning, as in the fastbot command itself.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import pytest
from recipes import TINY_RECIPE

from datasets_tools.conversion.convert import ConvertOptions, convert
from datasets_tools.sources.demo import DemoSource
from datasets_tools.store import Store


@pytest.fixture(scope="session")
def store_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small store of the demo's photographs: 12 classes, 72 + 24 pictures. Copy it before damaging it."""
    path = tmp_path_factory.mktemp("stores") / "demo"
    source = DemoSource(train_per_class=6, val_per_class=2)
    convert(source, path, ConvertOptions(fastbot_version="test"), lambda progress: None)
    return path


@pytest.fixture
def store(store_path: Path) -> Store:
    return Store(store_path)


@pytest.fixture
def tiny_recipe(tmp_path: Path) -> Path:
    """A recipe that trains in a second: 4 steps an epoch of the small store, 32 pixels."""
    file = tmp_path / "tiny.toml"
    file.write_text(TINY_RECIPE)
    return file
