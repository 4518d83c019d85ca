"""Scalars for TensorBoard: every epoch's, those of `metrics.jsonl`, and one line where the package is missing."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_training import draw_table, folds_of, make_job, make_photos

from ensemble_kit.errors import UsageError
from ensemble_kit.training import train_fold
from ensemble_kit.training.board import Board


def read(folder: Path) -> dict[str, dict[int, float]]:
    """Tag -> step -> value."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator
    found: dict[str, dict[int, float]] = {}
    for file in folder.glob("events.out.tfevents.*"):
        loaded: Any = events(str(file))
        loaded.Reload()
        for tag in loaded.Tags()["scalars"]:
            found.setdefault(tag, {}).update({event.step: event.value for event in loaded.Scalars(tag)})
    return found


def test_the_scalars_are_those_of_the_history(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    table = draw_table(tmp_path / "photos")
    job = make_job(tensorboard=True, score_every=2)
    photos = make_photos(table, tmp_path / "cache", job)
    for _ in range(2):  # a restart forgets the events of before
        train_fold(job, table=table, folds=folds_of(table), photos=photos, folder=tmp_path / "fold", restart=True)
    lines = [json.loads(line) for line in (tmp_path / "fold" / "metrics.jsonl").read_text().splitlines()]
    found = read(tmp_path / "fold")
    assert set(found) == {
        "loss/train", "loss/validation", "score/accuracy", "score/macro_f1", "rate/head", "rate/backbone", "seconds"
    }  # fmt: skip
    assert found["loss/train"] == pytest.approx({line["epoch"]: line["train_loss"] for line in lines})
    assert found["rate/head"] == pytest.approx({line["epoch"]: line["rates"]["head"] for line in lines})
    assert found["score/macro_f1"] == pytest.approx({e: lines[e - 1]["macro_f1"] for e in (2, 3)})
    assert lines[0]["rates"]["head"] > lines[-1]["rates"]["head"] > 0


def test_a_missing_package_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(UsageError, match=r'pip install "ensemble_kit\[tensorboard\]"'):
        Board(tmp_path)


def images(folder: Path) -> dict[str, dict[int, int]]:
    """Tag -> step -> bytes."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    found: dict[str, dict[int, int]] = {}
    for file in folder.glob("events.out.tfevents.*"):
        loaded: Any = accumulator.EventAccumulator(str(file))
        loaded.Reload()
        for tag in loaded.Tags()["images"]:
            found.setdefault(tag, {}).update({e.step: len(e.encoded_image_string) for e in loaded.Images(tag)})
    return found


def test_pictures_of_every_scored_epoch_change_no_weight(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    table = draw_table(tmp_path / "photos")
    weights = {}
    for name, changed in {"with": {"tensorboard": True}, "without": {}}.items():
        job = make_job(score_every=2, **changed)
        photos = make_photos(table, tmp_path / "cache", job)
        train_fold(job, table=table, folds=folds_of(table), photos=photos, folder=tmp_path / name)
        weights[name] = load_file(tmp_path / name / "best.safetensors")
    assert weights["with"].keys() == weights["without"].keys()
    assert all(torch.equal(tensor, weights["without"][name]) for name, tensor in weights["with"].items())
    found = images(tmp_path / "with")
    wanted = {"confusion", "worst"} | ({"looks_at"} if importlib.util.find_spec("captum") else set())
    assert {tag: set(steps) for tag, steps in found.items()} == {key: {2, 3} for key in wanted}
    assert all(n_bytes < 300_000 for steps in found.values() for n_bytes in steps.values())


def test_heads_have_pictures_each_and_a_missing_package_is_told_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("tensorboard")
    monkeypatch.setitem(sys.modules, "captum", None)
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    table = draw_table(tmp_path / "photos")
    job = make_job(tensorboard=True, attributes=("mask", "gender"), heads="separate", epochs=2)
    photos = make_photos(table, tmp_path / "cache", job)
    done = train_fold(job, table=table, folds=folds_of(table), photos=photos, folder=tmp_path / "fold")
    told = [notice for notice in done.notices if "captum" in notice]
    assert len(told) == 1
    assert 'pip install "ensemble_kit[explain]"' in told[0]
    assert set(images(tmp_path / "fold")) == {"confusion/mask", "worst/mask", "confusion/gender", "worst/gender"}
