"""The one call: unlabelled and reference predictions in, a shift out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from ensemble_kit.arrays import IdArray
from ensemble_kit.errors import DataError, UsageError, nearest
from ensemble_kit.metrics import METRICS
from ensemble_kit.shift.em import check_groups, check_prior, check_rows, check_truth
from ensemble_kit.shift.estimate import Estimate, RefusedError
from ensemble_kit.shift.moments import Photos
from ensemble_kit.shift.prior import PriorShift

Refuse = Literal["identity", "error"]

MAX_CLASSES = 100
"""The draws take n_boot x 3 n_classes^2 numbers."""

MIN_DRAWS = 100


def fit_shift(
    probs: ArrayLike,
    *,
    training_prior: ArrayLike,
    reference_probs: ArrayLike | None = None,
    reference_truth: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    reference_groups: ArrayLike | None = None,
    names: Sequence[str] | None = None,
    level: float = 0.90,
    metric: str = "macro_f1",
    n_boot: int = 1000,
    seed: int = 0,
    refuse: Refuse = "identity",
) -> PriorShift:
    """The classes' shares among unlabelled photos, and the correction of probabilities for them.

    *Estimate.* EM (Saerens et al. 2002) says roughly where the shares are; the mean probabilities under that prior are
    then set equal to what the reference photos of each class have on average (`moments`). On a mildly over-confident
    classifier and a class that rises from .07 to .26, EM alone finds .20, this .26, and its error is an eighth smaller
    than that of the counted labels (BBSE): .0435 against .0500, EM .0602.

    *Interval.* People of the unlabelled and of the reference photos are drawn again together; on each side
    the wider of the draws' percentiles and of their normal interval, cut at 0 and 1.

    *Rule.* The correction is applied when both hold: chance moves the shares so far (as the draws' Mahalanobis
    distance) with a probability below 1 - level, and the lower end of the expected gain's interval is above 0. The
    gain is that of the reference's labels, the classes weighted to the estimated shares. The first alone would
    be right in accuracy, but a correction that makes a rare class rarer costs macro F1.

    *Refusal.* Too few people, classes in another order, a confusion matrix that does not tell the classes apart, an
    interval too wide, or photos that are no mixture of the reference's classes (another camera, or several voters'
    mean beside one voter's out-of-fold predictions).

    Simulated (`tests/benchmarks/shift.py`, 200 runs a row; 250 people x 7 photos beside 800 x 7; accuracy .66 to .79,
    over-confident; the share of the oldest is .07 in training; joint = 18 classes):

    ```
    task, share of the oldest   covered  (worst class)  applied  macro F1  accuracy
    age, .07 = no shift            .902     .899           .035    +.0000    -.0002
    age, .11                       .911     .910           .270    +.0044    +.0007
    age, .16                       .912     .909           .700    +.0212    +.0081
    age, .26                       .901     .888           .980    +.0504    +.0355
    age, .02                       .897     .889           .010    -.0001    -.0001
    joint, .07 = no shift          .903     .854           .000    +.0000    +.0000
    joint, .26                     .909     .858           .920    +.0345    +.0280
    joint, .02                     .917     .808           .005    -.0000    -.0000
    ```

    In 0 to 2.5 % of these runs it is refused. Always applied it would cost .006 (age) and .013 (joint) macro F1 without
    a shift. What it cannot tell: photos that are worse, not otherwise mixed. With noise 1.25 times the reference's the
    interval covers .73 and the correction costs .0024; 1.5 times: .38, .0053, and 60 % of the runs are refused.

    Without a reference the probabilities are taken as calibrated, and the test alone decides: less safe.

    Args:
        probs: `(n_samples, n_classes)` unlabelled; rows of zeros and NaN are left out.
        training_prior: `(n_classes,)` shares that the probabilities suppose, > 0: `class_prior` of the training photos.
            Taken as uncertain as the reference's shares are.
        reference_probs: `(n_reference, n_classes)` out-of-fold, of the same expert.
        reference_truth: `(n_reference,)` their class numbers; -1 = unknown, left out.
        groups: `(n_samples,)` whose photo it is. Without it every photo counts as a person: too sure where people have
            several.
        reference_groups: `(n_reference,)`; given exactly when `groups` is.
        names: of the classes, in the columns' order.
        level: of the interval; the test's is 1 - level.
        metric: that must gain, a name in METRICS.
        n_boot: draws, at least 100.
        seed: of the draws. The order of the photos changes nothing.
        refuse: "identity" = a shift that changes nothing and says why in `refused`; "error" = a DataError.

    Raises:
        UsageError: arguments that cannot be.
        DataError: numbers that are no probabilities or shares; what is refused when refuse="error".

    Examples:
        >>> random = np.random.default_rng(0)
        >>> def photos(n_people, share):  # two classes a distance of 2 apart, and what a good classifier says
        ...     truth = (random.random(n_people) < share).astype(int)
        ...     second = 1 / (1 + np.exp(-2 * (2 * truth - 1 + random.normal(size=n_people))))
        ...     return np.stack([1 - second, second], axis=1), truth
        >>> known, truth = photos(2000, 0.5)
        >>> new, _ = photos(1000, 0.8)
        >>> reference = {"reference_probs": known, "reference_truth": truth}
        >>> shift = fit_shift(new, training_prior=[0.5, 0.5], **reference, metric="accuracy")
        >>> shift.applied, shift.low[1] < 0.8 < shift.high[1]
        (True, True)
        >>> fit_shift(new, training_prior=[0.5, 0.5], **reference, metric="macro_f1").applied  # nothing to gain there
        False
    """
    if refuse not in ("identity", "error"):
        raise UsageError(f'unknown refuse "{refuse}"{nearest(refuse, ("identity", "error"))}')
    if metric not in METRICS:
        raise UsageError(f'unknown metric "{metric}"{nearest(metric, METRICS)}')
    if not 0 < level < 1 or n_boot < MIN_DRAWS:
        raise UsageError(f"shift: expected 0 < level < 1 and n_boot >= {MIN_DRAWS}, found {level:g} and {n_boot}")
    start, target, reference = _read(
        probs, training_prior, (reference_probs, reference_truth), (groups, reference_groups), names
    )
    start = replace(start, level=float(level))
    try:
        return Estimate(start, target, reference, metric, n_boot, seed).shift()
    except RefusedError as error:
        if refuse == "error":
            raise DataError(f"prior shift: {error}") from None
        return replace(start, refused=str(error), reason=str(error))


def _read(
    probs: ArrayLike,
    training_prior: ArrayLike,
    known: tuple[ArrayLike | None, ArrayLike | None],
    groups: tuple[ArrayLike | None, ArrayLike | None],
    names: Sequence[str] | None,
) -> tuple[PriorShift, Photos, Photos | None]:
    """What is given, checked: a shift that knows nothing yet, the unlabelled photos, the reference."""
    n_classes = np.shape(probs)[-1] if np.ndim(probs) == 2 else 0
    if not 2 <= n_classes <= MAX_CLASSES:
        raise UsageError(
            f"shift: expected probabilities (n_samples, n_classes) of 2 to {MAX_CLASSES} classes, found shape "
            f"{np.shape(probs)}; fit one attribute at a time"
        )
    given = [f"class {number}" for number in range(n_classes)] if names is None else list(names)
    if isinstance(names, str) or len(given) != n_classes or len(set(given)) != n_classes:
        raise UsageError(f"shift: expected {n_classes} distinct class names, found {names}")
    if (known[0] is None) != (known[1] is None):
        raise UsageError("shift: expected reference_probs and reference_truth together, found one of them")
    if known[0] is not None and (groups[0] is None) != (groups[1] is None):
        raise UsageError("shift: expected groups and reference_groups together, found one of them")
    prior = check_prior(training_prior, n_classes)
    target = _photos(probs, None, groups[0], n_classes, "unlabelled photos")
    reference = None
    if known[0] is not None and known[1] is not None:
        reference = _photos(known[0], known[1], groups[1], n_classes, "reference")
    old = tuple(prior.tolist())
    start = PriorShift(
        names=tuple(map(str, given)),
        training_prior=old,
        prior=old,
        low=(0.0,) * n_classes,
        high=(1.0,) * n_classes,
        level=0.9,
        applied=False,
        reason="",
        n_photos=len(target.probs),
        n_people=target.n_people,
        n_reference_photos=0 if reference is None else len(reference.probs),
        n_reference_people=0 if reference is None else reference.n_people,
    )
    return start, target, reference


def _photos(probs: ArrayLike, truth: ArrayLike | None, groups: ArrayLike | None, n_classes: int, who: str) -> Photos:
    values = check_rows(probs, n_classes, who)
    kept = np.asarray((values > 0).any(axis=1))  # neither zeros nor NaN
    true = None if truth is None else check_truth(truth, n_classes, who)
    if true is not None:
        if len(true) != len(values):
            raise DataError(f"{who}: expected a class for each of {len(values)} photos, found {len(true)}")
        kept &= true >= 0
    people: IdArray | None = None if groups is None else check_groups(groups, len(values), who)[kept]
    if not kept.any():
        raise DataError(f"{who}: expected photos with a prediction, found none in {len(values)} rows")
    return Photos.sorted(values[kept], None if true is None else true[kept], people)
