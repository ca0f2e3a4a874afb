"""`fastbot export`: a run's network for other libraries."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from fastbot.cli.scoring import Checkpointed


class To(StrEnum):
    """Formats of an export."""

    safetensors = "safetensors"
    torchvision = "torchvision"
    timm = "timm"
    hf = "hf"
    onnx = "onnx"
    torchscript = "torchscript"


def export(
    run: Annotated[Path, typer.Argument(help="A run folder made by `fastbot train` or `fastbot import`.")],
    to: Annotated[To, typer.Option(help="The format; `hf` is a folder to upload to the Hugging Face hub.")],
    out: Annotated[Path, typer.Option(help="The file to make; for `hf`, the folder.")],
    checkpoint: Checkpointed = "best",
    with_preprocessing: Annotated[
        bool,
        typer.Option(
            "--with-preprocessing",
            help="Only onnx and torchscript: take uint8 RGB pixels and begin with their normalization; without it, "
            "take normalized float32 pictures, as in training.",
        ),
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what an earlier export left there.")] = False,
) -> None:
    """Write a trained network, loaded back by the library it is for and compared, logits by logits.

    The weights are those that evaluations score: the moving average, where the recipe has one.

    Example: [bold]fastbot export demo/run --to onnx --out demo/model.onnx --with-preprocessing[/]
    """
    from fastbot.cli.import_weights import rgb
    from fastbot.errors import RunError
    from fastbot.interchange.export import check_name
    from fastbot.interchange.export import export as write
    from fastbot.runs import RunFolder

    try:
        check_name(out, to.value)
    except RunError as error:
        raise typer.BadParameter(str(error), param_hint="--out") from error
    written = write(
        RunFolder(run),
        to.value,
        out,
        checkpoint=checkpoint,
        with_preprocessing=with_preprocessing,
        overwrite=overwrite,
    )
    console = Console(markup=False, highlight=False, soft_wrap=True)
    trained = written.trained
    console.print(f"exported    {trained.checkpoint} ({checkpoint}) of {run} as {written.path}")
    console.print(f"checked     logits as before, the largest difference {written.difference:.1g} of the largest logit")
    data = trained.recipe.data
    console.print(f"input       {trained.metadata()['input']}")
    if not trained.takes_pixels:
        console.print(f"            mean {rgb(data.mean)}, std {rgb(data.std)}")
    console.print(f"output      {trained.metadata()['output']}")
    for number, line in enumerate(written.usage.splitlines()):
        console.print(f"{'load it' if number == 0 else '':12}{line}")
