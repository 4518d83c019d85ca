"""The search: what is planted is found, and its scores are those of a loop over names."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import pytest
from planted import CLASSES, SCHEMA, Table, make_table, structure_of
from sklearn.base import BaseEstimator
from sklearn.dummy import DummyClassifier
from sklearn.metrics import f1_score

import ensemble_kit as ek
from ensemble_kit.errors import DataError, EnsembleKitError, UsageError
from ensemble_kit.predictions import Predictions
from ensemble_kit.structure_search import Space, StructureSearch, enumerate_candidates, search_saved

QUICK: dict[str, Any] = {"folds": 3, "n_boot": 200, "space": Space(max_parents=1)}
"""101 structures and 6 fits an expert, in place of 293 and 15."""


def search_table(table: Table, **options: Any) -> StructureSearch:
    return ek.search_structures(
        table.features, table.numbers, schema=SCHEMA, groups=table.people, **{**QUICK, **options}
    )


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_what_is_planted_is_found(seed: int) -> None:
    table = make_table(seed)
    found = search_table(table)
    assert structure_of(found.conditions) == table.structure
    assert found.over_independent is not None
    assert found.over_independent.sign == 1
    assert found.verdict.startswith(f"Use {found.winner.name} (chosen again without ")


def test_where_nothing_is_planted_independent_is_as_good() -> None:
    found = search_table(make_table(0, {}))
    assert found.winner.is_independent
    assert found.verdict.startswith("Independent is as good")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["planted", "nothing"])
def test_twenty_tables_each(kind: str) -> None:
    """Every structure there is, five folds: as `tests/benchmarks/structures.py` has it."""
    tables = [make_table(seed, None if kind == "planted" else {}) for seed in range(20)]
    found = [search_table(table, folds=5, n_boot=1000, space=None) for table in tables]
    hits = [structure_of(one.conditions) == table.structure for one, table in zip(found, tables, strict=True)]
    assert sum(hits) >= 18


# --- saved predictions against a loop ------------------------------------------------------------------------------


def saved(n_samples: int = 90, seed: int = 0) -> tuple[list[Predictions], Mapping[str, Any], Any]:
    """Random experts of some roles, and random labels of 30 people."""
    random = np.random.default_rng(seed)
    numbers = {name: random.integers(len(classes), size=n_samples) for name, classes in CLASSES.items()}
    ids = [f"s{i}" for i in range(n_samples)]
    roles: list[tuple[str, dict[str, tuple[str, ...]]]] = [(name, {}) for name in CLASSES]
    roles += [("age", {"mask": ("worn",)}), ("age", {"mask": ("incorrect", "not_worn")})]
    roles += [("gender", {"age": (c,)}) for c in CLASSES["age"]]
    experts = []
    for name, condition in roles:
        probs = random.dirichlet(np.ones(len(CLASSES[name])), size=n_samples)
        probs[np.arange(n_samples), numbers[name]] += random.uniform(0, 2, size=n_samples)
        probs /= probs.sum(axis=1, keepdims=True)
        experts.append(Predictions(SCHEMA[name], probs, ids, condition))
    return experts, numbers, np.repeat(np.arange(30), 3)


def brute_labels(experts: list[Predictions], graph: Mapping[str, list[str]]) -> list[int]:
    """The most probable row of class names, by the expert whose condition has the row's parents."""
    labels = []
    for i in range(experts[0].n_samples):
        scores = []
        for row in SCHEMA.class_rows():
            named, product = dict(zip(SCHEMA.names, row, strict=True)), 1.0
            for child, parents in graph.items():
                (expert,) = (
                    e
                    for e in experts
                    if e.names == (child,)
                    and set(e.condition) == set(parents)
                    and all(named[p] in classes for p, classes in e.condition.items())
                )
                product *= float(expert.layers[0][i][CLASSES[child].index(named[child])])
            scores.append(product)
        labels.append(int(np.argmax(scores)))
    return labels


def test_scores_are_those_of_a_loop_over_names() -> None:
    experts, numbers, people = saved()
    truth = SCHEMA.encode(numbers)
    found = search_saved(experts, SCHEMA, truth, groups=people, n_boot=100, folds=3)
    names = {one.candidate.name for one in found.scored}
    assert names == {
        "independent",
        "age by mask (worn | incorrect,not_worn)",
        "gender by age",
    } | {"gender by age; age by mask (worn | incorrect,not_worn)"}
    assert len(found.scored) + len(found.unscored) == 293
    for one in found.scored:
        graph = {name: list(parents) for name, parents in one.candidate.graph.to_json().items()}
        expected = f1_score(truth, brute_labels(experts, graph), labels=range(18), average="macro", zero_division=0)
        assert one.score.value == pytest.approx(expected, abs=1e-9)


def test_what_is_missing_is_named() -> None:
    experts, numbers, people = saved()
    found = search_saved(experts, SCHEMA, SCHEMA.encode(numbers), groups=people, n_boot=100, folds=3)
    missing = {one.candidate.name: [role.describe() for role in one.missing] for one in found.unscored}
    assert missing["flat"] == ["mask,gender,age"]
    assert missing["age by mask"] == ["age given mask=incorrect", "age given mask=not_worn"]
    assert "structures lack" in found.text()


