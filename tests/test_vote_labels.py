from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from core_oracles import face_schema, random_probs, random_schema
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble_kit.arrays import FloatArray, IntArray
from ensemble_kit.errors import DataError, EnsembleKitError, UsageError
from ensemble_kit.schema import Attribute, Schema
from ensemble_kit.voting import labels as module
from ensemble_kit.voting import vote_hard, vote_labels, vote_labels_by_attribute

SEEDS = st.integers(0, 2**32 - 1)
N_ROWS = 30


def case(seed: int, n_classes: int | None = None) -> dict[str, Any]:
    """Voters' labels with many ties, some abstained, weights in tenths; probabilities in quarters, all of it at times."""
    random = np.random.default_rng(seed)
    n_voters, n_classes = int(random.integers(1, 8)), n_classes or int(random.integers(1, 7))
    probs = random.multinomial(4, np.full(n_classes, 1 / n_classes), size=(n_voters, N_ROWS)) / 4
    labels = random.integers(0, n_classes, size=(n_voters, N_ROWS))
    labels[random.random(labels.shape) < 0.15] = -1
    probs[labels < 0] = 0
    weights = random.integers(0, 4, size=n_voters)
    weights[random.integers(n_voters)] += 1
    return {
        "labels": labels,
        "n_classes": n_classes,
        "tenths": weights if random.random() < 0.6 else np.ones(n_voters, dtype=np.int64),
        "counts": random.integers(0, 3, size=n_classes) if random.random() < 0.5 else None,
        "probs": probs if random.random() < 0.5 else None,
    }


def ask(found: dict[str, Any], n_classes: int | None = None) -> Any:
    return vote_labels(
        found["labels"],
        n_classes or found["n_classes"],
        found["tenths"] / 10,
        counts=found["counts"],
        probs=found["probs"],
    )


def loop_label(found: dict[str, Any], row: int) -> tuple[int, float]:
    """Votes, then mean probability, then counts, then index; in whole numbers."""
    labels, tenths = found["labels"][:, row].tolist(), found["tenths"].tolist()
    spoken = sum(t for t, own in zip(tenths, labels, strict=True) if own >= 0)
    if spoken == 0:
        return -1, 0.0
    number = [sum(t for t, own in zip(tenths, labels, strict=True) if own == c) for c in range(found["n_classes"])]
    mean = [0] * found["n_classes"]
    if found["probs"] is not None:
        quarters = (found["probs"][:, row] * 4).round().astype(int).tolist()
        mean = [sum(t * own[c] for t, own in zip(tenths, quarters, strict=True)) for c in range(found["n_classes"])]
    counts = [0] * found["n_classes"] if found["counts"] is None else found["counts"].tolist()
    best = max(range(found["n_classes"]), key=lambda c: (number[c], mean[c], counts[c], -c))
    return best, number[best] / spoken


