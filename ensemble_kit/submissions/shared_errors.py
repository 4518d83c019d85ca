"""How alike the errors of submissions are, and what that says about one whose score nobody knows.

Take a submission as a vector of one-hot labels and the truth likewise. Half the squared distance between two of them is
the share of photos on which they differ, so with error shares `e` and disagreements `d`

    likeness_ij = (e_i + e_j - d_ij) / (2 sqrt(e_i e_j))

is the cosine between the errors of i and j: 0 when they err on different photos, 1 when they make the same errors.
Between submissions of known scores it is known. A target's likeness to each of them depends on one unknown, the
target's own error share: the wrong one would make the target's errors more, or less, like the others' than theirs are
like each other's.

Model: `likeness_ij = mean + own_i + own_j + rest_ij`, normal, with spreads `own` and `rest` that are learnt from the
known pairs beside a weak prior (integrated over a grid); beside them what chance does to a share of `n` photos, a
variance of about `(1 - likeness) / (2 n e)`. The answer is the posterior of the target's error share, cut
to what is possible at all: `|e_t - e_k| <= d_tk`.
"""

from __future__ import annotations

import numpy as np

from ensemble_kit.arrays import FloatArray

LIKENESS_MEAN, LIKENESS_SPREAD = 0.55, 0.2
"""Prior of the mean likeness; wide, as it is seen in the known pairs."""

SPREADS_CENTRE, SPREADS_SPREAD = 0.015, 1.0
"""Prior of the two spreads: log-normal, so that two known submissions, which show one pair, still give an interval."""

SPREADS = np.geomspace(0.005, 0.2, 8)

ERROR_SPREAD = 0.4
"""Prior of the target's error share: log-normal around the known ones', two in three within a factor of 1.5."""

N_SHARES = 241
ALIKE_WRONG = 0.6
"""Where two submissions both err, how often they err alike. Enters only the noise of scores that were measured on a
part of the photos."""


def posterior(
    between: FloatArray, to_target: FloatArray, errors: FloatArray, n_samples: int, noise: FloatArray | None = None
) -> tuple[FloatArray, FloatArray]:
    """The target's error share, as a density on a grid.

    Args:
        between: `(n_known, n_known)` share of photos on which two known submissions differ.
        to_target: `(n_known,)` share of photos on which the target differs from each.
        errors: `(n_known,)` error shares, inside 0 to 1.
        n_samples: how many photos.
        noise: `(n_known, n_known)` covariance of these where they were measured on a part of the photos only.

    Returns:
        error shares `(n_grid,)` and the density `(n_grid,)`, not normalised.
    """
    slack = 0.0 if noise is None else 3 * float(np.sqrt(np.diagonal(noise).max()))
    low = max(float((errors - to_target).max()) - slack, 5e-4, float((to_target - errors).max()) - slack)
    high = max(min(float((errors + to_target).min()) + slack, 1 - 5e-4), low + 1e-9)
    shares = np.linspace(low, high, N_SHARES)
    density = _density(shares, between, to_target, errors, n_samples, None)
    if noise is None:
        return shares, density
    return shares, _density(shares, between, to_target, errors, n_samples, (noise, _median(shares, density)))


def quantiles(shares: FloatArray, density: FloatArray, wanted: tuple[float, ...]) -> list[float]:
    """Where the distribution function reaches the wanted values."""
    steps = (density[1:] + density[:-1]) / 2
    reached = np.concatenate([[0.0], np.cumsum(steps)])
    return [float(value) for value in np.interp(wanted, reached / reached[-1], shares)]


def noise_of_scores(between: FloatArray, errors: FloatArray, n_scored: int, n_samples: int) -> FloatArray:
    """Covariance of error shares measured on `n_scored` of `n_samples` photos drawn by chance, the same for all."""
    both = (errors[:, None] + errors - between) / (1 + ALIKE_WRONG)
    np.fill_diagonal(both, errors)
    covariance = (both - np.outer(errors, errors)) / n_scored * (1 - n_scored / n_samples)
    values, vectors = np.linalg.eigh(covariance)
    result: FloatArray = (vectors * np.maximum(values, 0)) @ vectors.T
    return result


def likeness(e: FloatArray, f: FloatArray, differ: FloatArray) -> FloatArray:
    return np.asarray((e + f - differ) / (2 * np.sqrt(e * f)))


def _median(shares: FloatArray, density: FloatArray) -> float:
    return quantiles(shares, density, (0.5,))[0]


def _density(
    shares: FloatArray,
    between: FloatArray,
    to_target: FloatArray,
    errors: FloatArray,
    n_samples: int,
    noise: tuple[FloatArray, float] | None,
) -> FloatArray:
    """The posterior on the grid `shares`; `noise` = covariance of the errors, and a first guess of the target's."""
    n_known = len(errors)
    i, j = np.triu_indices(n_known, 1)
    seen = np.broadcast_to(likeness(errors[i], errors[j], between[i, j]), (len(shares), len(i)))
    with_target = likeness(shares[:, None], errors, to_target)
    values = np.concatenate([seen, with_target], axis=1).T - LIKENESS_MEAN
    first, second = np.append(i, np.arange(n_known)), np.append(j, np.full(n_known, n_known))
    members = np.zeros((len(first), n_known + 1))
    members[np.arange(len(first)), first] = members[np.arange(len(first)), second] = 1
    usual = np.append(errors, np.exp(np.log(errors).mean()))
    of_few = (1 - LIKENESS_MEAN) / 2 / (n_samples * np.sqrt(usual[first] * usual[second]))
    fixed = np.diag(of_few) + LIKENESS_SPREAD**2
    if noise is not None:
        guess = np.append(errors, noise[1])
        differ = np.append(between[i, j], to_target)
        slopes = _slopes(guess[first], guess[second], differ, members, guess)[:, :n_known]
        fixed += slopes @ noise[0] @ slopes.T
    logs = []
    for own in SPREADS:
        for rest in SPREADS:
            root = np.linalg.cholesky(own**2 * members @ members.T + rest**2 * np.eye(len(first)) + fixed)
            scaled = np.linalg.solve(root, values)
            prior = (np.log(own / SPREADS_CENTRE) ** 2 + np.log(rest / SPREADS_CENTRE) ** 2) / SPREADS_SPREAD**2
            logs.append(-((scaled**2).sum(axis=0) + prior) / 2 - np.log(np.diagonal(root)).sum())
    total = np.array(logs) - n_known / 2 * np.log(shares)  # the disagreements are what is observed, not the likeness
    total -= ((np.log(shares) - np.log(errors).mean()) / ERROR_SPREAD) ** 2 / 2
    return np.asarray(np.exp(total - total.max()).sum(axis=0))


def _slopes(e: FloatArray, f: FloatArray, differ: FloatArray, members: FloatArray, errors: FloatArray) -> FloatArray:
    """How each pair's likeness changes with each submission's error share, `(n_pairs, n_known + 1)`."""
    own = likeness(e, f, differ)[:, None] / (2 * errors)
    return np.asarray(members * (1 / (2 * np.sqrt(e * f))[:, None] - own))
