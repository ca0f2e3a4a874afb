"""`fastbot import`: weights of other libraries as a run folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

_PUBLISHED = "default"


def import_weights(
    model: Annotated[
        str,
        typer.Argument(help="torchvision:NAME, timm:NAME or timm:NAME.TAG; or, with --weights, one of fastbot's own."),
    ],
    out: Annotated[Path, typer.Option(help="The run folder to make.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[key.sub=value ...]", help="Changes to the run's recipe.")
    ] = None,
    weights: Annotated[
        str,
        typer.Option(
            metavar="FILE|default",
            help="A .safetensors or .pth file; `default` is what the library publishes, from its cache or the network.",
        ),
    ] = _PUBLISHED,
    entry: Annotated[
        str | None,
        typer.Option(help="Which entry of the file, such as `state_dict_ema`; found by itself if not given."),
    ] = None,
    classes: Annotated[
        Path | None,
        typer.Option(
            help="A store with the same classes in the same order, or a file with one name a line; ImageNet's if not "
            "given."
        ),
    ] = None,
) -> None:
    """Make a run of other people's weights: for `fastbot eval`, `predict` and `export`, and as a teacher.

    Pictures are resized, cropped and normalized as the library states beside the weights, or as the metadata of a
    file says that `fastbot export` wrote.

    Example: [bold]fastbot import timm:resnet50.a1_in1k --out runs/a1[/]

    Offline, and with other classes: [bold]fastbot import torchvision:resnet50 --weights flowers.pth
    --classes flowers.txt --out runs/flowers[/]
    """
    from datasets_tools.sources.imagenet_classes import class_names, official_wnids
    from fastbot.interchange.importing import Request, import_run

    request = Request(
        name=model,
        file=None if weights == _PUBLISHED else Path(weights),
        entry=entry,
        class_names=None if classes is None else _read_class_names(classes),
        class_names_of_1000=class_names(official_wnids()),
        overrides=overrides or [],
    )
    imported = import_run(request, out)
    data = imported.recipe.data
    console = Console(markup=False, highlight=False, soft_wrap=True)
    console.print(f"imported    {imported.origin} as {out}")
    for note in imported.notes:
        console.print(f"            {note}")
    console.print(
        f"pictures    {data.eval.resize_size} -> {data.eval.crop_size} px, {data.eval.interpolation}; "
        f"mean {rgb(data.mean)}, std {rgb(data.std)}"
    )
    console.print(f"classes     {len(imported.class_names):,}, from {imported.class_names[0]!r}")
    console.print(f"score it    fastbot eval {out} --data STORE")


def _read_class_names(path: Path) -> tuple[str, ...]:
    """Return the names of a store's classes, or of a text file's lines.

    Raises:
        RunError: there is neither.
        StoreError: the store is damaged.
    """
    from datasets_tools.store import Store
    from datasets_tools.wording import counted
    from fastbot.errors import RunError

    if path.is_dir():
        return Store(path).class_names
    try:
        names = tuple(line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(f"--classes {path} cannot be read: {error}. Give a store, or a text file") from error
    if len(names) < 2:
        raise RunError(
            f"--classes {path} has {counted(len(names), 'name')}; a classifier tells at least 2 classes apart"
        )
    return names


def rgb(values: tuple[float, float, float]) -> str:
    """Return three numbers for people."""
    return ", ".join(f"{value:.6g}" for value in values)
