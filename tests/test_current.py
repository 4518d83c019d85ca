"""When saved predictions are those of the checkpoints and photos that are there now."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_training import SCHEMA, draw_table

from ensemble_kit.current import photos_sha256, predictions_current, saved_layers
from ensemble_kit.data.samples import SampleTable
from ensemble_kit.predictions import Predictions, load_predictions, save_predictions
from ensemble_kit.schema import Attribute, Schema

MADE_BY = {"a" * 64, "b" * 64}


@pytest.fixture
def table(tmp_path: Path) -> SampleTable:
    return draw_table(tmp_path / "photos", people=2)


def save(folder: Path, table: SampleTable, **options: Any) -> Path:
    """Two voters of one expert, by the checkpoints "aa..." and "bb..."."""
    probs = np.full((2, len(table), 3), 1 / 3)
    probs[1] = [1, 0, 0]
    expert = Predictions(SCHEMA["mask"], probs, table.ids, voters=["fold0", "fold1"])
    hashes = [{"fold0": "a" * 64, "fold1": "b" * 64}]
    settings = {"checkpoints": hashes, "photos_sha256": photos_sha256(table)} | options
    save_predictions(folder, [expert], SCHEMA, **settings)
    return folder


def test_the_same_checkpoints_on_the_same_photos_are_current(table: SampleTable, tmp_path: Path) -> None:
    folder = save(tmp_path / "set", table)
    assert predictions_current(folder, table, MADE_BY)
    assert predictions_current(folder, table, sorted(MADE_BY))


@pytest.mark.parametrize("others", [set(), {"a" * 64}, {*MADE_BY, "c" * 64}, {"a" * 64, "c" * 64}])
def test_other_checkpoints_are_not(table: SampleTable, tmp_path: Path, others: set[str]) -> None:
    assert not predictions_current(save(tmp_path / "set", table), table, others)


def rewritten(table: SampleTable) -> SampleTable:
    table.paths[0].write_bytes(table.paths[0].read_bytes() + b"0")
    os.utime(table.paths[0], ns=(0, 0))
    return table


def touched(table: SampleTable) -> SampleTable:
    os.utime(table.paths[0], ns=(5, 5))
    return table


def gone(table: SampleTable) -> SampleTable:
    table.paths[0].unlink()
    return table


def renamed(table: SampleTable) -> SampleTable:
    paths = table.frame["path"].tolist()
    table.paths[0].rename(table.root / "other.png")
    columns = {name: table.frame[name].tolist() for name in table.frame.columns}
    return SampleTable.from_columns(columns | {"path": ["other.png", *paths[1:]]}, table.root, table.schema)


def moved(table: SampleTable) -> SampleTable:
    table.root.rename(table.root.parent / "elsewhere")
    return SampleTable(table.frame, table.root.parent / "elsewhere", table.schema)


def of_another_schema(table: SampleTable) -> SampleTable:
    mask = Attribute("mask", ["worn", "not_worn", "incorrect"])
    return SampleTable(table.frame, table.root, Schema(mask, SCHEMA["gender"], SCHEMA["age"]))


@pytest.mark.parametrize(
    ("change", "current"),
    [
        (rewritten, False),
        (touched, False),
        (gone, False),
        (renamed, False),
        (lambda table: table.select([1, 0, 2, 3, 4, 5]), False),
        (lambda table: table.select(range(5)), False),
        (of_another_schema, False),
        (moved, True),
    ],
    ids=["rewritten", "touched", "gone", "renamed", "another order", "fewer", "another schema", "moved"],
)
def test_photos_are_told_by_name_size_and_time(
    table: SampleTable, tmp_path: Path, change: Callable[[SampleTable], SampleTable], current: bool
) -> None:
    folder = save(tmp_path / "set", table)
    assert predictions_current(folder, change(table), MADE_BY) == current


def without(folder: Path, key: str) -> None:
    content = json.loads((folder / "predictions.json").read_text())
    del (content["created"] if key == "photos_sha256" else content)[key]
    (folder / "predictions.json").write_text(json.dumps(content))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize(
    "damage",
    [
        lambda f: (f / "predictions.json").unlink(),
        lambda f: (f / "predictions.json").write_text("[]"),
        lambda f: without(f, "experts"),
        lambda f: without(f, "created"),
        lambda f: without(f, "photos_sha256"),
        lambda f: cut(f / "mask" / "fold0.npy"),
        lambda f: (f / "mask" / "fold1.npy").write_bytes((f / "mask" / "fold0.npy").read_bytes()),
        lambda f: (f / "ids.npy").unlink(),
        lambda f: (f / "errors.csv").unlink(),
    ],
    ids=[
        "no json",
        "other json",
        "no experts",
        "no origin",
        "no photos",
        "cut short",
        "changed",
        "no ids",
        "no errors",
    ],
)
def test_a_set_that_is_not_whole_is_not_current(
    table: SampleTable, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    """What loading would refuse with "predict again" must be predicted again."""
    folder = save(tmp_path / "set", table)
    damage(folder)
    assert not predictions_current(folder, table, MADE_BY)
    assert saved_layers(folder, table) == {}


def test_a_set_that_does_not_know_its_photos_can_be_read_but_is_not_current(table: SampleTable, tmp_path: Path) -> None:
    folder = save(tmp_path / "set", table, photos_sha256=None)
    assert load_predictions(folder)[0].voters == ("fold0", "fold1")
    assert not predictions_current(folder, table, MADE_BY)
    without(folder, "photos_sha256")
    assert load_predictions(folder)[0].voters == ("fold0", "fold1")


def test_a_set_without_checkpoints_is_not_current(table: SampleTable, tmp_path: Path) -> None:
    folder = save(tmp_path / "set", table, checkpoints=None)
    assert not predictions_current(folder, table, MADE_BY)
    assert not predictions_current(folder, table, set())


def test_saved_layers_are_told_by_expert_and_checkpoint(table: SampleTable, tmp_path: Path) -> None:
    layers = saved_layers(save(tmp_path / "set", table), table)
    assert sorted(layers) == [("mask", "a" * 64), ("mask", "b" * 64)]
    assert layers["mask", "b" * 64].tolist() == [[1, 0, 0]] * len(table)
