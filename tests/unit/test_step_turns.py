"""That loops in one process do not get in each other's way: switches, memory, compiled code, turns of one call."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import torch

from benchmarks.floor import rates
from benchmarks.floor.rates import Rates
from benchmarks.measure import Effort, Result, measure
from benchmarks.rungs import step, step_cases, step_loops, step_peers, step_turns
from benchmarks.rungs.step_cases import Yardsticks, contender, measured
from benchmarks.rungs.step_loops import Loop, synthetic_batch
from benchmarks.rungs.step_recipes import PrecisionName, recipe_for, variants
from fastbot.recipe import Recipe
from pipelines.batch import Batch

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)
ONCE = Effort(repeats=1, warmups=0)
Build = Callable[[Recipe, Batch, torch.device], Loop]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A device's rates in a moment, no thread to be waited for, and switches as they were."""
    monkeypatch.setattr(rates, "_SIDES", (128,))
    monkeypatch.setattr(rates, "_COPIES", (4096,))
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with step_turns.process_switches():
        yield
    torch.set_num_threads(before)


def tiny(model: str = "resnet18b", precision: PrecisionName = PrecisionName.fp32) -> Recipe:
    return variants(recipe_for(model), [2], 32, [precision])[0]


def seen() -> tuple[bool, bool]:
    return torch.backends.cudnn.benchmark, torch.backends.cuda.matmul.allow_tf32


def alone_with(monkeypatch: pytest.MonkeyPatch, **peers: Build) -> None:
    monkeypatch.setattr(step, "PEERS", peers)
    monkeypatch.setattr(step, "problem_of", lambda whose, recipe, device: None)


def test_every_loop_has_its_own_switches_in_its_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    met: dict[str, set[tuple[bool, bool]]] = {"fastbot": set(), "tuned": set(), "careless": set()}

    def peer(name: str, cudnn_benchmark: bool, recipe: Recipe, batch: Batch, device: torch.device) -> Loop:
        torch.backends.cuda.matmul.allow_tf32 = True  # as composer's trainer does where it is built
        return Loop(name, lambda steps: met[name].add(seen()), cudnn_benchmark=cudnn_benchmark)

    def ours(recipe: Recipe, batch: Batch, device: torch.device) -> Loop:
        loop = step_loops.ours(recipe, batch, device)
        return Loop(loop.network, lambda steps: met["fastbot"].add(seen()), loop.trainer, loop.cudnn_benchmark)

    alone_with(monkeypatch, tuned=partial(peer, "tuned", True), careless=partial(peer, "careless", False))
    monkeypatch.setattr(step, "ours", ours)
    results = step.run([tiny(), tiny()], CPU, Effort(repeats=2, warmups=0))
    assert met == {"fastbot": {(False, False)}, "tuned": {(True, False)}, "careless": {(False, False)}}
    assert [result.details["cudnn_benchmark"] for result in results[:4]] == [False, False, True, False]
    assert seen() == (False, False)


def test_tf32_is_on_for_all_where_it_is_compared() -> None:
    step_turns.make_ready(Loop("", lambda steps: None), tiny(precision=PrecisionName.tf32), CPU)
    assert seen() == (False, True)


def test_what_scripts_set() -> None:
    """The `train.py` of timm turns it on, PyTorch's example leaves it, and so does the trainer."""
    pytest.importorskip("timm")
    recipe = tiny()
    batch = synthetic_batch(recipe, CPU)
    builds: list[Build] = [step_loops.ours, step_loops.pytorch_loop, step_peers.PEERS["timm's loop"]]
    assert [build(recipe, batch, CPU).cudnn_benchmark for build in builds] == [False, False, True]


def test_on_a_gpu_a_loop_gets_the_memory_before_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[object] = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: events.append("empty"))
    loop = Loop("", events.append)
    step_turns.make_ready(loop, tiny(), CUDA)
    assert events == ["empty", 2]
    step_turns.make_ready(loop, tiny(), CPU)
    assert events == ["empty", 2]


class Clock:
    """Time that passes in steps alone."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, step_s: float) -> None:
        self.now, self.step_s = 0.0, step_s
        self.calls: list[int] = []
        monkeypatch.setattr(time, "perf_counter", lambda: self.now)

    def train(self, steps: int) -> None:
        self.calls.append(steps)
        self.now += steps * self.step_s


def test_a_turn_is_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of as many steps as fill it: to begin a training takes some libraries longer than a step."""
    recipe, yardsticks = tiny(), Yardsticks(CPU)
    yardsticks.floor(recipe)  # while time passes
    monkeypatch.setattr(yardsticks, "look", lambda _: None)
    clock = Clock(monkeypatch, step_s=0.125)
    batch = synthetic_batch(recipe, CPU)
    found = contender("slow", recipe, batch, CPU, lambda *_: Loop("slow", clock.train), pytest.fail)
    assert found is not None
    clock.calls.clear()
    effort = Effort(repeats=3, at_least_s=2.0, warmups=2)
    (result,) = measured("step", {found.name: [found.name]}, {found.name: found}, effort, CPU, yardsticks)
    assert clock.calls == [1, 16, 16, 16, 16]
    assert result.samples == (16.0, 16.0, 16.0)  # 2 images every eighth of a second


