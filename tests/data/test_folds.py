"""Folds: no person in two, every class on both sides, the same each time."""

from __future__ import annotations

import time

import numpy as np
import pytest
from fake_tree import face_schema
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble_kit.arrays import IdArray, IntArray
from ensemble_kit.data.folds import check_folds, make_folds, make_split
from ensemble_kit.errors import DataError, UsageError
from ensemble_kit.schema import Attribute, Schema


def people(n: int, seed: int = 0, photos: int = 7) -> tuple[IntArray, IdArray]:
    """Joint classes and groups of a face-like data set: a person's photos share gender and age, not the mask."""
    rng = np.random.default_rng(seed)
    identity = rng.choice(6, size=n, p=[0.15, 0.11, 0.05, 0.25, 0.34, 0.1])
    state = np.array([0, 0, 0, 0, 0, 1, 2])[:photos]
    joint = (state[None, :] * 6 + identity[:, None]).ravel().astype(np.int64)
    groups = np.repeat(np.array([f"{i:06}" for i in range(n)]), photos)
    return joint, groups


@st.composite
def labelled_groups(draw: st.DrawFn) -> tuple[IntArray, IdArray]:
    n_groups = draw(st.integers(6, 14))
    groups = draw(st.lists(st.integers(0, n_groups - 1), min_size=n_groups, max_size=40)) + list(range(n_groups))
    joint = draw(st.lists(st.integers(-1, 3), min_size=len(groups), max_size=len(groups)))
    return np.array(joint), np.array([f"g{g}" for g in groups])


@given(labelled_groups(), st.integers(2, 4), st.integers(0, 50))
@settings(max_examples=60, deadline=None)
def test_each_photo_is_held_out_once_and_no_group_is_split(
    data: tuple[IntArray, IdArray], n_folds: int, seed: int
) -> None:
    joint, groups = data
    try:
        folds = make_folds(joint, groups, n_folds=n_folds, seed=seed)
    except DataError as error:
        assert "would hold no photo" in str(error)  # noqa: PT017
        return
    assert folds.shape == joint.shape
    assert folds.dtype == np.int64
    assert set(folds.tolist()) == set(range(n_folds))
    for group in set(groups.tolist()):
        assert len(set(folds[groups == group].tolist())) == 1
    np.testing.assert_array_equal(folds, make_folds(joint, groups, n_folds=n_folds, seed=seed))


@pytest.mark.parametrize("n_folds", [2, 5, 10])
def test_every_fold_has_its_share_of_every_joint_class(n_folds: int) -> None:
    joint, groups = people(300)
    folds = make_folds(joint, groups, n_folds=n_folds, seed=3)
    expected = np.bincount(joint, minlength=18) / n_folds
    for fold in range(n_folds):
        found = np.bincount(joint[folds == fold], minlength=18)
        assert np.abs(found - expected).max() <= np.maximum(10, 0.25 * expected.max())
        assert (found > 0).all()


def test_seeds_and_row_order() -> None:
    joint, groups = people(60)
    folds = make_folds(joint, groups, n_folds=3, seed=0)
    assert (folds != make_folds(joint, groups, n_folds=3, seed=1)).any()


@pytest.mark.parametrize("n_folds", [2, 5])
def test_ungrouped_photos_are_cut_quickly_and_evenly(n_folds: int) -> None:
    """60,000 groups of one photo: the cut that keeps groups whole would take half a minute."""
    joint = np.random.default_rng(0).choice([-1, 0, 1, 2], size=60_000, p=[0.2, 0.5, 0.29, 0.01])
    groups = np.arange(60_000).astype(np.str_)
    make_folds(joint[:100], groups[:100], n_folds=2, seed=0)  # imports scikit-learn
    start = time.perf_counter()
    folds = make_folds(joint, groups, n_folds=n_folds, seed=0)
    assert time.perf_counter() - start < 5
    for label in (-1, 0, 1, 2):
        counts = np.bincount(folds[joint == label], minlength=n_folds)
        assert counts.max() - counts.min() <= 1
    assert (folds != make_folds(joint, groups, n_folds=n_folds, seed=1)).any()
    np.testing.assert_array_equal(folds, make_folds(joint, groups, n_folds=n_folds, seed=0))


def test_rare_classes_give_no_warning() -> None:
    joint = np.array([0, 0, 0, 0, 1, 2])
    assert set(make_folds(joint, np.array(list("abcdef")), n_folds=3, seed=0).tolist()) == {0, 1, 2}
    alone = np.arange(6)
    assert set(make_folds(alone, np.array(list("abcdef")), n_folds=3, seed=0).tolist()) == {0, 1, 2}


