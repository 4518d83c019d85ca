"""A restart forgets the finished expert only when nothing is left that could stop the new one from beginning."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_training import draw_table, folds_of, make_job, make_photos, tiny_backbone
from torch import Tensor, nn

from ensemble_kit.data.samples import SampleTable
from ensemble_kit.errors import DataError, EnsembleKitError, UsageError
from ensemble_kit.loading.cache import PhotoCache
from ensemble_kit.loading.samplers import SAMPLERS
from ensemble_kit.loading.transforms import TRANSFORMS
from ensemble_kit.models.backbones import BACKBONES, Backbone
from ensemble_kit.training import ExpertJob, FoldResult, check_job_names, train_fold


class World:
    """Drawn photos, their cache, and one finished fold."""

    def __init__(self, root: Path) -> None:
        self.table: SampleTable = draw_table(root / "photos")
        self.photos: PhotoCache = make_photos(self.table, root / "cache")
        self.done = root / "done"
        self.train(make_job(keep="every 1"), self.done)
        torch.save(0, root / "plain.safetensors")
        self.plain = root / "plain.safetensors"

    def train(self, job: ExpertJob, folder: Path, **options: Any) -> FoldResult:
        given: dict[str, Any] = {"table": self.table, "folds": folds_of(self.table), "photos": self.photos} | options
        return train_fold(job, folder=folder, **given)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("world"))


@pytest.fixture
def done(world: World, tmp_path: Path) -> Path:
    """A copy of the finished fold."""
    return Path(shutil.copytree(world.done, tmp_path / "done"))


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.iterdir()}


def wider_backbone() -> tuple[nn.Module, int]:
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 64)), 64


def no_backbone() -> tuple[nn.Module, int]:
    raise DataError("no such network")


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "device": ({"device": "gpu"}, 'no device "gpu"'),
    "precision": ({"precision": "fp8"}, 'no precision "fp8"'),
    "backbone": ({"backbone": no_backbone}, "no such network"),
    "batch size": ({"batch_size": 1}, "batch size: expected at least 2"),
    "no weights for it": ({"weights": "imagenet"}, "no ImageNet weights for tiny_backbone"),
    "weights that are none": ({"weights": "plain"}, "not readable as safetensors weights"),
    "weights of another backbone": (
        {"weights": "done", "backbone": wider_backbone},
        "has shape .*, the backbone expects",
    ),
    "weights that are not there": ({"weights": "nowhere.safetensors"}, 'no weights "nowhere.safetensors"'),
    "nothing left": ({"leave_out": ((0.0, 99.0),), "attributes": ("age",)}, "expected at least 2 labelled"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_restart_that_cannot_begin_leaves_the_finished_fold(world: World, done: Path, name: str) -> None:
    changed, message = BAD[name]
    files = {"plain": str(world.plain), "done": str(world.done / "best.safetensors")}
    if changed.get("weights") in files:
        changed = changed | {"weights": files[changed["weights"]]}
    before = contents(done)
    with pytest.raises(EnsembleKitError, match=message):
        world.train(make_job(**changed), done, restart=True)
    assert contents(done) == before


@pytest.mark.parametrize(
    ("kind", "table"),
    [("backbone", BACKBONES), ("sampler", SAMPLERS), ("augment", TRANSFORMS)],
    ids=["backbone", "sampler", "augment"],
)
def test_a_name_that_training_does_not_know_leaves_the_finished_fold(
    world: World, done: Path, monkeypatch: pytest.MonkeyPatch, kind: str, table: dict[str, Any]
) -> None:
    """Known when the job is made, unknown when it begins: what a plug-in that failed to load looks like."""
    with monkeypatch.context() as patch:
        patch.setitem(table, "own", next(iter(table.values())))
        job = make_job(**{kind: ("own",) if kind == "augment" else "own"})
    before = contents(done)
    with pytest.raises(UsageError, match=r'"own".*known: '):
        world.train(job, done, restart=True)
    assert contents(done) == before


def test_a_restart_with_other_samples_or_folds_that_fit_no_cache_leaves_the_finished_fold(
    world: World, done: Path
) -> None:
    before = contents(done)
    fewer = world.table.select(range(30))
    with pytest.raises(DataError, match="belongs to other samples"):
        world.train(make_job(), done, restart=True, table=fewer, folds=folds_of(fewer))
    with pytest.raises(DataError, match="no validation photo"):
        world.train(make_job(), done, restart=True, folds=np.ones(len(world.table), dtype=np.int64))
    assert contents(done) == before


def test_a_restart_forgets_everything_once_it_begins(world: World, tmp_path: Path) -> None:
    folder = tmp_path / "fold"
    world.train(make_job(keep="every 1"), folder)

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        world.train(make_job(), folder, restart=True, on_step=stop)
    assert list(folder.iterdir()) == []


def counted(calls: list[str]) -> Backbone:
    def imagenet() -> Mapping[str, Tensor]:
        calls.append("loaded")
        state: Mapping[str, Tensor] = tiny_backbone()[0].state_dict()
        return state

    return Backbone(tiny_backbone, imagenet, "test")


def test_first_weights_are_fetched_to_begin_and_never_to_go_on(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    monkeypatch.setitem(BACKBONES, "tiny", counted(calls))
    job = make_job(backbone="tiny", weights="imagenet", epochs=2)

    def stop(line: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        world.train(job, tmp_path, on_epoch=stop)
    assert calls == ["loaded"]
    assert world.train(job, tmp_path).resumed
    assert world.train(job, tmp_path).skipped
    assert calls == ["loaded"]
    world.train(job, tmp_path, restart=True)
    assert calls == ["loaded"] * 2


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"backbone": "resnet19"}, r'no backbone "resnet19"; did you mean "resnet18"\?'),
        ({"sampler": "balance"}, r'no sampler "balance"; did you mean "balanced"\?'),
        ({"augment": ("flip", "flop")}, r'no augmentation "flop"; did you mean "flip"\?'),
    ],
)
def test_unknown_names_are_refused_before_anything_is_read(changed: dict[str, Any], message: str) -> None:
    names: dict[str, Any] = {"backbone": "resnet18", "sampler": "natural", "augment": ("flip",)}
    check_job_names(**names)
    with pytest.raises(UsageError, match=message):
        check_job_names(**(names | changed))
    with pytest.raises(UsageError, match=message):
        make_job(**changed)
    with pytest.raises(UsageError, match=message):
        replace(make_job(), **changed)


def test_a_builder_of_ones_own_is_a_known_backbone() -> None:
    check_job_names(tiny_backbone, "balanced", ())
