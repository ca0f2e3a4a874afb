"""`fastbot recipes`: what there is to train, and one of them in full."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table


def recipes(
    name: Annotated[str | None, typer.Argument(help="A recipe to print in full, with every default resolved.")] = None,
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[key.sub=value ...]")] = None,
) -> None:
    """List the recipes, or print one resolved.

    Example: [bold]fastbot recipes bot-efficient data.global_batch_size=512[/]
    """
    from fastbot.recipe_files import load_recipe, recipe_names, write_recipe

    if name is not None:
        print(write_recipe(load_recipe(name, overrides or [])), end="")
        return
    table = Table("recipe", "what it is", "epochs", "batch", "precision", "paper's top-1 / top-5")
    for known in recipe_names():
        recipe = load_recipe(known)
        paper = recipe.paper
        reported = "" if paper is None or paper.top1 is None else f"{paper.top1:.2%} / {paper.top5 or 0:.2%}"
        batch = str(recipe.data.global_batch_size)
        table.add_row(known, recipe.about, f"{recipe.epochs.value:g}", batch, recipe.precision.kind, reported)
    Console().print(table)