@pytest.mark.parametrize("ratio", [0.1, 0.15, 0.2, 0.25, 0.3, 0.5])
def test_a_split_holds_out_about_the_ratio_by_whole_people(ratio: float) -> None:
    joint, groups = people(200)
    folds = make_split(joint, groups, val_ratio=ratio, seed=0)
    assert set(folds.tolist()) == {-1, 0}
    assert abs((folds == 0).mean() - ratio) < 0.02
    assert not set(groups[folds == 0].tolist()) & set(groups[folds == -1].tolist())
    assert abs((joint[folds == 0] % 6 == 4).mean() - (joint % 6 == 4).mean()) < 0.05


@pytest.mark.parametrize("n_people", [2, 3, 7])
def test_a_split_of_a_handful_of_people_still_has_two_sides(n_people: int) -> None:
    joint, groups = people(n_people)
    assert set(make_split(joint, groups, val_ratio=0.1, seed=0).tolist()) == {-1, 0}


def test_calls_that_cannot_work() -> None:
    joint, groups = people(4)
    with pytest.raises(UsageError, match="expected 2 or more, found 1; for one held-out share use --val-ratio"):
        make_folds(joint, groups, n_folds=1, seed=0)
    with pytest.raises(DataError, match="5 folds need 5 people or more, found 4; use fewer folds or more data"):
        make_folds(joint, groups, n_folds=5, seed=0)
    with pytest.raises(UsageError, match="28 labels and 27 groups"):
        make_folds(joint, groups[:-1], n_folds=2, seed=0)
    with pytest.raises(DataError, match="needs 2 people or more, found 1"):
        make_split(joint[:7], groups[:7], val_ratio=0.1, seed=0)
    for ratio in (0.0, 1.0, -0.1, 0.99, float("nan")):
        with pytest.raises(UsageError, match=r"val-ratio: expected 0.05 to 0.95"):
            make_split(joint, groups, val_ratio=ratio, seed=0)


# --- check_folds ---------------------------------------------------------------------------------------------------

GENDER = Schema(Attribute("gender", ["male", "female"]))


def test_good_folds_pass_without_a_word() -> None:
    joint, groups = people(120)
    schema = face_schema()
    folds = make_folds(joint, groups, n_folds=3, seed=0)
    assert check_folds(folds, schema.decode(joint), schema, groups) == []


@given(st.integers(0, 119), st.integers(0, 6))
@settings(max_examples=25, deadline=None)
def test_a_leak_injected_by_hand_is_caught(person: int, photo: int) -> None:
    joint, groups = people(120)
    schema = face_schema()
    folds = make_folds(joint, groups, n_folds=3, seed=0)
    folds[person * 7 + photo] = (folds[person * 7 + photo] + 1) % 3
    with pytest.raises(DataError, match=f'group "{person:06}" is in the folds . and .: .*cut folds with make_folds'):
        check_folds(folds, schema.decode(joint), schema, groups)


def test_a_person_partly_held_out_is_a_leak_too() -> None:
    with pytest.raises(DataError, match='group "b" is in the folds training only and 0'):
        check_folds(np.array([0, 0, -1, -1]), {"gender": np.array([0, 1, 0, 1])}, GENDER, np.array(list("abbc")))


@pytest.mark.parametrize(
    ("folds", "gender", "message"),
    [
        ([0, 0, 1, 1], [0, 1, 0, 0], r'fold 0 has no training photo of gender "female" \(1 photo\(s\) of 1 group'),
        ([0, 0, 1, 1], [0, 0, 0, 1], r'fold 0 has no validation photo of gender "female".*; add photos'),
        ([0, 1, 1, 1], [0, 1, 1, -1], r'fold 0 has no validation photo of gender "female" \(2 photo\(s\) of 2 group'),
        ([0, 1, 1, 1], [0, 1, 1, -1], "use fewer folds or another seed"),
        ([0, 0, -1, -1], [0, 0, 0, 1], 'fold 0 has no validation photo of gender "female"'),
        ([0, 0, 1, 1], [0, 0, 0, 0], r'gender "female" \(0 photo\(s\) of 0 group\(s\) in all\); add photos, or leave'),
    ],
)
def test_a_class_with_no_photo_in_a_fold(folds: list[int], gender: list[int], message: str) -> None:
    with pytest.raises(DataError, match=message):
        check_folds(np.array(folds), {"gender": np.array(gender)}, GENDER, np.array(list("abcd")))


def test_joint_classes_without_a_validation_photo_are_notices() -> None:
    schema = Schema(Attribute("a", ["x", "y"]), Attribute("b", ["u", "v"]))
    numbers = {"a": np.array([0, 1, 0, 1]), "b": np.array([0, 1, 1, 0])}
    notices = check_folds(np.array([0, 0, 1, 1]), numbers, schema, np.array(list("abcd")))
    assert notices == [
        "fold 0: no validation photo of 2 joint class(es): x / v, y / u",
        "fold 1: no validation photo of 2 joint class(es): x / u, y / v",
    ]
    assert check_folds(np.array([0, 0, 1, 1]), {"a": numbers["a"]}, schema, np.array(list("abcd"))) == []
