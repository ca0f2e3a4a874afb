"""How long from the start of a process to its first batch and its first step? Questions for processes of their own.

Everything is imported when its turn comes: an import is a part of the answer.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from benchmarks.rungs.fresh_process import Answer, age_s


class Stopwatch:
    """Takes the time of parts, one after the other, from the start of the process on.

    Attributes:
        parts_s: seconds by part; they add up to the process's age when the last one ended.
    """

    def __init__(self) -> None:
        self._since = time.perf_counter()
        self.parts_s = {"interpreter": age_s()}

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count all since the part before as this one."""
        yield
        now = time.perf_counter()
        self.parts_s[name], self._since = now - self._since, now

    def answer(self) -> Answer:
        """Return when the first batch was there and when the first step was done, and the parts."""
        parts, total = list(self.parts_s.items()), sum(self.parts_s.values())
        until_batch = sum(seconds for name, seconds in parts if name not in ("model", "first_step"))
        return {"first_batch_s": until_batch, "first_step_s": total, "parts_s": self.parts_s}


def fastbot(data: str, recipe: str, overrides: list[str], backend: str, device: str) -> Answer:
    """Train one step as `fastbot train` does, without its command line and its records."""
    watch = Stopwatch()
    with watch.part("imports"):
        from numba.core import event

        from benchmarks.rungs.training import build_trainer, open_pipeline, recipe_of, synchronize
        from datasets_tools.store import Store
        from fastbot.distributed import joined
    compiler: Any = event.install_listener("numba:compile", event.TimingListener())
    with compiler as compiling, joined(device) as ranks:
        with watch.part("store"):
            whole, store = recipe_of(recipe, overrides), Store(Path(data))
        with watch.part("pipeline"):
            pipeline = open_pipeline(whole, store, backend, ranks)
        with closing(pipeline):
            with watch.part("first_batch"):
                next(pipeline.batches())
                synchronize(ranks.device)
            with watch.part("model"):
                trainer = build_trainer(whole, pipeline, store, ranks)
                trainer.step, trainer.total_steps = 1, 2  # goes on with the batch after the first
            with watch.part("first_step"):
                trainer.fit(())
                synchronize(ranks.device)
        return watch.answer() | {"compiling_s": compiling.duration if compiling.done else 0.0}


def stock(
    folder: str, network: str, batch_size: int, size: int, workers: int, device: str, precision: str, tf32: bool
) -> Answer:
    """Train one step of a plain loop over torchvision's `DataLoader`, with crops alone, in a recipe's precision."""
    watch = Stopwatch()
    with watch.part("imports"):
        import torch
        import torchvision

        from benchmarks.peers.torchvision_loader import dataloader
    with watch.part("store"):
        files = sorted(Path(folder).rglob("*.jpg"))
    with watch.part("pipeline"):
        batches = iter(dataloader(files, size, batch_size, workers))
    with watch.part("first_batch"):
        pixels = next(batches).to(device)
    with watch.part("model"):
        model = torchvision.models.get_model(network).to(device)
        optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, weight_decay=1e-4, nesterov=True)
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
        kind, half = torch.device(device).type, torch.float16 if precision == "fp16" else torch.bfloat16
        scaler = torch.amp.GradScaler(kind, enabled=precision == "fp16")
    with watch.part("first_step"):
        labels = torch.zeros(len(pixels), dtype=torch.int64, device=device)
        with torch.autocast(kind, half, enabled=precision != "fp32"):
            loss = torch.nn.functional.cross_entropy(model(pixels.float() / 255), labels)
        scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        scaler.step(optimizer)
        scaler.update()
        if device.startswith("cuda"):
            torch.cuda.synchronize()
    return watch.answer()
