"""How often the 90 % interval of `ens estimate` holds the true accuracy, over simulated submissions with shared errors.

python tests/benchmarks/estimate.py [--runs 200]

Every run draws one of two populations (simulated_submissions.py), 2 to 8 submissions of known score, 2,000 to 12,600
photos, and scores of four digits, measured on all photos or on 30 to 60 % of them. The gate is on targets made as the
known ones were, and on targets that are a vote of the known ones: 85 to 95 % over three batches of 200, else exit 1. The
other rows are told, not gated: near copies are covered more often than need be, as their bounds alone are tight.
The priors of the method were set on batches 101 to 103 of the first kind, which are not among these.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from shared import Report, options

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from simulated_submissions import N_CLASSES, POPULATIONS, Ints, public_scores, vote_of

from ensemble_kit.submissions.estimate import estimate_accuracy

RUNS, LOWEST, HIGHEST = 200, 0.85, 0.95
BATCHES = (0, 1, 2)
Target = Callable[[np.random.Generator, Ints], Ints]


def as_the_others(random: np.random.Generator, labels: Ints) -> Ints:
    target: Ints = labels[-1]
    return target


def vote_of_known(random: np.random.Generator, labels: Ints) -> Ints:
    return vote_of(labels[:-1])


def vote_with_new(random: np.random.Generator, labels: Ints) -> Ints:
    return vote_of(labels[[*random.permutation(len(labels) - 1)[:2], -1]])


def near_copy(random: np.random.Generator, labels: Ints) -> Ints:
    keep = random.random(labels.shape[1]) < random.uniform(0.9, 0.98)
    target: Ints = np.where(keep, labels[random.integers(len(labels) - 1)], labels[-1])
    return target


CASES: dict[str, tuple[Target, int, bool]] = {
    "as the others": (as_the_others, 2, True),
    "vote of the known": (vote_of_known, 3, True),
    "vote of two known and itself": (vote_with_new, 3, False),
    "near copy of a known one": (near_copy, 2, False),
}
"""What is estimated, from how many known ones at least, and whether its coverage is gated."""


def simulate(case: str, n_runs: int, seed: int = 0) -> NDArray[np.float64]:
    """Rows of population, part scored, n_known, true accuracy, value, low, high, possible low, possible high."""
    make, fewest, _ = CASES[case]
    random = np.random.default_rng(seed)
    rows = []
    for _ in range(n_runs):
        which, n_known = int(random.integers(2)), int(random.integers(fewest, 9))
        n_samples = int(random.integers(2000, 12601))
        labels, truth = list(POPULATIONS.values())[which](random, n_samples, n_known + 1)
        labels[-1] = make(random, labels)
        scored_on = int(n_samples * random.uniform(0.3, 0.6)) if random.random() < 0.5 else None
        scores = public_scores(random, labels[:-1] == truth, scored_on)
        found = estimate_accuracy(labels[-1], labels[:-1], scores, N_CLASSES, scored_on=scored_on)
        true = float((labels[-1] == truth).mean())
        rows.append([which, scored_on is not None, n_known, true, found.value, found.low, found.high, *found.possible])
    return np.array(rows, dtype=np.float64)


def line(name: str, rows: NDArray[np.float64]) -> str:
    true, value, low, high = rows[:, 3], rows[:, 4], rows[:, 5], rows[:, 6]
    inside = (true >= low) & (true <= high)
    error, width = np.sqrt(((value - true) ** 2).mean()), ((high - low) / 2).mean()
    bound = ((rows[:, 8] - rows[:, 7]) / 2).mean()
    return f"{name:<32} {len(rows):>4} {inside.mean():>9.3f} {error:>7.4f} {width:>11.4f} {bound:>11.4f}"


def main(argv: Sequence[str] | None = None) -> int:
    parser = options(__doc__, len(BATCHES))
    parser.add_argument("--runs", type=int, help="a batch; default 200")
    given = parser.parse_args(argv)
    report = Report(__file__, given)
    n_runs = given.runs or (5 if given.quick else RUNS)
    report.tell(f"{'target':<32} {'runs':>4} {'coverage':>9} {'rmse':>7} {'half width':>11} {'half bound':>11}")
    for case, (_, _, gated) in CASES.items():
        batches = [simulate(case, n_runs, seed) for seed in range(report.rounds if gated else 1)]
        rows = np.concatenate(batches)
        report.tell(line(case, rows))
        for seed, own in enumerate(batches if gated else []):
            report.tell(line(f"  batch {seed}", own))
        inside = [float(((own[:, 3] >= own[:, 5]) & (own[:, 3] <= own[:, 6])).mean()) for own in batches]
        least, most = (LOWEST, HIGHEST) if gated else (None, None)
        report.add(f"coverage of the 90 % interval, {case}", inside, least=least, most=most)
        if case != "as the others":
            continue
        for which, population in enumerate(POPULATIONS):
            report.tell(line(f"  {population}", rows[rows[:, 0] == which]))
        for part, name in enumerate(("scores on all photos", "scores on a part")):
            report.tell(line(f"  {name}", rows[rows[:, 1] == part]))
        for fewest, largest in ((2, 3), (4, 6), (7, 8)):
            known = (rows[:, 2] >= fewest) & (rows[:, 2] <= largest)
            if known.any():
                report.tell(line(f"  {fewest} to {largest} known", rows[known]))
    return report.end()


if __name__ == "__main__":
    sys.exit(main())
