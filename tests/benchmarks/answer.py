"""Photos to 18 classes with 25 checkpoints: `Answerer` against the home-made pipeline, and against its own bound.

python tests/benchmarks/answer.py [--photos 21] [--rounds 5] [--size 224] [--threads N] [--json FILE]
                                  [--keep FOLDER [--budget SECONDS]]

ResNet18, 5 folds of mask, gender and three age experts: 25 checkpoints, whose weights are random (what they answer does
not change what they cost, and random masks route photos to all three age experts). Photos are generated, 512 x 384.

- naive: what people write themselves: a PIL + albumentations DataLoader, one pass over all photos a checkpoint, then
  the folds' means and the predicted mask's age model. Kept readable here.
- bound: 15 forward passes a photo (3 attributes x 5 folds), nothing decoded, each by the fastest of the float32 forms
  that are tried here first (plain, folded, channels last, both; batches of 8, 16 and 32).
- answer: `Answerer.answer`, hard route. Its checkpoints are loaded in a call before, as the naive pipeline's are.
- files to tensors: decoding, resizing, normalising, in batches: as `answer` does it against the naive DataLoader.

With one thread the process stays on one core: nothing is decoded beside the networks then. Half of the bound is
measured before and half after `answer`. A profile says where `answer` spends its time. With --keep the figures of each
round stay in a folder, and the same command goes on; --budget ends it before so many seconds are over.
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

import albumentations as A
import cv2
import numpy as np
import torch
from albumentations.pytorch import ToTensorV2
from numpy.typing import NDArray
from PIL import Image
from shared import Report, options, over, seconds
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

import ensemble_kit as ek
from ensemble_kit import answering
from ensemble_kit.answering import Answerer
from ensemble_kit.card import Card
from ensemble_kit.data.decode import Preprocess, decode_photo, prepare
from ensemble_kit.data.generated import generate_faces
from ensemble_kit.data.samples import SampleTable, read_samples
from ensemble_kit.files import read_json, write_json
from ensemble_kit.loading.decoding import decode_windows
from ensemble_kit.models.checkpoint import load_expert, save_checkpoint
from ensemble_kit.models.compute import choose_compute
from ensemble_kit.models.fused import fold_batch_norms
from ensemble_kit.models.heads import block_head, build_network

FOLDS = 5
MASK = ek.Attribute("mask", ["worn", "incorrect", "not_worn"])
GENDER = ek.Attribute("gender", ["male", "female"])
AGE = ek.Attribute("age", ["<30", "30-59", ">=60"], borders=[30, 60])
SCHEMA = ek.Schema(MASK, GENDER, AGE)
GRAPH = ek.Graph({"mask": [], "gender": [], "age": ["mask"]})
EXPERTS: list[tuple[str, dict[str, tuple[str, ...]]]] = [
    ("mask", {}),
    ("gender", {}),
    ("age", {"mask": ("worn",)}),
    ("age", {"mask": ("incorrect",)}),
    ("age", {"mask": ("not_worn",)}),
]
DECODINGS = 7
"""Times that all photos are decoded a round: they take little beside the networks."""

Floats = NDArray[np.floating[Any]]


def write_checkpoints(folder: Path, size: int) -> list[Path]:
    paths = []
    preprocess = Preprocess((size, size)).to_json()
    for number, (name, condition) in enumerate(EXPERTS):
        for fold in range(FOLDS):
            head = block_head(SCHEMA, [name])
            network = build_network("resnet18", "none", len(head.classes), (number, fold))
            train: dict[str, Any] = {"seed": 0, "fold": fold, "n_folds": FOLDS, "epoch": 1}
            train |= dict.fromkeys(("samples_sha256", "train_groups_sha256", "held_out_groups_sha256"), "")
            backbone = {"name": "resnet18", "init": "none", "head": "linear"}
            card = Card(SCHEMA, condition, (head,), backbone, preprocess, train)
            paths.append(folder / f"{name}-{number}-fold{fold}.safetensors")
            save_checkpoint(paths[-1], network, card)
    return paths


class NaivePhotos(Dataset[Tensor]):
    def __init__(self, paths: Sequence[Path], size: int):
        self.paths = paths
        steps = [A.Resize(size, size, interpolation=3), A.Normalize(), ToTensorV2()]  # 3 = area
        self.transform = A.Compose(steps)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, number: int) -> Tensor:
        photo = np.array(Image.open(self.paths[number]).convert("RGB"))
        found: Tensor = self.transform(image=photo)["image"]
        return found


def naive(table: SampleTable, networks: Sequence[nn.Module], size: int, batch: int = 32) -> NDArray[np.int64]:
    """One pass over all photos a checkpoint, then the means and the route."""
    answers = []
    for network in networks:
        loader = DataLoader(NaivePhotos(table.paths, size), batch_size=batch)
        with torch.no_grad():
            answers.append(torch.cat([torch.softmax(network(photos), dim=1) for photos in loader]).numpy())
    means = [np.mean(answers[i * FOLDS : (i + 1) * FOLDS], axis=0) for i in range(len(EXPERTS))]
    mask, gender, ages = means[0].argmax(1), means[1].argmax(1), np.stack(means[2:], axis=1)
    age = ages[np.arange(len(mask)), mask].argmax(1)
    return np.asarray(mask * 6 + gender * 3 + age)


Forward = Callable[[int], None]


def forms(network: nn.Module, size: int) -> dict[str, Forward]:
    """Calls that pass so many photos through one network, in each float32 form and batch size."""
    folded = fold_batch_norms(network, (size, size))
    modules: dict[str, tuple[nn.Module, torch.memory_format]] = {
        "plain": (network, torch.contiguous_format),
        "folded": (folded, torch.contiguous_format),
        "folded, channels last": (fold_batch_norms(network, (size, size)), torch.channels_last),
    }
    found: dict[str, Forward] = {}
    for name, (module, form) in modules.items():
        module = module.to(memory_format=form)
        for batch in (8, 16, 32):
            photos = torch.randn(batch, 3, size, size).to(memory_format=form)

            def call(n: int, module: nn.Module = module, photos: Tensor = photos) -> None:
                with torch.inference_mode():
                    for start in range(0, n, len(photos)):
                        module(photos[: n - start])

            found[f"{name}, batches of {batch}"] = call
    return found


def fastest(calls: dict[str, Forward], n: int) -> str:
    """The fastest of the three that came out fastest when each was tried once."""
    for call in calls.values():
        call(8)
    once = {name: seconds(partial(call, n)) for name, call in calls.items()}
    best = sorted(once, key=lambda name: once[name])[:3]
    return min(best, key=lambda name: min(seconds(lambda: calls[name](n)) for _ in range(2)))


def naive_tensors(paths: Sequence[Path], size: int, workers: int = 0) -> None:
    for _ in DataLoader(NaivePhotos(paths, size), batch_size=32, num_workers=workers):
        pass


def own_tensors(paths: Sequence[Path], size: int, threads: int) -> None:
    preprocess, compute = Preprocess((size, size)), choose_compute("cpu", "fp32", channels_last=True)
    for _, (photos,), _ in decode_windows(paths, [preprocess], 64, threads=threads):
        for start in range(0, len(photos), 32):
            compute.inputs(torch.from_numpy(photos[start : start + 32]), preprocess)


def bare_pixels(paths: Sequence[Path], size: int) -> None:
    """The JPEG decoder and the resizing that give these pixels, and nothing else; one thread."""
    for path in paths:
        photo = cv2.imdecode(np.fromfile(path, dtype=np.uint8), cv2.IMREAD_COLOR)
        assert photo is not None
        cv2.resize(photo, (size, size), interpolation=cv2.INTER_AREA)


def pil_prepared(path: Path, size: int) -> NDArray[np.uint8]:
    photo = np.array(Image.open(path).convert("RGB"))
    found: NDArray[np.uint8] = A.Resize(size, size, interpolation=3)(image=photo)["image"]
    return found


def main(argv: Sequence[str] | None = None) -> int:
    start = time.perf_counter()
    parser = options(__doc__, 5)
    parser.add_argument("--photos", type=int)
    parser.add_argument("--size", type=int)
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
    """Photos and checkpoints in a folder, and the rounds measured so far in its figures.json."""

    def __init__(self, report: Report, given: argparse.Namespace, folder: Path):
        self.report, self.size, self.threads, self.folder = report, given.size, given.threads, folder
        self.longest = 0.0
        if not (folder / "photos").exists():
            generate_faces(folder / "photos", people=1, eval_people=-(-given.photos // 7))
        table = read_samples(folder / "photos", SCHEMA, part="eval")
        self.table = table.select(range(min(given.photos, len(table))))
        self.checkpoints = sorted(folder.glob("*.safetensors")) or write_checkpoints(folder, self.size)
        self.networks = [load_expert(path)[0] for path in in_order(self.checkpoints)]
        self.n_passes = len(self.table) * 3 * FOLDS
        report.tell(f"{len(self.table)} photos, {self.size} px, {self.threads} threads, torch {torch.__version__}")
        calls = forms(self.networks[0], self.size)
        kept = folder / f"figures-{self.threads}.json"
        self.figures: dict[str, Any] = read_json(kept) if kept.is_file() else {"rounds": [], "forms": []}
        if not self.figures["forms"]:
            self.figures["forms"] = [fastest(calls, 32)]
        self.kept, self.forward = kept, calls[self.figures["forms"][0]]
        report.tell(f"fastest forward: {self.figures['forms'][0]}")
        self.answerer = Answerer(self.checkpoints, SCHEMA, GRAPH, device="cpu", precision="fp32")
        first = self.own()
        assert first.counts.forwards == self.n_passes, first.counts
        assert first.counts.decoded == len(self.table)
        self.labels = first.joint.labels()

    def own(self) -> answering.Answered:
        return self.answerer.answer(self.table, threads=self.threads, route="hard")

    def round(self) -> None:
        start = time.perf_counter()
        table, size, found = self.table, self.size, {}
        half = self.n_passes // 2
        bound = seconds(lambda: self.forward(half))
        found["answer"] = seconds(self.own)
        found["bound"] = bound + seconds(lambda: self.forward(self.n_passes - half))
        labels: list[NDArray[np.int64]] = []
        found["naive"] = seconds(lambda: labels.append(naive(table, self.networks, size)))
        found["equal"] = float(np.mean(self.labels == labels[0]))
        paths = list(self.table.paths) * DECODINGS
        decodings: dict[str, Callable[[], None]] = {
            "PIL": lambda: naive_tensors(paths, size),
            "PIL, workers": lambda: naive_tensors(paths, size, self.threads),
            "tensors": lambda: own_tensors(paths, size, self.threads),
            "bare": lambda: bare_pixels(paths, size),
        }
        for name, call in decodings.items():
            found[name] = seconds(call)
        self.figures["rounds"].append(found | profile(self.answerer, self.own))
        write_json(self.kept, self.figures)
        self.longest = max(self.longest, time.perf_counter() - start)

    def tell(self) -> None:
        report, rounds = self.report, self.figures["rounds"]
        values = {name: [float(one[name]) for one in rounds] for name in rounds[0]}
        report.tell(
            f"decoded {len(self.table)}, passes {self.n_passes}; equal answers with the naive pipeline: "
            f"{min(values['equal']):.1%}"
        )
        shares = [f"{name} {np.median(values[name]):.1%}" for name in PROFILED]
        report.tell(f"where answer's time goes: {', '.join(shares)}")
        pairs = [
            (pil_prepared(p, self.size), prepare(decode_photo(p), Preprocess((self.size,) * 2))) for p in self.paths
        ]
        report.tell(f"pixels equal to PIL + albumentations: {all(np.array_equal(a, b) for a, b in pairs)}")
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        report.add(f"answer against naive, {threads}", over(values["naive"], values["answer"]), least=2.2)
        report.add(f"answer against its bound, {threads}", over(values["bound"], values["answer"]), least=0.95)
        is_one = self.threads == 1
        report.add(
            f"files to tensors against PIL, {threads}",
            over(values["PIL"], values["tensors"]),
            least=None if is_one else 1.5,
            note="the decoder and the resizing of these pixels alone: below" if is_one else "",
        )
        if not is_one:
            pairs_of = over(values["PIL, workers"], values["tensors"])
            report.add(f"files to tensors against PIL, {self.threads} workers", pairs_of)
        report.add("JPEG decoding and resizing alone against PIL, 1 thread", over(values["PIL"], values["bare"]))
        photos = [len(self.table) / one for one in values["answer"]]
        report.add(f"photos a second, 15 passes each, {threads}", photos)

    @property
    def paths(self) -> list[Path]:
        return list(self.table.paths)


def in_order(checkpoints: Sequence[Path]) -> list[Path]:
    """Experts in the order of `EXPERTS`, each with its folds."""
    number = {path: path.stem.split("-")[1:] for path in checkpoints}
    return sorted(checkpoints, key=lambda path: number[path])


PROFILED = ("waiting for photos", "normalising", "networks", "the rest")


def profile(answerer: Answerer, call: Callable[[], object]) -> dict[str, float]:
    """Shares of one call's time, by clocks around its parts."""
    spent = dict.fromkeys(PROFILED, 0.0)

    def clocked(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any) -> Any:
            start = time.perf_counter()
            result = function(*args)
            spent[name] += time.perf_counter() - start
            return result

        return run

    module, compute = vars(answering), type(answerer.forms.compute)
    windows = module["photo_windows"]
    inputs, loaded = compute.inputs, dict(answerer.loaded)

    def waited(*args: Any) -> Iterator[Any]:
        source = iter(windows(*args))
        step = clocked("waiting for photos", lambda: next(source, None))
        while (window := step()) is not None:
            yield window

    answerer.loaded.update({path: clocked("networks", network) for path, network in loaded.items()})
    module["photo_windows"] = waited
    compute.inputs = clocked("normalising", inputs)  # type: ignore[method-assign]
    try:
        total = seconds(call)
    finally:
        answerer.loaded.update(loaded)
        module["photo_windows"] = windows
        compute.inputs = inputs  # type: ignore[method-assign]
    spent["the rest"] = total - sum(spent.values())
    return {name: value / total for name, value in spent.items()}


if __name__ == "__main__":
    sys.exit(main())
