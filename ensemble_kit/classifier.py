"""The conditional ensemble as a scikit-learn classifier: any estimators, plain features, several labels a sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.linear_model import LogisticRegression
from sklearn.utils import _safe_indexing, get_tags, indexable
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _num_samples, check_consistent_length, check_is_fitted, validate_data

from ensemble_kit.arrays import Condition, FloatArray, IntArray
from ensemble_kit.conditions import under_condition
from ensemble_kit.coverage import rows_of
from ensemble_kit.decisions import decide_top_down
from ensemble_kit.errors import DataError, UsageError, nearest
from ensemble_kit.graph import Graph, Node, check_condition, describe_expert
from ensemble_kit.joint import Plan, forward, make_plan
from ensemble_kit.predictions import Predictions
from ensemble_kit.routing import Route, find_route
from ensemble_kit.schema import Attribute, Schema

Decide = Literal["joint", "attribute", "top_down"]


@dataclass(frozen=True)
class FittedExpert:
    """One fitted estimator: the model of one node under one condition; `columns` are its classes' joint numbers in the
    node's block, in the estimator's order."""

    attributes: tuple[Attribute, ...]
    condition: Condition
    classes: tuple[tuple[str, ...], ...]
    estimator: Any
    columns: IntArray

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(attribute.name for attribute in self.attributes)

    def describe(self) -> str:
        return describe_expert(self.names, self.condition)

    def answer(self, features: Any) -> FloatArray:
        """`(n_samples, n_classes)`, rows sum to 1; an estimator without probabilities gives its label all of it."""
        probs = np.zeros((_num_samples(features), len(self.classes)), dtype=np.float64)
        if hasattr(self.estimator, "predict_proba"):
            probs[:, self.columns] = self.estimator.predict_proba(features)
        else:
            probs[np.arange(len(probs)), np.asarray(self.estimator.predict(features), dtype=np.int64)] = 1
        total = np.zeros((len(probs), 1), dtype=np.float64)
        for column in probs.T:
            total[:, 0] += column
        equal = np.full_like(probs, 1 / len(self.columns)) * np.isin(np.arange(probs.shape[1]), self.columns)
        return np.asarray(np.divide(probs, total, out=equal, where=total > 0))


def fit_expert(
    estimator: Any, block: Schema, condition: Condition, features: Any, columns: IntArray, rows: IntArray
) -> FittedExpert | None:
    """A clone of the estimator fitted on some samples; None where they are of fewer than two classes.

    Args:
        block: the schema of what the expert predicts.
        condition: the states it is for, which `rows` are samples of.
        columns: `(n_samples,)` the block's joint numbers.
        rows: the samples to fit on.
    """
    target = columns[rows]
    seen = np.unique(target)
    if len(seen) < 2:
        return None
    model = clone(estimator)
    model.fit(_safe_indexing(features, rows), target)
    return FittedExpert(block.attributes, condition, block.class_rows(), model, seen.astype(np.int64))


class ConditionalClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Experts by condition over any scikit-learn estimators.

    For every node of the graph, and every state of its parents in the training samples, a clone of the estimator is
    fitted on the samples of that state. A state in which only one class was seen is answered by the pooled expert, or
    needs none where the taxonomy leaves one class.

    Args:
        estimator: what every expert is a clone of; logistic regression when left out. A mapping gives one to each
            node, by its name.
        graph: node -> parents, by the attributes' names; when left out each column of `y` is conditioned on the one
            before it, as in a hierarchy of levels.
        names: the attributes' names, one a column of `y`; a DataFrame's column names, else `y0`, `y1`, ...
        paths: "observed" = only the combinations of classes seen in training exist (a taxonomy), "product" = all do.
        conditions: node name -> conditions of its experts (`{"age": [{"mask": ["incorrect", "not_worn"]}, {}]}`); one
            for every state when left out.
        route: a name in ROUTERS or a function belief -> gate.
        decide: "joint" (the most probable joint class), "attribute" (each by itself) or "top_down".

    Attributes:
        classes_: the labels of `y`; for several columns a list of arrays.
        schema_: attributes and joint classes; classes are named by their labels.
        graph_: as used.
        experts_: the fitted experts.

    Examples:
        >>> X = [[0.0], [0.1], [0.2], [0.3], [1.0], [1.1], [1.2], [1.3]]
        >>> y = [["fruit", "apple"], ["fruit", "apple"], ["fruit", "pear"], ["fruit", "pear"],
        ...      ["dairy", "milk"], ["dairy", "milk"], ["dairy", "cheese"], ["dairy", "cheese"]]
        >>> model = ConditionalClassifier(LogisticRegression(C=100), names=["kind", "fine"]).fit(X, y)
        >>> model.predict([[0.0], [1.3]]).tolist()
        [['fruit', 'apple'], ['dairy', 'cheese']]
        >>> [expert.describe() for expert in model.experts_]
        ['kind', 'fine given kind=dairy', 'fine given kind=fruit']
    """

    def __init__(
        self,
        estimator: Any = None,
        *,
        graph: Mapping[Any, Sequence[str]] | None = None,
        names: Sequence[str] | None = None,
        paths: str = "observed",
        conditions: Mapping[str, Sequence[Condition]] | None = None,
        route: str | Route = "soft",
        decide: Decide = "joint",
    ):
        self.estimator = estimator
        self.graph = graph
        self.names = names
        self.paths = paths
        self.conditions = conditions
        self.route = route
        self.decide = decide

    def fit(self, X: Any, y: Any) -> ConditionalClassifier:  # noqa: N803
        """Fits the experts.

        Args:
            X: features, whatever the estimator takes.
            y: labels `(n_samples,)` or `(n_samples, n_attributes)`.

        Raises:
            UsageError: a graph or conditions that do not fit the columns of `y`.
        """
        if self.paths not in ("observed", "product"):
            raise UsageError(f'paths: unknown "{self.paths}"{nearest(self.paths, ("observed", "product"))}')
        find_route(self.route)
        column_names = _column_names(y)
        columns = self._columns(y)
        X = self._features(X, reset=True)  # noqa: N806
        check_consistent_length(X, columns[0])
        self._learn_schema(columns, self.names if self.names is not None else column_names)
        self._fit_experts(X)
        del self._numbers
        return self

    def _features(self, features: Any, *, reset: bool) -> Any:
        """Looked at only as far as rows are taken from them: what a feature may be is the estimator's to say."""
        (rows,) = indexable(features)
        if np.ndim(rows) == 1 and not hasattr(rows, "iloc"):
            raise ValueError("expected features (n_samples, n_features), found one row of them. Reshape your data")
        validate_data(self, rows, skip_check_array=True, reset=reset)
        return rows

    def _columns(self, y: Any) -> list[Any]:
        labels = validate_data(self, X="no_validation", y=y, multi_output=True)
        self.one_column_ = labels.ndim == 1
        columns = [labels] if self.one_column_ else [labels[:, column] for column in range(labels.shape[1])]
        for column in columns:
            check_classification_targets(column)
        self._y_dtype = labels.dtype
        return columns

    def _learn_schema(self, columns: Sequence[Any], names: Sequence[str] | None) -> None:
        named = [f"y{number}" for number in range(len(columns))] if names is None else [str(name) for name in names]
        if len(named) != len(columns):
            raise UsageError(f"names: expected one for each of {len(columns)} columns of y, found {len(named)}")
        pairs = [np.unique(column, return_inverse=True) for column in columns]
        found = [labels for labels, _ in pairs]
        self.classes_ = found[0] if self.one_column_ else found
        self._found = found
        attributes = [Attribute(name, _class_names(labels)) for name, labels in zip(named, found, strict=True)]
        self._numbers = {name: numbers.ravel() for name, (_, numbers) in zip(named, pairs, strict=True)}
        seen = np.unique(np.stack(list(self._numbers.values()), axis=1), axis=0)
        rows = [[a.classes[number] for a, number in zip(attributes, row, strict=True)] for row in seen]
        self.schema_ = Schema(*attributes, paths=rows if self.paths == "observed" else None)
        chain: Mapping[Any, Sequence[str]] = {name: named[max(0, i - 1) : i] for i, name in enumerate(named)}
        self.graph_ = Graph(chain if self.graph is None else self.graph)
        self.graph_.check(self.schema_)
        nodes = [node.name for node in self.graph_.nodes]
        for name in self.conditions or {}:
            if name not in nodes:
                raise UsageError(f'conditions: no node "{name}"{nearest(name, nodes)}')
        if isinstance(self.estimator, Mapping) and set(self.estimator) != set(nodes):
            raise UsageError(f"estimator: expected one for each of {', '.join(nodes)}, found {list(self.estimator)}")

    def _fit_experts(self, features: Any) -> None:
        self.experts_: list[FittedExpert] = []
        for node in self.graph_.nodes:
            for condition in self._conditions(node):
                self._fit_expert(node, condition, features)
            if not self._covers(node):
                self._fit_expert(node, {}, features)
        self.plan_: Plan = make_plan(self.schema_, self.graph_, self.experts_, "pooled")

    def _conditions(self, node: Node) -> list[Condition]:
        given = (self.conditions or {}).get(node.name)
        if given is not None:
            return [check_condition(condition, self.schema_) for condition in given]
        states = rows_of(self.schema_, node.parents)[0]
        pairs = [zip(node.parents, row, strict=True) for row in states]
        return [{name: (self.schema_[name].classes[number],) for name, number in pair} for pair in pairs]

    def _fit_expert(self, node: Node, condition: Condition, features: Any) -> None:
        """Leaves out what has one class only: the pooled expert, or nothing, answers there."""
        block = self.schema_.block(node.attributes)
        target = block.encode({name: self._numbers[name] for name in node.attributes})
        rows = np.flatnonzero(under_condition(condition, self.schema_, self._numbers))
        chosen = self.estimator[node.name] if isinstance(self.estimator, Mapping) else self.estimator
        estimator = LogisticRegression() if chosen is None else chosen
        expert = fit_expert(estimator, block, condition, features, target, rows)
        if expert is not None:
            self.experts_.append(expert)

    def _covers(self, node: Node) -> bool:
        """Whether the experts so far answer every state of the node in which several classes are possible."""
        own = [expert for expert in self.experts_ if expert.names == node.attributes]
        if any(not expert.condition for expert in own):
            return True
        states, state_of_joint = rows_of(self.schema_, node.parents)
        class_of_joint = rows_of(self.schema_, node.attributes)[1]
        for number, row in enumerate(states):
            open_classes = np.unique(class_of_joint[state_of_joint == number])
            state = {name: self.schema_[name].classes[i] for name, i in zip(node.parents, row, strict=True)}
            answered = any(all(state[n] in classes for n, classes in expert.condition.items()) for expert in own)
            if len(open_classes) > 1 and not answered:
                return False
        return True

    def predict_joint_proba(self, X: Any) -> FloatArray:  # noqa: N803
        """Probability of every joint class, `(n_samples, n_joint)`, columns as in `schema_`. An expert is run on
        exactly the samples whose gate opens it."""
        check_is_fitted(self)
        X = self._features(X, reset=False)  # noqa: N806
        n_samples = _num_samples(X)
        whole = np.arange(n_samples)

        def read(number: int, rows: IntArray) -> FloatArray:
            features = X if len(rows) == n_samples and np.array_equal(rows, whole) else _safe_indexing(X, rows)
            return self.experts_[number].answer(features)

        routes = dict.fromkeys((step.node for step in self.plan_.steps if step.node.parents), find_route(self.route))
        return np.ascontiguousarray(forward(self.plan_, n_samples, read, routes).joint)

    def predict_proba(self, X: Any) -> Any:  # noqa: N803
        """Of one column of labels `(n_samples, n_classes)`; of several a list, one array an attribute."""
        joint = self._predictions(self.predict_joint_proba(X))
        found = []
        for attribute in self.schema_.attributes:
            alone = joint.marginal(attribute.name)
            found.append(np.asarray(alone.layers[0]))
        return found[0] if self.one_column_ else found

    def predict(self, X: Any) -> Any:  # noqa: N803
        """Labels, `(n_samples,)` or `(n_samples, n_attributes)`.

        Raises:
            DataError: a route of your own abstained, or classes chosen one by one have no joint class.
        """
        joint = self.predict_joint_proba(X)
        if self.decide == "top_down":
            labels = decide_top_down(joint, self.schema_, self.graph_)
        else:
            labels = self._predictions(joint).labels(self.decide)
        if (labels < 0).any():
            raise DataError(f"{int((labels < 0).sum())} samples have no label; use a route that always answers")
        numbers = self.schema_.decode(labels)
        columns = [found[numbers[name]] for found, name in zip(self._found, self.schema_.names, strict=True)]
        return columns[0] if self.one_column_ else np.stack(columns, axis=1).astype(self._y_dtype, copy=False)

    def _predictions(self, joint: FloatArray) -> Predictions:
        schema = self.schema_
        classes = [[a.classes[i] for a, i in zip(schema.attributes, row, strict=True)] for row in schema.paths]
        ids = np.arange(len(joint)).astype(np.str_)
        return Predictions(schema.attributes, joint, ids, classes=classes)

    def score(self, X: Any, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:  # noqa: N803
        """Share of samples whose labels are all right."""
        right = np.asarray(self.predict(X) == np.asarray(y))
        weights = None if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
        return float(np.average(right if right.ndim == 1 else right.all(axis=1), weights=weights))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.single_output = True
        tags.target_tags.multi_output = True
        if not isinstance(self.estimator, Mapping):
            tags.input_tags = get_tags(LogisticRegression() if self.estimator is None else self.estimator).input_tags
        return tags


def _column_names(y: Any) -> list[str] | None:
    columns = getattr(y, "columns", None)
    return None if columns is None else [str(column) for column in columns]


def _class_names(labels: Any) -> list[str]:
    """Labels as text, numbered where their texts are empty or alike."""
    names = [str(label) for label in labels]
    return (
        names if all(names) and len(set(names)) == len(names) else [f"class {number}" for number in range(len(names))]
    )
