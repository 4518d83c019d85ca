"""Predicting: checkpoints on photos, saved as a prediction set."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_training import BACKBONES, SCHEMA, draw_table, folds_of, make_job, make_photos

from ensemble_kit import inference, windows
from ensemble_kit.arrays import ByteArray, FloatArray
from ensemble_kit.card import read_card
from ensemble_kit.current import predictions_current
from ensemble_kit.data.decode import decode_photo
from ensemble_kit.data.samples import SampleTable
from ensemble_kit.errors import DataError, UsageError
from ensemble_kit.files import sha256_file
from ensemble_kit.leftovers import owner, place
from ensemble_kit.loading import decoding
from ensemble_kit.loading.cache import PhotoCache
from ensemble_kit.models.checkpoint import load_expert, save_checkpoint
from ensemble_kit.models.compute import predict_probs
from ensemble_kit.predictions import Predictions, load_predictions
from ensemble_kit.schema import Attribute, Schema
from ensemble_kit.training import train_fold

WORN = {"mask": ("worn",)}


class World:
    """Two folds of a mask and of an age expert, trained on drawn photos, and other photos to predict."""

    def __init__(self, root: Path) -> None:
        self.table = draw_table(root / "photos")
        self.photos = make_photos(self.table, root / "cache")
        self.eval = draw_table(root / "eval", people=5, seed=9)
        self.root = root
        self.mask = [self.train(root, fold, attributes=("mask",)) for fold in (0, 1)]
        self.age = [
            self.train(root, fold, attributes=("age",), condition=WORN, mean=(0.3, 0.3, 0.3)) for fold in (0, 1)
        ]

    def train(self, root: Path, fold: int, **changed: Any) -> Path:
        job = make_job(fold=fold, epochs=2, **changed)
        folder = root / job.name.replace(" ", "-") / str(job.seed) / f"fold{fold}"
        photos = make_photos(self.table, root / "cache", job)
        return train_fold(job, table=self.table, folds=folds_of(self.table), photos=photos, folder=folder).checkpoint


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("world"))


def predict(table: SampleTable, checkpoints: Sequence[Path], out: Path, **options: Any) -> list[Predictions]:
    settings = {"device": "cpu", "precision": "fp32", "backbones": BACKBONES} | options
    folder = inference.predict_table(table, checkpoints, out, **settings)
    return load_predictions(folder)


def test_checkpoints_become_experts_with_a_voter_a_fold(world: World, tmp_path: Path) -> None:
    experts = predict(world.eval, [*world.mask, *world.age], tmp_path / "set")
    assert [(e.names, dict(e.condition), e.voters) for e in experts] == [
        (("mask",), {}, ("fold0", "fold1")),
        (("age",), WORN, ("fold0", "fold1")),
    ]
    for expert in experts:
        assert expert.ids.tolist() == world.eval.ids.tolist()
        assert expert.probs.dtype == np.float32
        np.testing.assert_allclose(expert.probs.sum(axis=2), 1, atol=1e-5)


@pytest.mark.parametrize("cached", [False, True])
def test_prediction_prepares_photos_as_training_did(world: World, tmp_path: Path, cached: bool) -> None:
    """Predicting the held-out photos gives the out-of-fold rows that training saved."""
    folder = tmp_path / "cache"
    if cached:
        make_photos(world.table, folder)
    experts = predict(world.table, [*world.mask, *world.age], tmp_path / "set", cache=folder)
    for expert, paths in zip(experts, (world.mask, world.age), strict=True):
        for fold, path in enumerate(paths):
            held_out = folds_of(world.table) == fold
            np.testing.assert_allclose(np.load(path.parent / "oof.npy"), expert.probs[fold][held_out], atol=2e-6)


def noting(opened: list[Path]) -> Callable[[Path], ByteArray]:
    """A decoder that keeps a list of what it opened."""

    def decode(path: Path) -> ByteArray:
        opened.append(path)
        return decode_photo(path)

    return decode


def test_each_photo_is_decoded_once_and_a_cache_spares_it(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Path] = []
    monkeypatch.setattr(decoding, "decode_photo", noting(opened))
    predict(world.eval, [*world.mask, *world.age], tmp_path / "a")
    assert sorted(opened) == sorted(world.eval.paths)
    PhotoCache.build(world.eval, make_job().preprocess, tmp_path / "cache")
    opened.clear()
    predict(world.eval, [*world.mask, *world.age], tmp_path / "b", cache=tmp_path / "cache")
    assert opened == []


@pytest.mark.parametrize("window", [4, 7])
def test_windows_and_batches_do_not_change_the_numbers(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, window: int
) -> None:
    whole = predict(world.eval, world.mask, tmp_path / "a")
    monkeypatch.setattr(windows, "WINDOW_PHOTOS", window)
    parts = predict(world.eval, world.mask, tmp_path / "b", batch_size=3)
    np.testing.assert_allclose(whole[0].probs, parts[0].probs, atol=1e-6)


def test_an_unreadable_photo_is_a_nan_row_and_a_line_of_errors(world: World, tmp_path: Path) -> None:
    table = draw_table(tmp_path / "photos", people=3, broken=["p001_worn.png"])
    for name, options in (("plain", {}), ("cached", {"cache": tmp_path / "cache"})):
        if options:
            make_photos(table, tmp_path / "cache")
        (expert,) = predict(table, world.mask, tmp_path / name, **options)
        row = table.ids.tolist().index("p001/worn")
        assert np.flatnonzero(np.isnan(expert.probs).any(axis=(0, 2))).tolist() == [row]
        header, line = (tmp_path / name / "errors.csv").read_text().splitlines()
        assert header == "sample_id,path,problem"
        assert line.startswith('p001/worn,p001_worn.png,"expected a photo')


def test_a_finished_set_is_left_alone_and_an_outdated_one_is_made_again(world: World, tmp_path: Path) -> None:
    out = tmp_path / "set"
    predict(world.eval, world.mask, out)
    before = (out / "predictions.json").stat().st_mtime_ns
    predict(world.eval, world.mask, out)
    assert (out / "predictions.json").stat().st_mtime_ns == before
    (expert,) = predict(world.eval.select([1, 0]), world.mask, out)
    assert expert.ids.tolist() == world.eval.ids[[1, 0]].tolist()
    assert len(predict(world.eval.select([1, 0]), [*world.mask, *world.age], out)) == 2


def running(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A list that grows by the photos of each forward pass."""
    passed: list[int] = []
    original = predict_probs

    def noted(network: Any, photos: ByteArray, *rest: Any) -> FloatArray:
        passed.append(len(photos))
        return original(network, photos, *rest)

    monkeypatch.setattr(inference, "predict_probs", noted)
    return passed


