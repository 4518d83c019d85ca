"""Photos to 18 classes with 25 checkpoints: `Answerer` against the home-made pipeline, and against its own bound.

python tests/benchmarks/answer.py [--photos 21] [--rounds 5] [--size 224] [--threads N] [--json FILE]
                                  [--backends torch,openvino] [--keep FOLDER [--budget SECONDS]]

The checkpoints, and the home-made pipeline, are those of `naive.py`. Photos are generated, 512 x 384.

- naive: a pass over all photos a checkpoint, decoded by PIL each time.
- answer: `Answerer.answer`, hard route, by torch and by OpenVINO where it is installed. Checkpoints are loaded in a call
  before, as the naive pipeline's are. For OpenVINO one fold of each expert is converted and stands in for all five.
- bound: 15 forward passes a photo (3 attributes x 5 folds), nothing decoded, by the fastest float32 forward that is found
  in this run: of torch's forms and batch sizes for torch, of those and OpenVINO's own for OpenVINO.

With one thread the process stays on one core: nothing is decoded beside the networks then. Half of a bound is measured
before and half after its `answer`. A profile says where `answer` spends its time. With --keep photos, checkpoints and
the figures of each round stay in a folder, and the same command goes on; --budget ends it before so many seconds are
over.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from bounds import Forward, fastest, openvino_forwards, torch_forwards
from naive import FOLDS, GRAPH, SCHEMA, naive, write_checkpoints
from shared import Report, machine, options, over, seconds

from ensemble_kit import answering
from ensemble_kit.answering import Answered, Answerer
from ensemble_kit.backends import photos
from ensemble_kit.backends.photos import TrainingPhotos
from ensemble_kit.backends.table import BACKENDS
from ensemble_kit.data.generated import generate_faces
from ensemble_kit.data.samples import SampleTable, read_samples
from ensemble_kit.errors import UsageError
from ensemble_kit.files import read_json, write_json
from ensemble_kit.models.checkpoint import load_expert

LEAST_NAIVE, LEAST_BOUND = 2.2, 0.95


def main(argv: Sequence[str] | None = None) -> int:
    start = time.perf_counter()
    parser = options(__doc__, 5)
    parser.add_argument("--photos", type=int)
    parser.add_argument("--size", type=int)
    parser.add_argument("--backends", default="torch,openvino", type=lambda text: text.split(","))
    parser.add_argument("--keep", type=Path, help="folder for photos, checkpoints and the rounds so far")
    parser.add_argument("--budget", type=float, default=float("inf"), help="seconds; needs --keep")
    given = parser.parse_args(argv)
    given.photos = given.photos or (7 if given.quick else 21)
    given.size = given.size or (32 if given.quick else 224)
    given.threads = given.threads or torch.get_num_threads()
    torch.set_num_threads(given.threads)
    cv2.setNumThreads(1)  # OpenCV's own threads slow the naive pipeline down
    if given.threads == 1 and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    report = Report(__file__, given)
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(report, given, given.keep or Path(scratch))
        while len(bench.figures["rounds"]) < report.rounds:
            if time.perf_counter() - start + 1.1 * bench.longest > given.budget:
                report.tell(f"{len(bench.figures['rounds'])} of {report.rounds} rounds; the same command goes on")
                return 0
            bench.round()
        bench.tell()
    return report.end()


class Bench:
    """Photos and checkpoints in a folder, and the rounds measured so far."""

    def __init__(self, report: Report, given: argparse.Namespace, folder: Path):
        self.report, self.size, self.threads = report, given.size, given.threads
        self.longest = 0.0
        folder = folder / f"{given.photos}-photos-{self.size}px"
        if not (folder / "whole").exists():
            generate_faces(folder / "photos", people=2, eval_people=-(-given.photos // 7))
            write_checkpoints(folder, self.size)
            (folder / "whole").touch()
        table = read_samples(folder / "photos", SCHEMA, part="eval")
        self.table = table.select(range(given.photos))
        self.checkpoints = sorted(folder.glob("*.safetensors"))
        self.networks = [load_expert(path)[0] for path in self.checkpoints]
        self.n_passes = given.photos * 3 * FOLDS
        report.tell(f"{given.photos} photos, {self.size} px, {self.threads} threads, torch {torch.__version__}")
        self.backends = self.installed(given.backends)
        self.kept = folder / f"figures-{self.threads}-{'-'.join(self.backends)}.json"
        self.figures: dict[str, Any] = {"machine": machine(), "rounds": [], "bounds": {}}
        if self.kept.is_file() and (found := read_json(self.kept))["machine"] == machine():
            self.figures = found
        self.bounds = self.find_bounds(folder)
        write_json(self.kept, self.figures)
        training = read_samples(folder / "photos", SCHEMA, part="train")
        self.answerers = {name: answerer(name, self.checkpoints, training, folder) for name in self.backends}
        self.labels: dict[str, Any] = {}
        for name, own in self.answerers.items():
            first = self.answered(own)  # which compiles
            assert first.counts.forwards == self.n_passes, first.counts
            assert first.counts.decoded == given.photos, first.counts
            self.labels[name] = first.joint.labels()

    def installed(self, names: Sequence[str]) -> list[str]:
        found = []
        for name in names:
            try:
                BACKENDS[name].versions()
                found.append(name)
            except UsageError as error:
                self.report.skip(f"{name}: answer against its bound", str(error), least=LEAST_BOUND)
        return found

    def find_bounds(self, folder: Path) -> dict[str, Forward]:
        """For each back end its fastest forward; the one that was found stays the same over the rounds."""
        calls = torch_forwards(self.networks[0], self.size)
        found: dict[str, Forward] = {}
        for name in self.backends:
            if name == "openvino":
                calls |= openvino_forwards(self.networks[0], self.size, self.threads, folder)
            chosen = self.figures["bounds"].setdefault(name, "") or fastest(calls, 32)
            self.figures["bounds"][name] = chosen
            found[name] = calls[chosen]
            self.report.tell(f"{name}, fastest forward: {chosen}")
        return found

    def answered(self, own: Answerer) -> Answered:
        return own.answer(self.table, threads=self.threads, route="hard")

    def round(self) -> None:
        start = time.perf_counter()
        found: dict[str, float] = {}
        half = self.n_passes // 2
        for name, own in list(self.answerers.items())[:: 1 if len(self.figures["rounds"]) % 2 else -1]:
            before = seconds(partial(self.bounds[name], half))
            found[name] = seconds(partial(self.answered, own))
            found[f"{name}, bound"] = before + seconds(partial(self.bounds[name], self.n_passes - half))
        labels: list[Any] = []
        found["naive"] = seconds(lambda: labels.append(naive(self.table.paths, self.networks, self.size)))
        found |= {f"{name}, equal": float(np.mean(own == labels[0])) for name, own in self.labels.items()}
        self.figures["rounds"].append(found)
        write_json(self.kept, self.figures)
        self.longest = max(self.longest, time.perf_counter() - start)

    def tell(self) -> None:
        report, rounds = self.report, self.figures["rounds"]
        values = {name: [float(one[name]) for one in rounds] for name in rounds[0]}
        report.tell(f"decoded {len(self.table)}, passes {self.n_passes}")
        if "torch" in self.backends:  # of all five folds of each expert
            report.add("the same answers as the naive pipeline, share", values["torch, equal"], least=0.95)
        for name in self.backends:
            shares = profile(self.answerers[name], partial(self.answered, self.answerers[name]))
            report.tell(f"{name}, where the time goes: {', '.join(f'{k} {v:.1%}' for k, v in shares.items())}")
            report.add(f"{name}: answer against naive", over(values["naive"], values[name]), least=LEAST_NAIVE)
            ratios = over(values[f"{name}, bound"], values[name])
            bound = self.figures["bounds"][name]
            report.add(f"{name}: answer against its bound", ratios, least=LEAST_BOUND, note=bound)
            report.add(f"{name}: photos a second, 15 passes each", [len(self.table) / one for one in values[name]])


def answerer(name: str, checkpoints: Sequence[Path], training: SampleTable, folder: Path) -> Answerer:
    """All checkpoints loaded; of each expert one fold is converted, where there is something to convert.

    Weights are random, so there is nothing to agree on with float32 on training photos.

    Args:
        checkpoints: as `write_checkpoints` gives them.
    """
    photos.N_CALIBRATING = photos.N_COMPARED = 8
    trained_on = TrainingPhotos(training, np.arange(len(training)) % FOLDS)
    trained_on.__dict__["sha256"] = ""  # these checkpoints were trained on nothing, and say so
    how: dict[str, Any] = {"device": "cpu", "backend": name, "trained_on": trained_on, "accept_disagreement": True}
    own = Answerer(checkpoints, SCHEMA, GRAPH, forms=folder / "forms", **how)
    if name == "torch":
        return own
    for start in range(0, len(checkpoints), FOLDS):
        first = checkpoints[start]
        card = next(voter.card for voter in own.voters.values() if voter.path == first)
        form = own.forms.load(first, card, own.hashes[first])
        own.loaded.update(dict.fromkeys(checkpoints[start : start + FOLDS], form))
    return own


PROFILED = ("waiting for photos", "normalising", "networks", "the rest")


def profile(own: Answerer, call: Callable[[], object]) -> dict[str, float]:
    """Shares of one call's time, by clocks around its parts."""
    spent = dict.fromkeys(PROFILED, 0.0)

    def clocked(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any) -> Any:
            start = time.perf_counter()
            result = function(*args)
            spent[name] += time.perf_counter() - start
            return result

        return run

    module, compute = vars(answering), type(own.forms.compute)
    windows = module["photo_windows"]
    inputs, loaded = compute.inputs, dict(own.loaded)

    def waited(*args: Any) -> Iterator[Any]:
        source = iter(windows(*args))
        step = clocked("waiting for photos", lambda: next(source, None))
        while (window := step()) is not None:
            yield window

    own.loaded.update({path: clocked("networks", network) for path, network in loaded.items()})
    module["photo_windows"] = waited
    compute.inputs = clocked("normalising", inputs)  # type: ignore[method-assign]
    try:
        total = seconds(call)
    finally:
        own.loaded.update(loaded)
        module["photo_windows"] = windows
        compute.inputs = inputs  # type: ignore[method-assign]
    spent["the rest"] = total - sum(spent.values())
    return {name: value / total for name, value in spent.items()}


if __name__ == "__main__":
    sys.exit(main())
