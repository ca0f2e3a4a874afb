"""What follows from figures, whoever measured them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from fastbot.diagnosis.figures import AT_RANDOM, IN_ORDER, Figure, Part, Resource
from fastbot.diagnosis.limits import Diagnosis, Situation, diagnose

ON_CPU = Situation(
    cores=8,
    threads=8,
    device="cpu",
    gpus=0,
    backend="turbo",
    usable_backends=frozenset({"turbo", "dali"}),
    order="shuffle",
    auto_augment="none",
    jitter="hsv",
    precision="fp32",
    crop_size=224,
    mean_side=450,
    progressive_share=0.0,
    raw_share=0.0,
    fits_in_memory=False,
)
ON_GPU = replace(ON_CPU, device="cuda", gpus=1, backend="turbo")

RATES = {Part.DISK: 9000.0, Part.DECODE: 4000.0, Part.AUGMENT: 40_000.0, Part.MODEL: 20_000.0}


def figures(situation: Situation, rates: Mapping[Part, float], in_order: float = 9000.0) -> list[Figure]:
    on_gpu = situation.device == "cuda"
    device = Resource.GPU if on_gpu else Resource.CPU
    resources = {
        Part.DISK: Resource.DISK,
        Part.DECODE: Resource.GPU if situation.decodes_on_gpu else Resource.CPU,
        Part.AUGMENT: device,
        Part.TRANSFER: Resource.BUS,
        Part.MODEL: device,
    }
    variants = {Part.DISK: AT_RANDOM, Part.DECODE: "8 threads"}
    decisive = [Figure(part, variants.get(part, ""), resources[part], rate, "") for part, rate in rates.items()]
    slow_but_idle = Figure(Part.DECODE, "1 thread", resources[Part.DECODE], 1.0, "", decisive=False)
    not_measured = Figure(Part.TRANSFER, "", Resource.BUS, None, "") if Part.TRANSFER not in rates else slow_but_idle
    return [
        Figure(Part.DISK, IN_ORDER, Resource.DISK, in_order, "", decisive=False),
        slow_but_idle,
        not_measured,
        *decisive,
    ]


def found(situation: Situation, changed: Mapping[Part, float], in_order: float = 9000.0) -> Diagnosis:
    return diagnose(figures(situation, RATES | dict(changed), in_order), situation)


@pytest.mark.parametrize(
    ("situation", "rates", "limit", "advice"),
    [
        (ON_GPU, {Part.DISK: 3000.0}, Part.DISK, "data.order.kind=blocks: this disk is 3.0 times"),
        (replace(ON_GPU, order="blocks"), {Part.DISK: 3000.0}, Part.DISK, "NVMe"),
        (replace(ON_GPU, order="repeat"), {Part.DISK: 3000.0}, Part.DISK, "NVMe"),
        (replace(ON_GPU, raw_share=1.0), {Part.DISK: 3000.0}, Part.DISK, "--raw-share"),
        (ON_GPU, {Part.DISK: 3900.0, Part.DECODE: 5000.0}, Part.DISK, "data.order.kind=blocks"),
        (replace(ON_GPU, mean_side=600), {Part.DISK: 3900.0, Part.DECODE: 1e5}, Part.DISK, "blocks"),
        (replace(ON_GPU, mean_side=600, order="blocks"), {Part.DISK: 3900.0}, Part.DISK, "--max-side 400"),
        (ON_GPU, {}, Part.DECODE, "--backend dali"),
        (replace(ON_GPU, usable_backends=frozenset({"turbo"})), {}, Part.DECODE, "install DALI"),
        (replace(ON_GPU, threads=4), {}, Part.DECODE, "--threads 4"),
        (replace(ON_GPU, threads=4, gpus=2), {}, Part.DECODE, "--backend dali"),  # this one's share of the cores
        (replace(ON_GPU, progressive_share=0.5), {}, Part.DECODE, "--transcode: 50%"),
        (replace(ON_GPU, backend="dali", mean_side=600), {Part.DECODE: 900.0}, Part.DECODE, "--max-side 400"),
        (replace(ON_GPU, backend="dali"), {Part.DECODE: 900.0}, Part.DECODE, "another GPU"),
        (replace(ON_CPU, backend="torch"), {}, Part.DECODE, "--backend turbo"),
        (replace(ON_CPU, mean_side=600), {}, Part.DECODE, "--max-side 400"),
        (
            replace(ON_CPU, mean_side=600, crop_size=336),
            {},
            Part.DECODE,
            "more CPU cores",
        ),  # 600 is not too large for 336
        (ON_CPU, {}, Part.DECODE, "more CPU cores"),
        (replace(ON_CPU, gpus=1), {}, Part.DECODE, "--device cuda"),
        (ON_CPU, {Part.AUGMENT: 3000.0}, Part.AUGMENT, "data.jitter.kind=none"),
        (replace(ON_CPU, auto_augment="rand"), {Part.AUGMENT: 3000.0}, Part.AUGMENT, "data.auto_augment.layers=1"),
        (replace(ON_CPU, jitter="none"), {Part.AUGMENT: 3000.0}, Part.AUGMENT, "more CPU cores"),
        (replace(ON_CPU, gpus=1), {Part.AUGMENT: 3000.0}, Part.AUGMENT, "--device cuda"),
        (ON_GPU, {Part.TRANSFER: 2000.0}, Part.TRANSFER, "--backend dali"),
        (replace(ON_GPU, usable_backends=frozenset()), {Part.TRANSFER: 2000.0}, Part.TRANSFER, "pinned memory already"),
        (ON_GPU, {Part.MODEL: 500.0}, Part.MODEL, "nothing in the pipeline: it could feed this model 8.0 times over"),
        (ON_CPU, {Part.MODEL: 50.0}, Part.MODEL, "nothing in the pipeline"),
        (ON_CPU, {Part.MODEL: 3000.0}, Part.MODEL, "a GPU for the model: here the pipeline takes 45%"),
        (replace(ON_CPU, gpus=1), {Part.MODEL: 50.0}, Part.MODEL, "--device cuda"),
        (replace(ON_CPU, precision="fp16"), {Part.MODEL: 50.0}, Part.MODEL, "precision.kind=fp32"),
    ],
)
def test_each_limit_has_its_own_advice(
    situation: Situation, rates: Mapping[Part, float], limit: Part, advice: str
) -> None:
    diagnosis = found(situation, rates)
    assert diagnosis.limit == limit
    assert advice in diagnosis.advice


def test_parts_of_one_resource_take_turns_on_it() -> None:
    diagnosis = found(ON_CPU, {Part.DECODE: 600.0, Part.AUGMENT: 300.0, Part.MODEL: 200.0, Part.DISK: 150.0})
    # 1 / (1/600 + 1/300 + 1/200): slower together than the disk, which alone would be the slowest.
    assert diagnosis.images_per_s == pytest.approx(100)
    assert diagnosis.limit == Part.MODEL
    assert diagnosis.sharing == (Part.DECODE, Part.AUGMENT, Part.MODEL)
    assert diagnosis.times_over == pytest.approx(150 / 200)


def test_parts_of_two_resources_run_beside_each_other() -> None:
    diagnosis = found(ON_GPU, {Part.DECODE: 3000.0, Part.AUGMENT: 40_000.0, Part.MODEL: 10_000.0})
    assert diagnosis.images_per_s == pytest.approx(3000)
    assert diagnosis.sharing == (Part.DECODE,)


def test_without_a_model_nothing_is_said_of_it() -> None:
    rates = {part: rate for part, rate in RATES.items() if part != Part.MODEL}
    assert diagnose(figures(ON_GPU, rates), ON_GPU).times_over is None


def test_a_store_that_fits_the_memory_is_read_once() -> None:
    slow_disk = {Part.DISK: 10.0}
    assert found(ON_GPU, slow_disk).limit == Part.DISK
    assert found(replace(ON_GPU, fits_in_memory=True), slow_disk).limit == Part.DECODE


@pytest.mark.parametrize(("crop_size", "max_side"), [(224, 400), (160, 290), (64, 120)])
def test_sides_that_suit_a_crop(crop_size: int, max_side: int) -> None:
    assert replace(ON_CPU, crop_size=crop_size).max_side == max_side
