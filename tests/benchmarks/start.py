"""How long the command line takes to answer, as a ratio to `python -c "import numpy"` in the same run.

python tests/benchmarks/start.py
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

ROUNDS = 7
NUMPY = [sys.executable, "-c", "import numpy"]
CASES = {
    "ens --help": ([sys.executable, "-m", "ensemble_kit", "--help"], 6.0),
    "ens train-age --help": ([sys.executable, "-m", "ensemble_kit", "train-age", "--help"], 6.0),
}


def seconds(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start


def main() -> None:
    for name, (command, limit) in CASES.items():
        seconds(NUMPY), seconds(command)  # the first call of each fills the file cache
        pairs = [(seconds(NUMPY), seconds(command)) for _ in range(ROUNDS)]
        ratios = sorted(own / numpy for numpy, own in pairs)
        low, high = ratios[ROUNDS // 4], ratios[-1 - ROUNDS // 4]
        print(f"{name}: {statistics.median(ratios):.2f} x import numpy [{low:.2f}, {high:.2f}], limit {limit:g}")


if __name__ == "__main__":
    main()