def test_the_choosing_is_scored_on_what_it_did_not_see() -> None:
    """Of many experts of pure noise the highest looks good; the nested score of the same choosing does not."""
    random = np.random.default_rng(3)
    n_samples, people = 240, np.repeat(np.arange(80), 3)
    numbers = {name: random.integers(len(classes), size=n_samples) for name, classes in CLASSES.items()}
    ids = [f"s{i}" for i in range(n_samples)]
    space = Space(max_parents=1)
    roles = {role for one in enumerate_candidates(SCHEMA, space) for role in one.roles if len(role.attributes) == 1}
    experts = [
        Predictions(SCHEMA[role.attributes[0]], random.dirichlet(np.ones(len(CLASSES[role.attributes[0]])), n_samples), ids, role.condition)
        for role in sorted(roles, key=lambda role: role.describe())
    ]  # fmt: skip
    found = search_saved(experts, SCHEMA, SCHEMA.encode(numbers), groups=people, n_boot=200, space=space)
    best = max(one.score.value for one in found.scored)
    assert best > 1.5 / 18
    assert found.nested.value < best - 0.02
    assert found.winner.is_independent


# --- refitted: nothing that chooses has seen the fold ----------------------------------------------------------------


class Spy(BaseEstimator):  # type: ignore[misc]
    """Notes which samples it is fitted on and asked about; the first feature is the sample's number."""

    seen: ClassVar[Counter[tuple[frozenset[int], frozenset[int]]]] = Counter()

    def fit(self, X: Any, y: Any) -> Spy:  # noqa: N803
        self.inner_ = DummyClassifier(strategy="prior").fit(X, y)
        self.classes_ = self.inner_.classes_
        self.fitted_on_ = frozenset(X[:, 0].astype(int).tolist())
        return self

    def predict_proba(self, X: Any) -> Any:  # noqa: N803
        Spy.seen[self.fitted_on_, frozenset(X[:, 0].astype(int).tolist())] += 1
        return self.inner_.predict_proba(X)


def test_experts_are_refitted_without_each_fold() -> None:
    Spy.seen.clear()
    random = np.random.default_rng(0)
    n_samples = 120
    folds = np.repeat(np.arange(40), 3) % 4
    labels = random.integers(2, size=(n_samples, 2))
    ek.search_structures(
        np.arange(n_samples)[:, None],
        labels,
        groups=np.repeat(np.arange(40), 3),
        folds=folds,
        n_boot=100,
        estimator=Spy(),
    )
    whole = frozenset(range(n_samples))
    left_out = Counter(frozenset(folds[list(asked)].tolist()) for _, asked in Spy.seen)
    assert set(left_out) == {frozenset({a, b}) for a in range(4) for b in range(4)}
    for fitted, asked in Spy.seen:
        assert not fitted & asked
        outside = frozenset(np.flatnonzero(~np.isin(folds, list({folds[i] for i in asked}))).tolist())
        assert asked == whole - outside
        assert fitted <= outside


# --- what is refused ---------------------------------------------------------------------------------------------------

X, Y = np.random.default_rng(0).normal(size=(60, 2)), np.random.default_rng(1).integers(2, size=(60, 2))
BAD: list[tuple[dict[str, Any], type[EnsembleKitError], str]] = [
    ({"labels": Y[:, 0]}, UsageError, r"expected labels \(n_samples, 2 attributes or more\), found shape \(60,\)"),
    ({"features": X[:, 0]}, UsageError, r"expected features \(n_samples, n_features\), found shape \(60,\)"),
    ({"features": X[:50]}, DataError, "labels and a group for each of 50 samples, found 60 labels"),
    ({"groups": np.arange(50)}, DataError, "found 60 labels .* and 50 groups"),
    ({"names": ["a"]}, UsageError, "names: expected one for each of 2 columns, found 1"),
    ({"folds": 2}, UsageError, "folds: expected 3 or more, found 2"),
    ({"folds": np.arange(60) % 2}, UsageError, r"expected numbers 0, 1, 2, ... of 3 or more, found \[0, 1\]"),
    ({"folds": np.arange(60) % 3, "groups": np.arange(60) // 2}, DataError, "a group is in two folds"),
    ({"groups": np.arange(60) // 10}, DataError, "expected 10 people or more to tell by, found 6"),
    ({"metric": "f1"}, UsageError, 'unknown metric "f1"'),
    ({"route": "softt"}, UsageError, 'did you mean "soft"'),
    ({"n_boot": 10}, UsageError, "draws: expected 100 or more, found 10"),
    ({"estimator": "forrest"}, UsageError, 'unknown estimator "forrest"; did you mean "forest"'),
    ({"schema": SCHEMA}, UsageError, "with a schema give labels as attribute -> class numbers"),
]


@pytest.mark.parametrize(("change", "kind", "message"), BAD)
def test_bad_input(change: dict[str, Any], kind: type[EnsembleKitError], message: str) -> None:
    given = {"features": X, "labels": Y, **change}
    with pytest.raises(kind) as error:
        ek.search_structures(given.pop("features"), given.pop("labels"), **given)
    assert re.search(message, str(error.value))


def test_text_keeps_to_80_columns_and_json_has_no_nan() -> None:
    experts, numbers, people = saved()
    found = search_saved(experts, SCHEMA, SCHEMA.encode(numbers), groups=people, n_boot=100, folds=3)
    assert max(map(len, found.text().splitlines())) <= 80
    assert found.to_json()["winner"]["name"] == found.winner.name
