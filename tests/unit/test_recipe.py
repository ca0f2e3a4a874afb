from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastbot.errors import RecipeError
from fastbot.recipe import Recipe, training_changes
from fastbot.recipe_files import load_recipe, recipe_names, unpublished_keys, write_recipe
from fastbot.specs import Duration


@pytest.mark.parametrize("name", recipe_names())
def test_a_written_recipe_reads_back_equal(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name)
    file = tmp_path / "recipe.toml"
    file.write_text(write_recipe(recipe))
    assert load_recipe(str(file)) == recipe.resolved()


@pytest.mark.parametrize(
    "override",
    [
        *(f"data.auto_augment.kind={kind}" for kind in ("rand", "trivial")),
        *(f"data.jitter.kind={kind}" for kind in ("none", "hsv", "contrast")),
        *(f"data.mix.kind={kind}" for kind in ("mixup", "cutmix", "mixup_cutmix")),
        *(f"data.order.kind={kind}" for kind in ("blocks", "repeat", "weighted")),
        "data.order={kind='weighted', weights=[1, 2.5, 0]}",
        "data.size_ramp.start_size=128",
        "data.erasing.probability=1",
        *(f"schedule.kind={kind}" for kind in ("cosine", "timm_cosine", "linear")),
        *(f"optimizer.kind={kind}" for kind in ("lamb", "adamw")),
        *(f"clip.kind={kind}" for kind in ("norm", "value", "agc")),
        "loss={kind='bce', target_threshold=0.2}",
        "distillation={kind='teacher', teacher='runs/teacher'}",
        "ema.decay=0.99",
        "optimizer={kind='lamb', max_grad_norm='none'}",
        "model.bn_batch=32",
        "model.bn_batch=sync",
    ],
)
def test_every_kind_reads_back_as_the_same_training(override: str, tmp_path: Path) -> None:
    recipe = load_recipe("bot-baseline", [override])
    file = tmp_path / "recipe.toml"
    file.write_text(write_recipe(recipe))
    assert load_recipe(str(file)) == recipe.resolved()
    assert load_recipe(str(file)).training_digest() == recipe.training_digest()


def test_the_papers_numbers() -> None:
    baseline, efficient = load_recipe("bot-baseline"), load_recipe("bot-efficient")
    assert (baseline.data.global_batch_size, baseline.learning_rate, baseline.precision.kind) == (256, 0.1, "fp32")
    assert (efficient.data.global_batch_size, efficient.learning_rate, efficient.precision.kind) == (1024, 0.4, "fp16")
    assert baseline.epochs == efficient.epochs == Duration(value=120)
    assert not baseline.model.zero_gamma
    assert efficient.model.zero_gamma
    assert not efficient.optimizer.bias_decay
    assert efficient.schedule.warmup == Duration(value=5)
    assert baseline.data.mean == (123.68, 116.779, 103.939)
    assert (baseline.paper.bn_batch, efficient.paper.bn_batch) == (32, 128)  # type: ignore[union-attr]


def test_the_learning_rate_follows_other_rules() -> None:
    lamb = ["optimizer.kind=lamb", "data.global_batch_size=512"]
    assert load_recipe("bot-baseline", lamb).learning_rate == pytest.approx(5e-3 / 2)
    assert load_recipe("bot-baseline", [*lamb, "optimizer.scaling=linear"]).learning_rate == pytest.approx(5e-3 / 4)
    assert load_recipe("bot-baseline", [*lamb, "optimizer.scaling=none"]).learning_rate == pytest.approx(5e-3)


def test_a_table_without_a_kind_is_of_the_default_one(tmp_path: Path) -> None:
    file = tmp_path / "short.toml"
    file.write_text(
        'name = "short"\nabout = "short"\nepochs = 1\n[optimizer]\nmomentum = 0.8\n[loss]\nlabel_smoothing = 0.1'
    )
    recipe = load_recipe(str(file))
    assert (recipe.optimizer.kind, recipe.loss.kind) == ("nag", "cross_entropy")


def test_a_threshold_that_erases_smoothing_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"target_threshold 0\.2 erases label_smoothing 0\.1"):
        load_recipe("bot-baseline", ["loss.kind=bce", "loss.target_threshold=0.2", "loss.label_smoothing=0.1"])


