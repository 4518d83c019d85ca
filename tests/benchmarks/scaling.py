"""Photos a second against the number of photos, checkpoints, states and experts; memory against the number of photos.

python tests/benchmarks/scaling.py [--rounds 5] [--threads 1] [--quick] [--json FILE]

On a generated taxonomy: a router tells kinds apart by the photo's colour, and experts their two sorts; all are tiny
networks at 16 pixels. Photos are of all kinds, so that a hard route asks every expert, unless a line says otherwise.
Seconds are predicted as

    fixed + a decodes + b passes + c runs + d answers

(passes: photos through networks; runs: networks asked, once a window; answers: photos times joint classes), fitted to
some of the cells by least squares of relative errors, and checked on the others.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from shared import Report, options, over, quartiles, seconds, turn_about
from torch import nn

import ensemble_kit as ek
from ensemble_kit.answering import Answerer
from ensemble_kit.arrays import FloatArray
from ensemble_kit.card import Card
from ensemble_kit.data.decode import Preprocess
from ensemble_kit.data.samples import SampleTable
from ensemble_kit.loading.decoding import window_spans
from ensemble_kit.models.checkpoint import save_checkpoint
from ensemble_kit.models.heads import block_head, build_network
from ensemble_kit.windows import FIRST

GRAPH = ek.Graph({"kind": [], "sort": ["kind"]})
SIZE = 16
BRIGHT = 8.0
"""Added to normalised colours, so that a ReLU lets them pass."""
SHARP = 8.0
FEW, TIMES = 256, 8
"""Photos of which the memory is measured, and how many times as many it is compared with."""
MEMORY_WINDOW = 64


@dataclass(frozen=True)
class Cell:
    """One place of the table."""

    photos: int
    folds: int
    states: int
    experts: int
    used: int = 0
    """Kinds that the photos are of; 0 = all."""
    fitted: bool = False

    @property
    def name(self) -> str:
        sizes = f"{self.photos} photos, {self.folds} folds, {self.states} states, {self.experts} experts"
        return sizes + (f", {self.used} used" if self.used else "")

    def amounts(self, window: int) -> list[float]:
        """What its seconds are made of, as the prediction says."""
        n_windows = len(list(window_spans(self.photos, window, FIRST)))
        runs = n_windows * self.folds * (1 + (self.used or self.experts))
        return [1, self.photos, 2 * self.folds * self.photos, runs, self.photos * 2 * self.states]


CELLS = (
    Cell(256, 2, 10, 10, fitted=True),
    Cell(1024, 2, 10, 10),
    Cell(4096, 2, 10, 10, fitted=True),
    Cell(1024, 5, 10, 10),
    Cell(512, 10, 10, 10, fitted=True),
    Cell(512, 2, 2, 2, fitted=True),
    Cell(512, 2, 5, 2),
    Cell(512, 2, 10, 2),
    Cell(512, 2, 30, 30),
    Cell(512, 2, 100, 100, fitted=True),
    Cell(512, 2, 100, 100, used=2, fitted=True),
    Cell(512, 2, 30, 30, used=2),
)
QUICK = (
    *(Cell(64, 2, 2, 2, fitted=True), Cell(128, 2, 2, 2, fitted=True), Cell(64, 3, 2, 2, fitted=True)),
    *(Cell(64, 2, 5, 5, fitted=True), Cell(64, 2, 5, 2, fitted=True), Cell(128, 3, 5, 5), Cell(64, 2, 5, 5, used=2)),
)


def tiny() -> tuple[nn.Module, int]:
    layers = [nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU()]
    return nn.Sequential(*layers), 32


def colours(n: int) -> FloatArray:
    """`(n, 3)` RGB from 0 to 255, well apart for up to 100."""
    grid = np.stack(np.meshgrid(*(np.linspace(20, 235, k) for k in (5, 5, 4)), indexing="ij"), axis=-1).reshape(-1, 3)
    return np.asarray(grid[np.arange(n) * 37 % 100])


def taxonomy(n_kinds: int) -> ek.Schema:
    paths = [(f"kind{i}", f"sort{i}{side}") for i in range(n_kinds) for side in "ab"]
    return ek.Schema.from_rows(["kind", "sort"], paths)


def see_colours(network: nn.Module, preprocess: Preprocess, n_kinds: int) -> None:
    """Makes a network take the kind whose colour is nearest: linear in the photo's mean colour."""
    body: Any = network.backbone
    head: Any = network.head
    first, _, second, _ = body
    with torch.no_grad():
        for layer in (first, second):
            nn.init.dirac_(layer.weight)
            nn.init.zeros_(layer.bias)
        first.bias += BRIGHT
        mean, std = (torch.tensor(values, dtype=torch.float64) for values in (preprocess.mean, preprocess.std))
        wanted = (torch.from_numpy(colours(n_kinds)) / 255 - mean) / std
        head.weight.zero_()
        head.weight[:, :3] = SHARP * 2 * wanted
        head.bias[:] = -SHARP * ((wanted**2).sum(dim=1) + 2 * BRIGHT * wanted.sum(dim=1))


