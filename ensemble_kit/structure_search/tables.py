"""The two ways in: features with labels, and saved out-of-fold predictions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ensemble_kit.arrays import IdArray, IntArray
from ensemble_kit.data.folds import make_folds
from ensemble_kit.errors import DataError, UsageError
from ensemble_kit.predictions import Predictions
from ensemble_kit.routing import Route
from ensemble_kit.schema import Attribute, Schema
from ensemble_kit.structure_search.enumerating import Space, enumerate_candidates
from ensemble_kit.structure_search.result import StructureSearch
from ensemble_kit.structure_search.searching import Settings, search
from ensemble_kit.structure_search.sources import SavedSource, TableSource, find_estimator


def search_structures(
    features: Any,
    labels: Any,
    *,
    names: Sequence[str] | None = None,
    schema: Schema | None = None,
    groups: ArrayLike | None = None,
    estimator: Any = "logistic",
    space: Space | None = None,
    metric: str = "macro_f1",
    route: str | Route = "soft",
    folds: int | ArrayLike = 5,
    n_boot: int = 1000,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> StructureSearch:
    """Which attribute should condition which, by estimators on a table of features.

    Every structure of the space is scored on held-out answers. The choice is scored by choosing anew without each
    fold, with experts that never saw it: of `k` folds, an expert is fitted `k + k * (k - 1) / 2` times.

    Args:
        features: `(n_samples, n_features)`.
        labels: `(n_samples, n_attributes)` class labels; with a schema class numbers, or a mapping by attribute.
        names: the attributes' names; a DataFrame's column names, else `y0`, `y1`, ...
        schema: the classes; what the labels show when left out.
        groups: `(n_samples,)` whose sample it is; None = each counts as a person.
        estimator: what every expert is a clone of, or a name in ESTIMATORS.
        space: what may condition what; everything when left out.
        metric: "macro_f1" or "accuracy", of the joint class.
        route: of nodes with parents.
        folds: a number of at least 3, or `(n_samples,)` fold numbers from 0.
        n_boot: draws of people.
        seed: of folds and draws.
        progress: called with (roles answered, in all).

    Raises:
        UsageError: too many structures, unknown names, fewer than 3 folds.
        DataError: labels that do not fit, too few people.

    Examples:
        >>> random = np.random.default_rng(0)
        >>> mask, age = random.integers([3, 2], size=(600, 2)).T
        >>> turned = np.where(mask == 1, -1.0, 1.0)  # mask 1 turns round what the second feature says of age
        >>> X = np.stack([mask * 4.0, (2 * age - 1) * turned], axis=1) + random.normal(size=(600, 2))
        >>> found = search_structures(X, np.stack([mask, age], axis=1), names=["mask", "age"], folds=3, n_boot=200)
        >>> found.winner.name, found.conditions["age"]
        ('age by mask (0,2 | 1)', [{'mask': ('0', '2')}, {'mask': ('1',)}])
    """
    known, numbers = _read_labels(labels, names) if schema is None else (schema, _numbers(labels, schema))
    truth = known.encode(numbers)
    keep = np.flatnonzero(truth >= 0)
    people = None if groups is None else np.asarray(groups).astype(np.str_)
    n_samples = _n_rows(features)
    lengths = {len(truth), n_samples, *([] if people is None else [len(people)])}
    if len(lengths) > 1 or not len(keep):
        raise DataError(
            f"structures: expected labels and a group for each of {n_samples} samples, found {len(truth)} labels "
            f"({len(keep)} of them whole)" + ("" if people is None else f" and {len(people)} groups")
        )
    if len(keep) < len(truth):
        from sklearn.utils import _safe_indexing

        features = _safe_indexing(features, keep)
        numbers = {name: column[keep] for name, column in numbers.items()}
        people = None if people is None else people[keep]
    division = _folds(folds, truth, groups, keep, seed)
    source = TableSource(features, known, numbers, people, division, find_estimator(estimator, seed))
    settings = Settings(metric, route, n_boot, seed)
    return search(source, enumerate_candidates(known, space), settings, progress)


def search_saved(
    experts: Sequence[Predictions],
    schema: Schema,
    truth: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    space: Space | None = None,
    metric: str = "macro_f1",
    route: str | Route = "soft",
    folds: int = 5,
    n_boot: int = 1000,
    seed: int = 0,
) -> StructureSearch:
    """Which attribute should condition which, by the out-of-fold predictions of trained experts.

    Structures whose experts are not all there are named, not scored. Experts are not trained anew without each part of
    the people, so the choices without a part know a little of it: of these people's labels, through the experts.

    Args:
        experts: on the same samples in the same order, one voter each.
        truth: `(n_samples,)` joint index, no -1.
        folds: parts of the people; each is scored by what was chosen on the others.
        groups, space, metric, route, n_boot, seed: as `search_structures`.

    Raises:
        UsageError, DataError: as `search_structures`; several voters, rows that are not computed.
    """
    true = np.asarray(truth, dtype=np.int64)
    people = None if groups is None else np.asarray(groups).astype(np.str_)
    division = make_folds(true, _own(people, len(true)), n_folds=folds, seed=seed)
    source = SavedSource(experts, schema, true, people, division)
    return search(source, enumerate_candidates(schema, space), Settings(metric, route, n_boot, seed))


def _own(people: IdArray | None, n_samples: int) -> IdArray:
    """The people, or each sample by itself."""
    return np.arange(n_samples).astype(np.str_) if people is None else people


def _n_rows(features: Any) -> int:
    shape = np.shape(features)
    if len(shape) != 2:
        raise UsageError(f"structures: expected features (n_samples, n_features), found shape {shape}")
    return int(shape[0])


def _folds(folds: int | ArrayLike, truth: IntArray, groups: ArrayLike | None, keep: IntArray, seed: int) -> IntArray:
    """Fold numbers of the samples to keep.

    Raises:
        UsageError: fewer than 3 folds, or other numbers than 0, 1, 2, ...
    """
    people = _own(None if groups is None else np.asarray(groups).astype(np.str_), len(truth))[keep]
    if isinstance(folds, int):
        if folds < 3:
            raise UsageError(f"folds: expected 3 or more, found {folds}: one to score the choice, two to choose by")
        return make_folds(truth[keep], people, n_folds=folds, seed=seed)
    given = np.asarray(folds)[keep].astype(np.int64)
    if len(set(given.tolist())) < 3 or set(given.tolist()) != set(range(int(given.max()) + 1)):
        raise UsageError(f"folds: expected numbers 0, 1, 2, ... of 3 or more, found {sorted(set(given.tolist()))}")
    pairs = np.unique(np.stack([np.unique(people, return_inverse=True)[1].ravel(), given]), axis=1)
    if len(np.unique(pairs[0])) < pairs.shape[1]:
        raise DataError("folds: a group is in two folds; keep each person's samples in one")
    return given


def _numbers(labels: Any, schema: Schema) -> dict[str, IntArray]:
    if not isinstance(labels, Mapping):
        raise UsageError("with a schema give labels as attribute -> class numbers")
    missing = [name for name in schema.names if name not in labels]
    if missing:
        raise UsageError(f"labels: none of {', '.join(missing)} (found: {', '.join(labels)})")
    return {name: np.asarray(labels[name], dtype=np.int64) for name in schema.names}


def _read_labels(labels: Any, names: Sequence[str] | None) -> tuple[Schema, dict[str, IntArray]]:
    """The schema that the labels show, of the combinations that occur, and each attribute's class numbers."""
    columns = names if names is not None else getattr(labels, "columns", None)
    table = np.asarray(labels)
    if table.ndim != 2 or table.shape[1] < 2:
        raise UsageError(f"structures: expected labels (n_samples, 2 attributes or more), found shape {table.shape}")
    named = [f"y{number}" for number in range(table.shape[1])] if columns is None else [str(name) for name in columns]
    if len(named) != table.shape[1]:
        raise UsageError(f"names: expected one for each of {table.shape[1]} columns, found {len(named)}")
    found = [np.unique(column.astype(np.str_), return_inverse=True) for column in table.T]
    attributes = [Attribute(name, classes.tolist()) for name, (classes, _) in zip(named, found, strict=True)]
    numbers = {name: inverse.ravel().astype(np.int64) for name, (_, inverse) in zip(named, found, strict=True)}
    rows = np.unique(np.stack(list(numbers.values()), axis=1), axis=0)
    paths = [[a.classes[i] for a, i in zip(attributes, row, strict=True)] for row in rows]
    return Schema(*attributes, paths=paths), numbers
