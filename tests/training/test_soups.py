"""Averages of checkpoints: which are averaged, what their batch norms hold, when they are kept, what is refused."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file
from tiny_training import BACKBONES, SCHEMA, draw_table, folds_of, make_job, make_photos

from ensemble_kit.card import read_card
from ensemble_kit.errors import DataError, UsageError
from ensemble_kit.models.checkpoint import load_expert, save_checkpoint
from ensemble_kit.schema import Schema
from ensemble_kit.training import ExpertJob, train_fold
from ensemble_kit.training.session import Session
from ensemble_kit.training.soup_rules import find_soup, greedy, uniform
from ensemble_kit.training.soups import end_with_soup, soup_files, soup_fold

JOB = make_job(keep="every 1", epochs=4, warmup_epochs=0.0, schedule="constant", augment=())


class World:
    """Drawn photos, their cache, and one finished fold with every epoch kept."""

    def __init__(self, root: Path) -> None:
        self.table = draw_table(root / "photos")
        self.photos = make_photos(self.table, root / "cache")
        self.done = root / "done"
        self.train(JOB, self.done)

    def train(self, job: ExpertJob, folder: Path) -> Path:
        result = train_fold(job, table=self.table, folds=folds_of(self.table), photos=self.photos, folder=folder)
        return result.checkpoint

    def options(self) -> dict[str, Any]:
        return {"table": self.table, "folds": folds_of(self.table), "photos": self.photos}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("world"))


@pytest.fixture
def done(world: World, tmp_path: Path) -> Path:
    return Path(shutil.copytree(world.done, tmp_path / "done"))


def scoring(monkeypatch: pytest.MonkeyPatch, values: Sequence[float], other: float) -> None:
    """Makes checkpoints score as told, in the order in which they are first scored, and every average `other`."""
    given = iter(values)

    def score(self: Session, network: Any, epoch: int) -> dict[str, float]:
        return {"val_loss": 1.0, "accuracy": 0.5, "macro_f1": next(given, other)}

    monkeypatch.setattr(Session, "score", score)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6), st.integers(0, 2**31))
def test_greedy_never_ends_below_the_best_single_one(scores: list[float], seed: int) -> None:
    def score_of(members: Sequence[int]) -> float:
        if len(members) == 1:
            return scores[members[0]]
        return float(np.random.default_rng([seed, *sorted(members)]).random())

    chosen = greedy(scores, score_of)
    assert len(set(chosen)) == len(chosen)
    assert chosen[0] == int(np.argmax(scores))
    assert score_of(chosen) >= max(scores)
    assert uniform(scores, score_of) == list(range(len(scores)))


def test_the_average_is_the_mean_with_fresh_batch_norms_and_the_card_says_of_what(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [world.done / f"epoch00{n}.safetensors" for n in (2, 3, 4)]
    scoring(monkeypatch, [0.25, 0.5, 0.75], other=0.875)
    soup = soup_files(paths, tmp_path / "soup.safetensors", JOB, kind="uniform", **world.options())
    assert (soup.path, soup.members, soup.macro_f1) == (tmp_path / "soup.safetensors", tuple(paths), 0.875)
    assert str(soup).startswith("mask, fold 0: average of 3 of 3, macro F1 0.875; epoch004 alone has 0.750; kept as")
    made, members = load_file(tmp_path / "soup.safetensors"), [load_file(path) for path in paths]
    for name in ("backbone.0.weight", "backbone.4.bias", "head.weight"):
        mean = np.mean([member[name] for member in members], axis=0)
        np.testing.assert_allclose(made[name], mean, rtol=1e-5, atol=1e-7)
    network, card = load_expert(tmp_path / "soup.safetensors", backbones=BACKBONES)
    rows = np.flatnonzero(folds_of(world.table) != 0)
    inputs = np.array(world.photos.photos[rows], dtype=np.float32).transpose(0, 3, 1, 2) / 255
    inputs = (inputs - 0.4) / 0.2
    import torch

    first = network.backbone[0](torch.from_numpy(inputs)).detach()  # type: ignore[index]
    np.testing.assert_allclose(made["backbone.1.running_mean"], first.mean(dim=(0, 2, 3)), atol=1e-4)
    told = card.train["soup"]
    assert told["kind"] == "uniform"
    assert [(m["epoch"], m["seed"], m["macro_f1"]) for m in told["of"]] == [(2, 0, 0.25), (3, 0, 0.5), (4, 0, 0.75)]
    assert [m["tensors_sha256"] for m in told["of"]] == [read_card(path).tensors_sha256 for path in paths]
    assert card.metrics["macro_f1"] == 0.875
    assert card.train["epoch"] == 4
    assert card.describe() == "mask, fold 0 of 2, epoch 4, a soup of 3"


class Kill(BaseException):
    """Stands for SIGKILL: nothing catches it."""


@pytest.mark.parametrize("number", range(1, 7))
def test_a_kill_while_a_soup_takes_its_place_is_mended_by_the_same_call(
    world: World, done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    whole = Path(shutil.copytree(done, tmp_path / "whole"))

    def take(folder: Path) -> None:
        with monkeypatch.context() as patch:
            scoring(patch, [0.5, 0.5, 0.75, 0.5], other=0.75)
            soup_fold(JOB, folder=folder, kind="uniform", **world.options())

    take(whole)
    original, count = os.replace, [0]

    def replacing(source: Any, target: Any) -> None:
        count[0] += 1
        if count[0] == number:
            raise Kill
        original(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", replacing)
        with contextlib.suppress(Kill):
            take(done)
    take(done)
    names = [path.name for path in sorted(whole.iterdir())]
    assert [path.name for path in sorted(done.iterdir())] == names
    assert all((done / name).read_bytes() == (whole / name).read_bytes() for name in names)


def test_a_soup_takes_the_folds_place_only_when_validation_does_not_fall(
    world: World, done: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path.name: path.read_bytes() for path in done.iterdir()}
    with monkeypatch.context() as patch:
        scoring(patch, [0.5, 0.5, 0.75, 0.5], other=0.625)
        worse = soup_fold(JOB, folder=done, kind="uniform", **world.options())
    assert worse.path is None
    assert str(worse).endswith("below epoch002 alone (0.750); not kept")
    with monkeypatch.context() as patch:
        scoring(patch, [0.5, 0.5, 0.75, 0.5], other=0.625)
        alone = soup_fold(JOB, folder=done, kind="greedy", **world.options())
    assert alone.members == (done / "epoch002.safetensors",)
    assert "no average is as good as epoch002 alone" in str(alone)
    assert {path.name: path.read_bytes() for path in done.iterdir()} == before
    scoring(monkeypatch, [0.5, 0.5, 0.75, 0.5], other=0.75)
    kept = soup_fold(JOB, folder=done, kind="uniform", **world.options())
    assert kept.path == done / "best.safetensors"
    assert (done / "trained.safetensors").read_bytes() == before["best.safetensors"]
    assert (done / "metrics.jsonl").read_bytes() == before["metrics.jsonl"]
    assert (done / "oof.npy").read_bytes() != before["oof.npy"]
    assert world.train(JOB, done) == done / "best.safetensors"  # finished: skipped
    assert read_card(done / "best.safetensors").train["soup"]["kind"] == "uniform"


def test_a_second_soup_starts_from_what_was_trained_and_a_restart_forgets_it(world: World, done: Path) -> None:
    first = soup_fold(JOB, folder=done, kind="greedy", **world.options())
    assert first.n_found == 4  # best is the last epoch: the same weights count once
    if first.path is not None:
        once = (done / "best.safetensors").read_bytes()
        again = soup_fold(JOB, folder=done, kind="greedy", **world.options())
        assert (again.n_found, again.macro_f1) == (4, first.macro_f1)
        assert (done / "best.safetensors").read_bytes() == once
    (done / "trained.safetensors").write_bytes((done / "best.safetensors").read_bytes())
    options = world.options()
    train_fold(JOB, folder=done, restart=True, **options)
    assert not (done / "trained.safetensors").exists()
    assert (done / "best.safetensors").read_bytes() == (world.done / "best.safetensors").read_bytes()


def test_batch_norms_that_were_frozen_keep_their_statistics(world: World, tmp_path: Path) -> None:
    job = make_job(keep="every 1", epochs=2, freeze=("0", "1"), augment=())
    world.train(job, tmp_path / "fold")
    paths = sorted((tmp_path / "fold").glob("epoch*"))
    soup_files(paths, tmp_path / "soup", job, kind=lambda scores, score_of: [0, 1], **world.options())
    if (tmp_path / "soup").exists():
        made = load_file(tmp_path / "soup")
        assert not made["backbone.1.running_mean"].any()
        assert made["backbone.4.running_mean"].any()


def _other_expert(world: World, folder: Path) -> Path:
    return world.train(make_job(attributes=("gender",), epochs=1, augment=()), folder)


def _other_fold(world: World, folder: Path) -> Path:
    return world.train(make_job(fold=1, epochs=1, augment=()), folder)


def _other_schema(world: World, folder: Path) -> Path:
    network, card = load_expert(world.done / "best.safetensors", backbones=BACKBONES)
    folder.mkdir()
    reordered = Schema(SCHEMA["gender"], SCHEMA["mask"], SCHEMA["age"])
    changed = {"schema": reordered, "backbone": card.backbone}
    save_checkpoint(folder / "other.safetensors", network, type(card)(**{**vars(card), **changed}))
    return folder / "other.safetensors"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_other_expert, "another heads than"),
        (_other_fold, "was not trained with the people held out that mask, fold 0 holds out"),
        (_other_schema, "another schema than"),
        (None, "expected two or more checkpoints to average, found 1"),
    ],
)
def test_what_cannot_be_averaged(world: World, tmp_path: Path, make: Any, message: str) -> None:
    best = world.done / "best.safetensors"
    paths = [best, best if make is None else make(world, tmp_path / "other")]
    with pytest.raises(DataError) as caught:
        soup_files(paths, tmp_path / "soup.safetensors", JOB, kind="greedy", **world.options())
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "soup.safetensors").exists()


def test_unknown_kinds_and_unfinished_folds(world: World, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match='no soup "gredy"; did you mean "greedy"'):
        find_soup("gredy")
    with pytest.raises(DataError, match="not trained to its end; train it first"):
        soup_fold(JOB, folder=tmp_path / "nothing", kind="greedy", **world.options())


def test_a_training_may_end_with_a_soup_and_survives_a_kill_in_it(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same as training and `soup_fold` after it; broken off anywhere in the soup, the same call comes to the same."""
    job = replace(JOB, soup="uniform")
    scoring(monkeypatch, [], other=0.5)
    ends: list[int] = []
    original = os.replace

    def train(folder: Path, kill_at: int | None = None) -> None:
        count = 0

        def replacing(source: Any, target: Any) -> None:
            nonlocal count
            count += 1
            if count == kill_at:
                raise Kill
            original(source, target)

        def end(session: Session) -> None:
            ends.append(count)
            end_with_soup(session)

        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", replacing)
            patch.setattr("ensemble_kit.training.loop.end_with_soup", end)
            with contextlib.suppress(Kill):
                result = train_fold(job, folder=folder, **world.options())
                assert "mask, fold 0: average of 4 of 4, macro F1 0.500" in result.notices[-1]

    whole = tmp_path / "whole"
    train(whole)
    after = Path(shutil.copytree(world.done, tmp_path / "after"))
    soup_fold(JOB, folder=after, kind="uniform", **world.options())
    for name in ("best.safetensors", "trained.safetensors"):
        made, expected = load_file(whole / name), load_file(after / name)
        assert all(np.array_equal(made[key], expected[key]) for key in expected)
    assert (whole / "oof.npy").read_bytes() == (after / "oof.npy").read_bytes()
    assert read_card(whole / "best.safetensors").train["soup"]["kind"] == "uniform"
    for step in range(1, 6):  # trained, best, oof, metrics, DONE
        broken = tmp_path / f"broken{step}"
        train(broken, kill_at=ends[0] + step)
        assert not (broken / "DONE").exists()
        train(broken)
        names = {path.name for path in whole.iterdir()}
        assert {path.name for path in broken.iterdir()} == names
        assert all(
            (broken / name).read_bytes() == (whole / name).read_bytes() for name in names - {"metrics.jsonl", "DONE"}
        )


def test_a_soup_needs_several_checkpoints(world: World, tmp_path: Path) -> None:
    assert "soup" not in JOB.settings_json()  # so that a fold from before there were any is done, not another
    assert replace(JOB, soup="greedy").settings_json()["soup"] == "greedy"
    with pytest.raises(UsageError, match=r'mask: soup = "greedy" averages .*; give keep = "every 1", say, in place of'):
        replace(JOB, soup="greedy", keep="best")
    with pytest.raises(UsageError, match='no soup "greddy"; did you mean "greedy"'):
        replace(JOB, soup="greddy")
    alone = make_job(keep="every 9", soup="greedy", epochs=1, augment=())
    result = train_fold(alone, folder=tmp_path / "alone", **world.options())
    assert (
        result.notices[-1] == 'mask, fold 0: one checkpoint was kept (keep = "every 9"), so there is no soup of several'
    )
