"""The libraries' own loading runs here, from their caches, which hold random weights under the published names."""

from __future__ import annotations

import sys
from pathlib import Path
from urllib.error import URLError

import huggingface_hub.constants
import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from fastbot.errors import ModelError
from fastbot.pretrained import find_pretrained

SQUEEZENET = "torchvision:squeezenet1_1"
RESNET = "timm:test_resnet.r160_in1k"


@pytest.fixture(autouse=True)
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty caches, and no network to fill them from."""

    def no_network(*arguments: object, **options: object) -> None:
        raise URLError("no network")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hugging_face"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("torch.hub.urlopen", no_network)
    monkeypatch.setattr("fastbot.downloads.urlopen", no_network)
    return tmp_path


def cached(name: str, caches: Path) -> nn.Module:
    """Put random weights where the library looks for those of a name; return their network."""
    torch.manual_seed(5)
    if name == SQUEEZENET:
        network: nn.Module = torchvision.models.squeezenet1_1()
        folder = caches / "hub" / "checkpoints"
        folder.mkdir(parents=True)
        torch.save(network.state_dict(), folder / "squeezenet1_1-b8a52dc0.pth")
    else:
        network = timm.create_model("test_resnet")
        repository, commit = caches / "hugging_face" / "models--timm--test_resnet.r160_in1k", "0" * 40
        for folder in ("refs", f"snapshots/{commit}"):
            (repository / folder).mkdir(parents=True)
        (repository / "refs" / "main").write_text(commit)
        save_file(network.state_dict(), repository / "snapshots" / commit / "model.safetensors")
    return network.eval()


@pytest.mark.parametrize(
    ("name", "weights", "mean", "std"),
    [
        (SQUEEZENET, "SqueezeNet1_1_Weights.IMAGENET1K_V1", (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
        (RESNET, "test_resnet.r160_in1k", (127.5,) * 3, (127.5,) * 3),
        ("timm:test_resnet", "test_resnet.r160_in1k", (127.5,) * 3, (127.5,) * 3),
    ],
)
def test_a_librarys_network_comes_with_its_weights_and_numbers(
    name: str, weights: str, mean: tuple[float, ...], std: tuple[float, ...], caches: Path
) -> None:
    original = cached(name, caches)
    found = find_pretrained(name)
    assert (found.name, found.weights, found.num_classes) == (name, weights, 1000)
    assert found.mean == pytest.approx(mean)
    assert found.std == pytest.approx(std)
    network = found.load()
    assert not network.training
    images = torch.randn(2, 3, 160, 160)
    with torch.no_grad():
        torch.testing.assert_close(network(images), original(images), rtol=0, atol=0)


def test_who_is_offline_by_choice_is_reminded() -> None:
    with pytest.raises(ModelError, match="are not in the library's cache, and HF_HUB_OFFLINE keeps it from the netw"):
        find_pretrained(RESNET).load()


@pytest.mark.parametrize("name", [SQUEEZENET, RESNET])
def test_without_cache_and_network_the_error_says_so(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    message = (
        rf"the weights of {name} \(\w+\.\w+\) cannot be loaded: .*[^.]\. The library fetches them over the network"
    )
    with pytest.raises(ModelError, match=message):
        find_pretrained(name).load()


def test_without_a_network_the_hub_is_not_asked_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(*arguments: object, **options: object) -> None:
        raise AssertionError("timm was called without a network")

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(timm, "create_model", asked)
    with pytest.raises(
        ModelError, match=r"cannot be loaded: huggingface\.co cannot be reached within 5 s: no network\."
    ):
        find_pretrained(RESNET).load()


@pytest.mark.parametrize("name", [SQUEEZENET, RESNET])
def test_a_download_is_announced_and_a_cached_file_is_not(
    name: str, caches: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    caplog.set_level("INFO", "fastbot")
    with pytest.raises(ModelError):
        find_pretrained(name).load()
    (said,) = caplog.messages
    assert said.startswith(f"download  the weights of {name} (")
    assert "from https://" in said
    caplog.clear()
    cached(name, caches)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)  # it would ask whether there is a newer one
    find_pretrained(name).load()
    assert not caplog.messages


def test_a_damaged_cache_is_named(caches: Path) -> None:
    folder = caches / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.save({"features.0.weight": torch.zeros(1)}, folder / "squeezenet1_1-b8a52dc0.pth")
    with pytest.raises(ModelError, match="cannot be loaded: Error.* in loading state_dict"):
        find_pretrained(SQUEEZENET).load()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "torchvision:squeezenet",
            "classifier named squeezenet. Did you mean torchvision:squeezenet1_1",
        ),
        ("torchvision:fasterrcnn_resnet50_fpn", "torchvision has no trained image classifier"),
        (
            "timm:test_resnt",
            "classifier named test_resnt. Did you mean timm:test_resnet.r160",
        ),
        ("timm:test_maxvit", "timm has no trained image classifier named test_maxvit"),
        ("timm:resnet50.a7_in1k", "Did you mean timm:resnet50.*timm:resnet50.a3_in1k"),
        ("timm:resnet50.zzz", r"Did you mean (timm:resnet50\.\w+, ){3}timm:resnet50\.\w+\?"),
        ("keras:resnet50", "keras is not a model library. Allowed: torchvision:NAME, timm:NAME"),
    ],
)
def test_unknown_names_get_the_nearest(name: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        find_pretrained(name)


def test_without_timm_the_error_names_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ModelError, match="timm:resnet50 needs timm.*pip install timm"):
        find_pretrained("timm:resnet50")