def test_only_checkpoints_that_a_set_lacks_are_run(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = draw_table(tmp_path / "photos", people=5, seed=9, broken=["p001_worn.png"])
    whole = predict(table, [*world.mask, *world.age], tmp_path / "whole")
    out = tmp_path / "set"
    predict(table, world.mask[:1], out)
    passed = running(monkeypatch)
    found = predict(table, [*world.age, *world.mask], out)
    assert passed == [15] * 3
    for one, two in zip(reversed(whole), found, strict=True):
        assert (one.names, one.voters) == (two.names, two.voters)
        np.testing.assert_array_equal(one.probs, two.probs)
    assert (out / "errors.csv").read_text() == (tmp_path / "whole" / "errors.csv").read_text()
    passed.clear()
    (fewer,) = predict(table, world.age[1:], out)
    assert passed == []
    np.testing.assert_array_equal(fewer.probs[0], whole[1].probs[1])
    assert len((out / "errors.csv").read_text().splitlines()) == 2


def touch(table: SampleTable, out: Path) -> None:
    os.utime(table.paths[3], ns=(1, 1))


def cut(table: SampleTable, out: Path) -> None:
    (out / "mask" / "fold1.npy").write_bytes(b"cut short")


def forget_photos(table: SampleTable, out: Path) -> None:
    content = json.loads((out / "predictions.json").read_text())
    del content["created"]["photos_sha256"]
    (out / "predictions.json").write_text(json.dumps(content))


@pytest.mark.parametrize("change", [touch, cut, forget_photos])
def test_changed_photos_and_damaged_sets_are_predicted_again_in_full(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[SampleTable, Path], None]
) -> None:
    table = draw_table(tmp_path / "photos", people=5, seed=9)
    (before,) = predict(table, world.mask, tmp_path / "set")
    before_probs = np.array(before.probs)
    change(table, tmp_path / "set")
    passed = running(monkeypatch)
    (after,) = predict(table, world.mask, tmp_path / "set")
    assert passed == [15] * 2
    np.testing.assert_array_equal(before_probs, after.probs)
    predict(table, world.mask, tmp_path / "set")
    assert len(passed) == 2


