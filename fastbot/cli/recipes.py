"""`fastbot recipes`: what there is to train, and one of them in full."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from datasets_tools.wording import counted

if TYPE_CHECKING:
    from fastbot.specs import Paper

# Headings in the order of printing, by the beginning of a recipe's name; the longest one that fits counts.
_HEADINGS = {
    "bot-": "Bag of Tricks, tables 2 to 5: ResNet-50",
    "bot-table4-": "Bag of Tricks, table 4: ResNet-50",
    "bot-resnet50d": "Bag of Tricks, tables 5 and 6: ResNet-50-D",
    "bot-inceptionv3": "Bag of Tricks, tables 2, 3 and 6: Inception-V3",
    "bot-mobilenet": "Bag of Tricks, tables 2, 3 and 6: MobileNet",
    "bot-resnet152d": "Bag of Tricks: the teachers of table 6, as GluonCV reports them",
    "bot-places365": "Bag of Tricks, table 7: Places365",
    "rsb-": "ResNet strikes back, as timm's checkpoints score",
    "ffcv-": "ffcv-imagenet, scored at 256 px with flips averaged",
    "": "fastbot",
}


def recipes(
    name: Annotated[
        str | None,
        typer.Argument(help="A recipe to print in full, every default resolved; or a pattern to list, like 'rsb-a?'."),
    ] = None,
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[key.sub=value ...]")] = None,
) -> None:
    """List the recipes, or print one resolved.

    Example: [bold]fastbot recipes bot-efficient data.global_batch_size=512[/]
    """
    from fastbot.recipe_files import (
        is_pattern,
        load_recipe,
        published_name,
        recipe_names,
        unpublished_keys,
        write_recipe,
    )

    if name is None or (is_pattern(name) and not overrides):
        print_list(matching(recipe_names(), name or "*"), Console())
        return
    recipe = load_recipe(name, overrides or [])
    print(write_recipe(recipe), end="")
    if recipe.paper is not None and (keys := unpublished_keys(recipe)):
        differ = counted(len(keys), "key differs", "keys differ")
        print(f"# [paper] is of {published_name(recipe)} as published; {differ} here: {', '.join(keys)}")


def matching(names: Sequence[str], pattern: str) -> list[str]:
    """Return the names that a shell pattern fits.

    Raises:
        RecipeError: none.
    """
    from fastbot.errors import RecipeError
    from fastbot.recipe_files import WILDCARDS, did_you_mean

    if found := fnmatch.filter(names, pattern):
        return found
    plain = pattern.translate(str.maketrans("", "", WILDCARDS))
    hint = did_you_mean(plain, names, most=3)
    raise RecipeError(f"no recipe is named like {pattern}.{hint} `fastbot recipes` lists them all")


def print_list(names: Sequence[str], console: Console) -> None:
    """Print what recipes are, under headings, one a line at 100 columns."""
    from fastbot.recipe_files import load_recipe

    for number, (heading, members) in enumerate(_grouped(names)):
        table = _table(max(map(len, names)), console.width, show_header=number == 0)
        for name in members:
            recipe = load_recipe(name)
            batch = str(recipe.data.global_batch_size)
            table.add_row(name, recipe.about, f"{recipe.epochs.value:g}", batch, reported(recipe.paper))
        console.print(f"\n{heading}", style="bold cyan", highlight=False)
        console.print(table)


def _table(name_width: int, width: int, *, show_header: bool) -> Table:
    """Return an empty table whose columns are those of all the others; of a narrow one the second is narrower."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold", show_header=show_header)
    numbers = {"epochs": 6, "batch": 5, "top-1 / top-5": 13}
    rest = width - name_width - sum(numbers.values()) - 1 - len(numbers)
    table.add_column("recipe", min_width=name_width)
    table.add_column("what it is", width=max(10, min(40, rest)))
    for title, column in numbers.items():
        table.add_column(title, width=column, justify="right")
    return table


def reported(paper: Paper | None) -> str:
    """Return what a recipe's source reports, in per cent, and that it is not verified where it is not."""
    if paper is None or paper.top1 is None:
        return ""
    top5 = "" if paper.top5 is None else f" / {paper.top5:.2%}"
    standing = "" if paper.standing == "verified" else f" {paper.standing.replace('_', '-')}"
    return f"{paper.top1:.2%}{top5}".replace("%", "") + standing


def _grouped(names: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Yield each heading that has recipes, with them."""
    starts = {name: max(filter(name.startswith, _HEADINGS), key=len) for name in names}
    for start, heading in _HEADINGS.items():
        if members := [name for name in names if starts[name] == start]:
            yield heading, members
