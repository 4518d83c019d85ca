"""Folds: stratified by joint class, no person in two, the same for every attribute.

One array of fold numbers serves all experts, so that the out-of-fold predictions of the mask and of every age expert
are about the same photos, each made by a model that never saw the person.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from ensemble_kit.arrays import BoolArray, IdArray, IntArray
from ensemble_kit.errors import DataError, UsageError
from ensemble_kit.schema import Attribute, Schema

if TYPE_CHECKING:
    from ensemble_kit.data.table import SampleTable

TRAINING_ONLY = -1
"""The fold number of a photo that is never held out."""


def make_folds(joint: IntArray, groups: IdArray, *, n_folds: int, seed: int) -> IntArray:
    """Fold numbers `(n_samples,)`, 0 to n_folds - 1: the fold in which each photo is held out.

    Args:
        joint: what is stratified `(n_samples,)`, see `strata_of`: the joint index; -1 is a stratum of its own.
        groups: the person of each photo, `(n_samples,)`.
        n_folds: at least 2.
        seed: of the shuffle; the same seed gives the same folds.

    Raises:
        UsageError: fewer than 2 folds.
        DataError: fewer people than folds, or a fold that would stay empty.
    """
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    if n_folds < 2:
        raise UsageError(f"folds: expected 2 or more, found {n_folds}; for one held-out share use --val-ratio 0.1")
    n_groups = len(np.unique(groups))
    if n_groups < n_folds:
        raise DataError(
            f"{n_folds} folds need {n_folds} people or more, found {n_groups}; use fewer folds or more data"
        )
    if len(joint) != len(groups):
        raise UsageError(f"folds: expected one group a photo, found {len(joint)} labels and {len(groups)} groups")
    # with one photo a group there is nothing to keep whole, and keeping it takes minutes at a million groups
    kind = StratifiedKFold if n_groups == len(groups) else StratifiedGroupKFold
    splitter = kind(n_splits=n_folds, shuffle=True, random_state=seed)
    strata = _common_strata(np.asarray(joint), n_folds)
    folds = np.full(len(joint), TRAINING_ONLY, dtype=np.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # rare classes: check_folds says it with names and a way out
        for fold, (_, held_out) in enumerate(splitter.split(np.zeros(len(joint)), strata, groups)):
            folds[held_out] = fold
    empty = sorted(set(range(n_folds)) - set(folds.tolist()))
    if empty:
        raise DataError(f"fold {empty[0]} would hold no photo: {n_groups} people are too few for {n_folds} folds")
    return folds


def strata_of(table: SampleTable) -> IntArray:
    """What folds are stratified by `(n_samples,)`: the joint class over the attributes that have labels.

    Where labels are missing it is the labels that are there, so that each fold gets its part of the photos that only
    some attributes are labelled of.
    """
    names = [name for name in table.schema.names if table.has(name)]
    joint = table.joint(names)
    if (joint >= 0).all():
        return joint
    rows = np.stack([table.numbers(name) for name in names], axis=1)
    return np.unique(rows, axis=0, return_inverse=True)[1].ravel().astype(np.int64)


def _common_strata(joint: IntArray, n_folds: int) -> IntArray:
    """The strata; one for all when each is smaller than n_folds, which scikit-learn refuses."""
    _, counts = np.unique(joint, return_counts=True)
    return joint if counts.max(initial=0) >= n_folds else np.zeros_like(joint)


def make_split(joint: IntArray, groups: IdArray, *, val_ratio: float, seed: int) -> IntArray:
    """One held-out share: 0 = validation, -1 = training only, `(n_samples,)`.

    The ratio is met by whole folds: 0.1 is one of ten, 0.3 three of ten, 0.15 three of twenty (at most twenty). Of the
    folds those next to each other that hold the most joint classes are taken, so that a rare class is scored as well.

    Raises:
        UsageError: a ratio that is not between 0.05 and 0.95.
        DataError: fewer people than the folds it takes.
    """
    if not 0.05 <= val_ratio <= 0.95:
        raise UsageError(f"val-ratio: expected 0.05 to 0.95, found {val_ratio:g}")
    n_groups = len(np.unique(groups))
    if n_groups < 2:
        raise DataError(f"a validation share needs 2 people or more, found {n_groups}")
    share = Fraction(val_ratio).limit_denominator(min(20, n_groups))
    held_out = min(max(share.numerator, 1), share.denominator - 1) if share.denominator > 1 else 1
    n_folds = max(share.denominator, 2)
    folds = make_folds(joint, groups, n_folds=n_folds, seed=seed)
    choices = [(folds - first) % n_folds < held_out for first in range(n_folds)]
    richest = max(choices, key=lambda keep: len(np.unique(joint[keep])))
    return np.where(richest, 0, TRAINING_ONLY).astype(np.int64)


def divide(table: SampleTable, *, n_folds: int, seed: int, val_ratio: float | None = None) -> IntArray:
    """The fold of each photo `(n_samples,)`, by `make_folds` or, with a ratio, `make_split`; extra photos have none.

    Raises:
        UsageError, DataError: as these two.
    """
    folds = np.full(len(table), TRAINING_ONLY, dtype=np.int64)
    own = np.flatnonzero(~table.is_extra)
    strata, groups = strata_of(table.select(own)), table.groups[own]
    if val_ratio is None:
        folds[own] = make_folds(strata, groups, n_folds=n_folds, seed=seed)
    else:
        folds[own] = make_split(strata, groups, val_ratio=val_ratio, seed=seed)
    return folds


def people_of(table: SampleTable) -> IdArray:
    """Who must be on one side of a fold `(n_samples,)`: the groups, each extra photo by itself.

    Extra photos of somebody held out are left out where that fold's rows are chosen.
    """
    return np.where(table.is_extra, table.ids, table.groups)


def check_folds(folds: IntArray, numbers: Mapping[str, IntArray], schema: Schema, groups: IdArray) -> list[str]:
    """Checks that folds can be trained and scored on.

    Args:
        folds: `(n_samples,)` from `make_folds` or `make_split`, or made elsewhere.
        numbers: attribute -> class numbers `(n_samples,)`, -1 = unlabelled.
        schema: of the attributes.
        groups: the person of each photo, `(n_samples,)`.

    Returns:
        Notices: per fold, the joint classes without a validation photo. Their F1 there is 0 or unknown.

    Raises:
        DataError: a person in two folds, or a class without a photo in a fold's training or validation part.
    """
    _refuse_split_groups(folds, groups)
    missing = missing_classes(folds, numbers, schema, groups)
    if missing:
        more = f" (and {len(missing) - 1} more like it; ens data check lists them)" if len(missing) > 1 else ""
        raise DataError(missing[0] + more)
    if set(schema.names) - set(numbers):
        return []
    return _joint_notices(folds, schema.encode(numbers), schema)


def _refuse_split_groups(folds: IntArray, groups: IdArray) -> None:
    _, inverse = np.unique(groups, return_inverse=True)
    pairs = np.unique(np.stack([inverse.ravel(), folds], axis=1), axis=0)
    repeated = np.flatnonzero(pairs[1:, 0] == pairs[:-1, 0])
    if len(repeated):
        group, fold = pairs[repeated[0]]
        name, other = groups[inverse.ravel() == group][0], pairs[repeated[0] + 1, 1]
        raise DataError(
            f'group "{name}" is in the folds {_fold_name(fold)} and {_fold_name(other)}: photos of one person on both '
            "sides make scores too good; cut folds with make_folds, which keeps groups whole"
        )


def _fold_name(fold: int) -> str:
    return "training only" if fold == TRAINING_ONLY else str(fold)


def missing_classes(folds: IntArray, numbers: Mapping[str, IntArray], schema: Schema, groups: IdArray) -> list[str]:
    """One line for each class without a photo in a fold's validation or training part; arguments of `check_folds`."""
    return [
        line
        for name, column in numbers.items()
        for fold in range(int(folds.max(initial=-1)) + 1)
        for line in _missing_in_fold(fold, folds == fold, schema[name], np.asarray(column), groups)
    ]


