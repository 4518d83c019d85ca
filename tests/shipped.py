"""Shipped recipes' jobs on a table of people whose photos are nowhere, and what these jobs make."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ensemble_kit.data.decode import prepare
from ensemble_kit.data.samples import SampleTable
from ensemble_kit.loading.transforms import Augment
from ensemble_kit.models.heads import Network, build_network
from ensemble_kit.recipe.experts import ExpertSpec
from ensemble_kit.recipe.load import Recipe, load_recipe
from ensemble_kit.recipe.planning import _photos_of
from ensemble_kit.recipe.train import job_of
from ensemble_kit.runs import Run
from ensemble_kit.training.columns import parts_of_job
from ensemble_kit.training.job import ExpertJob
from ensemble_kit.training.optimizers import freeze_layers, make_optimizer
from ensemble_kit.training.rows import FoldRows, choose_rows

FLAT = ("mask", "gender", "age")
SIX = ("gender", "age")
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def run_without_photos(root: Path) -> Run:
    """A person of every age and gender, a photo in every mask state; nothing of it lies on the disk."""
    recipe = load_recipe("three-models")
    rows = [
        (age, gender, state)
        for age in range(18, 61)
        for gender in ("male", "female")
        for state in recipe.schema["mask"].classes
    ]
    people = [f"{gender}{age}" for age, gender, _ in rows]
    columns: dict[str, Any] = {"sample_id": [f"{i}.jpg" for i in range(len(rows))], "group_id": people}
    columns |= {"path": columns["sample_id"], "mask": [row[2] for row in rows], "gender": [row[1] for row in rows]}
    table = SampleTable.from_columns({**columns, "age": [float(row[0]) for row in rows]}, root, recipe.schema)
    folds = np.array([(row[0] + (row[1] == "female")) % 5 for row in rows], dtype=np.int64)
    return Run.create(
        root, table, folds, data=root, layout="auto", schema=recipe.schema, graph=recipe.graph,
        division={"n_folds": 5, "fold_seed": 0, "val_ratio": None}, combine=recipe.combine.model_dump(), write=False,
    )  # fmt: skip


def job(
    run: Run,
    name: str | Recipe,
    names: tuple[str, ...],
    condition: Mapping[str, tuple[str, ...]] | None = None,
    variant: str | None = None,
) -> ExpertJob:
    """The job of fold 0, from random weights: nothing is fetched here."""
    recipe = name if isinstance(name, Recipe) else load_recipe(name, variant=variant)
    spec = ExpertSpec(names, condition or {})
    assert spec in recipe.experts, f"{recipe.name} does not train {spec}"
    settings = recipe.settings_for(names, condition=spec.condition)
    return job_of(run, spec, settings.model_copy(update={"weights": "none"}), 0)


def network_of(job: ExpertJob) -> Network:
    return build_network(job.backbone, "none", parts_of_job(job), (0,), head=job.head, size=job.size)


def groups_of(job: ExpertJob, number: int = 0) -> tuple[torch.optim.Optimizer, dict[str, dict[str, Any]], set[str]]:
    """The optimiser of a phase, its group of weights of each part, and the names of what is frozen."""
    network, phase = network_of(job), job.phases[number]
    freeze_layers(network, phase.freeze, {name for name, _ in network.named_parameters()})
    optimizer = make_optimizer(network, phase)
    groups = {g["part"]: g for g in optimizer.param_groups if g["params"][0].ndim > 1}
    return optimizer, groups, {name for name, p in network.named_parameters() if not p.requires_grad}


def steps_of(job: ExpertJob) -> list[Any]:
    pipeline = Augment(job.augment, job.size, 0, job.augment_share, job.window)._pipeline
    return [] if pipeline is None else list(pipeline.transforms)


def rows_of(run: Run, job: ExpertJob) -> FoldRows:
    return choose_rows(job, run.table, run.folds, _photos_of(run, job))


def ages(run: Run, rows: Any) -> set[int]:
    return set(run.table.frame["age"].to_numpy()[rows].astype(int).tolist())


def prepared(job: ExpertJob) -> tuple[int, ...]:
    photo = np.zeros((512, 384, 3), dtype=np.uint8)
    return prepare(photo, job.preprocess).shape
