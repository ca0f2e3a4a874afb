"""Checkpoints: whole or absent, and refused when they belong to another training.

RUN/checkpoints/step-00001200/model.safetensors    weights and batch-norm statistics
average.safetensors  their moving average, where the recipe has one: then this is what is evaluated
state.pt             optimizer, scaler, sums, position (loads with weights_only=True)
checkpoint.json      what it was trained with
RUN/checkpoints/last -> step-00001200
RUN/checkpoints/best -> step-00000900

PyTorch is imported where a checkpoint is read or written: whether there is one is asked before, at once.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from fastbot.errors import CheckpointError

if TYPE_CHECKING:
    import torch
    from torch import nn

_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Conditions:
    """What must be the same for a resumed run to be bit-identical, but need not be to go on.

    Attributes:
        versions: of every package that touches pixels or weights, by name.
        num_threads: intra-op threads (they change the order of float sums).
        world_size: ranks.
        device: type of device.
        backend: which decoder made the pixels.
        on_bad_image: what became of pictures that cannot be used. Who goes on from where one ended a run changes this.
    """

    versions: Mapping[str, str]
    num_threads: int
    world_size: int
    device: str
    backend: str
    on_bad_image: str = "fail"


@dataclass(frozen=True, slots=True)
class Identity:
    """What a checkpoint belongs to.

    Attributes:
        training_digest: `Recipe.training_digest()`.
        manifest_digest: sha256 of the store's manifest.
        recipe: the resolved recipe as plain values, to name what differs.
        class_names: by label.
        conditions: see `Conditions`.
        teacher: digest of the weights that teach, empty without a teacher.
    """

    training_digest: str
    manifest_digest: str
    recipe: dict[str, Any]
    class_names: tuple[str, ...]
    conditions: Conditions
    teacher: str = ""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint read back.

    Attributes:
        path: its folder.
        weights: the model's state dict.
        average: that of its moving average; empty without one.
        state: everything else that training needs, as it was saved.
        identity: what it belongs to.
    """

    path: Path
    weights: dict[str, torch.Tensor]
    average: dict[str, torch.Tensor]
    state: dict[str, Any]
    identity: Identity

    @property
    def evaluated(self) -> dict[str, torch.Tensor]:
        """The weights that evaluations score and exports hold: the average, or the model's own."""
        return self.average or self.weights


