"""`fastbot doctor`: what is installed and what is missing; with a store, what limits training on this machine."""

from __future__ import annotations

import platform
import sys
from importlib import util
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from datasets_tools.wording import counted
from fastbot.cli.train import DeviceName
from fastbot.cli.versions import version_of

# (distribution, what it is for, the line that installs it)
_OPTIONAL = (
    ("timm", "timm:NAME models", "pip install timm"),
    ("ray", "fastbot convert --engine ray", "pip install ray"),
    ("pytest", "running the tests", "pip install -e '.[dev]' (in fastbot's checkout)"),
)
_REQUIRED = ("torch", "torchvision", "numpy", "numba", "pydantic", "rich", "typer", "safetensors", "tensorboard")
# DALI 2.x wheels are built for CUDA 12; its release notes ask for a driver of that generation or newer.
_DALI_MIN_CUDA_DRIVER = 12000


_MEASURING = "With --data"


def _option(*names: str, help: str, **options: Any) -> Any:
    return typer.Option(*names, help=help, rich_help_panel=_MEASURING, **options)


def doctor(
    device: Annotated[DeviceName, typer.Option(help="What computes; for which auto is asked.")] = DeviceName.auto,
    data: Annotated[Path | None, typer.Option(help="A store: measure what limits training on it here.")] = None,
    recipe: Annotated[
        str | None,
        _option(help="What is done to pictures, and the model.", show_default="bot-efficient without its model"),
    ] = None,
    model: Annotated[str | None, _option(help="Measure this model's training step too.", show_default="none")] = None,
    batch_size: Annotated[
        int | None, _option(min=2, help="Pictures a step on this device.", show_default="the recipe's")
    ] = None,
    backend: Annotated[str | None, _option(help="What decodes the pictures.", show_default="auto")] = None,
    threads: Annotated[
        int | None, _option(min=1, help="Threads that decode and augment.", show_default="one a core")
    ] = None,
    json_file: Annotated[
        Path | None, _option("--json", help="Write the figures and their conditions here.", show_default="none")
    ] = None,
) -> None:
    """Say what is installed, what is missing and the line that installs it; with --data, what limits training here.

    Example: [bold]fastbot doctor --device cpu[/]

    In under a minute, disk to model: [bold]fastbot doctor --data stores/imagenet --model resnet50d --batch-size 256[/]
    """
    measuring = {
        "--recipe": recipe,
        "--model": model,
        "--batch-size": batch_size,
        "--backend": backend,
        "--threads": threads,
        "--json": json_file,
    }
    if data is None:
        if given := [name for name, value in measuring.items() if value is not None]:
            raise typer.BadParameter(f"{', '.join(given)}: give a store to measure on with --data")
        _report_installation(device.value)
        return
    from fastbot.cli.examination import Request, examine

    examine(Request(data, recipe, model, batch_size, backend or "auto", device.value, threads, json_file))


def _report_installation(device: str) -> None:
    from datasets_tools import jpeg
    from fastbot.distributed import cores, pick_device
    from pipelines.backends.choose import AUTO, available, choose

    console = Console(highlight=False, soft_wrap=True)
    console.print(f"Python {platform.python_version()} ({sys.executable}), {counted(cores(), 'CPU core')}")
    console.print(_gpu_line())
    for name in _REQUIRED:
        console.print(f"  {name} {version_of(name) or '[red]missing[/]: pip install ' + name}")

    table = Table("backend", "", "version", "what it is, or why it cannot be used")
    for status in available().values():
        mark = "[green]yes[/]" if status.usable else "[red]no[/]"
        table.add_row(status.name, mark, status.version or "", f"{status.reason} {status.remedy}".strip())
    console.print(table)
    for line in _dali_problems():
        console.print(f"[yellow]DALI:[/] {line}")
    console.print(f"[yellow]fastbot convert:[/] {problem}" if (problem := jpeg.problem()) else "JPEG codec: built")
    for name, purpose, line in _OPTIONAL:
        if version_of(name) is None:
            console.print(f"{name} is not installed ({purpose}): {line}")

    choice = choose(AUTO, pick_device(device))
    console.print(f"auto would take [bold]{choice.name}[/]: {choice.reason}")


def _gpu_line() -> str:
    import torch

    if not torch.cuda.is_available():
        return f"no GPU that PyTorch {torch.__version__} can use (CUDA build: {torch.version.cuda or 'none'})"
    names = [torch.cuda.get_device_name(k) for k in range(torch.cuda.device_count())]
    return f"{len(names)} GPU: {', '.join(names)}; driver supports CUDA {_driver_cuda() // 1000}"


def _driver_cuda() -> int:
    """Return the newest CUDA version the driver supports (12040 for 12.4), or 0 without a driver."""
    import ctypes

    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    version = ctypes.c_int(0)
    return version.value if driver.cuDriverGetVersion(ctypes.byref(version)) == 0 else 0


def _dali_problems(driver_cuda: int | None = None) -> list[str]:
    """Return what is wrong with the DALI wheels installed.

    The wheels for CUDA 12 and 13 install the same folder: having both leaves whichever came last, half overwritten.
    """
    installed = [name for name in ("nvidia-dali-cuda120", "nvidia-dali-cuda130") if version_of(name)]
    driver = _driver_cuda() if driver_cuda is None else driver_cuda
    problems = []
    if len(installed) == 2:
        problems.append(
            "both nvidia-dali-cuda120 and -cuda130 are installed and share one folder. "
            "Run: pip uninstall -y nvidia-dali-cuda120 nvidia-dali-cuda130 && pip install nvidia-dali-cuda120"
        )
    if installed and not util.find_spec("nvidia.dali"):
        problems.append(
            f"{installed[0]} is registered but its folder is gone: pip install --force-reinstall {installed[0]}"
        )
    needed = 13000 if installed == ["nvidia-dali-cuda130"] else _DALI_MIN_CUDA_DRIVER
    if driver and installed and driver < needed:
        problems.append(
            f"the driver supports CUDA {driver // 1000}.{driver % 1000 // 10} and {installed[0]} needs "
            f"{needed // 1000}.0: update the driver, or use --backend torch"
        )
    if driver >= 13000 and installed == ["nvidia-dali-cuda120"]:
        problems.append(
            "fine as it is. For CUDA 13 libraries throughout, swap the wheel: "
            "pip uninstall -y nvidia-dali-cuda120 && pip install nvidia-dali-cuda130"
        )
    return problems
