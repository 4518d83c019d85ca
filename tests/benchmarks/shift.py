"""Does the estimated prior's interval hold the truth, and does the correction pay? By simulation.

python tests/benchmarks/shift.py [TASK ...] [--runs 200]

Prints, for each task and shift of `shift_cases`: how often the 90 % interval holds the true share (mean over the
classes, then the worst and best class, then each); the error of plain EM, of counted labels (BBSE) and of ours; how
often the correction was applied or refused; what it gained, beside what it would have gained if always applied. Then
what happens where the supposition is wrong: photos more blurred than the reference's.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from shared import Report, options

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from shift_cases import SHIFTS, TASKS, Outcome, simulate


def describe(name: str, outcome: Outcome) -> str:
    covered = outcome.covered.mean(axis=0)
    errors = "  ".join(
        f"{estimator} {np.sqrt((error**2).mean()):.4f} ({np.abs(error.mean(axis=0)).max():.3f})"
        for estimator, error in outcome.errors.items()
    )
    f1, right = outcome.gains.mean(axis=0)
    always_f1, always_right = outcome.always.mean(axis=0)
    worst = outcome.gains[:, 0].min()
    return (
        f"{name:<18} covered {covered.mean():.3f} (classes {covered.min():.3f}-{covered.max():.3f}), "
        f"width {outcome.wide.mean():.3f}\n"
        f"    by class: {' '.join(f'{share:.2f}' for share in covered)}\n"
        f"    rms error (largest bias): {errors}\n"
        f"    applied {outcome.applied.mean():.3f}, refused {outcome.refused.mean():.3f}; gain in macro F1 {f1:+.4f}, "
        f"accuracy {right:+.4f}, worst run {worst:+.4f}; if always applied {always_f1:+.4f}, {always_right:+.4f}"
    )


def main(argv: Sequence[str] | None = None) -> int:
    parser = options(__doc__, 1)
    parser.add_argument("tasks", nargs="*", metavar="TASK", help=f"of {', '.join(TASKS)}; all when left out")
    parser.add_argument("--runs", type=int, help="a row; default 200")
    given = parser.parse_args(argv)
    report = Report(__file__, given)
    n_runs = given.runs or (3 if given.quick else 200)

    def told(name: str, outcome: Outcome) -> None:
        report.tell(describe(name, outcome))
        covered = outcome.covered.mean(axis=0)
        report.add(f"coverage of the 90 % interval, {name}, classes", covered.tolist())

    for task in given.tasks or (["age"] if given.quick else TASKS):
        for name, ages in list(SHIFTS.items())[: 1 if given.quick else None]:
            told(f"{task}, {name}", simulate(task, ages, n_runs))
    told("age, calibrated", simulate("age", SHIFTS["large"], n_runs, sharpness=1.0))
    for blur in (1.1, 1.25, 1.5):
        told(f"age, blur {blur:g}", simulate("age", SHIFTS["none"], n_runs, blur=blur))
    return report.end()


if __name__ == "__main__":
    sys.exit(main())
