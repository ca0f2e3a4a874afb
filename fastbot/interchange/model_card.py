"""The page that the Hugging Face hub shows of a model."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

from fastbot import __version__
from fastbot.interchange.trained import Trained
from fastbot.recipe import Recipe
from fastbot.recipe_files import write_recipe
from fastbot.specs import TeacherSpec

_CARD = """\
---
library_name: timm
pipeline_tag: image-classification
tags:
- image-classification
- timm
- fastbot
---
# {recipe}

{about}

|  |  |
|---|---|
{facts}

## Use

```python
import timm
from PIL import Image

model = timm.create_model("hf-hub:USER/NAME", pretrained=True).eval()  # or "local-dir:FOLDER"
transform = timm.data.create_transform(**timm.data.resolve_data_config(model=model))
logits = model(transform(Image.open("picture.jpg").convert("RGB"))[None])
print(model.pretrained_cfg["label_names"][logits.argmax()])
```

Probabilities are the {probabilities} of the logits.

{training}"""

_TRAINING = """\
## Training

`fastbot train recipe.toml --data STORE --out RUN`, with this `recipe.toml`:

```toml
{toml}```
"""


def model_card(trained: Trained) -> str:
    """Return the Markdown of `README.md`: what it is, how good, how to use it, and the recipe it was trained with."""
    recipe = trained.recipe
    facts = "\n".join(f"| {name} | {value} |" for name, value in _facts(trained).items())
    return _CARD.format(
        recipe=recipe.name,
        about=recipe.about,
        facts=facts,
        probabilities=trained.probabilities,
        training=_training(recipe),
    )


def _training(recipe: Recipe) -> str:
    if recipe.epochs.value == 0:  # an import
        return "Not trained by fastbot.\n"
    if isinstance(recipe.distillation, TeacherSpec):  # its folder is nobody else's business
        teacher = recipe.distillation.model_copy(update={"teacher": Path(recipe.distillation.teacher).name})
        recipe = recipe.model_copy(update={"distillation": teacher})
    return _TRAINING.format(toml=write_recipe(recipe))


def _facts(trained: Trained) -> dict[str, str]:
    data = trained.recipe.data
    parameters = sum(parameter.numel() for parameter in trained.network.parameters())
    return {
        "model": f"{trained.recipe.model.name}, {parameters / 1e6:.1f} M parameters",
        "classes": f"{trained.num_classes:,}",
        "pictures": f"short side to {data.eval.resize_size} px ({data.eval.interpolation}), centre "
        f"{data.eval.crop_size} px",
        "normalization": f"mean {_rgb(data.mean)}, std {_rgb(data.std)} on the 0-255 scale",
        "top-1 on the validation split": "not known" if trained.val_top1 is None else f"{trained.val_top1:.2%}",
        "weights": "moving average of the training's" if trained.recipe.ema else "as trained",
        "checkpoint": trained.checkpoint,
        "versions": f"fastbot {__version__}, torch {metadata.version('torch')}",
    }


def _rgb(values: tuple[float, float, float]) -> str:
    return ", ".join(f"{value:.7g}" for value in values)