class CheckpointFolder:
    """The `checkpoints` folder of a run.

    Args:
        path: created when the first checkpoint is saved.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def save(
        self,
        step: int,
        model: nn.Module,
        state: Mapping[str, Any],
        identity: Identity,
        *,
        best: bool,
        average: Mapping[str, torch.Tensor] | None = None,
    ) -> Path:
        """Write a checkpoint aside, sync it, and only then let `last` (and `best`) point to it.

        Args:
            step: optimizer steps done.
            model: the bare model, not its DDP or compiled wrapper.
            state: plain values and tensors.
            identity: what it belongs to.
            best: whether it is the best so far.
            average: the state dict of the model's moving average, where there is one.

        Raises:
            CheckpointError: it could not be written; the earlier ones stand.
        """
        target = self.path / f"step-{step:08d}"
        aside = self.path / f".{target.name}.writing"
        try:
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir(parents=True)
            _write(aside, {"model": model.state_dict(), "average": average or {}}, dict(state), identity)
            if target.exists():  # the same step again, after a resume; `last` may point to it
                replaced = self.path / f".{target.name}.replaced"
                shutil.rmtree(replaced, ignore_errors=True)
                target.rename(replaced)
            aside.rename(target)
            sync(self.path)
            for name in [*(["best"] if best else []), "last"]:  # `last` says that all of it is there
                self._point(name, target)
        except (OSError, RuntimeError, SafetensorError) as error:  # a full disk is each of these to somebody
            shutil.rmtree(aside, ignore_errors=True)
            with suppress(OSError):
                self.bring_back()
            raise CheckpointError(
                f"checkpoint {target} cannot be written: {error}. Earlier checkpoints stand; free space and --resume"
            ) from error
        self._drop_unpointed()
        return target

    def load(self, name: str = "last") -> Checkpoint:
        """Read `last`, `best`, or a `step-...` folder.

        Raises:
            CheckpointError: it is not there, or damaged.
        """
        folder = self._found(name)
        try:
            return read_checkpoint(folder)
        except CheckpointError:
            if (again := self._found(name)) == folder:
                raise
        return read_checkpoint(again)  # a run going on has pointed the name elsewhere, and dropped what it pointed to

    def _found(self, name: str) -> Path:
        path = self.path / name
        is_name = Path(name).name == name and name not in ("", "..")
        if not is_name or not path.is_dir():
            names = sorted(folder.name for folder in self.path.glob("[!.]*") if folder.is_dir())
            known = f". There are: {', '.join(names)}" if names else ", nor any other"
            where = path if is_name else f"checkpoint {name!r}"
            raise CheckpointError(f"{where} is not there: the run has saved no checkpoint of that name{known}")
        return path.resolve()  # once: a run going on may point the name elsewhere meanwhile

    def exists(self) -> bool:
        """Return whether a run has saved here: also where what `last` points to is gone, or nothing points anywhere.

        Raises:
            CheckpointError: the folder is a link that leads nowhere, as to a disk that is not mounted.
            OSError: it cannot be seen. Who took either for "nothing" would start from the beginning.
        """
        try:
            names = [path.name for path in self.path.iterdir()]
        except (FileNotFoundError, NotADirectoryError):
            if self.path.is_symlink():
                target = self.path.readlink()
                raise CheckpointError(
                    f"{self.path} leads to {target}, which is not there. Bring it back, or remove the link"
                ) from None
            return False
        return any(name in ("last", "best") or name.startswith("step-") for name in names)

    def bring_back(self) -> None:
        """Bring back what was moved aside for a checkpoint that did not come; only for who trains here."""
        for replaced in self.path.glob(".step-*.replaced"):
            target = self.path / replaced.name.removeprefix(".").removesuffix(".replaced")
            if not target.exists():
                replaced.rename(target)

    def _point(self, name: str, target: Path) -> None:
        link = self.path / f".{name}.writing"
        link.unlink(missing_ok=True)
        link.symlink_to(target.name)
        link.replace(self.path / name)
        sync(self.path)

    def _drop_unpointed(self) -> None:
        kept = {(self.path / name).resolve() for name in ("last", "best")}
        for folder in (*self.path.glob("step-*"), *self.path.glob(".step-*")):  # the latter a kill has left
            if folder.resolve() not in kept:
                shutil.rmtree(folder, ignore_errors=True)  # some file systems keep a file that somebody reads


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint folder.

    Raises:
        CheckpointError: a file of it is missing or damaged, or it is of another format.
    """
    import torch
    from safetensors.torch import load_file

    try:
        header = json.loads((path / "checkpoint.json").read_text())
        if header["format"] != _FORMAT:
            raise CheckpointError(
                f"{path} is a checkpoint of format {header['format']}; this fastbot reads format {_FORMAT}"
            )
        identity = header["identity"]
        identity["class_names"] = tuple(identity["class_names"])
        identity["conditions"] = Conditions(**identity["conditions"])
        weights = load_file(path / "model.safetensors")
        average = load_file(file) if (file := path / "average.safetensors").is_file() else {}
        state = torch.load(path / "state.pt", map_location="cpu", weights_only=True)
        return Checkpoint(path, weights, average, state, Identity(**identity))
    except (
        EOFError,
        OSError,
        ValueError,
        KeyError,
        TypeError,
        RuntimeError,
        SafetensorError,
        pickle.UnpicklingError,
    ) as error:
        reason = _first_sentence(error)
        raise CheckpointError(f"checkpoint {path} is damaged: {reason}. Use another one, or train anew") from error


def _first_sentence(error: Exception) -> str:
    """Return it without its full stop: PyTorch goes on for a paragraph. Some errors have but a key to say."""
    sentence = str(error).partition(". ")[0].rstrip(".")
    return sentence if " " in sentence else f"{type(error).__name__} {sentence or 'while it was read'}"


def _write(
    folder: Path, state_dicts: Mapping[str, Mapping[str, torch.Tensor]], state: dict[str, Any], identity: Identity
) -> None:
    import torch
    from safetensors.torch import save_file

    for name, weights in state_dicts.items():
        if weights:
            # safetensors stores plain contiguous tensors; channels-last weights are laid out again when loaded.
            plain = {key: tensor.detach().cpu().contiguous() for key, tensor in weights.items()}
            save_file(plain, folder / f"{name}.safetensors")
    torch.save(state, folder / "state.pt")
    header = {"format": _FORMAT, "identity": asdict(identity)}
    (folder / "checkpoint.json").write_text(json.dumps(header, indent=1))
    for file in folder.iterdir():
        sync(file)
    sync(folder)


def sync(path: Path) -> None:
    """Make a file's content, or the names in a folder, durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
