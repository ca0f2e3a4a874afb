"""`fastbot convert`: photographs in, a store out. One command per layout of the source, all with the same options.

Sources are imported inside their commands: some need packages that are heavy, or not there.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from datasets_tools.conversion.workspace import check_destination
from datasets_tools.files import is_remote
from datasets_tools.sources.base import Source
from fastbot.cli.conversion import run_conversion, shared_options


class _Layouts(typer.core.TyperGroup):
    """Lets `torchvision:NAME` stand for `torchvision NAME`."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:  # Any: typer brings its own copy of click
        layout, colon, name = args[0].partition(":")
        if layout not in self.commands:
            raise typer.BadParameter(f"there is no layout {layout!r}; there are {', '.join(self.commands)}")
        return super().resolve_command(ctx, [layout, name, *args[1:]] if colon else args)


app = typer.Typer(
    cls=_Layouts,
    help="Write a store from photographs, in whatever form they are there. Each LAYOUT below has its own --help.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    subcommand_metavar="LAYOUT ...",
)


def _check_destination(source: str | None, destination: str, *, resume: bool) -> None:
    """Refuse a wrong destination before the source is listed, which may take minutes."""
    if not destination:
        raise typer.BadParameter("DST is empty")
    if is_remote(destination):
        return
    check_destination(Path(destination), resume=resume)
    if source is None or is_remote(source):
        return
    if not source:
        raise typer.BadParameter("SRC is empty")
    if Path(destination).resolve().is_relative_to(Path(source).resolve()):
        raise typer.BadParameter(
            f"{destination} lies inside the source {source}, where it would be taken for pictures: "
            "choose a folder outside"
        )


def _layout(make_source: Callable[..., Source]) -> Callable[..., Source]:
    """Register a command: the parameters of `make_source`, DST and the shared options; it runs the conversion."""
    own = inspect.signature(make_source, eval_str=True).parameters
    shared = inspect.signature(shared_options, eval_str=True).parameters
    # Typer takes arguments in the order of the signature: those of the source, DST, then all options.
    merged = {**own, **shared}
    parameters = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for parameter in sorted(merged.values(), key=lambda parameter: parameter.default is not parameter.empty)
    ]

    def command(**given: Any) -> None:
        _check_destination(given.get("src"), given["dst"], resume=given["resume"])
        source = make_source(**{name: given[name] for name in own})
        run_conversion(source, **{name: given[name] for name in shared})

    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    app.command(name=make_source.__name__.rstrip("_"), help=inspect.getdoc(make_source))(command)
    return make_source


Src = Annotated[
    str, typer.Argument(metavar="SRC", help="What to read: a path, or any URL that fsspec reads (s3://...).")
]


@_layout
def imagenet(
    src: Src,
    partial: Annotated[bool, typer.Option("--partial", help="Take fewer pictures or classes than ILSVRC2012 has.")] = (
        False
    ),
    v2: Annotated[
        str | None, typer.Option(help="An ImageNet-V2 folder (0 to 999): becomes the split v2.", show_default="none")
    ] = None,
    real: Annotated[
        str | None, typer.Option(help="ImageNet-ReaL's real.json: further labels of val.", show_default="none")
    ] = None,
) -> Source:
    """ILSVRC2012: the original archives, extracted folders, or Kaggle's CLS-LOC.

    Example: [bold]fastbot convert imagenet /data/imagenet stores/imagenet[/]
    """
    from datasets_tools.sources.imagenet import ImageNetSource

    return ImageNetSource(src, partial=partial, v2=v2, real=real)


@_layout
def folder(src: Src) -> Source:
    """Class folders: SRC/train/CLASS/*.jpg and SRC/val/CLASS/*.jpg.

    Example: [bold]fastbot convert folder ~/pictures stores/pictures --max-side 500[/]
    """
    from datasets_tools.sources.folder import FolderSource

    return FolderSource(src)


@_layout
def parquet(
    src: Src,
    image_column: Annotated[str | None, typer.Option(help="The column of images.", show_default="found")] = None,
    label_column: Annotated[str | None, typer.Option(help="The column of labels.", show_default="found")] = None,
    partial: Annotated[bool, typer.Option("--partial", help="Take a numbered series with files missing.")] = False,
) -> Source:
    """Parquet files as Hugging Face writes them: train-00000-of-00294.parquet, ...

    Example: [bold]fastbot convert parquet /data/imagenet-1k/data stores/imagenet[/]
    """
    from datasets_tools.sources.parquet import ParquetSource

    return ParquetSource(src, image_column=image_column, label_column=label_column, partial=partial)


@_layout
def webdataset(src: Src) -> Source:
    """WebDataset shards: tar files of KEY.jpg with KEY.cls or KEY.json.

    Example: [bold]fastbot convert webdataset s3://bucket/imagenet-wds stores/imagenet[/]
    """
    from datasets_tools.sources.webdataset import WebDatasetSource

    return WebDatasetSource(src)


@_layout
def torchvision(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The data set's name in torchvision, in any case.")],
    src: Annotated[str, typer.Argument(metavar="ROOT", help="The folder that torchvision calls root.")],
) -> Source:
    """Any classification data set of torchvision, from local files: torchvision:CIFAR10, torchvision:Food101, ...

    Example: [bold]fastbot convert torchvision:FashionMNIST /data/fashion stores/fashion[/]
    """
    from datasets_tools.sources.torchvision_datasets import TorchvisionSource

    return TorchvisionSource(name, src)


@_layout
def list_(
    src: Annotated[str, typer.Argument(metavar="FILE", help="A .csv or .tsv of path,label, or path,label,split.")],
    root: Annotated[
        str | None, typer.Option(help="What the paths are relative to.", show_default="the folder of FILE")
    ] = None,
    val: Annotated[str | None, typer.Option(help="A second list: the split val.", show_default="none")] = None,
) -> Source:
    """A table of paths and labels.

    Example: [bold]fastbot convert list train.csv stores/mine --val val.csv[/]
    """
    from datasets_tools.sources.path_list import ListSource

    return ListSource(src, root=root, val=val)


@_layout
def demo(
    seed: Annotated[int, typer.Option(min=0, max=2**64 - 1, help="Where the pictures are cut.")] = 0,
    train_per_class: Annotated[int, typer.Option(min=1, help="Training pictures of each class.")] = 168,
    val_per_class: Annotated[int, typer.Option(min=1, help="Validation pictures of each class.")] = 34,
) -> Source:
    """A small data set of 12 classes, cut from photographs that are installed already.

    Example: [bold]fastbot convert demo stores/demo[/]
    """
    from datasets_tools.sources.demo import DemoSource

    return DemoSource(seed=seed, train_per_class=train_per_class, val_per_class=val_per_class)
