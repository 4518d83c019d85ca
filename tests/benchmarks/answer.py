"""Photos to 18 classes with 25 checkpoints: `answer_table` against the home-made pipeline, and against its own bound.

python tests/benchmarks/answer.py [--photos 48] [--rounds 5] [--size 224] [--threads N] [--json FILE]

ResNet18, 5 folds of mask, gender and three age experts: 25 checkpoints, whose weights are random (what they answer does
not change what they cost, and random masks route photos to all three age experts). Photos are generated, 512 x 384.

- naive: what people write themselves: a PIL + albumentations DataLoader, one pass over all photos a checkpoint, then
  the folds' means and the predicted mask's age model. Kept readable here.
- bound: 15 forward passes a photo (3 attributes x 5 folds), nothing decoded, each by the fastest of the float32 forms
  that are tried here first (plain, folded, channels last, both; batches of 16, 32 and 64).
- answer: `Answerer.answer`, hard route. Its checkpoints are loaded in a call before, as the naive pipeline's are.
- decode and prepare: as `answer` does it, in threads, against the naive pipeline's photos one after the other.

Turn about (naive, answer, bound, ...), medians of the ratios with quartiles; exit code 1 when a limit is missed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import albumentations as A
import numpy as np
import torch
from albumentations.pytorch import ToTensorV2
from numpy.typing import NDArray
from PIL import Image
from shared import Report, options, seconds
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

import ensemble_kit as ek
from ensemble_kit.answering import Answerer
from ensemble_kit.card import Card
from ensemble_kit.data.decode import Preprocess, decode_photo, prepare
from ensemble_kit.data.generated import generate_faces
from ensemble_kit.data.samples import SampleTable, read_samples
from ensemble_kit.loading.decoding import decode_windows
from ensemble_kit.models.checkpoint import load_expert, save_checkpoint
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
LIMITS = {"answer against naive": 2.2, "answer against its bound": 0.95, "decode and prepare against PIL": 1.5}

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


def best_forward(network: nn.Module, size: int) -> tuple[str, Callable[[int], None]]:
    """The fastest float32 form of one network: its name, and a call that passes so many photos."""
    folded = fold_batch_norms(network, (size, size))
    forms: dict[str, tuple[nn.Module, torch.memory_format]] = {
        "plain": (network, torch.contiguous_format),
        "folded": (folded, torch.contiguous_format),
        "channels last": (fold_batch_norms(network, (size, size)), torch.channels_last),
    }
    timed: list[tuple[float, str, Callable[[int], None]]] = []
    for name, (module, form) in forms.items():
        module = module.to(memory_format=form)
        for batch in (16, 32, 64):
            photos = torch.randn(batch, 3, size, size).to(memory_format=form)

            def call(n: int, module: nn.Module = module, photos: Tensor = photos) -> None:
                with torch.inference_mode():
                    for start in range(0, n, len(photos)):
                        module(photos[: n - start])

            call(batch)
            timed.append((min(seconds(lambda: call(64)) for _ in range(2)), f"{name}, batches of {batch}", call))
    best = min(timed, key=lambda one: one[0])
    return best[1], best[2]


def pil_prepared(path: Path, size: int) -> NDArray[np.uint8]:
    photo = np.array(Image.open(path).convert("RGB"))
    found: NDArray[np.uint8] = A.Resize(size, size, interpolation=3)(image=photo)["image"]
    return found


def main(argv: Sequence[str] | None = None) -> int:
    parser = options(__doc__, 5)
    parser.add_argument("--photos", type=int)
    parser.add_argument("--size", type=int)
    given = parser.parse_args(argv)
    given.photos = given.photos or (7 if given.quick else 49)
    given.size = given.size or (32 if given.quick else 224)
    given.threads = given.threads or torch.get_num_threads()
    torch.set_num_threads(given.threads)
    report = Report(__file__, given)
    with tempfile.TemporaryDirectory() as folder:
        compare(report, given, Path(folder))
    return report.end()


def compare(report: Report, given: argparse.Namespace, folder: Path) -> None:
    size = given.size
    generate_faces(folder / "photos", people=1, eval_people=-(-given.photos // 7))
    table = read_samples(folder / "photos", SCHEMA, part="eval")
    checkpoints = write_checkpoints(folder, size)
    networks = [load_expert(path)[0] for path in checkpoints]
    n_passes = len(table) * 3 * FOLDS
    form, forward = best_forward(networks[0], size)
    report.tell(f"{len(table)} photos, {size} px, {given.threads} threads, torch {torch.__version__}")
    report.tell(f"fastest forward: {form}")

    answerer = Answerer(checkpoints, SCHEMA, GRAPH, device="cpu", precision="fp32")

    def own() -> Any:
        return answerer.answer(table, route="hard")

    first = own()
    assert first.counts.forwards == n_passes, first.counts
    assert first.counts.decoded == len(table)
    same = float(np.mean(first.joint.labels() == naive(table, networks, size)))
    report.tell(f"decoded {first.counts.decoded}, passes {n_passes}; equal answers with the naive pipeline: {same:.1%}")

    ratios: dict[str, list[float]] = {name: [] for name in LIMITS}
    for _ in range(report.rounds):
        bound = seconds(lambda: forward(n_passes))
        took = seconds(own)
        slow = seconds(lambda: naive(table, networks, size))
        pil = seconds(lambda: [pil_prepared(path, size) for path in table.paths])
        ours = seconds(lambda: list(decode_windows(table.paths, [Preprocess((size, size))])))
        found = (slow / took, bound / took, pil / ours)
        for name, ratio in zip(LIMITS, found, strict=True):
            ratios[name].append(ratio)
    pairs = [(pil_prepared(path, size), prepare(decode_photo(path), Preprocess((size, size)))) for path in table.paths]
    equal = all(np.array_equal(a, b) for a, b in pairs)
    report.tell(f"prepared pixels equal to PIL + albumentations: {equal}")
    for name, values in ratios.items():
        report.add(name, values, least=LIMITS[name])


if __name__ == "__main__":
    sys.exit(main())
