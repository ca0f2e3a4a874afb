"""How fast is the training step alone, on pixels that cost nothing?

Images are made once on the device; what is timed is forward, loss, backward and update. The peer is the same network
in the loop of PyTorch's own ImageNet example, with the same precision and layout.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import torch
import typer

from benchmarks.measure import Case, Effort, Result, measure
from benchmarks.options import Device, JsonFile, Repeats
from benchmarks.publishing import publish
from fastbot.build import loss_of, model_on, optimizer_of, precision_of
from fastbot.distributed import pick_device
from fastbot.recipe import Recipe
from fastbot.recipe_files import load_recipe

NUM_CLASSES = 1000


def _ours(recipe: Recipe, device: torch.device, images: torch.Tensor, labels: torch.Tensor, steps: int) -> Case:
    model = model_on(recipe, NUM_CLASSES, device)
    optimizer, loss_function, precision = optimizer_of(recipe, model), loss_of(recipe), precision_of(recipe, device)
    forward = torch.compile(model) if recipe.compile else model
    weight = torch.ones(len(labels), device=device)

    def run() -> int:
        for _ in range(steps):
            with precision.autocast():
                loss = loss_function(forward(images), labels, weight)
            precision.backward(loss)
            precision.step(optimizer)
        return steps * len(labels)

    compiled = " compiled" if recipe.compile else ""
    return Case(f"fastbot {recipe.model.name} {recipe.precision.kind}{compiled}", run, "plain PyTorch loop")


def _plain(recipe: Recipe, device: torch.device, images: torch.Tensor, labels: torch.Tensor, steps: int) -> Case:
    """The loop of PyTorch's own ImageNet example, with autocast and channels-last."""
    model = model_on(recipe, NUM_CLASSES, device)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, weight_decay=1e-4, nesterov=True)
    dtype = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}[recipe.precision.kind]
    scaler = torch.amp.GradScaler(device.type, enabled=recipe.precision.kind == "fp16")

    def run() -> int:
        for _ in range(steps):
            with torch.autocast(device.type, dtype, enabled=recipe.precision.kind != "fp32"):
                loss = torch.nn.functional.cross_entropy(model(images), labels)
            scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
            loss.item()  # what the example's meters read in every step
        return steps * len(labels)

    return Case("plain PyTorch loop", run, "plain PyTorch loop")


def run(recipe: Recipe, device: torch.device, batch_size: int, steps: int, repeats: int) -> list[Result]:
    """Measure the step of a recipe (eager, and compiled) beside the plain loop."""
    size = recipe.data.crop_size
    images = torch.randn(batch_size, 3, size, size, device=device).to(memory_format=torch.channels_last)
    labels = torch.randint(NUM_CLASSES, (batch_size,), device=device)
    synchronize: Callable[[], object] = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    variants = [recipe.model_copy(update={"compile": compiled}) for compiled in (False, True)]
    cases = [_plain(recipe, device, images, labels, steps)]
    cases += [
        _ours(variant, device, images, labels, steps) for variant in variants if not variant.compile or _compiles()
    ]
    return measure("step", cases, Effort(repeats, warmups=2), synchronize=synchronize)


def _compiles() -> bool:
    return torch.cuda.is_available()  # on a CPU, Inductor's compile time is not worth a benchmark's while


def step(
    recipe: Annotated[str, typer.Option(help="Whose model, size and precision.")] = "bot-efficient",
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures a step, on this device.")] = 256,
    steps: Annotated[int, typer.Option(min=1, help="Steps a repeat.")] = 20,
    repeats: Repeats = 5,
    device: Device = "auto",
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[key.sub=value ...]")] = None,
    json_file: JsonFile = None,
) -> None:
    """Measure the training step alone, on pixels that cost nothing.

    Example: [bold]fastbot bench step --recipe demo --batch-size 32 --steps 3[/]
    """
    loaded = load_recipe(recipe, overrides or [])
    results = run(loaded, pick_device(device), batch_size, steps, repeats)
    settings = {"recipe": loaded.name, "batch_size": batch_size, "size": loaded.data.crop_size}
    publish(results, settings, json_file, f"step of {loaded.name}, batch {batch_size}")
