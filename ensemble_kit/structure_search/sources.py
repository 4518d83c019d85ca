"""Where held-out answers come from: saved predictions, or estimators fitted on a table of features."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from ensemble_kit.arrays import FloatArray, IdArray, IntArray
from ensemble_kit.conditions import under_condition
from ensemble_kit.errors import DataError, UsageError, nearest
from ensemble_kit.predictions import Predictions
from ensemble_kit.schema import Schema
from ensemble_kit.structure_search.candidates import Role


class Source(Protocol):
    """Held-out answers of experts to fixed samples.

    Attributes:
        schema: of the labels.
        truth: `(n_samples,)` joint index, no -1.
        groups: `(n_samples,)` whose sample it is; None = nobody knows.
        folds: `(n_samples,)` from 0; no group is in two.
        is_refitted: without a fold, experts are fitted anew, so that nothing that chooses has seen its labels.
    """

    schema: Schema
    truth: IntArray
    groups: IdArray | None
    folds: IntArray
    is_refitted: bool

    def has(self, role: Role) -> bool:
        """Whether there is, or can be, an expert for the role."""
        ...

    def answers(self, role: Role, without: int | None) -> FloatArray:
        """`(n_samples, n_classes)`, the columns of `schema.block(role.attributes)`; each row by an expert that was
        fitted without its fold and without the fold `without`, whose own rows hold nothing."""
        ...


class SavedSource:
    """Out-of-fold predictions of trained experts, each of every sample.

    They were made once: an expert that answers a sample of one fold was trained on the samples of another, also where
    a structure is chosen without that other one.

    Args:
        experts: on the same samples in the same order, one voter each, every row computed.
        truth: `(n_samples,)` joint index, no -1.
        folds: `(n_samples,)`: parts of the people, by which choices are scored.

    Raises:
        DataError: several voters, or rows that are not computed.
    """

    is_refitted = False

    def __init__(
        self,
        experts: Sequence[Predictions],
        schema: Schema,
        truth: IntArray,
        groups: IdArray | None,
        folds: IntArray,
    ):
        self.schema, self.truth, self.groups, self.folds = schema, truth, groups, folds
        self._probs: dict[tuple[frozenset[str], frozenset[Any]], FloatArray] = {}
        for expert in experts:
            key = _key(Role.of(expert.names, expert.condition))
            if key in self._probs:
                raise UsageError(f'two experts are "{expert.describe()}"; leave one out, or make them voters of one')
            self._probs[key] = _in_block(expert.in_classes_of(schema), schema)

    def has(self, role: Role) -> bool:
        return _key(role) in self._probs

    def answers(self, role: Role, without: int | None) -> FloatArray:  # noqa: ARG002
        return self._probs[_key(role)]


def _key(role: Role) -> tuple[frozenset[str], frozenset[Any]]:
    return frozenset(role.attributes), frozenset(role.states)


def _in_block(expert: Predictions, schema: Schema) -> FloatArray:
    """The answers in the columns of the block, whatever the order and the classes that the expert holds them in."""
    if len(expert.layers) != 1 or not np.isfinite(expert.layers[0]).all():
        raise DataError(f"{expert.describe()}: expected one voter that has computed every sample")
    names = tuple(name for name in schema.names if name in expert.names)
    block = schema.block(names)
    place = [expert.names.index(name) for name in names]
    column_of = {tuple(row[i] for i in place): column for column, row in enumerate(expert.classes)}
    layer = np.asarray(expert.layers[0], dtype=np.float64)
    probs = np.zeros((len(layer), block.n_joint), dtype=np.float64)
    for column, row in enumerate(block.class_rows()):
        if row in column_of:
            probs[:, column] = layer[:, column_of[row]]
    return probs


ESTIMATORS: Mapping[str, str] = {
    "logistic": "logistic regression on standardised features",
    "forest": "extremely randomised trees, 200",
    "boosting": "gradient boosting over histograms",
}


def find_estimator(name: str, seed: int = 0) -> Any:
    """An estimator by its name in ESTIMATORS; anything else is one already.

    Raises:
        UsageError: an unknown name.
    """
    if not isinstance(name, str):
        return name
    from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    made = {
        "logistic": lambda: make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
        "forest": lambda: ExtraTreesClassifier(200, min_samples_leaf=3, random_state=seed),
        "boosting": lambda: HistGradientBoostingClassifier(random_state=seed),
    }
    if name not in made:
        raise UsageError(f'unknown estimator "{name}"{nearest(name, made)}')
    return made[name]()


class TableSource:
    """Experts fitted on features, each by a clone of an estimator.

    A role with one class among its training samples is answered by the pooled expert, as `ConditionalClassifier` does.

    Args:
        features: `(n_samples, n_features)`, whatever the estimator takes.
        numbers: attribute -> class numbers `(n_samples,)`, no -1.
        estimator: with `predict_proba`, or labels that count as certain.
        folds: `(n_samples,)`, at least three for a choice without one of them.
    """

    is_refitted = True

    def __init__(
        self,
        features: Any,
        schema: Schema,
        numbers: Mapping[str, IntArray],
        groups: IdArray | None,
        folds: IntArray,
        estimator: Any,
    ):
        self.features, self.schema, self.numbers = features, schema, dict(numbers)
        self.truth, self.groups, self.folds, self.estimator = schema.encode(numbers), groups, folds, estimator
        self.n_folds = int(folds.max()) + 1
        self._columns: dict[tuple[str, ...], IntArray] = {}
        self._found: dict[tuple[Role, frozenset[int]], FloatArray] = {}

    def has(self, role: Role) -> bool:  # noqa: ARG002
        return True

    def answers(self, role: Role, without: int | None) -> FloatArray:
        away = set() if without is None else {without}
        probs = np.zeros((len(self.folds), self.schema.block(role.attributes).n_joint), dtype=np.float64)
        for fold in set(range(self.n_folds)) - away:
            left_out = frozenset({fold} | away)
            rows = np.isin(self.folds, list(left_out))
            own = self.folds == fold
            probs[own] = self._answers(role, left_out)[own[rows]]
        return probs

    def _answers(self, role: Role, left_out: frozenset[int]) -> FloatArray:
        """On the samples left out; kept, since two folds left out serve both of them."""
        if (role, left_out) not in self._found:
            self._found[role, left_out] = self._fitted(role, left_out)
        return self._found[role, left_out]

    def _fitted(self, role: Role, left_out: frozenset[int]) -> FloatArray:
        from sklearn.utils import _safe_indexing

        from ensemble_kit.classifier import fit_expert

        is_out = np.isin(self.folds, list(left_out))
        block = self.schema.block(role.attributes)
        if role.attributes not in self._columns:
            self._columns[role.attributes] = block.encode({name: self.numbers[name] for name in role.attributes})
        columns = self._columns[role.attributes]
        training = np.flatnonzero(~is_out & under_condition(role.condition, self.schema, self.numbers))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The number of unique classes is greater", UserWarning)  # few samples
            expert = fit_expert(self.estimator, block, role.condition, self.features, columns, training)
        if expert is not None:
            return expert.answer(_safe_indexing(self.features, np.flatnonzero(is_out)))
        if role.states:
            return self._answers(Role(role.attributes), left_out)
        only = np.zeros((int(is_out.sum()), block.n_joint), dtype=np.float64)
        only[:, columns[training[:1]]] = 1
        return only