def test_the_learning_rate_follows_the_global_batch_unless_given() -> None:
    assert load_recipe("bot-baseline", ["data.global_batch_size=512"]).learning_rate == pytest.approx(0.2)
    assert load_recipe("bot-baseline", ["optimizer.learning_rate=0.3"]).learning_rate == 0.3


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optimizer.lerning_rate=3", r"lerning_rate is not a recipe key.*Did you mean optimizer\.learning_rate\?"),
        ("data.jitter.huee=[1, 2]", r"data\.jitter\.huee is not a recipe key.*Did you mean data\.jitter\.hue\?"),
        ("epochs=lots", r"epochs is 'lots'.*not a duration"),
        ("data.crop_size=-3", r"data\.crop_size is -3.*greater than "),
        ("data.crop_size=big", r"data\.crop_size is 'big'"),
        ("precision.kind=fp8", r"precision\.kind is 'fp8'.*'fp32', 'fp16' or 'bf16'"),
        ("precision.tf32=3", r"precision\.tf32 is 3"),
        ("data.crop=3", r"^data\.crop is 3 \(bot-baseline\): it should be a table of any of area, aspect, attempts$"),
        ("schedule.kind=constant", r"kind is .constant. .*: choose step, cosine, timm_cosine or linear$"),
        ("data.mix={alpha=1}", r"^data\.mix has no kind \(bot-baseline\): choose none, mixup,"),
        ("data.eval.crop_size=300", r"resize_size is 256, smaller than crop_size 300"),
        ("clip.value=2", r"^clip\.value is not a recipe key .*: value is a kind\. Write clip\.kind=value$"),
        ("nope.x=3", r"nope is not a recipe key \(bot-baseline\)\. The keys outside of tables are name, about, seed"),
        ("parent=demo", r"^override 'parent=demo': a parent is for recipe files\. Name the recipe itself: demo$"),
        ("nothing", r"not of the form key\.sub=value"),
        ("name.first=x", r"name is not a table"),
    ],
)  # fmt: skip
def test_a_wrong_key_or_value_is_named(override: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load_recipe("bot-baseline", [override])


def test_overrides_of_different_keys_meet_in_one_recipe() -> None:
    recipe = load_recipe("demo", ["precision.kind=bf16", "data.mix.kind=mixup", "data.mix.alpha=0.4", "epochs=1"])
    assert recipe.precision.kind == "bf16"
    assert recipe.data.mix.kind == "mixup"
    assert recipe.data.mix.alpha == 0.4
    assert recipe.epochs == Duration(value=1)


def test_overrides_mean_the_same_in_any_order() -> None:
    overrides = ["data.mix.alpha=0.3", "data.mix.kind=mixup", "data.mix.group=16"]
    for order in itertools.permutations(overrides):
        mix = load_recipe("demo", order).data.mix
        assert (mix.kind, mix.alpha, mix.group) == ("mixup", 0.3, 16)  # type: ignore[union-attr]


def test_a_key_of_another_kind_says_so() -> None:
    with pytest.raises(RecipeError, match=r"data\.mix\.alpha has no meaning where data\.mix\.kind is none"):
        load_recipe("demo", ["data.mix.alpha=0.3"])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.order.block=4"], r"data\.order\.block has no meaning where data\.order\.kind is shuffle"),
        (["data.mix.kind=mixup_cutmix", "data.mix.alpha=1"], r"data\.mix\.alpha has no meaning .* is mixup_cutmix"),
        (["data.auto_augment.kind=rand", "data.auto_augment.magnitude=70"], r"^data\.auto_augment\.magnitude is 70"),
        (["data.jitter.kind=contrast", "data.jitter.contrast=5"], r"^data\.jitter\.contrast is 5"),
        (["data.order.kind=weighted", "data.order.weights=[1, -1]"], r"^data\.order\.weights\.1 is -1"),
        (["data.size_ramp.end_epoch=3"], r"^data\.size_ramp .*start_epoch is 35, not before end_epoch 3"),
    ],
)
def test_a_key_is_named_as_it_is_written_whatever_the_kind(overrides: list[str], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load_recipe("bot-baseline", overrides)


def test_another_kind_drops_the_keys_of_the_old_one() -> None:
    recipe = load_recipe("bot-baseline", ["schedule.kind=cosine", "schedule.warmup=3"])
    assert (recipe.schedule.kind, recipe.schedule.warmup) == ("cosine", Duration(value=3))


def test_a_pattern_and_no_name_are_no_recipes(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"^bot-\* is a pattern, .* `fastbot recipes 'bot-\*'` lists what it fits$"):
        load_recipe("bot-*")
    with pytest.raises(RecipeError, match="there is no recipe without a name"):
        load_recipe("")
    file = tmp_path / "mine[1].toml"
    file.write_text('name = "mine"\nabout = "x"\nepochs = 1\n')
    assert load_recipe(str(file)).name == "mine"


def test_a_parent_with_a_parent_says_what_to_begin_with(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('name = "mine"\nabout = "x"\nparent = "bot-resnet50d-distill"\n')
    with pytest.raises(RecipeError, match="Begin with the whole of it: fastbot recipes bot-resnet50d-distill > mine"):
        load_recipe(str(file))


def test_an_unknown_recipe_names_the_nearest() -> None:
    with pytest.raises(RecipeError, match=r"no recipe bot-eficient\. Did you mean bot-efficient\?"):
        load_recipe("bot-eficient")


def test_broken_files_are_named(tmp_path: Path) -> None:
    file = tmp_path / "broken.toml"
    file.write_text("epochs = = 3")
    with pytest.raises(RecipeError, match=re.escape(str(file)) + " is not TOML"):
        load_recipe(str(file))
    with pytest.raises(RecipeError, match="cannot be read"):
        load_recipe(str(tmp_path / "absent.toml"))
    file.write_text('name = "x"')
    with pytest.raises(RecipeError, match="about is missing"):
        load_recipe(str(file))


def test_a_parent_is_inherited_from_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    child, grandchild = tmp_path / "child.toml", tmp_path / "grandchild.toml"
    monkeypatch.chdir("/")  # a parent is named as seen from the file
    child.write_text('parent = "bot-baseline"\nname = "child"\n[data]\ncrop_size = 192\n')
    grandchild.write_text('parent = "child.toml"\nname = "grandchild"\n')
    recipe = load_recipe(str(child))
    assert (recipe.name, recipe.data.crop_size, recipe.data.global_batch_size) == ("child", 192, 256)
    with pytest.raises(RecipeError, match="has a parent itself"):
        load_recipe(str(grandchild))


@pytest.mark.parametrize("parent", ["3", "true", "['demo']", "{ name = 'demo' }"])
def test_a_parent_that_is_no_name_is_refused(parent: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(f'parent = {parent}\nname = "mine"\nabout = "x"\n')
    message = r"mine\.toml: parent is .*, and parent must be a recipe's name or a \.toml path"
    with pytest.raises(RecipeError, match=message):
        load_recipe(str(file))


def test_where_a_teacher_lies_decides_no_training() -> None:
    """Which one it is, the digest of its weights says."""
    here, moved, softer = (
        load_recipe("bot-resnet50d-distill", overrides).resolved()
        for overrides in ([], ["distillation.teacher=elsewhere"], ["distillation.temperature=4"])
    )
    assert moved.training_digest() == here.training_digest() != softer.training_digest()
    assert here.training_digest() != load_recipe("bot-resnet50d-distill", ["distillation.kind=none"]).training_digest()
    assert training_changes(here.as_dict(), moved.as_dict()) == ""
    assert training_changes(here.as_dict(), softer.as_dict()) == "distillation.temperature is 4.0, was 20.0"
    taught = load_recipe("demo", ["distillation={kind='teacher', teacher='x'}"]).resolved()
    assert "distillation.kind is teacher, was none" in training_changes(load_recipe("demo").as_dict(), taught.as_dict())
    assert "distillation.teacher" in unpublished_keys(moved), "another teacher is another experiment than the paper's"


def test_what_decides_the_training_decides_the_digest() -> None:
    base = load_recipe("demo")
    assert load_recipe("demo", ["run.log_every=7"]).training_digest() == base.training_digest()
    for override in ("seed=1", "epochs=7", "data.crop_size=96", "loss.label_smoothing=0.2", "compile=true"):
        assert load_recipe("demo", [override]).training_digest() != base.training_digest(), override


@given(value=st.integers(0, 10**6), steps_per_epoch=st.integers(1, 10**5))
def test_durations_in_epochs_and_in_steps_agree(value: int, steps_per_epoch: int) -> None:
    in_epochs, in_steps = Duration.model_validate(value), Duration.model_validate(f"{value * steps_per_epoch} steps")
    assert in_epochs.steps(steps_per_epoch) == in_steps.steps(steps_per_epoch) == value * steps_per_epoch


@pytest.mark.parametrize("text", ["1234567 steps", "0.1234567 epochs", "0.00001 epochs", "120 epochs", "0 epochs"])
def test_a_duration_is_written_as_it_is_read(text: str) -> None:
    assert str(Duration.model_validate(text)) == text


def test_a_moving_average_can_be_switched_off() -> None:
    assert load_recipe("demo", ["ema.decay=0.9"]).ema is not None
    assert load_recipe("demo", ["ema=none"]) == load_recipe("demo")


def keys_of(table: dict[str, Any], definitions: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield every key of a JSON schema, in dotted form; a duration is one value."""
    for name, field in table["properties"].items():
        inner = set(re.findall(r'#/\$defs/(\w+)"', json.dumps(field))) - {"Duration"}
        if not inner:
            yield prefix + name
        for each in inner:
            yield from keys_of(definitions[each], definitions, f"{prefix}{name}.")


def test_the_surface_of_recipes_is_known() -> None:
    """A new key is a promise: add it here knowingly, with its documentation."""
    schema = Recipe.model_json_schema()
    assert sorted(set(keys_of(schema, schema["$defs"]))) == sorted(
        """
        about channels_last compile epochs micro_batches name seed
        model.aux_weight model.blur_pool model.bn_batch model.drop_path model.dropout model.init model.name
        model.zero_gamma
        data.crop.area data.crop.aspect data.crop.attempts data.crop_size data.flip data.global_batch_size
        data.auto_augment.fill data.auto_augment.interpolation data.auto_augment.kind data.auto_augment.layers
        data.auto_augment.magnitude data.auto_augment.magnitude_std data.auto_augment.num_strengths
        data.auto_augment.probability
        data.erasing.area data.erasing.aspect data.erasing.mode data.erasing.probability
        data.eval.crop_size data.eval.global_batch_size data.eval.interpolation data.eval.resize_size
        data.interpolation
        data.jitter.brightness data.jitter.contrast data.jitter.hue data.jitter.kind data.jitter.saturation
        data.lighting_std data.mean data.mix.alpha data.mix.cutmix_alpha data.mix.draw data.mix.group data.mix.kind
        data.mix.mixup_alpha data.mix.probability data.mix.switch
        data.order.block data.order.kind data.order.pool data.order.power data.order.repeats data.order.weights
        data.size_ramp.end_epoch data.size_ramp.multiple data.size_ramp.start_epoch data.size_ramp.start_size data.std
        loss.kind loss.label_smoothing loss.reduction loss.smoothing loss.target_threshold
        distillation.hard_weight distillation.kind distillation.precision distillation.soft_weight distillation.teacher
        distillation.temperature
        optimizer.base_batch_size optimizer.base_learning_rate optimizer.betas optimizer.bias_decay optimizer.eps
        optimizer.kind optimizer.learning_rate optimizer.max_grad_norm optimizer.momentum optimizer.nesterov
        optimizer.scaling optimizer.trust_clip optimizer.weight_decay
        clip.classifier clip.eps clip.factor clip.kind clip.max_norm clip.max_value
        ema.decay ema.every
        schedule.cooldown schedule.factor schedule.kind schedule.milestones schedule.min_learning_rate schedule.warmup
        schedule.warmup_learning_rate
        precision.kind precision.tf32
        run.checkpoint_minutes run.checkpoint_steps run.eval_every run.eval_flip run.log_every
        paper.bn_batch paper.real paper.row paper.standing paper.top1 paper.top5 paper.v2
        """.split()
    )
