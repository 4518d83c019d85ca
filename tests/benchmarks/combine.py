"""Combining the mask task from memory-mapped files, against plain vectorised numpy and a pandas row loop.

python tests/benchmarks/combine.py [--rows 10000000]        x 5 voters: 3 GB of files in a temporary folder
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from shared import Report, options, over, seconds, turn_about

import ensemble_kit as ek
from ensemble_kit.arrays import FloatArray, IntArray

ROW_BYTES = 300
N_VOTERS = 5
LOOP_ROWS = 2_000
MASK = ek.Attribute("mask", ["worn", "incorrect", "not_worn"])
GENDER = ek.Attribute("gender", ["male", "female"])
AGE = ek.Attribute("age", ["<30", "30-59", ">=60"], borders=[30, 60])
SCHEMA = ek.Schema(MASK, GENDER, AGE)
GRAPH = ek.Graph({"mask": [], "gender": [], "age": ["mask"]})


def write_set(folder: Path, n_rows: int) -> None:
    random = np.random.default_rng(0)
    ids = np.char.add("p", np.arange(n_rows).astype("U8"))

    def expert(attribute: ek.Attribute, condition: dict[str, str]) -> ek.Predictions:
        layers = []
        for _ in range(N_VOTERS):
            raw = random.random((n_rows, len(attribute.classes)), dtype=np.float32) ** 4 + np.float32(1e-4)
            layers.append(raw / raw.sum(axis=1, keepdims=True))
        return ek.Predictions(attribute, layers, ids, condition)

    experts = [expert(MASK, {}), expert(GENDER, {}), *(expert(AGE, {"mask": state}) for state in MASK.classes)]
    ek.save_predictions(folder, experts, SCHEMA)


def naive_joint(experts: list[ek.Predictions], hard: bool) -> FloatArray:
    """What one writes first: everything at once, in whole columns."""
    mask, gender, *ages = (np.mean(expert.layers, axis=0) for expert in experts)
    age = np.stack(ages, axis=1)
    gate = np.eye(3, dtype=np.float32)[mask.argmax(axis=1)] if hard else mask
    return np.asarray(np.einsum("nm,ng,nma->nmga", gate, gender, age)).reshape(len(mask), 18)


def naive_labels(experts: list[ek.Predictions]) -> IntArray:
    mask, gender, *ages = (np.mean(expert.layers, axis=0) for expert in experts)
    state = mask.argmax(axis=1)
    age = np.stack(ages, axis=1)[np.arange(len(state)), state]
    return np.asarray(state * 6 + gender.argmax(axis=1) * 3 + age.argmax(axis=1), dtype=np.int64)


def row_loop(experts: list[ek.Predictions], n_rows: int) -> pd.Series[int]:
    """A pandas row loop over the first rows."""
    columns = {
        f"{number}-{voter}-{c}": np.asarray(layer[:n_rows, c])
        for number, expert in enumerate(experts)
        for voter, layer in enumerate(expert.layers)
        for c in range(layer.shape[1])
    }

    def mean(row: pd.Series[float], number: int, n_classes: int) -> FloatArray:
        votes = [[row[f"{number}-{voter}-{c}"] for c in range(n_classes)] for voter in range(N_VOTERS)]
        return np.asarray(np.mean(votes, axis=0))

    def label(row: pd.Series[float]) -> int:
        state = int(mean(row, 0, 3).argmax())
        return state * 6 + int(mean(row, 1, 2).argmax()) * 3 + int(mean(row, 2 + state, 3).argmax())

    return pd.DataFrame(columns).apply(label, axis=1)


def main(argv: Sequence[str] | None = None) -> int:
    parser = options(__doc__, 5)
    parser.add_argument("--rows", type=int)
    given = parser.parse_args(argv)
    report = Report(__file__, given)
    n_rows = given.rows or (20_000 if given.quick else 10_000_000)
    with tempfile.TemporaryDirectory() as folder:
        free, needed = shutil.disk_usage(folder).free, n_rows * ROW_BYTES
        if free < 1.2 * needed:
            report.skip(
                "combine", f"needs {needed / 1e9:.1f} GB for {n_rows} rows in {folder}, {free / 1e9:.1f} are free"
            )
        else:
            compare(report, Path(folder), n_rows)
    return report.end()


def compare(report: Report, folder: Path, n_rows: int) -> None:
    write_set(folder, n_rows)
    experts = ek.load_predictions(folder, verify=False)
    ensemble = ek.ConditionalEnsemble(SCHEMA, GRAPH, experts)
    n_bytes = sum(layer.nbytes for expert in experts for layer in expert.layers)

    def reading() -> list[object]:
        return [np.asarray(layer).max() for expert in experts for layer in expert.layers]

    def labels() -> IntArray:
        return ensemble.labels(route="hard")

    cases: list[tuple[str, Callable[[], object], Callable[[], object], float]] = [
        ("joint, hard route", partial(naive_joint, experts, True), lambda: ensemble.combine(route="hard"), 2.0),
        ("joint, soft route", partial(naive_joint, experts, False), ensemble.combine, 2.0),
        ("labels, hard route", partial(naive_labels, experts), labels, 3.0),
    ]
    for name, naive, own, limit in cases:
        naive(), own()  # files into memory
        took = turn_about({"naive": partial(seconds, naive), "own": partial(seconds, own)}, report.rounds)
        report.add(f"{name} / numpy, times as fast", over(took["naive"], took["own"]), least=limit)
    loop_rows = min(LOOP_ROWS, n_rows)
    timed = {
        "loop": lambda: seconds(lambda: row_loop(experts, loop_rows)) / loop_rows,
        "own": lambda: seconds(labels) / n_rows,
        "reading": lambda: seconds(reading) / n_rows,
    }
    took = turn_about(timed, report.rounds)
    report.add("labels, hard route / pandas row loop, times as fast", over(took["loop"], took["own"]), least=100)
    note = f"reading {n_bytes / 1e9:.1f} GB once"
    report.add("reading the files / labels", over(took["reading"], took["own"]), note=note)


if __name__ == "__main__":
    sys.exit(main())
