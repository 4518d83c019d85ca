"""What `ens combine`, `ens vote` and `ens compare` cost on 12,600 photos, in times `python -c "import pandas"`.

python tests/benchmarks/commands.py

Turn about (pandas, command, pandas, command), the median of the ratios; the limit is 3, exit 1 where it is missed.
`ens combine` reads five experts of five voters each, and writes the submission and the joint probabilities.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from shared import Report, command_seconds, options, over, turn_about

import ensemble_kit as ek

LIMIT = 3.0
N_SAMPLES, N_VOTERS = 12_600, 5
PANDAS = [sys.executable, "-c", "import pandas"]
ENS = [sys.executable, "-m", "ensemble_kit"]


def make_files(folder: Path) -> None:
    """Predictions of five experts, and three submissions of the same photos in their own order."""
    random = np.random.default_rng(0)
    schema = ek.load_recipe("face-mask").schema
    ids = np.array([f"{number:040x}.jpg" for number in random.permutation(N_SAMPLES)])
    conditions = [("mask", {}), ("gender", {}), *(("age", {"mask": (state,)}) for state in schema["mask"].classes)]
    experts = []
    for name, condition in conditions:
        shape = (N_VOTERS, N_SAMPLES, len(schema[name].classes))
        probs = random.dirichlet(np.ones(shape[-1]), size=shape[:2]).astype(np.float32)
        experts.append(ek.Predictions(schema[name], list(probs), ids, condition))
    ek.save_predictions(folder / "eval", experts, schema)
    truth = random.integers(schema.n_joint, size=N_SAMPLES)
    for name in "abc":
        order = random.permutation(N_SAMPLES)
        labels = np.where(random.random(N_SAMPLES) < 0.75, truth, random.integers(schema.n_joint, size=N_SAMPLES))
        ek.write_submission(folder / f"{name}.csv", (ids[order], labels[order]))


def main(argv: Sequence[str] | None = None) -> int:
    report = Report(__file__, options(__doc__, 9).parse_args(argv))
    commands = {
        "ens combine": [*ENS, "combine", "eval", "-o", "combined"],
        "ens vote": [*ENS, "vote", "a.csv", "b.csv", "c.csv", "-o", "voted.csv"],
        "ens compare": [*ENS, "compare", "a.csv", "b.csv"],
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_files(folder)
        for command, words in commands.items():
            for first in (PANDAS, words):
                command_seconds(first, folder)  # the first call of each fills the file cache
            timed = {
                side: partial(command_seconds, call, folder) for side, call in (("pandas", PANDAS), ("own", words))
            }
            took = turn_about(timed, report.rounds)
            own, pandas = (statistics.median(took[side]) for side in ("own", "pandas"))
            note = f"{own:.2f} s against {pandas:.2f} s"
            report.add(f"{command}, in times import pandas", over(took["own"], took["pandas"]), most=LIMIT, note=note)
    return report.end()


if __name__ == "__main__":
    sys.exit(main())