def write_checkpoints(folder: Path, schema: ek.Schema, n_experts: int, n_folds: int) -> list[Path]:
    kinds = schema["kind"].classes
    experts: list[tuple[str, dict[str, tuple[str, ...]]]] = [("kind", {})]
    experts += [("sort", {"kind": kinds[first::n_experts]}) for first in range(n_experts)]
    folder.mkdir()
    written = []
    preprocess = Preprocess((SIZE, SIZE))
    for number, (name, condition) in enumerate(experts):
        for fold in range(n_folds):
            head = block_head(schema, [name])
            network = build_network(tiny, "none", len(head.classes), (number, fold))
            if name == "kind":
                see_colours(network, preprocess, len(kinds))
            train: dict[str, Any] = {"seed": 0, "fold": fold, "n_folds": n_folds, "epoch": 1}
            train |= dict.fromkeys(("samples_sha256", "train_groups_sha256", "held_out_groups_sha256"), "")
            backbone = {"name": "tiny", "init": "none", "head": "linear"}
            card = Card(schema, condition, (head,), backbone, preprocess.to_json(), train)
            written.append(folder / f"{number}-{fold}.safetensors")
            save_checkpoint(written[-1], network, card)
    return written


def write_photos(folder: Path) -> list[Path]:
    """One photo a colour, in the kinds' order."""
    folder.mkdir(parents=True)
    paths = [folder / f"{number:03}.png" for number in range(100)]
    for path, colour in zip(paths, colours(100), strict=True):
        path.write_bytes(cv2.imencode(".png", np.full((64, 48, 3), colour[::-1].round(), dtype=np.uint8))[1].tobytes())
    return paths


def make(folder: Path, files: Sequence[Path], cell: Cell, window: int | None = None) -> tuple[Answerer, SampleTable]:
    """The experts of a cell, and its photos."""
    schema = taxonomy(cell.states)
    numbers = range(cell.photos)
    columns: dict[str, Any] = {
        "sample_id": [str(i) for i in numbers],
        "path": [str(files[i % (cell.used or cell.states)]) for i in numbers],
        "group_id": [str(i) for i in numbers],
        "kind": ["kind0"] * cell.photos,
        "sort": ["sort0a"] * cell.photos,
    }
    table = SampleTable.from_columns(columns, folder, schema)
    weights = folder / f"{cell.states}-{cell.experts}-{cell.folds}"
    paths = sorted(weights.iterdir()) if weights.is_dir() else write_checkpoints(
        weights, schema, cell.experts, cell.folds
    )  # fmt: skip
    how: dict[str, Any] = {"device": "cpu", "precision": "fp32", "backbones": {"tiny": tiny}, "window": window}
    return Answerer(paths, schema, GRAPH, **how), table


def fit(amounts: FloatArray, measured: FloatArray) -> FloatArray:
    """What one of each amount takes: none less than nothing, the relative errors least squares."""
    kept = list(range(amounts.shape[1]))
    while True:
        found = np.linalg.lstsq(amounts[:, kept] / measured[:, None], np.ones(len(measured)), rcond=None)[0]
        if (found >= 0).all():
            break
        kept.pop(int(found.argmin()))
    prices = np.zeros(amounts.shape[1])
    prices[kept] = found
    return prices


