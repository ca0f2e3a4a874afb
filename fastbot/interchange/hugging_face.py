"""A folder for the Hugging Face hub, in timm's layout. One of the modules that need timm (`pip install timm`)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import timm
from torch import nn

from fastbot.interchange import safetensors_file, timm_file
from fastbot.interchange.counterparts import counterpart
from fastbot.interchange.formats import Logits
from fastbot.interchange.model_card import model_card
from fastbot.interchange.trained import Trained

SUFFIXES = ()
TOLERANCE = 1e-5
HOLDS_COMPUTATION = False

FILES = ("model.safetensors", "config.json", "README.md")


def write(trained: Trained, path: Path) -> None:
    """Write weights, configuration and model card.

    Raises:
        ModelError: timm has no such model.
    """
    config = _config(trained)
    weights_file, config_file, card_file = FILES
    path.mkdir()
    safetensors_file.write(trained, path / weights_file)
    (path / config_file).write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    (path / card_file).write_text(model_card(trained), encoding="utf-8")


def load(trained: Trained, path: Path) -> Logits:
    """Load the folder with timm, as it would load it from the hub."""
    network: nn.Module = timm.create_model(f"local-dir:{path}", pretrained=True)
    return network.eval()


def usage(trained: Trained, path: Path) -> str:
    """Return lines of Python that load it."""
    return (
        f"model = timm.create_model('local-dir:{path}', pretrained=True)\n"
        f"# after `hf upload USER/NAME {path}`: timm.create_model('hf-hub:USER/NAME', pretrained=True)"
    )


def _config(trained: Trained) -> dict[str, Any]:
    """Return what timm reads from `config.json`.

    Source: timm 1.0's `_parse_model_cfg` and `save_config_for_hf`.
    """
    theirs = counterpart("timm", trained.recipe.model)
    network: Any = timm_file.create(trained)
    config = {
        "architecture": theirs.name,
        "num_classes": trained.num_classes,
        "num_features": network.num_features,
        "label_names": list(trained.class_names),
        "pretrained_cfg": {
            "custom_load": False,
            "fixed_input_size": network.pretrained_cfg.get("fixed_input_size", False),
            "first_conv": _first_convolution(trained.network),
            "classifier": network.pretrained_cfg.get("classifier"),
            "num_classes": trained.num_classes,
            **timm_file.preprocessing(trained),
        },
    }
    return config | ({"model_args": dict(theirs.arguments)} if theirs.arguments else {})


def _first_convolution(network: nn.Module) -> str | None:
    """Return the name of what timm changes where pictures have other than 3 channels."""
    return next((name for name, module in network.named_modules() if isinstance(module, nn.Conv2d)), None)
