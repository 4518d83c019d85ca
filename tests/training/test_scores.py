"""The scores of an epoch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score
from tiny_training import SCHEMA, draw_table, folds_of, make_job, make_photos

from ensemble_kit.data.samples import SampleTable
from ensemble_kit.schema import Schema
from ensemble_kit.training import train_fold
from ensemble_kit.training.scoring import scores


@given(st.data())
def test_macro_f1_is_the_mean_over_the_possible_classes(data: st.DataObject) -> None:
    n_classes = data.draw(st.integers(1, 5))
    possible = sorted(data.draw(st.sets(st.integers(0, n_classes - 1), min_size=1)))
    truth = np.array(data.draw(st.lists(st.sampled_from(possible), min_size=1, max_size=12)))
    labels = np.array([data.draw(st.integers(0, n_classes - 1)) for _ in truth])
    probs = np.full((len(truth), n_classes), 0.1)
    probs[np.arange(len(truth)), labels] = 0.6
    found = scores(probs, truth, np.array(possible))
    expected = f1_score(truth, labels, labels=possible, average="macro", zero_division=0)
    assert found["macro_f1"] == pytest.approx(expected)
    assert found["accuracy"] == pytest.approx((truth == labels).mean())
    assert found["val_loss"] == pytest.approx(np.mean(-np.log(np.where(truth == labels, 0.6, 0.1))))


def test_a_perfect_expert_scores_1_where_the_taxonomy_leaves_classes_out() -> None:
    probs = np.eye(4)[[0, 2, 2]]
    assert scores(probs, np.array([0, 2, 2]), np.array([0, 2]))["macro_f1"] == 1
    assert scores(probs, np.array([0, 2, 2]), np.arange(4))["macro_f1"] == 0.5


def test_training_scores_over_the_classes_of_its_condition(tmp_path: Path) -> None:
    drawn = draw_table(tmp_path / "photos")
    paths = [("worn", "male"), ("incorrect", "male"), ("incorrect", "female"), ("not_worn", "female")]
    schema = Schema(SCHEMA["mask"], SCHEMA["gender"], paths=paths)
    pairs = list(zip(drawn.frame["mask"], drawn.frame["gender"], strict=True))
    kept = drawn.select(np.array([pair in paths for pair in pairs]))
    table = SampleTable(kept.frame.drop(columns="age"), kept.root, schema)
    folds = folds_of(table)
    job = make_job(schema=schema, attributes=("gender",), condition={"mask": "worn"}, epochs=1)
    photos = make_photos(table, tmp_path / "cache")
    result = train_fold(job, table=table, folds=folds, photos=photos, folder=tmp_path / "fold")
    worn = (kept.frame["mask"] == "worn").to_numpy()[folds == 0]
    labels = np.load(tmp_path / "fold" / "oof.npy")[worn].argmax(axis=1)
    expected = f1_score(np.zeros(len(labels)), labels, labels=[0], average="macro", zero_division=0)
    assert expected > 0
    assert result.metrics["macro_f1"] == pytest.approx(expected)
