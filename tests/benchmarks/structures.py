"""Does the search of structures find what is planted, and nothing where nothing is? Counts over generated tables.

python tests/benchmarks/structures.py [--tables 20] [--folds 3] [--max-parents 1] [--draws 1000]

Twenty tables with a structure planted at random (one or two edges, each with a grouping of the parent's classes; see
tests/structure_search/planted.py), and twenty with none. Found = exactly the planted parents and groups, of 293
structures (101 with one parent at most). Exit 1 where fewer than 18 of 20 are right.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from shared import Report, options

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "structure_search"))

from planted import SCHEMA, make_table, structure_of

import ensemble_kit as ek
from ensemble_kit.structure_search import Space

SHARE = 0.9
KINDS = ("planted", "nothing")


def main(argv: Sequence[str] | None = None) -> int:
    parser = options(__doc__, 1)
    parser.add_argument("--tables", type=int)
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--max-parents", type=int)
    parser.add_argument("--draws", type=int)
    asked = parser.parse_args(argv)
    report = Report(__file__, asked)
    n_tables, n_draws = asked.tables or (1 if asked.quick else 20), asked.draws or (100 if asked.quick else 1000)
    space = Space(max_parents=1 if asked.quick else asked.max_parents)
    right, seconds = dict.fromkeys(KINDS, 0), dict.fromkeys(KINDS, 0.0)
    for seed in range(n_tables):
        for kind in KINDS:
            table = make_table(seed, None if kind == "planted" else {})
            start = time.process_time()
            found = ek.search_structures(
                table.features,
                table.numbers,
                schema=SCHEMA,
                groups=table.people,
                folds=asked.folds,
                n_boot=n_draws,
                space=space,
            )
            seconds[kind] += time.process_time() - start
            is_right = structure_of(found.conditions) == table.structure
            right[kind] += is_right
            gain = str(found.over_independent) if found.over_independent else ""
            report.tell(f"{kind} {seed:2d} {'right' if is_right else 'WRONG'}: {found.winner.name}, {gain}")
            if not is_right:
                report.tell(f"   planted: {dict(table.planted)}; {found.verdict}")
    for kind in KINDS:
        note = f"{seconds[kind] / n_tables:.1f} s of CPU a table"
        report.add(f"{kind}: share of {n_tables} tables right", [right[kind] / n_tables], least=SHARE, note=note)
    return report.end()


if __name__ == "__main__":
    sys.exit(main())