def test_a_gpu_s_queue_is_never_nearly_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch, step_s=100.0)
    assert step_turns.steps_of_a_turn(Loop("", clock.train), 1.0, 2, CUDA, lambda: None) == 5


def test_what_does_not_fit_leaves_others_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    resets: list[str] = []
    monkeypatch.setattr(torch.compiler, "reset", lambda: resets.append("reset"))
    recipe = tiny()

    def too_large(*_: object) -> Loop:
        raise torch.OutOfMemoryError("CUDA out of memory")

    left_out: list[object] = []
    assert contender("large", recipe, synthetic_batch(recipe, CPU), CPU, too_large, left_out.append) is None
    assert len(left_out) == 1
    assert resets == []
    step_turns.forget(CPU)
    assert resets == ["reset"]


def test_steps_in_a_thread_of_their_own() -> None:
    threads: set[int] = set()
    multithreaded: set[bool] = set()

    def train(steps: int) -> None:
        if steps < 0:
            raise torch.OutOfMemoryError("CUDA out of memory")
        threads.add(threading.get_ident())
        multithreaded.add(torch._C._is_multithreading_enabled())

    there = step_turns.in_a_thread_of_its_own(train)
    there(1)
    there(2)
    assert len(threads) == 1
    assert threading.get_ident() not in threads
    assert multithreaded == {False}
    with pytest.raises(torch.OutOfMemoryError):
        there(-1)


@pytest.mark.gpu
def test_backward_passes_are_in_that_thread_too() -> None:
    threads: dict[str, int] = {}

    def train(steps: int) -> None:
        weight = torch.ones(4, 3, 3, 3, device=CUDA, requires_grad=True)
        weight.register_hook(lambda grad: threads.update(backward=threading.get_ident()))  # type: ignore[no-untyped-call]
        threads["forward"] = threading.get_ident()
        torch.nn.functional.conv2d(torch.ones(2, 3, 8, 8, device=CUDA), weight).sum().backward()  # type: ignore[no-untyped-call]

    step_turns.in_a_thread_of_its_own(train)(1)
    assert threads["backward"] == threads["forward"] != threading.get_ident()
    train(1)
    assert threads["backward"] != threads["forward"]  # why it has to be asked for


def test_notes_say_whose_network_a_peer_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    def peer(recipe: Recipe, batch: Batch, device: torch.device) -> Loop:
        return Loop(step_loops.our_network(recipe), lambda steps: time.sleep(1e-3))

    def with_its_own(recipe: Recipe, batch: Batch, device: torch.device) -> Loop:
        return Loop("torchvision's resnet18", lambda steps: time.sleep(1e-3))

    alone_with(monkeypatch, borrower=peer, owner=with_its_own)
    notes = {result.case.split(",")[0]: result.notes for result in step.run([tiny()], CPU, ONCE) if result.notes}
    assert notes["borrower"].startswith("trains fastbot's resnet18b, ")
    assert "trains" not in notes["owner"] + notes["fastbot"]
    assert "MB" not in " ".join(notes.values())


def test_what_is_measured_is_published_before_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever ends the rung: on a rented GPU it is a limit."""
    original, turns = measure, iter("ab")

    def ended_in_the_second(*given: Any, **keywords: Any) -> list[Result]:
        if next(turns) == "b":
            raise KeyboardInterrupt
        return original(*given, **keywords)

    alone_with(monkeypatch)
    monkeypatch.setattr(step_cases, "measure", ended_in_the_second)
    published: list[Result] = []
    with pytest.raises(KeyboardInterrupt):
        step.run([tiny(), tiny()], CPU, ONCE, publish=published.extend)
    assert [result.details["model"] for result in published] == ["resnet18b"]


def test_composer_draws_a_batch_for_each_of_its_steps() -> None:
    pytest.importorskip("composer")
    from benchmarks.peers import composer

    drawn: list[int] = []

    class Counted(composer._OneBatch):
        def __iter__(self) -> Iterator[composer.Pair]:
            for pair in super().__iter__():
                drawn.append(1)
                yield pair

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(composer, "_OneBatch", Counted)
        network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 1000))
        optimizer = torch.optim.SGD(network.parameters(), 1e-4)
        train = composer.train_on(network, torch.ones(2, 3, 2, 2), torch.tensor([1, 2]), "fp32", optimizer)
        train(3)
        first = len(drawn)
        train(3)
    assert len(drawn) == 2 * first


def test_a_device_is_held_against_the_best_that_was_seen_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cores that are others' for a moment: with what was seen then alone, a step reaches more than there is."""
    looks = iter([Rates(10.0, 2.0), Rates(8.0, 3.0)])
    monkeypatch.setattr(step_cases, "device_rates", lambda *_, **__: next(looks))
    yardsticks = Yardsticks(CPU)
    yardsticks.floor(tiny())
    yardsticks.look(tiny())
    assert yardsticks.floor(tiny()).rates == Rates(10.0, 3.0)
