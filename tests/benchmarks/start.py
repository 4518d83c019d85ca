"""How long the command line takes to answer, as a ratio to `python -c "import numpy"` in the same run.

python tests/benchmarks/start.py
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial

from shared import Report, command_seconds, options, over, turn_about

NUMPY = [sys.executable, "-c", "import numpy"]
LIMIT = 6.0
CASES = {"ens --help": ["--help"], "ens train-age --help": ["train-age", "--help"]}


def main(argv: Sequence[str] | None = None) -> int:
    report = Report(__file__, options(__doc__, 7).parse_args(argv))
    for name, words in CASES.items():
        commands = {"numpy": NUMPY, "own": [sys.executable, "-m", "ensemble_kit", *words]}
        for command in commands.values():
            command_seconds(command)  # the first call of each fills the file cache
        timed = {side: partial(command_seconds, command) for side, command in commands.items()}
        took = turn_about(timed, report.rounds)
        report.add(f"{name}, in times import numpy", over(took["own"], took["numpy"]), most=LIMIT)
    return report.end()


if __name__ == "__main__":
    sys.exit(main())
