"""Trainings and writers that are killed (SIGKILL) at random moments, many times.

The counts of the long part: `python -m pytest -m slow -s tests/training/test_kills.py`.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import pytest
import torch
from test_resume import history, with_dropout
from tiny_training import draw_table, folds_of, make_job, make_phase, make_photos, tiny_backbone

from ensemble_kit.card import TRAIN_KEYS, Card
from ensemble_kit.data.samples import SampleTable
from ensemble_kit.loading.cache import PhotoCache
from ensemble_kit.models.checkpoint import load_expert, save_checkpoint
from ensemble_kit.models.heads import build_network
from ensemble_kit.training import ExpertJob, train_fold
from ensemble_kit.training import session as session_module
from ensemble_kit.training.columns import heads_of, parts_of_job
from ensemble_kit.training.folder import FoldFolder

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="forks"),
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),  # Python 3.12+: torch has threads
]

SETTINGS: dict[str, Any] = {
    "backbone": with_dropout,
    "phases": (
        make_phase(epochs=1, optimizer="sgd", freeze=("0.0",)),
        make_phase(epochs=2, batch_size=4, accumulate=2, clip=1.0),
    ),
    "augment": ("flip", "affine"),
    "mix": ("mixup",),
    "mix_share": 0.5,
    "sampler": "balanced",
    "ema": 0.9,
}


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """OpenCV's threads do not survive a fork."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(0)
    yield
    cv2.setNumThreads(before)


def begun(work: Callable[[], object]) -> int:
    """A child of this process that does the work, without the seconds that importing takes; returns its number."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except BaseException as error:
            os.write(2, f"{type(error).__name__}: {error}\n".encode())
            os._exit(1)
    return child


def ended(child: int) -> int:
    """Waits; returns the exit status, or minus the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def killed(child: int, after: float) -> bool:
    """Kills it so many seconds from now; whether it was still at work."""
    time.sleep(after)
    os.kill(child, signal.SIGKILL)
    status = ended(child)
    assert status in (0, -signal.SIGKILL)
    return status != 0


class Campaign:
    """A training, how it ends when it is left alone, and how long that takes."""

    def __init__(self, root: Path):
        self.root = root
        self.table: SampleTable = draw_table(root / "photos")
        self.photos: PhotoCache = make_photos(self.table, root / "cache")
        self.train_here(root / "warm", 0)  # what a first training imports is imported once
        start = time.monotonic()
        assert ended(begun(lambda: self.train(root / "whole", 0, 600.0))) == 0
        self.seconds = time.monotonic() - start
        self.whole = self.result(root / "whole")

    def train(self, folder: Path, workers: int, save_seconds: float) -> None:
        """The state of the end stays, to be compared."""
        session_module.SAVE_SECONDS = save_seconds
        FoldFolder._drop_states = lambda self: None  # type: ignore[method-assign]
        self.train_here(folder, workers)

    def train_here(self, folder: Path, workers: int) -> None:
        job: ExpertJob = make_job(**SETTINGS, workers=workers)
        train_fold(job, table=self.table, folds=folds_of(self.table), photos=self.photos, folder=folder)

    def result(self, folder: Path) -> dict[str, Any]:
        """Weights, predictions, metrics; and of the last state weights, optimiser, average."""
        state = torch.load(folder / "state.pt", weights_only=True)
        files = {name: (folder / name).read_bytes() for name in ("best.safetensors", "oof.npy")}
        return {**files, "metrics": history(folder), **{key: state[key] for key in ("model", "optimizer", "ema")}}

    def killed_once(self, number: int, rng: random.Random) -> bool:
        """Kills a training at a random moment and goes on with another number of workers; whether it was at work."""
        folder = self.root / str(number)
        workers = rng.choice([(0, 0), (0, 1), (1, 0), (1, 2), (2, 0), (2, 2)])
        save_seconds = rng.choice([0.0, 0.0, 600.0])  # after every step, or after every epoch
        child = begun(lambda: self.train(folder, workers[0], save_seconds))
        was_at_work = killed(child, rng.uniform(0, self.seconds))
        assert ended(begun(lambda: self.train(folder, workers[1], save_seconds))) == 0
        assert same(self.result(folder), self.whole), f"{folder}: other bits"
        assert not list(folder.glob(".*.tmp"))
        return was_at_work


