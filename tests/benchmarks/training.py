"""One epoch of training through `train_fold`, against the steps alone and against the usual loops.

python tests/benchmarks/training.py [--people 4] [--size 224] [--batch-size 14] [--rounds 5] [--threads 1]

ResNet18 from random weights on generated photos (512 x 384), AdamW, augmented as `recipes/face_mask.toml` has it.

- bound: the same network, optimiser, batch sizes, precision and memory format stepping on fixed random tensors: no
  photo, no augmentation, no check.
- own: an epoch of `train_fold` as it counts its photos a second: batches from the warm cache, augmented, the step, the
  running loss, the checks of loss and weights at the epoch's end. What is left out: building the network, and scoring
  and writing after the epoch (told by itself).
- torchvision: the loop of its reference scripts: `ImageFolder`, `RandomResizedCrop`, flip, colour jitter,
  `DataLoader`, cross-entropy, AdamW as torch has it by default, the loss read every step for the meter.
- timm: `create_dataset`, `create_loader` with its usual augmentation, its `create_optimizer_v2("adamw")`.

Both peers decode every photo in every epoch.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from shared import Report, options, over, seconds
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tiny_training import SCHEMA, make_job, make_phase

from ensemble_kit.arrays import IntArray
from ensemble_kit.data.generated import generate_faces
from ensemble_kit.data.samples import read_samples
from ensemble_kit.loading.cache import PhotoCache
from ensemble_kit.loading.dataset import EpochLoader, TrainingPhotos
from ensemble_kit.loading.transforms import Augment
from ensemble_kit.models.compute import choose_compute
from ensemble_kit.models.heads import Network, build_network
from ensemble_kit.training import ExpertJob, train_fold
from ensemble_kit.training.job import EpochLine
from ensemble_kit.training.optimizers import make_optimizer
from ensemble_kit.training.rows import batches_of, choose_rows

AUGMENT = ("flip", "affine", "brightness_contrast")
CROP = (0.78, 0.67)
LEAST = 0.95


def main(argv: Sequence[str] | None = None) -> int:
    parser = options(__doc__, 5)
    parser.add_argument("--people", type=int, help="of seven photos each; default 4")
    parser.add_argument("--size", type=int, help="default 224")
    parser.add_argument("--batch-size", type=int, help="default 14")
    parser.add_argument("--workers", type=int, default=0, help="processes that load, for every side")
    parser.add_argument("--device", default="auto")
    given = parser.parse_args(argv)
    given.people = given.people or (2 if given.quick else 4)
    given.size = given.size or (32 if given.quick else 224)
    given.batch_size = given.batch_size or 7 * max(1, given.people // 2)
    given.threads = given.threads or torch.get_num_threads()
    torch.set_num_threads(given.threads)
    report = Report(__file__, given)
    with tempfile.TemporaryDirectory() as folder:
        Bench(given, Path(folder)).compare(report)
    return report.end()


class Bench:
    """The photos, the job, and one call for each side."""

    def __init__(self, given: argparse.Namespace, folder: Path):
        self.given, self.folder = given, folder
        generate_faces(folder / "photos", people=given.people + 1, eval_people=1)
        self.table = read_samples(folder / "photos", SCHEMA, part="train")
        # one person is held out: scoring, once at the end, is not in the time that is taken
        self.folds = np.where(self.table.groups == self.table.groups[0], 0, -1)
        self.compute = choose_compute(given.device)
        size = given.size
        self.job = make_job(
            backbone="resnet18",
            size=(size, size),
            crop=CROP,
            augment=AUGMENT,
            phases=(make_phase(epochs=1, batch_size=given.batch_size, backbone_lr=1e-4, head_lr=1e-3),),
            keep="last",
            score_every=0,
            precision="auto",
            device=given.device,
            workers=given.workers,
            threads=given.threads,
            n_folds=2,
        )
        took = seconds(lambda: PhotoCache.build(self.table, self.job.preprocess, folder / "cache"))
        self.photos = PhotoCache.build(self.table, self.job.preprocess, folder / "cache")
        self.rows = choose_rows(self.job, self.table, self.folds, self.photos)
        self.decoding = took / len(self.table)
        self.sizes = [len(batch) for batch in batches_of(self.job, self.rows, 1)]

    def compare(self, report: Report) -> None:
        where = f"{self.compute.describe()}, {torch.get_num_threads()} threads, {self.given.workers} workers"
        report.tell(f"{sum(self.sizes)} photos of {self.given.size} px in batches of {self.sizes}; {where}")
        sides = {"bound": self.bound()}
        for name, make in (("torchvision", self.torchvision), ("timm", self.timm)):
            try:
                sides[name] = make()
            except ImportError as error:
                report.skip(f"own / {name}'s loop, times as fast", str(error))
        took = self.turns(sides, report.rounds)
        best = sum(self.sizes) / min(took["own"])
        report.add(
            "steps alone / training, share of the bound",
            over(took["bound"], took["own"]),
            least=LEAST,
            note=f"best {best:.1f} photos/s",
        )
        for name in list(sides)[1:]:
            report.add(f"{name}'s loop / training, times as fast", over(took[name], took["own"]))
        self.profile(report, min(took["own"]))

    def turns(self, sides: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
        """One training; after each of its epochs the others have their turn. The first one warms up.

        Workers read ahead meanwhile, at the most two batches each: with some, take epochs of many batches.
        """
        took: dict[str, list[float]] = {name: [] for name in ("own", *sides)}

        def turn(line: EpochLine) -> None:
            took["own"].append(sum(self.sizes) / line.photos_per_second)
            for name in list(sides)[:: 1 if line.epoch % 2 else -1]:
                took[name].append(sides[name]())

        phase = make_phase(**vars(self.job.phases[0]) | {"epochs": rounds + 1})
        self.trained(replace(self.job, phases=(phase,)), "run", turn)
        return {name: values[1:] for name, values in took.items()}

    def trained(self, job: ExpertJob, name: str, on_epoch: Callable[[EpochLine], None] | None = None) -> None:
        train_fold(
            job,
            table=self.table,
            folds=self.folds,
            photos=self.photos,
            folder=self.folder / name,
            restart=True,
            on_epoch=on_epoch,
            on_notice=lambda text: None,
        )

    def network(self) -> Network:
        network = build_network("resnet18", "none", 3, (0,))
        self.compute.place(network)
        return network.train()

    def bound(self) -> Callable[[], float]:
        network, size, device = self.network(), self.given.size, self.compute.device
        optimizer = make_optimizer(network, self.job.phases[0])
        form = torch.channels_last if self.compute.channels_last else torch.contiguous_format
        inputs = [torch.randn(n, 3, size, size, device=device).to(memory_format=form) for n in self.sizes]
        targets = [torch.randint(3, (n,), device=device) for n in self.sizes]
        loss_of = nn.CrossEntropyLoss(label_smoothing=self.job.label_smoothing)

        def epoch() -> None:
            for x, y in zip(inputs, targets, strict=True):
                with self.compute.autocast():
                    logits = network(x)
                loss_of(logits.float(), y).backward()
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
            self.wait()

        return partial(seconds, epoch)

    def wait(self) -> None:
        if self.compute.device.type == "cuda":
            torch.cuda.synchronize()

    def class_folders(self) -> Path:
        """The training photos once more, as links in a folder a class."""
        root = self.folder / "by_class"
        for row in self.rows.train:
            name = SCHEMA["mask"].classes[self.table.numbers("mask")[row]]
            (root / name).mkdir(parents=True, exist_ok=True)
            link = root / name / f"{row}.jpg"
            if not link.exists():
                os.link(self.table.paths[row], link)
        return root

    def torchvision(self) -> Callable[[], float]:
        """references/classification/train.py: train_one_epoch, and its ClassificationPresetTrain."""
        from torchvision import datasets, transforms

        steps = [
            transforms.RandomResizedCrop(self.given.size),
            transforms.RandomHorizontalFlip(),
            transforms.ColorJitter(0.2, 0.2),
            transforms.PILToTensor(),
            transforms.ConvertImageDtype(torch.float),
            transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
        photos = datasets.ImageFolder(str(self.class_folders()), transforms.Compose(steps))
        loader: Any = torch.utils.data.DataLoader(
            photos,
            batch_size=self.given.batch_size,
            shuffle=True,
            num_workers=self.given.workers,
            pin_memory=self.compute.device.type == "cuda",
        )
        network = self.network()
        return self.usual(network, torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.05), loader)

    def timm(self) -> Callable[[], float]:
        """train.py of timm: create_dataset, create_loader, create_optimizer_v2."""
        data: Any = import_module("timm.data")
        optim: Any = import_module("timm.optim")
        photos = data.create_dataset("", root=str(self.class_folders()), is_training=True)
        loader = data.create_loader(
            photos,
            input_size=(3, self.given.size, self.given.size),
            batch_size=self.given.batch_size,
            is_training=True,
            num_workers=self.given.workers,
            persistent_workers=False,
            use_prefetcher=self.compute.device.type == "cuda",
            device=self.compute.device,
        )
        network = self.network()
        return self.usual(network, optim.create_optimizer_v2(network, opt="adamw", lr=1e-3, weight_decay=0.05), loader)

    def usual(
        self, network: nn.Module, optimizer: torch.optim.Optimizer, loader: Iterable[tuple[Tensor, Tensor]]
    ) -> Callable[[], float]:
        """What both do in an epoch; seconds a photo times the photos of an epoch (timm's loader drops the last ones)."""
        loss_of = nn.CrossEntropyLoss(label_smoothing=self.job.label_smoothing)
        seen = 0

        def epoch() -> None:
            nonlocal seen
            seen = 0
            for photos, targets in loader:
                x, y = photos.to(self.compute.device), targets.to(self.compute.device)
                with self.compute.autocast():
                    loss = loss_of(network(x), y)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                loss.item()
                seen += len(y)
            self.wait()

        return lambda: seconds(epoch) / seen * sum(self.sizes)

    def profile(self, report: Report, epoch: float) -> None:
        """Where the rest of an epoch goes."""
        n, job = sum(self.sizes), self.job
        augment = Augment(job.augment, job.size, 0)
        data = TrainingPhotos(self.photos.photos, self.rows.train, self.rows.train_targets, augment)

        def batches(_: int) -> list[IntArray]:
            return batches_of(job, self.rows, 1)

        with EpochLoader(data, batches, [1, 2], 0) as loader:
            list(loader.epoch(1))
            loading = seconds(lambda: list(loader.epoch(2)))
        photos = torch.zeros((max(self.sizes), *job.size, 3), dtype=torch.uint8)
        inputs = min(seconds(lambda: self.compute.inputs(photos, job.preprocess)) for _ in range(5)) / len(photos)
        report.add("augment and stack, without workers: share of the epoch", [loading / epoch])
        report.add("to normalised floats: share of the epoch", [inputs * n / epoch])
        note = f"{self.decoding * 1e3:.1f} ms a photo, once for all experts and folds"
        report.add("decoding into the cache, in epochs", [self.decoding * n / epoch], note=note)


if __name__ == "__main__":
    sys.exit(main())
