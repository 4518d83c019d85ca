"""Which rows a fold trains on, is scored on, and predicts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tiny_training import SCHEMA, draw_table, folds_of, make_job, make_photos

from ensemble_kit.data.samples import Problem, SampleTable
from ensemble_kit.errors import DataError, UsageError
from ensemble_kit.loading.cache import PhotoCache
from ensemble_kit.schema import Schema
from ensemble_kit.training.rows import FoldRows, choose_rows


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> SampleTable:
    return draw_table(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="module")
def photos(table: SampleTable, tmp_path_factory: pytest.TempPathFactory) -> PhotoCache:
    return make_photos(table, tmp_path_factory.mktemp("cache"))


def relabelled(table: SampleTable, **columns: Any) -> SampleTable:
    data = {name: table.frame[name].tolist() for name in table.frame.columns} | columns
    return SampleTable.from_columns(data, table.root, table.schema)


def rows_of(table: SampleTable, photos: PhotoCache, folds: Any = None, **changed: Any) -> FoldRows:
    return choose_rows(make_job(**changed), table, folds_of(table) if folds is None else folds, photos)


def test_rows_by_a_plain_loop(table: SampleTable, photos: PhotoCache) -> None:
    found = rows_of(table, photos, attributes=("age",), condition={"mask": ("incorrect", "not_worn")}, fold=1)
    folds = folds_of(table)
    train: list[tuple[int, int]] = []
    score: list[tuple[int, int]] = []
    for row, (mask, age) in enumerate(zip(table.frame["mask"], table.frame["age"], strict=True)):
        if mask != "worn":
            (score if folds[row] == 1 else train).append((row, 0 if age < 30 else 1 if age < 60 else 2))
    assert list(zip(found.train.tolist(), found.train_targets.tolist(), strict=True)) == train
    assert list(zip(found.score.tolist(), found.score_targets.tolist(), strict=True)) == score
    assert found.held_out.tolist() == [row for row in range(len(table)) if folds[row] == 1]


def test_samples_in_no_fold_are_trained_on_and_never_held_out(table: SampleTable, photos: PhotoCache) -> None:
    folds = np.where(folds_of(table) == 0, 0, -1)
    found = rows_of(table, photos, folds)
    assert found.train.tolist() == np.flatnonzero(folds == -1).tolist()
    assert found.held_out.tolist() == np.flatnonzero(folds == 0).tolist()


def test_training_borders_move_training_targets_alone(table: SampleTable, photos: PhotoCache) -> None:
    table = relabelled(table, age=[58.0 if age == 60 else age for age in table.frame["age"]])
    # with the schema's borders nobody is 60 or older
    with pytest.raises(DataError, match=r"age, fold 0: no training photo of age=>=60; add photos of it"):
        rows_of(table, photos, attributes=("age",))
    found = rows_of(table, photos, attributes=("age",), borders=(30.0, 58.0))
    ages = table.frame["age"].to_numpy()
    assert (found.train_targets == np.where(ages < 30, 0, np.where(ages < 58, 1, 2))[found.train]).all()
    assert set(found.score_targets.tolist()) == {0, 1}


def test_left_out_ages_are_left_out_of_training_alone_both_ends_included(
    table: SampleTable, photos: PhotoCache
) -> None:
    ages = table.frame["age"].tolist()
    ages[24:30] = [57.0, 57.0, 58.5, 58.5, 59.0, 59.0]
    ages[30] = 45.0
    table = relabelled(table, age=ages)
    every, found = (
        rows_of(table, photos, attributes=("age",), leave_out=out) for out in ((), ((57.0, 59.0), (10.0, 12.0)))
    )
    assert sorted(set(every.train.tolist()) - set(found.train.tolist())) == [24, 25, 26, 27, 28, 29]
    assert found.score.tolist() == every.score.tolist()


def test_unlabelled_rows_are_neither_trained_on_nor_scored_but_predicted(
    table: SampleTable, photos: PhotoCache
) -> None:
    mask = table.frame["mask"].tolist()
    mask[0] = mask[20] = ""
    found = rows_of(relabelled(table, mask=mask), photos)
    assert 20 not in found.train
    assert 0 not in found.score
    assert 0 in found.held_out
    given = rows_of(relabelled(table, mask=mask), photos, attributes=("gender",), condition={"mask": "not_worn"})
    assert 20 not in given.train


def test_unreadable_photos_are_neither_trained_on_nor_scored_but_keep_their_row(
    table: SampleTable, photos: PhotoCache
) -> None:
    readable = np.ones(len(table), dtype=bool)
    readable[[0, 20]] = False
    problems = (Problem("a.png", "no photo"), Problem("b.png", "cut short"))
    found = rows_of(table, PhotoCache(photos.photos, readable, problems, photos.preprocess, photos.ids_sha256))
    assert 20 not in found.train
    assert 0 not in found.score
    assert 0 in found.held_out
    assert found.notices == ("a.png: no photo; left out", "b.png: cut short; left out")


def test_nothing_to_train_on_or_to_score_with(table: SampleTable, photos: PhotoCache) -> None:
    folds = folds_of(table)
    with pytest.raises(DataError, match=r'mask, fold 0: expected at least 2 labelled training photos, found 0; .*"ens'):
        rows_of(table, photos, np.zeros_like(folds))
    with pytest.raises(DataError, match="mask, fold 0: no validation photo to score with"):
        rows_of(table, photos, np.ones_like(folds))
    with pytest.raises(DataError, match="mask, fold 0: expected at least 2 labelled training photos, found 0"):
        rows_of(relabelled(table, mask=[""] * len(table)), photos)


def test_a_class_without_a_training_photo_is_named(table: SampleTable, photos: PhotoCache) -> None:
    mask = ["worn" if m == "incorrect" else m for m in table.frame["mask"]]
    with pytest.raises(DataError, match=r"mask, fold 0: no training photo of mask=incorrect; add photos of it, use"):
        rows_of(relabelled(table, mask=mask), photos)


def test_a_block_tells_which_joint_classes_it_cannot_learn(table: SampleTable, photos: PhotoCache) -> None:
    assert rows_of(table, photos, attributes=("mask", "gender")).notices == ()
    gender = ["male" if m == "worn" else g for m, g in zip(table.frame["mask"], table.frame["gender"], strict=True)]
    found = rows_of(relabelled(table, gender=gender), photos, attributes=("mask", "gender"))
    assert found.notices == ("mask,gender, fold 0: no training photo of worn / female",)


def test_in_a_taxonomy_only_the_classes_under_the_condition_are_asked_for(
    table: SampleTable, photos: PhotoCache
) -> None:
    names = ("mask", "gender")
    paths = [("worn", "male"), ("incorrect", "male"), ("incorrect", "female"), ("not_worn", "female")]
    schema = Schema(*(SCHEMA[name] for name in names), paths=paths)
    keep = np.flatnonzero([pair in paths for pair in zip(table.frame["mask"], table.frame["gender"], strict=True)])
    kept = table.select(keep)
    tax = SampleTable.from_columns({n: kept.frame[n].tolist() for n in kept.frame.columns}, kept.root, schema)
    cut = PhotoCache(photos.photos[keep], photos.readable[keep], (), photos.preprocess, "")
    job = make_job(schema=schema, attributes=("gender",), condition={"mask": "worn"})
    found = choose_rows(job, tax, folds_of(table)[keep], cut)
    assert set(found.train_targets.tolist()) == {0}
    assert found.possible.tolist() == [0]
    block = choose_rows(make_job(schema=schema, attributes=names), tax, folds_of(table)[keep], cut)
    assert block.possible.tolist() == [0, 1, 2, 3]
    assert block.notices == ()


def test_a_block_under_a_condition_is_asked_for_its_possible_joint_classes_alone(
    table: SampleTable, photos: PhotoCache
) -> None:
    joint = list(zip(table.frame["mask"], table.frame["gender"], table.frame["age"], strict=True))
    paths = [("worn", "male", "<30"), ("worn", "female", "30-59"), ("worn", "female", ">=60"), ("worn", "male", ">=60")]
    others = [(m, g, a) for m in ("incorrect", "not_worn") for g in ("male", "female") for a in SCHEMA["age"].classes]
    schema = Schema(*(SCHEMA[name] for name in SCHEMA.names), paths=[*paths, *others])
    wrong = [i for i, (m, g, a) in enumerate(joint) if m == "worn" and (g, a) in (("female", 22.0), ("male", 45.0))]
    keep = np.setdiff1d(np.arange(len(table)), wrong)
    job = make_job(schema=schema, attributes=("gender", "age"), condition={"mask": "worn"})
    kept = SampleTable(table.select(keep).frame, table.root, schema)
    cut = PhotoCache(photos.photos[keep], photos.readable[keep], (), photos.preprocess, "")
    found = choose_rows(job, kept, folds_of(table)[keep], cut)
    names = schema.block(("gender", "age")).joint_names()
    assert [names[i] for i in found.possible] == ["male / <30", "male / >=60", "female / 30-59", "female / >=60"]
    assert found.notices == ()
    whole = SampleTable(table.frame, table.root, schema)
    with pytest.raises(DataError, match=r"sample p001/worn is labelled female / <30, which the schema does not have"):
        choose_rows(job, whole, folds_of(table), photos)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"borders": (30.0, 58.0)}, "mask: borders and left-out ranges need exactly one attribute with borders"),
        ({"leave_out": ((1.0, 2.0),)}, "need exactly one attribute with borders"),
        ({"condition": {"mask": "worn"}}, "an attribute cannot be predicted and given at once"),
        ({"condition": {"age": "old"}}, 'attribute "age" has no class "old"'),
        ({"attributes": ("hat",)}, 'the schema has no attribute "hat"'),
        ({"attributes": ()}, "expected at least one attribute"),
        ({"keep": "first"}, 'keep: expected best, last or "every N", found "first"'),
        ({"keep": "every 0"}, "keep: expected best"),
        ({"epochs": 0}, "epochs: expected at least 1, found 0"),
    ],
)
def test_jobs_that_make_no_sense(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make_job(**changed)