def _missing_in_fold(
    fold: int, is_held_out: BoolArray, attribute: Attribute, numbers: IntArray, groups: IdArray
) -> Iterator[str]:
    for part, keep in (("validation", is_held_out), ("training", ~is_held_out)):
        counts = np.bincount(numbers[keep & (numbers >= 0)], minlength=len(attribute.classes))
        for number in np.flatnonzero(counts == 0):
            has_class = numbers == number
            n_photos, n_groups = int(has_class.sum()), len(np.unique(groups[has_class]))
            yield (
                f'fold {fold} has no {part} photo of {attribute.name} "{attribute.classes[number]}" '
                f"({n_photos} photo(s) of {n_groups} group(s) in all); "
                + (
                    "use fewer folds or another seed"
                    if n_groups > 1
                    else "add photos, or leave the class out of the schema"
                )
            )


def _joint_notices(folds: IntArray, joint: IntArray, schema: Schema) -> list[str]:
    names = schema.joint_names()
    notices = []
    for fold in range(int(folds.max(initial=-1)) + 1):
        counts = np.bincount(joint[(folds == fold) & (joint >= 0)], minlength=schema.n_joint)
        absent = [names[number] for number in np.flatnonzero(counts == 0)]
        if absent:
            listed = ", ".join(absent[:3]) + (f" and {len(absent) - 3} more" if len(absent) > 3 else "")
            notices.append(f"fold {fold}: no validation photo of {len(absent)} joint class(es): {listed}")
    return notices
