"""A search that trains a network of a few hundred weights; as a program, one to be killed."""

from __future__ import annotations

import sys
from pathlib import Path

from tiny_training import tiny_backbone

from ensemble_kit.models.backbones import BACKBONES, Backbone
from ensemble_kit.recipe.run import Silent
from ensemble_kit.tuning.report import SearchReport
from ensemble_kit.tuning.tune import Request, tune_recipe

RECIPE = """
[schema]
mask = ["worn", "incorrect", "not_worn"]
age = { classes = ["<30", "30-59", ">=60"], borders = [30, 60] }
[graph]
mask = []
age = []
[data]
folds = 2
[train]
backbone = "tiny_backbone"
weights = "none"
size = 16
epochs = 1
batch_size = 16
head_lr = 1e-2
precision = "fp32"
augment = []
threads = 1
[train.age]
epochs = 2
[tune]
trials = 3
startup = 1
prune_after = 2
[tune.space]
"train.age.head_lr" = { low = 1e-3, high = 1e-1, log = true }
"train.age.label_smoothing" = [0.1, 0.0]
"""

KNOWN = {"tiny_backbone": Backbone(tiny_backbone)}


def tune(folder: Path, photos: Path, at_once: int | None = None, *edits: str, **more: object) -> SearchReport:
    """The search of RECIPE, written beside its folder."""
    recipe = folder.parent / "tiny.toml"
    if not recipe.is_file():
        recipe.write_text(RECIPE)
    request = Request(str(recipe), photos, folder, edits=edits, tune=more, at_once=at_once)
    return tune_recipe(request, Silent())


if __name__ in ("__main__", "__mp_main__"):
    BACKBONES.update(KNOWN)

if __name__ == "__main__":  # folder, photos, trials at a time, trials, edits
    folder, photos, at_once, trials, *edits = sys.argv[1:]
    tune(Path(folder), Path(photos), int(at_once), *edits, trials=int(trials))
