"""Every key of `[data]` changes which photos train and which are held out; every key of `[combine]` the answers."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from core_oracles import face_experts, face_schema, random_probs, sample_ids
from task_text import GRAPH_TEXT, SCHEMA_TEXT
from tiny_training import draw_table

from ensemble_kit.errors import UsageError
from ensemble_kit.predictions import Predictions, load_predictions, save_predictions
from ensemble_kit.recipe.combine import combine_sets
from ensemble_kit.recipe.load import load_recipe
from ensemble_kit.recipe.run import Silent, open_run
from ensemble_kit.recipe.settings import CombineSettings, DataSettings, PredictSettings
from ensemble_kit.submission import read_submission

COLUMNS = ["path", "group_id", "mask", "gender", "age"]


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe beside three data sets (one has class folders as well as a table) and a list of fixes."""
    root = tmp_path_factory.mktemp("task")
    for name, people in (("photos", 18), ("fewer", 12), ("more", 3)):
        table = draw_table(root / name, people)
        rows = table.frame[COLUMNS].astype(str).to_numpy().tolist()
        write(root / name / "samples.csv", [[*row[:1], f"{name}{row[1]}", *row[2:]] for row in rows])
    photo = (root / "photos" / "p000_worn.png").read_bytes()
    for state in ("worn", "incorrect", "not_worn"):
        for gender in ("male", "female"):
            for age in ("<30", "30-59", ">=60"):
                place = root / "photos" / state / gender / age
                place.mkdir(parents=True)
                for number in range(2):
                    (place / f"{state}{gender}{number}.png").write_bytes(photo)
    (root / "fixes.csv").write_text("group,file,attribute,from,to,sha256\nphotosp000,,gender,male,female,\n")
    (root / "task.toml").write_text(SCHEMA_TEXT + GRAPH_TEXT + '[data]\npath = "photos"\nfolds = 2\n')
    return root


def write(path: Path, rows: list[list[str]]) -> None:
    with open(path, "w", newline="") as handle:
        csv.writer(handle).writerows([COLUMNS, *rows])


def divided(task: Path, edits: list[str]) -> tuple[str, list[int]]:
    run = open_run(load_recipe(task / "task.toml", edits), None, task / "run", Silent(), write=False)
    return run.table.sha256(), run.folds.tolist()


OTHER_DATA = {
    "path": "fewer",
    "layout": "folders",
    "fixes": "fixes.csv",
    "extra": "more",
    "extra_where": '{age = ["30-59"]}',
    "folds": 3,
    "val_ratio": 0.5,
    "fold_seed": 1,
}
BESIDE = {"extra_where": ["data.extra=more"]}


@pytest.mark.parametrize("key", [key for key in DataSettings.model_fields if key != "cache_gb"])  # see test_cache_room
def test_every_key_of_data_changes_the_plan(task: Path, key: str) -> None:
    beside = BESIDE.get(key, [])
    before, after = (divided(task, [*beside, *edits]) for edits in ([], [f"data.{key}={OTHER_DATA[key]}"]))
    assert before != after
    if key in ("path", "layout", "fixes", "extra", "extra_where"):
        assert before[0] != after[0]
    else:
        assert before[0] == after[0]


OTHER_COMBINING = {
    "route": "route=soft",
    "vote": "vote=hard",
    "vote_at": "vote_at=joint",
    "fallback": "fallback=pooled",
    "decide": "decide=attribute",
    "borders": "borders.age=[30, 50]",
}
SOFT = {"route": "soft"}


@pytest.mark.parametrize("key", CombineSettings.model_fields)
def test_every_key_of_combine_changes_the_answers(tmp_path: Path, key: str) -> None:
    schema, voters = face_schema(), ("fold0", "fold1", "fold2")
    experts = face_experts(3, 60, voters, pooled=True)
    if key == "borders":
        probs = random_probs(np.random.default_rng(1), 3, 60, 61)
        fine = Predictions(schema["age"], probs, sample_ids(60), voters=voters, edges=range(1, 61))
        experts = [*(one for one in experts if one.names != ("age",)), fine]
    if key == "fallback":
        experts = [one for one in experts if one.condition.get("mask") != ("worn",)]
    save_predictions(tmp_path / "set", experts, schema)
    beside = {"fallback": "pooled"} if key == "borders" else SOFT if key in ("vote_at", "decide") else {}

    def answers(settings: dict[str, Any], name: str) -> tuple[list[int], Any]:
        done = combine_sets([tmp_path / "set"], load_recipe("face-mask").graph, settings, tmp_path / name)
        numbers = read_submission(done.submission, schema)[1].tolist()
        return numbers, load_predictions(done.joint)[0].probs

    changed = load_recipe("face-mask", [f"combine.{OTHER_COMBINING[key]}"]).combine.model_dump()
    if key == "fallback":
        with pytest.raises(UsageError, match="no age expert for mask=worn"):
            answers({}, "before")
        assert len(answers(changed, "after")[0]) == 60
        return
    before, after = answers(beside, "before"), answers({**changed, **beside}, "after")
    assert before[0] != after[0]


def test_the_keys_of_predict() -> None:
    """That the views change the numbers shows in test_heads_run, that the back end does in tests/backends, compiling in models."""
    assert list(PredictSettings.model_fields) == ["tta", "backend", "compile"]
