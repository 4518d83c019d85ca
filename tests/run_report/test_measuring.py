"""The facts of a report against scikit-learn and against plain loops."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report_cases import experts_on, faces
from sklearn.metrics import confusion_matrix, f1_score, precision_recall_fscore_support

import ensemble_kit as ek
from ensemble_kit.diagnosis.diversity import describe_voters
from ensemble_kit.run_report.facts import JOINT, AnswerFacts
from ensemble_kit.run_report.measuring import (
    answer_facts,
    label_facts,
    number_facts,
    shared_settings,
    vote_facts,
)
from ensemble_kit.selection import existing_columns, true_columns
from ensemble_kit.structures.scorer import Scorer
from ensemble_kit.voting import find_vote

SCHEMA = faces()
GRAPH = ek.Graph({"mask": [], "gender": [], "age": ["mask"]})
N, N_BOOT = 90, 20


@pytest.fixture(scope="module")
def world() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 16, N)  # two classes never occur
    people = np.array([f"p{k // 3}" for k in range(N)])
    ids = [f"{k}.jpg" for k in range(N)]
    experts = experts_on(SCHEMA, GRAPH, truth, ids, strength=2.0)
    ensemble = ek.ConditionalEnsemble(SCHEMA, GRAPH, experts)
    joint, soft = (ensemble.combine(route=route).joint for route in ("hard", "soft"))
    labels = joint.labels()
    facts = answer_facts(joint, soft, labels, truth, SCHEMA, people, Scorer(people, N_BOOT, 0))
    return {
        "truth": truth,
        "labels": labels,
        "people": people,
        "experts": experts,
        "joint": joint,
        "soft": soft,
        "facts": facts,
    }


def columns(world: dict[str, Any], answer: AnswerFacts) -> tuple[Any, Any]:
    if answer.what == JOINT:
        return world["truth"], world["labels"]
    return SCHEMA.decode(world["truth"])[answer.what], SCHEMA.decode(world["labels"])[answer.what]


def test_scores_and_confusion_are_those_of_scikit_learn(world: dict[str, Any]) -> None:
    assert [one.what for one in world["facts"]] == [JOINT, "mask", "gender", "age"]
    for answer in world["facts"]:
        true, said = columns(world, answer)
        n = len(answer.names)
        precision, recall, f1, photos = precision_recall_fscore_support(true, said, labels=range(n), zero_division=0)
        for k, one in enumerate(answer.classes):
            assert (one.precision, one.recall, one.f1) == pytest.approx((precision[k], recall[k], f1[k]))
            assert one.n_photos == photos[k]
            assert one.n_people == len(set(world["people"][true == k].tolist()))
        assert answer.score.macro_f1 == pytest.approx(np.mean(f1))
        assert np.array_equal(np.array(answer.confusion)[:, :n], confusion_matrix(true, said, labels=range(n)))
        assert answer.n_photos == N


def test_intervals_of_a_class_are_those_of_drawing_people(world: dict[str, Any]) -> None:
    """The same draws, each photo of a drawn person repeated, scored by scikit-learn."""
    names, person = np.unique(world["people"], return_inverse=True)
    drawn = np.random.default_rng(0).multinomial(len(names), np.full(len(names), 1 / len(names)), size=N_BOOT)
    answer = next(one for one in world["facts"] if one.what == "age")
    true, said = columns(world, answer)
    for k, one in enumerate(answer.classes):
        scores = []
        for times in drawn:
            rows = np.repeat(np.arange(N), times[person])
            scores.append(f1_score(true[rows] == k, said[rows] == k, zero_division=0))
        assert one.f1_interval == pytest.approx(tuple(np.percentile(scores, [2.5, 97.5])))


def test_confidence_bins_and_coverage_count_every_photo(world: dict[str, Any]) -> None:
    for answer in world["facts"]:
        true, _ = columns(world, answer)
        alone = world["joint"] if answer.what == JOINT else world["soft"].marginal(answer.what)
        probs = np.asarray(alone.layers[0], dtype=np.float64)
        right = probs.argmax(axis=1) == true
        assert sum(n for _, _, n in answer.reliability) == N
        assert sum(share * n for _, share, n in answer.reliability) == pytest.approx(right.sum())
        mean = sum(sure * n for sure, _, n in answer.reliability) / N
        assert mean == pytest.approx(probs.max(axis=1).mean())
        assert answer.coverage[-1] == pytest.approx((1.0, 1 - right.mean()))
        order = np.argsort(-probs.max(axis=1), kind="stable")
        for share, risk in answer.coverage[:: len(answer.coverage) // 5]:
            first = order[: round(share * N)]
            assert risk == pytest.approx(1 - right[first].mean())


def test_without_people_there_are_no_intervals(world: dict[str, Any]) -> None:
    facts = answer_facts(
        world["joint"], world["soft"], world["labels"], world["truth"], SCHEMA, None, Scorer(None, N_BOOT, 0)
    )
    assert {one.f1_interval for answer in facts for one in answer.classes} == {None}
    assert {one.n_people for answer in facts for one in answer.classes} == {None}


def test_a_mean_over_classes_is_over_those_that_exist_under_the_condition() -> None:
    """An expert of one kind of a taxonomy keeps columns of the others: they are no classes that it fails at."""
    schema = ek.Schema(
        ek.Attribute("kind", ["fruit", "milk"]),
        ek.Attribute("fine", ["apple", "pear", "oat", "soy"]),
        paths=[("fruit", "apple"), ("fruit", "pear"), ("milk", "oat"), ("milk", "soy")],
    )
    ids, truth = [f"{k}" for k in range(8)], np.arange(8) % 4
    perfect = np.eye(4)[truth]
    fruit = ek.Predictions(schema["fine"], [perfect, perfect], ids, {"kind": "fruit"}, voters=["a", "b"])
    columns, existing = true_columns(fruit, schema, truth), existing_columns(fruit, schema)
    found = vote_facts(fruit, columns, existing, None, find_vote("soft"), "macro_f1", N_BOOT, 0)
    assert found is not None
    assert (found.n_photos, found.vote.macro_f1, found.vote.accuracy) == (4, 1, 1)
    told = describe_voters(fruit, fruit.select_voters(["a"]), columns, existing, None, N_BOOT, 0)
    assert told is not None
    assert told.vote.macro_f1 == 1


def test_leaving_a_voter_out_is_the_vote_of_the_others(world: dict[str, Any]) -> None:
    expert = world["experts"][0]
    third = np.random.default_rng(1).dirichlet(np.ones(3), N)
    several = ek.Predictions(SCHEMA["mask"], [*expert.layers, third], expert.ids, voters=["fold0", "fold1", "fold2"])
    truth = SCHEMA.decode(world["truth"])["mask"].copy()
    truth[:7] = -1
    found = vote_facts(several, truth, np.arange(3), world["people"], find_vote("soft"), "macro_f1", N_BOOT, 0)
    assert found is not None
    keep = truth >= 0
    layers = [np.asarray(layer, dtype=np.float64)[keep] for layer in several.layers]

    def scored(chosen: list[int]) -> float:
        labels = np.mean([layers[k] for k in chosen], axis=0).argmax(axis=1)
        return float(f1_score(truth[keep], labels, average="macro"))

    assert found.n_photos == N - 7
    assert found.vote.macro_f1 == pytest.approx(scored([0, 1, 2]))
    for k, voter in enumerate(found.voters):
        assert voter.alone.macro_f1 == pytest.approx(scored([k]))
        assert voter.given.value == pytest.approx(scored([0, 1, 2]) - scored([j for j in range(3) if j != k]))
        assert voter.given.interval is not None
        assert voter.given.interval[0] <= voter.given.interval[1]
    alone = several.select_voters(["fold0"])
    assert vote_facts(alone, truth, np.arange(3), None, find_vote("soft"), "macro_f1", N_BOOT, 0) is None
    assert vote_facts(several, np.full(N, -1), np.arange(3), None, find_vote("soft"), "macro_f1", N_BOOT, 0) is None


photos = st.lists(st.tuples(st.integers(-1, 2), st.integers(0, 4), st.integers(-1, 2)), max_size=30)


@given(photos)
def test_labels_are_counted_as_a_loop_counts_them(rows: list[tuple[int, int, int]]) -> None:
    numbers, folds = np.array([r[0] for r in rows], dtype=np.int64), np.array([r[2] for r in rows], dtype=np.int64)
    people = np.array([f"p{r[1]}" for r in rows], dtype=np.str_)
    found = label_facts("x", ["a", "b", "c"], numbers, people, folds)
    for k, one in enumerate(found.classes):
        mine = [row for row in rows if row[0] == k]
        assert (one.n_photos, one.n_people) == (len(mine), len({row[1] for row in mine}))
        held = Counter(row[2] for row in mine)
        assert one.held_out == tuple(held[f] for f in range(max((r[2] for r in rows), default=-1) + 1))
    assert found.n_unlabelled == sum(row[0] < 0 for row in rows)


values = st.one_of(st.integers(0, 100).map(float), st.floats(0, 1000, allow_subnormal=False), st.just(float("nan")))


@given(st.lists(values, max_size=40))
def test_every_number_is_counted_once(numbers: list[float]) -> None:
    known = [value for value in numbers if value == value]
    found = number_facts("age", [30, 60], numbers)
    if found is None:
        assert known == []
        return
    assert found.n_photos == len(known)
    assert found.highest == (max(known), known.count(max(known)))
    for border, near in found.near:
        assert near == sum(border - 2 <= value < border + 2 for value in known)
    assert len(found.photos) <= 100


texts = st.dictionaries(st.sampled_from("abc"), st.integers(0, 1))


@settings(max_examples=50)
@given(st.dictionaries(st.sampled_from("xyz"), texts, min_size=1))
def test_shared_settings_and_those_of_its_own_are_all(own: dict[str, dict[str, int]]) -> None:
    alike, others = shared_settings(own)
    for name, setting in own.items():
        assert {**alike, **others[name]} == setting
        assert not set(alike) & set(others[name])
