"""`fastbot models`: what models there are, and how large they are."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table


def models(
    names: Annotated[
        list[str] | None, typer.Argument(help="Ours, torchvision:NAME or timm:NAME; all of ours if none is given.")
    ] = None,
    size: Annotated[
        int | None, typer.Option(min=1, help="Height and width of pictures; the models' own if not given.")
    ] = None,
    num_classes: Annotated[int, typer.Option(min=2, help="Width of the logits.")] = 1000,
) -> None:
    """List models with their parameters, multiply-adds and activations of one picture.

    Multiply-adds (GMACs) are those of convolutions and matrix products, as the papers count; activations are what
    these put out.

    Example: [bold]fastbot models resnet50d torchvision:resnet50 timm:resnet50d[/]
    """
    import torch

    from fastbot.errors import ModelError
    from fastbot.models import registry
    from fastbot.models.counting import measure

    ours = registry.names()
    table = Table()
    table.add_column("model", overflow="fold")
    for heading in ("params (M)", "GMACs", "activations (M)", "input (px)"):
        table.add_column(heading, justify="right")
    for name in names or ours:
        # Weights are not drawn; other libraries' constructors may need real ones.
        with torch.device("meta" if name in ours else "cpu"):
            model = registry.build_model(name, num_classes)
        try:
            image_size = size or registry.preprocessing(name).crop_size
        except ModelError:  # a library without weights for it states no size either
            image_size = 224
        found = measure(model, image_size, name)
        counts = (found.parameters / 1e6, found.multiply_adds / 1e9, found.activations / 1e6)
        table.add_row(name, *(f"{count:.2f}" for count in counts), str(image_size))
    Console().print(table)
