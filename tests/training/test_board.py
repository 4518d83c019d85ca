"""Scalars for TensorBoard: every epoch's, those of `metrics.jsonl`, and one line where the package is missing."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
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
