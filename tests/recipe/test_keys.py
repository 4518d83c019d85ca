"""Every key of `[train]` changes the job that is trained, and its fingerprint where it changes the result.

What each of them does to a training, and those of the other sections, is in `test_keys_matter` and
`test_other_keys_matter`.
"""

from __future__ import annotations

from typing import Any

import pytest
from other_values import OTHER_VALUES
from shipped import run_without_photos

from ensemble_kit.recipe.experts import ExpertSpec
from ensemble_kit.recipe.load import load_recipe
from ensemble_kit.recipe.settings import TrainSettings
from ensemble_kit.recipe.train import job_of
from ensemble_kit.runs import Run
from ensemble_kit.training import ExpertJob

FROZEN = {"freeze": ("backbone",)}
BESIDE: dict[str, dict[str, Any]] = {
    "feature_views": FROZEN,
    "smote": {**FROZEN, "feature_views": 0},
    "balance_by": {"sampler": "undersample"},
    "soup": {"keep": "every 1"},
    "min_steps": {"epochs": 1},
}
"""What a key needs beside it."""
VALUES = {**OTHER_VALUES, "weights": "imagenet", "phases": ({"epochs": 2}, {"head_lr": 0.5}), "min_steps": 400}
WHERE = {"save_every", "device", "share_gpu", "workers", "threads", "tensorboard"}
"""Where and how a training runs: the result is the same, and so is the fingerprint."""
BESIDE_THE_JOB = {"jobs", "seeds"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run_without_photos(tmp_path_factory.mktemp("nothing"))


def job(run: Run, names: tuple[str, ...], keys: dict[str, Any]) -> ExpertJob:
    settings = load_recipe("face-mask").settings_for(names, {"weights": "none", **keys})
    return job_of(run, ExpertSpec(names, {}), settings, 0)


def test_every_key_has_a_row() -> None:
    assert set(VALUES) == set(TrainSettings.model_fields)
    assert set(VALUES) > WHERE | BESIDE_THE_JOB


@pytest.mark.parametrize("key", sorted(set(VALUES) - BESIDE_THE_JOB))
def test_every_key_changes_the_job(run: Run, key: str) -> None:
    names, beside = ("gender", "age") if key == "heads" else ("age",), BESIDE.get(key, {})
    before, after = job(run, names, beside), job(run, names, {**beside, key: VALUES[key]})
    assert before.to_json() != after.to_json()
    prints = [one.identity(run.table, run.folds) for one in (before, after) if one.weights == "none"]
    assert (prints[0] == prints[-1]) == (key in WHERE or key == "weights")  # imagenet has a name of its own


def test_seeds_are_trainings_of_their_own(run: Run) -> None:
    settings = load_recipe("face-mask").settings_for(("age",), {"weights": "none", "seeds": VALUES["seeds"]})
    jobs = [job_of(run, ExpertSpec(("age",), {}), one, 0) for one in settings.by_seed().values()]
    assert [one.seed for one in jobs] == [0, 2]
