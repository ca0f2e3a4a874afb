"""Exporting: written aside, loaded back by the library it is for, compared, and only then named."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError

from fastbot.errors import ModelError, RunError
from fastbot.interchange.aside import whole_or_absent
from fastbot.interchange.formats import Format, FormatName, Logits, format_of
from fastbot.interchange.trained import Trained, load_trained
from fastbot.runs import RunFolder

# Batches that logits are compared on. Neither is what a graph was traced with, so that a constant number shows.
_ROWS = (1, 3)

_MEANWHILE = "This is a fault of fastbot or of the library; export it --to safetensors meanwhile"


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written.

    Attributes:
        path: where.
        trained: what.
        difference: between logits before and after, the largest, as a share of the largest logit.
        usage: lines of Python that load it.
    """

    path: Path
    trained: Trained
    difference: float
    usage: str


def export(
    run: RunFolder,
    to: FormatName,
    out: Path,
    *,
    checkpoint: str = "best",
    with_preprocessing: bool = False,
    overwrite: bool = False,
) -> Exported:
    """Write a run's network for another library.

    Args:
        run: made by `fastbot train` or `fastbot import`.
        to: the format.
        out: the file, or for `hf` the folder, to make.
        checkpoint: `best`, `last`, or a folder of the run's checkpoints.
        with_preprocessing: let a graph (`onnx`, `torchscript`) take pixels and begin with their normalization.
        overwrite: replace what an earlier export left at `out`.

    Raises:
        ModelError: the format cannot hold this model, or needs a package that is missing.
        RunError: there is no run; `out` is taken, is called like another format, or cannot be written; or what was
            written does not put out the same logits.
        CheckpointError: the run has no such checkpoint, or a damaged one.
    """
    written_by = format_of(to)
    if with_preprocessing and not written_by.HOLDS_COMPUTATION:
        raise ModelError(
            f"--with-preprocessing: a file for {to} holds weights alone. It is for --to onnx and --to torchscript"
        )
    _check_out(out, to, written_by.SUFFIXES, overwrite=overwrite)
    trained = load_trained(run, checkpoint)
    trained = trained.with_preprocessing() if with_preprocessing else trained
    with whole_or_absent(out) as aside:
        difference = _write_and_compare(written_by, trained, aside, out)
    return Exported(out, trained, difference, written_by.usage(trained, out))


def _check_out(out: Path, to: FormatName, suffixes: tuple[str, ...], *, overwrite: bool) -> None:
    check_name(out, to)
    if not out.exists() and not out.is_symlink():
        return
    if not suffixes and out.is_dir() and not any(out.iterdir()):
        return
    if not overwrite:
        raise RunError(f"{out} is already there. Choose another --out, or replace it with --overwrite")
    # Whatever else a folder holds would be lost with it.
    if out.is_dir() and (suffixes or not (out / "config.json").is_file() or not (out / "model.safetensors").is_file()):
        raise RunError(f"{out} is a folder that no export has made. Choose another --out")


def check_name(out: Path, to: FormatName) -> None:
    """Check that a file is called as the library that reads it expects.

    Raises:
        RunError: its name ends in something else.
        ModelError: the format needs a package that is missing.
    """
    suffixes = format_of(to).SUFFIXES
    if suffixes and out.suffix not in suffixes:
        allowed = " or ".join(suffixes)
        raise RunError(f"{out}: the name of a file for {to} ends in {allowed}. Call it {out.stem}{suffixes[0]}")


def _write_and_compare(written_by: Format, trained: Trained, aside: Path, out: Path) -> float:
    try:
        written_by.write(trained, aside)
    except (RuntimeError, SafetensorError) as error:  # a full disk is each of these to somebody
        raise RunError(f"{out} cannot be written: {error}. Free space, or choose another --out") from error
    try:
        difference = largest_difference(trained, written_by.load(trained, aside))
    except Exception as error:  # whatever a library raises: what it cannot read is not kept
        raise RunError(f"{out} is not kept: loaded back, it fails: {error}. {_MEANWHILE}") from error
    if not difference <= written_by.TOLERANCE:
        raise RunError(
            f"{out} is not kept: loaded back, its logits differ by {difference:.2g} of the largest one "
            f"(allowed: {written_by.TOLERANCE:g}). {_MEANWHILE}"
        )
    return difference


@torch.no_grad()
def largest_difference(trained: Trained, found: Logits) -> float:
    """Return how far two networks' logits of random pictures are apart, as a share of the largest; nan if not finite.

    Args:
        trained: one network.
        found: the other: images, as the first takes them, to logits.

    Raises:
        ValueError: they are of another shape.
    """
    shares = []
    for rows in _ROWS:
        images = trained.example(rows)
        expected: torch.Tensor = trained.network(images)
        logits = found(images)
        if logits.shape != expected.shape:
            raise ValueError(f"it puts out {tuple(logits.shape)}, not {tuple(expected.shape)}")
        shares.append((logits - expected).abs().max() / expected.abs().max())
    return float(torch.stack(shares).max())
