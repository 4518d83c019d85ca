"""Memory that runs out where no gradient is wanted: validation, features, averages, predicting, answering."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_training import BACKBONES, draw_table, folds_of, make_job, make_photos
from torch import Tensor, nn

from ensemble_kit import cli
from ensemble_kit.answering import answer_table
from ensemble_kit.data.samples import SampleTable
from ensemble_kit.errors import UsageError
from ensemble_kit.graph import Graph
from ensemble_kit.inference import predict_table
from ensemble_kit.loading.cache import PhotoCache
from ensemble_kit.models.memory import Fitting, ran_out, tried
from ensemble_kit.predictions import load_predictions
from ensemble_kit.training import FoldResult, train_fold

FLAT = ("mask", "gender", "age")


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> SampleTable:
    return draw_table(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="module")
def photos(table: SampleTable, tmp_path_factory: pytest.TempPathFactory) -> PhotoCache:
    return make_photos(table, tmp_path_factory.mktemp("cache"))


def train(table: SampleTable, photos: PhotoCache, folder: Path, told: list[str], **settings: Any) -> FoldResult:
    job = make_job(epochs=1, **settings)
    return train_fold(job, table=table, folds=folds_of(table), photos=photos, folder=folder, on_notice=told.append)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """No more photos than the last number of this list fit through a network that is not trained, once it has one."""
    most: list[int] = []
    call = nn.Conv2d.forward

    def forward(self: nn.Conv2d, x: Tensor) -> Tensor:
        if most and not self.training and len(x) > most[-1]:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return call(self, x)

    monkeypatch.setattr(nn.Conv2d, "forward", forward)
    return most


def halved(*numbers: int, where: str = "") -> list[str]:
    return [
        f"{where}out of memory with {n} photos at a time: from here on {n // 2} at a time are answered, with the same "
        "answers"
        for n in numbers
    ]


def test_validation_goes_on_with_fewer_photos(
    table: SampleTable, photos: PhotoCache, tmp_path: Path, few: list[int]
) -> None:
    whole = train(table, photos, tmp_path / "whole", [])
    few.append(5)
    told: list[str] = []
    starved = train(table, photos, tmp_path / "starved", told)
    assert told[:2] == halved(18, 9, where="mask, fold 0: ")
    assert not [text for text in told[2:] if "memory" in text]
    assert whole.checkpoint.read_bytes() == starved.checkpoint.read_bytes() or same_tensors(whole, starved)
    np.testing.assert_allclose(np.load(whole.folder / "oof.npy"), np.load(starved.folder / "oof.npy"), atol=1e-6)


def same_tensors(a: FoldResult, b: FoldResult) -> bool:
    """The cards may tell scores that differ in the last bit."""
    from safetensors.numpy import load_file

    one, other = load_file(a.checkpoint), load_file(b.checkpoint)
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


def test_features_are_computed_with_fewer_photos(
    table: SampleTable, photos: PhotoCache, tmp_path: Path, few: list[int]
) -> None:
    settings: dict[str, Any] = {"freeze": ("backbone",), "feature_views": 1}
    found, told = {}, list[str]()
    for name, most in (("whole", 100), ("starved", 20)):
        few.append(most)
        own = PhotoCache.build(table, make_job().preprocess, tmp_path / name / "cache")
        result = train(table, own, tmp_path / name / "fold", told, **settings)
        features = next((tmp_path / name / "cache").glob("features-*.npy"))
        found[name] = np.load(features), np.load(result.folder / "oof.npy")
    assert told == halved(36, where="mask, fold 0: ")
    for whole, starved in zip(found["whole"], found["starved"], strict=True):
        np.testing.assert_allclose(whole, starved, atol=1e-5)


def test_an_averages_norms_are_refreshed_in_pieces(
    table: SampleTable, photos: PhotoCache, tmp_path: Path, few: list[int]
) -> None:
    few.append(3)
    told: list[str] = []
    result = train(table, photos, tmp_path / "fold", told, ema=0.5)
    assert "out of memory: from here on a batch of 6 photos goes through in 2 pieces" in told[0]
    assert np.isfinite(np.load(result.folder / "oof.npy")).all()


class Watcher:
    def __init__(self) -> None:
        self.told: list[str] = []

    def say(self, line: str) -> None:
        self.told.append(line)

    def begin(self, title: str, total: float) -> None: ...
    def advance(self, done: float, title: str | None = None) -> None: ...
    def end(self) -> None: ...


def test_predicting_and_answering_go_on_with_fewer_photos(
    table: SampleTable, photos: PhotoCache, tmp_path: Path, few: list[int]
) -> None:
    checkpoints = [
        train(table, photos, tmp_path / f"fold{seed}", [], attributes=FLAT, seed=seed).checkpoint for seed in (0, 1)
    ]
    graph, probs, joints = Graph({"mask,gender,age": []}), [], []
    for most in (100, 9):
        few.append(most)
        predicting, answering = Watcher(), Watcher()
        out = tmp_path / f"set{most}"
        predict_table(table, checkpoints, out, backbones=BACKBONES, watcher=predicting, device="cpu", batch_size=32)
        answered = answer_table(
            table, checkpoints, graph, backbones=BACKBONES, watcher=answering, device="cpu", route="soft", batch_size=32
        )
        probs.append([np.asarray(layer) for expert in load_predictions(out) for layer in expert.layers])
        joints.append(np.asarray(answered.joint.layers[0]))
        assert predicting.told == answering.told == ([] if most == 100 else halved(32, 16))  # once, for both networks
    np.testing.assert_allclose(probs[0], probs[1], atol=1e-6)
    np.testing.assert_allclose(joints[0], joints[1], atol=1e-6)


def test_one_photo_that_does_not_fit_is_an_error(
    table: SampleTable, photos: PhotoCache, tmp_path: Path, few: list[int]
) -> None:
    few.append(0)
    with pytest.raises(UsageError, match="out of memory with 1 photo at a time; choose a smaller size"):
        train(table, photos, tmp_path, [])


def test_checkpoints_that_do_not_fit_are_an_error_that_names_them(
    table: SampleTable, photos: PhotoCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = train(table, photos, tmp_path / "fold", [], attributes=FLAT).checkpoint

    def full(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(nn.Module, "to", full)
    settings: dict[str, Any] = {"backbones": BACKBONES, "device": "cpu"}
    with pytest.raises(UsageError, match=r"out of memory while .*best\.safetensors was loaded; choose a smaller size"):
        predict_table(table, [checkpoint], tmp_path / "set", **settings)
    assert not (tmp_path / "set" / "predictions.json").exists()
    with pytest.raises(UsageError, match="was loaded"):
        answer_table(table, [checkpoint], Graph({"mask,gender,age": []}), **settings)


@pytest.mark.parametrize("n_photos", [1, 7, 64])
@pytest.mark.parametrize("fit", [1, 3, 100])
def test_every_photo_passes_once_and_in_order(n_photos: int, fit: int) -> None:
    def work(some: slice) -> list[int]:
        if some.stop - some.start > fit:
            raise RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED")
        return list(range(some.start, some.stop))

    fitting, told = Fitting(), list[str]()
    fitting.say = told.append
    for _ in range(2):  # what was found out is kept
        assert [i for part in fitting.each(n_photos, 32, work) for i in part] == list(range(n_photos))
    assert len(told) == len(set(told))


def test_other_errors_are_raised() -> None:
    def work() -> int:
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes"):
        tried(work)
    assert ran_out(RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"))


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory.\n Tried 2 GiB")])
def test_memory_that_runs_out_anywhere_ends_a_command_in_one_line(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(**_: Any) -> None:
        raise error

    monkeypatch.setattr(cli, "app", full)
    monkeypatch.setattr("signal.signal", lambda *_: None)  # the tests' own handlers stay
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2
    told = " ".join(str(error).split()) or "no more of it"
    assert capsys.readouterr().err == f"error: out of memory ({told})\n"
    error = RuntimeError("shapes do not fit")
    with pytest.raises(RuntimeError, match="shapes"):
        cli.main()