def same(a: Any, b: Any) -> bool:
    """Equal to the last bit, tensors anywhere inside."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)


def campaign(root: Path, kills: int) -> tuple[int, int]:
    """Returns how many trainings were killed at work, each resumed to the same bits, and how many had ended before."""
    world, rng = Campaign(root), random.Random(kills)
    found = {True: 0, False: 0}
    while found[True] < kills:
        found[world.killed_once(sum(found.values()), rng)] += 1
        assert found[False] <= 10 * kills
        if found[True] % 50 == 0:
            print(f"{found[True]} of {kills} killed and resumed", flush=True)
    return found[True], found[False]


def test_a_training_killed_at_any_moment_ends_with_the_same_bits(tmp_path: Path) -> None:
    campaign(tmp_path, 4)


@pytest.mark.slow
def test_two_hundred_trainings_killed(tmp_path: Path) -> None:
    at_work, before = campaign(tmp_path, 200)
    print(f"\n{at_work} of 200 trainings killed at work and resumed to the same bits ({before} more had ended before)")


class Writer:
    """Writes numbered states and checkpoints, one after the other; tells each number once its files are written."""

    def __init__(self, folder: Path):
        self.folder, self.files = folder, FoldFolder(folder, {"a": 1})
        self.job, self.orphans = make_job(), 0
        self.network = build_network(tiny_backbone, "none", parts_of_job(self.job), (0, 0))
        describe: dict[str, Any] = {"schema": self.job.schema, "condition": {}, "heads": heads_of(self.job)}
        train = {**dict.fromkeys(TRAIN_KEYS, "0"), "seed": 0, "fold": 0, "n_folds": 2, "epoch": 1}
        backbone, preprocess = {"name": "tiny_backbone", "head": "linear"}, self.job.preprocess.to_json()
        self.card = Card(**describe, backbone=backbone, preprocess=preprocess, train=train, metrics={}, versions={})

    def write(self, pipe: int) -> None:
        with self.files.locked():
            for number in range(1, 100_000):
                for parameter in self.network.parameters():
                    torch.nn.init.constant_(parameter, number)
                self.files.save_state({"number": number, "model": self.network.state_dict(), "next_epoch": 1})
                save_checkpoint(self.files.best, self.network, self.card)
                os.write(pipe, number.to_bytes(4, "big"))

    def killed(self, after: float) -> str:
        """Kills the writer and checks what is there; which of the two states it was: last, or before."""
        for file in self.folder.glob("*"):
            file.unlink()
        reader, pipe = os.pipe()
        child = begun(lambda: self.write(pipe))
        os.close(pipe)
        told = os.read(reader, 4)  # from here on there is a last one
        assert killed(child, after)
        while part := os.read(reader, 1 << 16):
            told += part
        os.close(reader)
        done = int.from_bytes(told[-4:], "big")
        self.orphans += len(list(self.folder.glob(".*.tmp")))
        with self.files.locked():
            assert not list(self.folder.glob(".*.tmp")), "orphans"
        state = self.files.load_state()
        assert state is not None
        assert state["number"] in (done, done + 1)
        names = [name for name, _ in self.network.named_parameters()]
        assert all((state["model"][name] == state["number"]).all() for name in names)
        network, _ = load_expert(self.files.best, backbones={"tiny_backbone": tiny_backbone})
        assert float(next(network.parameters()).detach().view(-1)[0]) in (done, done + 1)
        return "the one under way" if state["number"] > done else "the last one told"


def writers(folder: Path, kills: int) -> dict[str, int]:
    writer, rng = Writer(folder), random.Random(kills)
    found: dict[str, int] = {}
    for _ in range(kills):
        kind = writer.killed(rng.uniform(0, 0.05))
        found[kind] = found.get(kind, 0) + 1
    return found | {"orphans cleaned": writer.orphans}


def test_a_killed_writer_leaves_a_state_and_a_checkpoint_that_verify(tmp_path: Path) -> None:
    writers(tmp_path, 8)


@pytest.mark.slow
def test_three_hundred_writers_killed(tmp_path: Path) -> None:
    found = writers(tmp_path, 300)
    print(f"\n300 of 300 writers killed, a state and a checkpoint verify, nothing left behind: {found}")