def test_photos_that_change_while_they_are_predicted_are_predicted_again(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = draw_table(tmp_path / "photos", people=3)
    hashes = {sha256_file(path) for path in world.mask}
    original = predict_probs

    def changing(*args: Any) -> FloatArray:
        os.utime(table.paths[0], ns=(1, 1))
        return original(*args)

    with monkeypatch.context() as patch:
        patch.setattr(inference, "predict_probs", changing)
        predict(table, world.mask, tmp_path / "set")
    assert not predictions_current(tmp_path / "set", table, hashes)
    predict(table, world.mask, tmp_path / "set")
    assert predictions_current(tmp_path / "set", table, hashes)


def test_threads_hold_while_predicting_and_are_given_back(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = torch.get_num_threads()
    seen: list[int] = []
    original = predict_probs

    def noted(*args: Any) -> FloatArray:
        seen.append(torch.get_num_threads())
        return original(*args)

    monkeypatch.setattr(inference, "predict_probs", noted)
    predict(world.eval, world.mask[:1], tmp_path / "a", threads=before + 1)
    predict(world.eval, world.mask[:1], tmp_path / "b")
    assert seen == [before + 1, before]
    assert torch.get_num_threads() == before


def test_nothing_but_the_set_is_left_behind(world: World, tmp_path: Path) -> None:
    predict(world.eval, world.mask, tmp_path / "set")
    assert sorted(p.name for p in (tmp_path / "set").iterdir()) == ["errors.csv", "ids.npy", "mask", "predictions.json"]


def test_scratch_folders_of_killed_processes_go_at_the_next_call(world: World, tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    out = tmp_path / "set"
    (out / f".predict-{process.pid}-1-{place()}-x1").mkdir(parents=True)
    (out / f".predict-{process.pid}-1-{place()}-x1" / "0.npy").touch()
    (out / f".predict-{owner()}-x2").mkdir()
    predict(world.eval, world.mask, out)
    assert [p.name for p in out.glob(".*")] == [f".predict-{owner()}-x2"]
    (out / f".predict-{process.pid}-1-{place()}-x1").mkdir()
    predict(world.eval, world.mask, out)  # current: nothing is predicted
    assert [p.name for p in out.glob(".*")] == [f".predict-{owner()}-x2"]


def test_a_killed_prediction_leaves_a_scratch_folder_that_the_next_call_knows(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[str] = []

    def looking(*args: Any) -> FloatArray:
        found.extend(p.name for p in (tmp_path / "set").glob(".*"))
        return predict_probs(*args)

    monkeypatch.setattr(inference, "predict_probs", looking)
    predict(world.eval, world.mask[:1], tmp_path / "set")
    assert [re.fullmatch(inference.SCRATCH, name)[1] for name in found] == [owner()]  # type: ignore[index]


def test_a_bar_that_was_begun_is_ended_also_when_it_fails(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []

    class Watcher:
        def say(self, line: str) -> None: ...
        def begin(self, title: str, total: float) -> None:
            told.append(title)

        def advance(self, done: float, title: str | None = None) -> None: ...
        def end(self) -> None:
            told.append("ended")

    def failing(*_: Any) -> FloatArray:
        raise DataError("as it may")

    monkeypatch.setattr(inference, "predict_probs", failing)
    with pytest.raises(DataError, match="as it may"):
        predict(world.eval, world.mask[:1], tmp_path / "set", watcher=Watcher())
    assert told == ["predicting", "ended"]


def test_two_seeds_of_a_fold_are_two_voters_and_one_checkpoint_twice_is_refused(world: World, tmp_path: Path) -> None:
    other = world.train(world.root, 0, attributes=("mask",), seed=7)
    (expert,) = predict(world.eval, [world.mask[0], other], tmp_path / "set")
    assert expert.voters == ("fold0-seed0", "fold0-seed7")
    with pytest.raises(DataError, match=r"the same voter of mask as .*; pass one of them"):
        predict(world.eval, [world.mask[0], world.mask[0]], tmp_path / "twice")


def test_epochs_of_one_training_are_voters_too(world: World, tmp_path: Path) -> None:
    network, card = load_expert(world.mask[0], backbones=BACKBONES)
    for epoch in (8, 9):
        network.head.bias.data += 0.1
        train = {**card.train, "epoch": epoch}
        save_checkpoint(tmp_path / f"{epoch}.safetensors", network, replace(card, train=train))
    paths = [world.mask[0], tmp_path / "8.safetensors", tmp_path / "9.safetensors"]
    (expert,) = predict(world.eval, paths, tmp_path / "set")
    assert expert.voters == ("fold0", "fold0-seed0", "fold0-seed0-epoch9")


def test_a_checkpoint_of_another_schema_is_refused(world: World, tmp_path: Path) -> None:
    schema = Schema(Attribute("mask", ["on", "off"]), Attribute("gender", ["male", "female"]))
    table = SampleTable.from_columns(
        {n: world.eval.frame[n].tolist() for n in ("sample_id", "path", "group_id")}, world.eval.root, schema
    )
    with pytest.raises(DataError) as caught:
        predict(table, world.mask, tmp_path / "set")
    assert str(caught.value) == (
        f"{world.mask[0]}: expected a checkpoint of Schema(mask[2], gender[2]; 4 joint), found "
        "Schema(mask[3], gender[2], age[3]; 18 joint); predict with that schema"
    )
    assert not (tmp_path / "set").exists()


def test_schemas_that_differ_in_a_border_or_a_name_say_in_which(world: World, tmp_path: Path) -> None:
    ages = replace_borders(SCHEMA, (25.0, 60.0))
    table = SampleTable(world.eval.frame, world.eval.root, ages)
    with pytest.raises(DataError, match=r">=60; borders 25, 60\].*found .*>=60; borders 30, 60\]"):
        predict(table, world.mask, tmp_path / "set")


def replace_borders(schema: Schema, borders: tuple[float, float]) -> Schema:
    age = schema["age"]
    return Schema(schema["mask"], schema["gender"], Attribute("age", age.classes, borders))


def test_several_heads_of_one_checkpoint_serve_several_experts(world: World, tmp_path: Path) -> None:
    network, card = load_expert(world.mask[0], backbones=BACKBONES)
    one = card.heads[0]
    heads = (
        replace(one, outputs=(0, 2), classes=(("male",), ("female",)), attributes=("gender",)),
        replace(one, outputs=(2, 3), classes=(("worn",),)),
    )
    save_checkpoint(tmp_path / "two.safetensors", network, replace(card, heads=heads))
    gender, mask = predict(world.eval, [tmp_path / "two.safetensors"], tmp_path / "set")
    whole = predict(world.eval, [world.mask[0]], tmp_path / "whole")[0].probs[0]
    expected = whole[:, :2] / whole[:, :2].sum(axis=1, keepdims=True)
    np.testing.assert_allclose(gender.probs[0], expected, atol=1e-6)
    np.testing.assert_allclose(mask.probs[0], 1)


def test_bad_calls(world: World, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected photos and checkpoints, found 15 and 0"):
        predict(world.eval, [], tmp_path / "set")
    with pytest.raises(UsageError, match="expected photos and checkpoints, found 0 and 2"):
        predict(world.eval.select([]), world.mask, tmp_path / "set")
    with pytest.raises(UsageError, match="batch size: expected at least 1, found 0"):
        predict(world.eval, world.mask, tmp_path / "set", batch_size=0)
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(world.mask[0].read_bytes()[:500])
    with pytest.raises(DataError, match=r"cut\.safetensors: not a whole safetensors file"):
        predict(world.eval, [cut], tmp_path / "set")
    assert not (tmp_path / "set").exists()


def test_progress_is_told_from_begin_to_end(world: World, tmp_path: Path) -> None:
    told: list[Any] = []

    class Watcher:
        def say(self, line: str) -> None:
            told.append(line)

        def begin(self, title: str, total: float) -> None:
            told.append(total)

        def advance(self, done: float, title: str | None = None) -> None:
            told.append(done)

        def end(self) -> None:
            told.append("end")

    predict(world.eval, world.mask, tmp_path / "set", watcher=Watcher())
    assert told == [30, 15, 30, "end"]


def test_the_set_names_its_checkpoints_by_content(world: World, tmp_path: Path) -> None:
    predict(world.eval, world.mask, tmp_path / "set")
    content = json.loads((tmp_path / "set" / "predictions.json").read_text())
    done = json.loads((world.mask[0].parent / "DONE").read_text())
    assert content["experts"][0]["voters"][0]["checkpoint_sha256"] == done["best_sha256"]
    assert read_card(world.mask[0]).train["fold"] == done["fold"] == 0