@settings(max_examples=300, deadline=None)
@given(SEEDS)
def test_votes_then_mean_probability_then_counts_then_index(seed: int) -> None:
    found = case(seed)
    voted = ask(found)
    assert voted.labels.dtype == np.int64
    expected = [loop_label(found, row) for row in range(N_ROWS)]
    assert voted.labels.tolist() == [label for label, _ in expected]
    np.testing.assert_allclose(voted.share, [share for _, share in expected], rtol=0, atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(SEEDS)
def test_order_copies_and_voters_of_weight_zero_change_nothing(seed: int) -> None:
    found = case(seed)
    voted = ask(found)
    random = np.random.default_rng(seed)
    order = random.permutation(len(found["labels"]))
    probs = found["probs"]
    stranger = np.full((1, N_ROWS), found["n_classes"] - 1)
    for again in (
        {
            "labels": found["labels"][order],
            "tenths": found["tenths"][order],
            "probs": None if probs is None else probs[order],
        },
        {
            "labels": np.tile(found["labels"], (5, 1)),
            "tenths": np.tile(found["tenths"], 5),
            "probs": None if probs is None else np.tile(probs, (5, 1, 1)),
        },
        {
            "labels": np.concatenate([stranger, found["labels"]]),
            "tenths": np.concatenate([[0], found["tenths"]]),
            "probs": None if probs is None else np.concatenate([np.full((1, *probs.shape[1:]), np.nan), probs]),
        },
    ):
        other = ask(found | again)
        assert np.array_equal(other.labels, voted.labels)
        np.testing.assert_allclose(other.share, voted.share, rtol=0, atol=1e-12)


@pytest.mark.parametrize("n_classes", [2, 127, 128, 129, 40_000, 2**20])
@pytest.mark.parametrize("weights", [None, [0.1, 0.2, 0.3, 0.4, 0.5]])
@pytest.mark.parametrize("counted", [False, True])
def test_any_number_of_classes_and_small_integers(n_classes: int, weights: list[float] | None, counted: bool) -> None:
    random = np.random.default_rng(0)
    some = np.unique(np.concatenate([[0, n_classes - 1], random.integers(0, n_classes, 3)]))
    labels = random.choice(some, size=(5, 200))
    counts = random.integers(0, 3, size=n_classes) if counted else None
    voted = vote_labels(labels, n_classes, weights, counts=counts)
    tenths = [10] * 5 if weights is None else [1, 2, 3, 4, 5]
    for row in range(200):
        number = {int(c): sum(t for t, own in zip(tenths, labels[:, row], strict=True) if own == c) for c in some}
        expected = max(number, key=lambda c: (number[c], 0 if counts is None else counts[c], -c))
        assert voted.labels[row] == expected
        assert voted.share[row] == pytest.approx(number[expected] / sum(tenths))


def test_more_voters_than_a_byte_counts() -> None:
    labels = np.repeat([[0, 1, 2], [2, 1, 0]], [200, 201], axis=0)
    voted = vote_labels(labels, 3)
    assert voted.labels.tolist() == [2, 1, 0]
    assert voted.share.tolist() == pytest.approx([201 / 401, 1, 201 / 401])


def test_as_the_vote_of_probabilities() -> None:
    probs = random_probs(np.random.default_rng(2), 5, 500, 3)
    voted = vote_labels(probs.argmax(axis=2), 3, probs=probs)
    assert np.array_equal(voted.labels, vote_hard(probs, np.ones(5)).argmax(axis=1))


def test_blocks_of_rows_are_not_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    found = case(3)
    expected = ask(found)
    monkeypatch.setattr(module, "BLOCK_ROWS", 7)
    again = ask(found)
    assert np.array_equal(again.labels, expected.labels)
    assert np.array_equal(again.share, expected.share)


def test_probabilities_that_were_not_computed_break_no_tie() -> None:
    probs = np.full((2, 1, 3), np.nan)
    assert vote_labels([[2], [1]], 3, probs=probs).labels.tolist() == [1]


@pytest.mark.parametrize("taxonomy", [False, True])
@settings(max_examples=100, deadline=None)
@given(seed=SEEDS)
def test_each_attribute_apart_against_a_loop_over_names(taxonomy: bool, seed: int) -> None:
    schema = random_schema(np.random.default_rng(seed), 3, taxonomy)
    found = case(seed, schema.n_joint)
    voted = vote_labels_by_attribute(
        found["labels"], schema, found["tenths"] / 10, counts=found["counts"], probs=found["probs"]
    )
    joint = ask(found).labels
    names = [tuple(name.split(" / ")) for name in schema.joint_names()]
    for row in range(N_ROWS):
        expected = loop_by_attribute(found, schema, names, row, int(joint[row]))
        assert voted.labels[row] == expected
        labels, tenths = found["labels"][:, row], found["tenths"]
        spoken = tenths[labels >= 0].sum()
        named = tenths[labels == expected].sum() if expected >= 0 else 0
        assert voted.share[row] == pytest.approx(named / spoken if spoken else 0)


def loop_by_attribute(found: dict[str, Any], schema: Schema, names: list[tuple[str, ...]], row: int, joint: int) -> int:
    chosen = []
    for place, attribute in enumerate(schema.attributes):
        of_joint = [attribute.classes.index(name[place]) for name in names]
        labels = np.array([[of_joint[own] if own >= 0 else -1] for own in found["labels"][:, row]])
        part: dict[str, Any] = {"labels": labels, "n_classes": len(attribute.classes), "tenths": found["tenths"]}
        part["counts"] = added(found["counts"], of_joint, len(attribute.classes))
        part["probs"] = None
        if found["probs"] is not None:
            own = [added(voter[row], of_joint, len(attribute.classes)) for voter in found["probs"]]
            part["probs"] = np.array(own)[:, None]
        label, _ = loop_label(part, 0)
        if label < 0:
            return -1
        chosen.append(attribute.classes[label])
    return names.index(tuple(chosen)) if tuple(chosen) in names else joint


def added(values: Any, to: list[int], n_classes: int) -> Any:
    if values is None:
        return None
    total = [0] * n_classes
    for value, target in zip(values, to, strict=True):
        total[target] += value
    return np.array(total)


def test_attributes_may_make_a_class_that_nobody_named_and_a_taxonomy_forbids_it() -> None:
    schema = face_schema()
    votes = np.array(
        [schema.encode({"mask": [m], "gender": [g], "age": [a]}) for m, g, a in [(0, 0, 1), (0, 1, 2), (1, 0, 2)]]
    )
    voted = vote_labels_by_attribute(votes, schema)
    assert [schema.joint_names()[label] for label in voted.labels] == ["worn / male / >=60"]
    assert voted.share.tolist() == [0]
    kind, coarse = Attribute("kind", ["fruit", "dairy"]), Attribute("coarse", ["apple", "pear", "milk"])
    tree = Schema(kind, coarse, paths=[["fruit", "apple"], ["fruit", "pear"], ["dairy", "milk"]])
    # kind: fruit has 2 of 4.5, coarse: milk; there is no fruit / milk, so the joint vote's dairy / milk
    voted = vote_labels_by_attribute([[0], [1], [2]], tree, [1.25, 1.25, 2])
    assert voted.labels.tolist() == [2]
    assert voted.share.tolist() == [pytest.approx(2 / 4.5)]


GOOD = np.array([[0, 1], [1, 1]])
BAD: list[tuple[dict[str, Any], type[EnsembleKitError], str]] = [
    ({"labels": [0, 1]}, UsageError, "expected labels of shape (n_voters, n_samples), found (2,)"),
    ({"labels": np.zeros((0, 3), dtype=int)}, UsageError, "found (0, 3)"),
    ({"labels": [[0.5, 1]]}, DataError, "expected labels as whole numbers, found float64"),
    ({"labels": [["a", "b"]]}, DataError, "expected labels as whole numbers, found <U1"),
    ({"labels": [[0, 3]]}, DataError, "labels must be 0 to 2, or -1 = abstained, found 0 to 3"),
    ({"labels": [[0, -2]]}, DataError, "found -2 to 0"),
    ({"n_classes": 0}, UsageError, "expected 1 to 1048576 classes, found 0"),
    ({"n_classes": 2**20 + 1}, UsageError, "classes, found 1048577"),
    ({"weights": [1]}, UsageError, "expected a weight for each of 2 voters, found shape (1,)"),
    ({"weights": [1, -1]}, UsageError, "expected weights >= 0"),
    ({"weights": [1, np.nan]}, UsageError, "expected weights >= 0, finite"),
    ({"weights": [0, 0]}, UsageError, "not all 0"),
    ({"counts": [1, 2]}, UsageError, "expected a training count for each of 3 classes, found 2"),
    ({"counts": [1, 2, -1]}, UsageError, "training counts: expected a number >= 0"),
    ({"probs": np.ones((2, 2, 2))}, UsageError, "expected probs of shape (2, 2, 3), found (2, 2, 2)"),
]


@pytest.mark.parametrize(("change", "error", "message"), BAD, ids=[message for *_, message in BAD])
def test_bad_labels_weights_and_counts(change: dict[str, Any], error: type[EnsembleKitError], message: str) -> None:
    arguments: dict[str, Any] = {"labels": GOOD, "n_classes": 3} | change
    with pytest.raises(error) as caught:
        vote_labels(**arguments)
    assert message in str(caught.value)


def test_no_rows_and_unsigned_labels() -> None:
    voted: tuple[IntArray, FloatArray] = vote_labels(np.zeros((2, 0), dtype=np.int64), 3)
    assert voted[0].shape == voted[1].shape == (0,)
    assert vote_labels(GOOD.astype(np.uint8), 3).labels.tolist() == [0, 1]
