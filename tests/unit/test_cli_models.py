from __future__ import annotations

import pytest
from typer.testing import CliRunner

from fastbot.cli import app
from fastbot.errors import ModelError


def rows(*arguments: str) -> dict[str, list[str]]:
    """Run `fastbot models` and return the cells of each row by its first."""
    result = CliRunner().invoke(app, ["models", *arguments], env={"COLUMNS": "120"}, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    cells = [
        [cell.strip() for cell in line.strip("│").split("│")] for line in result.output.splitlines() if "│" in line
    ]
    return {name: rest for name, *rest in cells}


def test_named_models_are_listed_at_their_own_size() -> None:
    assert rows("mobilenet", "inception_v3", "torchvision:alexnet") == {
        "mobilenet": ["4.23", "0.57", "5.04", "224"],
        "inception_v3": ["23.83", "5.71", "8.97", "299"],
        "torchvision:alexnet": ["61.10", "0.71", "0.49", "224"],
    }


def test_size_and_classes_can_be_given() -> None:
    assert rows("mobilenet", "--size", "112", "--num-classes", "10") == {"mobilenet": ["3.22", "0.15", "1.27", "112"]}


def test_without_names_ours_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    from fastbot.models import registry

    monkeypatch.setattr(registry, "names", lambda: ["resnet18v1", "resnet50d"])
    assert list(rows("--size", "32")) == ["resnet18v1", "resnet50d"]


def test_an_unknown_name_is_said() -> None:
    with pytest.raises(ModelError, match="Did you mean mobilenet"):
        rows("mobilenett")
