"""Does the search of structures find what is planted, and nothing where nothing is? Counts over generated tables.

python tests/benchmarks/structures.py [--tables 20] [--folds 3] [--max-parents 1] [--draws 1000]

Twenty tables with a structure planted at random (one or two edges, each with a grouping of the parent's classes; see
tests/structure_search/planted.py), and twenty with none. Found = exactly the planted parents and groups, of 293
structures (101 with one parent at most). Exit 1 where fewer than 18 of 20 are right.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "structure_search"))

from planted import SCHEMA, make_table, structure_of

import ensemble_kit as ek
from ensemble_kit.structure_search import Space

SHARE = 0.9
KINDS = ("planted", "nothing")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--tables", type=int, default=20)
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--max-parents", type=int)
    parser.add_argument("--draws", type=int, default=1000)
    asked = parser.parse_args()
    right, seconds = dict.fromkeys(KINDS, 0), dict.fromkeys(KINDS, 0.0)
    for seed in range(asked.tables):
        for kind in KINDS:
            table = make_table(seed, None if kind == "planted" else {})
            start = time.process_time()
            found = ek.search_structures(
                table.features,
                table.numbers,
                schema=SCHEMA,
                groups=table.people,
                folds=asked.folds,
                n_boot=asked.draws,
                space=Space(max_parents=asked.max_parents),
            )
            seconds[kind] += time.process_time() - start
            is_right = structure_of(found.conditions) == table.structure
            right[kind] += is_right
            gain = str(found.over_independent) if found.over_independent else ""
            print(f"{kind} {seed:2d} {'right' if is_right else 'WRONG'}: {found.winner.name}, {gain}", flush=True)
            if not is_right:
                print(f"   planted: {dict(table.planted)}; {found.verdict}", flush=True)
    for kind in KINDS:
        cost = seconds[kind] / asked.tables
        print(f"{kind}: {right[kind]} of {asked.tables} right, {cost:.1f} s of CPU a table", flush=True)
    sys.exit(int(min(right.values()) < SHARE * asked.tables))


if __name__ == "__main__":
    main()
