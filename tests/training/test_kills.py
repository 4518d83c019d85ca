"""Trainings and writers that are killed (SIGKILL) at random moments, many times.

The counts of the long part: `python -m pytest -m slow -s tests/training/test_kills.py`.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
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


STEP, OPENED, WRITTEN, SYNCED = b"s", b"o", b"w", b"r"
"""What a training tells while it is at work: a step is done; a state is begun, written, about to take its name."""


def telling(pipe: int) -> Callable[[int, int], None]:
    """In a child: every write is told before it happens. Returns what is to be told of steps."""
    save, fsync, replace = FoldFolder.save_state, os.fsync, os.replace

    def told(event: bytes, call: Callable[..., Any]) -> Callable[..., Any]:
        def tell(*args: Any) -> Any:
            os.write(pipe, event)
            return call(*args)

        return tell

    FoldFolder.save_state = told(OPENED, save)  # type: ignore[method-assign]
    os.fsync, os.replace = told(WRITTEN, fsync), told(SYNCED, replace)
    return told(STEP, lambda done, total: None)


@dataclass
class Pace:
    """How many things one uninterrupted training tells, and the seconds before the first and between two of them."""

    events: int
    first: float
    between: float


class Campaign:
    """A training, how it ends when it is left alone, and what it tells on the way.

    Moments are drawn among what is told, not in seconds: a child that starts slowly is not killed any earlier.
    """

    def __init__(self, root: Path):
        self.root = root
        self.table: SampleTable = draw_table(root / "photos")
        self.photos: PhotoCache = make_photos(self.table, root / "cache")
        self.train_here(root / "warm", 0)  # what a first training imports is imported once
        self.paces = {seconds: self.left_alone(root / f"whole{seconds:g}", seconds) for seconds in (600.0, 0.0)}
        self.whole = self.result(root / "whole600")
        assert same(self.result(root / "whole0"), self.whole)

    def train(self, folder: Path, workers: int, save_seconds: float, pipe: int | None = None) -> None:
        """The state of the end stays, to be compared."""
        session_module.SAVE_SECONDS = save_seconds
        FoldFolder._drop_states = lambda self: None  # type: ignore[method-assign]
        self.train_here(folder, workers, None if pipe is None else telling(pipe))

    def train_here(self, folder: Path, workers: int, on_step: Callable[[int, int], None] | None = None) -> None:
        job: ExpertJob = make_job(**SETTINGS, workers=workers)
        folds = folds_of(self.table)
        train_fold(job, table=self.table, folds=folds, photos=self.photos, folder=folder, on_step=on_step)

    def told_by(self, folder: Path, workers: int, save_seconds: float) -> tuple[int, int]:
        """A training in a child, and the end of a pipe that hears it; what its workers say of its end is kept apart."""
        reader, pipe = os.pipe()

        def work() -> None:
            os.dup2(os.open(self.root / "told.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
            self.train(folder, workers, save_seconds, pipe)

        child = begun(work)
        os.close(pipe)
        return child, reader

    def left_alone(self, folder: Path, save_seconds: float) -> Pace:
        child, reader = self.told_by(folder, 0, save_seconds)
        times = [time.monotonic()]
        while os.read(reader, 1):
            times.append(time.monotonic())
        os.close(reader)
        assert ended(child) == 0, (self.root / "told.txt").read_text()
        events = len(times) - 1
        return Pace(events, times[1] - times[0], (times[-1] - times[1]) / events)

    def result(self, folder: Path) -> dict[str, Any]:
        """Weights, predictions, metrics; and of the last state weights, optimiser, average."""
        state = torch.load(folder / "state.pt", weights_only=True)
        files = {name: (folder / name).read_bytes() for name in ("best.safetensors", "oof.npy")}
        return {**files, "metrics": history(folder), **{key: state[key] for key in ("model", "optimizer", "ema")}}

    def killed_once(self, number: int, rng: random.Random) -> str | None:
        """Kills a training at a random moment, goes on with another number of workers, compares the end.

        Returns what it was at; None where it had ended before.
        """
        folder = self.root / str(number)
        workers = rng.choice([(a, b) for a in range(3) for b in range(3)])
        save_seconds = rng.choice([0.0, 0.0, 600.0])  # after every step, or after every epoch
        child, reader = self.told_by(folder, workers[0], save_seconds)
        was_at = self.cut_off(child, reader, self.paces[save_seconds], rng)
        had_ended, is_torn = (folder / "DONE").exists(), bool(list(folder.glob(".*.tmp")))
        assert ended(begun(lambda: self.train(folder, workers[1], save_seconds))) == 0
        assert same(self.result(folder), self.whole), f"{folder}: other bits"
        assert not list(folder.glob(".*.tmp"))
        shutil.rmtree(folder)
        return None if had_ended else f"{workers[0]} then {workers[1]} workers, {was_at}{', torn' * is_torn}"

    def cut_off(self, child: int, reader: int, pace: Pace, rng: random.Random) -> str:
        """Kills it some time after a random one of the things that it tells; what it did then."""
        told = b""
        for _ in range(rng.randrange(pace.events)):
            told += os.read(reader, 1)
        killed(child, rng.uniform(0, pace.between if told else pace.first))
        while part := os.read(reader, 1 << 10):
            told += part
        os.close(reader)
        last = told[-1:]
        return "before anything" if not last else "training" if last == STEP else "writing"


def same(a: Any, b: Any) -> bool:
    """Equal to the last bit, tensors anywhere inside."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)


def campaign(root: Path, kills: int) -> Counter[str]:
    """Returns what trainings were at that were killed at work, each resumed to the same bits."""
    world, rng = Campaign(root), random.Random(kills)
    found, number = Counter[str](), 0
    while found.total() < kills:
        was_at, number = world.killed_once(number, rng), number + 1
        if was_at is not None:
            found[was_at] += 1
            if found.total() % 20 == 0:
                print(f"{found.total()} of {kills} killed at work and resumed", flush=True)
        assert number <= 2 * kills + 10
    return found


def test_a_training_killed_at_any_moment_ends_with_the_same_bits(tmp_path: Path) -> None:
    campaign(tmp_path, 1)


@pytest.mark.slow
def test_two_hundred_trainings_killed(tmp_path: Path) -> None:
    found = campaign(tmp_path, 200)
    print(f"\n{found.total()} of 200 trainings killed at work and resumed to the same bits")
    for was_at in ("before anything", "training", "writing", "torn"):
        print(f"  {was_at}: {sum(n for name, n in found.items() if was_at in name)}")
    workers = Counter({name.split(",")[0]: 0 for name in found})
    for name, n in found.items():
        workers[name.split(",")[0]] += n
    print(f"  {dict(sorted(workers.items()))}")
    assert len(workers) == 9


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
