"""A shift fitted on an expert's saved predictions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ensemble_kit.arrays import FloatArray, IdArray
from ensemble_kit.errors import DataError, UsageError
from ensemble_kit.predictions import Predictions
from ensemble_kit.shift.em import check_groups, check_truth, class_prior
from ensemble_kit.shift.fit import fit_shift
from ensemble_kit.shift.prior import PriorShift


def fit_shift_for(
    expert: Predictions,
    oof: Predictions,
    truth: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    oof_groups: ArrayLike | None = None,
    training_prior: ArrayLike | None = None,
    adjust: Callable[[FloatArray], FloatArray] | None = None,
    **settings: Any,
) -> PriorShift:
    """`fit_shift` of one expert: every voter's rows are compared with the out-of-fold rows, one by one.

    The voters' mean is more accurate and less sharp than the single voter that made an out-of-fold prediction, so its
    confusion is another one. Voter by voter the comparison is like with like; the rows of a photo count as one person.

    Of an expert under a condition give only photos that are predicted to fulfil it, in both sets by the same rule
    (`Predictions.select`): what is then estimated are the shares among those.

    Args:
        expert: on the unlabelled photos, any number of voters.
        oof: out-of-fold on photos of known class, the same attributes, condition and classes.
        truth: `(n_oof,)` class numbers in the rows' order of `oof`; -1 = unknown.
        groups: `(n_samples,)` people of the unlabelled photos; each photo its own when left out, in both sets.
        oof_groups: `(n_oof,)` people of the out-of-fold photos.
        training_prior: that the probabilities suppose; the out-of-fold photos' shares when left out.
        adjust: what is done to probabilities before the correction, a fitted temperature say: the gain is then that of
            what will be applied.
        settings: level, metric, n_boot, seed, refuse, as `fit_shift`.

    Raises:
        UsageError: predictions of different experts or classes.
        DataError: as `fit_shift`.
    """
    for name in ("attributes", "condition", "classes"):
        here, there = getattr(expert, name), getattr(oof, name)
        if here != there:
            raise UsageError(
                f"shift of {expert.describe()}: expected out-of-fold predictions of the same {name} in the same order, "
                f"found {there} beside {here}"
            )
    if (groups is None) != (oof_groups is None):
        raise UsageError("shift: expected groups and oof_groups together, found one of them")
    n_classes = len(oof.classes)
    true = check_truth(truth, n_classes, f"truth of {oof.describe()}")
    if len(true) != oof.n_samples:
        raise DataError(
            f"truth of {oof.describe()}: expected a class for each of {oof.n_samples} photos, found {len(true)}"
        )
    return fit_shift(
        _rows(expert, adjust),
        training_prior=class_prior(true, n_classes) if training_prior is None else training_prior,
        reference_probs=_rows(oof, adjust),
        reference_truth=np.tile(true, len(oof.layers)),
        groups=_people(expert, groups),
        reference_groups=_people(oof, oof_groups),
        names=[" / ".join(row) for row in oof.classes],
        **settings,
    )


def _people(predictions: Predictions, groups: ArrayLike | None) -> IdArray:
    own = predictions.ids if groups is None else check_groups(groups, predictions.n_samples, predictions.describe())
    return np.tile(own, len(predictions.layers))


def _rows(predictions: Predictions, adjust: Callable[[FloatArray], FloatArray] | None) -> FloatArray:
    """All voters' rows, one voter after another `(n_voters * n_samples, n_classes)`."""
    layers = [np.asarray(layer) if adjust is None else adjust(np.asarray(layer)) for layer in predictions.layers]
    return np.concatenate(layers)