def peak_of(n_photos: int, threads: int | None) -> int:
    """Peak memory of this process, in kB, when it has answered so many photos."""
    with tempfile.TemporaryDirectory() as scratch:
        files = write_photos(Path(scratch) / "photos")
        own, table = make(Path(scratch), files, Cell(n_photos, 2, 10, 10), MEMORY_WINDOW)
        own.answer(table, route="hard", threads=threads)
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.split("VmHWM:")[1].split()[0])


def add_memory(report: Report) -> None:
    name = f"peak memory of {TIMES * FEW} photos against {FEW}, window {MEMORY_WINDOW}"
    if not Path("/proc/self/status").is_file():
        report.skip(name, "no /proc here", most=1.15)
        return
    peaks: dict[int, list[int]] = {FEW: [], TIMES * FEW: []}
    for n_photos, found in peaks.items():
        command = [sys.executable, __file__, "--peak-of", str(n_photos), "--threads", "1"]
        found.append(int(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
    note = f"{quartiles(peaks[TIMES * FEW])[1] / 1024:.0f} MB and {quartiles(peaks[FEW])[1] / 1024:.0f} MB"
    report.add(name, over(peaks[TIMES * FEW], peaks[FEW]), most=1.15, note=note)


def main(argv: Sequence[str] | None = None) -> int:
    parser = options(__doc__, 5)
    parser.add_argument("--peak-of", type=int, help="answer so many photos, print the peak memory in kB, and end")
    given = parser.parse_args(argv)
    if given.peak_of:
        print(peak_of(given.peak_of, given.threads))
        return 0
    report = Report(__file__, given)
    cells = QUICK if given.quick else CELLS
    calls, amounts = {}, {}
    with tempfile.TemporaryDirectory() as scratch:
        files = write_photos(Path(scratch) / "photos")
        for cell in cells:
            own, table = make(Path(scratch), files, cell)
            first = own.answer(table, route="hard", threads=given.threads).counts
            used = sum(n > 0 for name, n in first.photos.items() if name.startswith("sort"))
            assert used == (cell.used or cell.experts), (cell, first.photos)
            assert first.forwards == 2 * cell.folds * cell.photos, (cell, first)
            assert first.decoded == cell.photos, (cell, first)
            amounts[cell] = cell.amounts(own.window)
            calls[cell.name] = partial(seconds, partial(own.answer, table, route="hard", threads=given.threads))
        found = turn_about(calls, report.rounds)
    add_table(report, found, amounts)
    add_memory(report)
    return report.end()


def add_table(report: Report, found: dict[str, list[float]], amounts: dict[Cell, list[float]]) -> None:
    """A line a cell, the prediction's error, and what experts cost that are there and not used."""
    cells = list(amounts)
    table = np.array([amounts[cell] for cell in cells])
    measured = np.array([quartiles(found[cell.name])[1] for cell in cells])
    is_fitted = np.array([cell.fitted for cell in cells])
    prices = fit(table[is_fitted], measured[is_fitted])
    predicted = table @ prices
    told = ("fixed", "a decode", "a pass", "a run", "an answer")
    report.tell(
        "microseconds: " + ", ".join(f"{name} {1e6 * price:.3g}" for name, price in zip(told, prices, strict=True))
    )
    for cell, took in zip(cells, predicted, strict=True):
        note = f"predicted {cell.photos / took:.0f}, {'fitted' if cell.fitted else 'held out'}"
        report.add(f"photos/s: {cell.name}", [cell.photos / one for one in found[cell.name]], note=note)
    errors = np.abs(predicted / measured - 1)[~is_fitted]
    report.add("largest relative error of predicted seconds, held-out cells", [errors.max()], most=0.25)
    least, *more = sorted((c for c in cells if (c.used or c.experts) == 2), key=lambda cell: cell.experts)
    for cell in more:
        if cell.experts > least.experts and (cell.photos, cell.folds) == (least.photos, least.folds):
            ratios = over(found[cell.name], found[least.name])
            report.add(f"seconds with {cell.experts} experts, 2 used, against {least.experts}", ratios, most=1.25)


if __name__ == "__main__":
    sys.exit(main())
