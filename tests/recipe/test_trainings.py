"""Several trainings at a time: the same bits as one after the other, in an order that serves who waits for whom."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_training import draw_table, folds_of, make_job, make_photos, tiny_backbone
from torch import nn

from ensemble_kit.errors import DivergedError, StoppedError
from ensemble_kit.recipe import trainings as trainings_module
from ensemble_kit.recipe.trainings import Training, run_trainings
from ensemble_kit.training import ExpertJob

FOLDS = (0, 1, 0)


def killed_backbone() -> tuple[nn.Module, int]:
    os._exit(9)


def wild_backbone() -> tuple[nn.Module, int]:
    network, n_features = tiny_backbone()

    class Wild(nn.Module):
        def forward(self, photos: torch.Tensor) -> torch.Tensor:
            features: torch.Tensor = network(photos)
            return features * float("nan")

    return Wild(), n_features


class Heard:
    def __init__(self, on_line: Callable[[], None] = lambda: None) -> None:
        self.lines: list[str] = []
        self.shares: dict[int, list[float]] = {}
        self.on_line = on_line

    def line(self, text: str) -> None:
        self.lines.append(text)
        self.on_line()

    def step(self, number: int, share: float) -> None:
        self.shares.setdefault(number, []).append(share)


def three(root: Path, out: Path) -> list[Training]:
    """The third waits for the first; the second is the longest."""
    table = draw_table(root / "photos")
    photos = make_photos(table, root / "cache")
    return [
        Training(table, folds_of(table), photos, out / str(number), False, amount=float(number == 1), after=after)
        for number, after in enumerate([(), (), (0,)])
    ]


def job_of(number: int) -> ExpertJob:
    return make_job(fold=FOLDS[number], seed=number, epochs=2, threads=1)


def run_all(trainings: list[Training], at_once: int) -> tuple[Heard, list[int]]:
    """What was heard, and in which order jobs were asked for."""
    heard, begun, ended = Heard(), list[int](), list[int]()

    def make(number: int) -> ExpertJob:
        assert ended.count(0) or number != 2, "began before the one it starts from was done"
        begun.append(number)
        return job_of(number)

    for number, result in run_trainings(trainings, make, heard, at_once=at_once):
        assert result.folder == trainings[number].folder
        ended.append(number)
    assert sorted(ended) == [0, 1, 2]
    return heard, begun


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which all three have been trained, one after the other in this process, and what was heard."""
    root = tmp_path_factory.mktemp("trainings")
    heard, in_order = run_all(three(root, root / "one"), 1)
    assert in_order == [0, 1, 2]
    (root / "lines").write_text("\n".join(map(without_time, heard.lines)))
    return root


@pytest.mark.slow
def test_processes_give_the_same_bits_and_wait_for_each_other(done: Path, tmp_path: Path) -> None:
    heard, begun = run_all(three(tmp_path, tmp_path / "two"), 2)
    assert begun[0] == 1, "the longest begins first"
    assert sorted(map(without_time, heard.lines)) == sorted((done / "lines").read_text().splitlines())
    for number in range(3):
        assert (heard.shares[number][0], heard.shares[number][-1]) == (0, 1)
        for name in ("best.safetensors", "oof.npy"):
            one, two = done / "one" / str(number) / name, tmp_path / "two" / str(number) / name
            assert one.read_bytes() == two.read_bytes()
    again = [result for _, result in run_trainings(three(tmp_path, tmp_path / "two"), job_of, Heard(), at_once=2)]
    assert [result.skipped for result in again] == [True] * 3


def without_time(line: str) -> str:
    return line[: line.rindex("(")]


def test_what_was_told_is_heard_even_when_all_results_came_first(done: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trained before, so that the process has no more to do than to tell that it began."""
    pass_on = trainings_module._pass_on

    def late(told: Any, listener: trainings_module.Listener) -> None:
        if not multiprocessing.active_children():
            pass_on(told, listener)

    monkeypatch.setattr(trainings_module, "_pass_on", late)
    heard, left = Heard(), {1: three(done, done / "one")[1]}
    ((number, result),) = trainings_module._in_processes(left, job_of, heard, at_once=1)
    assert (number, result.skipped) == (1, True)
    assert heard.shares == {1: [0.0]}


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(fcntl, "F_SETPIPE_SZ"), reason="a pipe's size is set on Linux only")
def test_processes_with_much_to_tell_are_stopped_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process does not end before all that it told has been fetched, and a pipe holds so much only."""

    def busy(told: Any, listener: trainings_module.Listener) -> None:
        if not told.empty():
            fcntl.fcntl(told._reader.fileno(), fcntl.F_SETPIPE_SZ, 4096)
            time.sleep(5)
            raise KeyboardInterrupt

    monkeypatch.setattr(trainings_module, "_pass_on", busy)
    trainings = three(tmp_path, tmp_path / "out")[:2]
    with pytest.raises(KeyboardInterrupt):
        list(run_trainings(trainings, lambda number: make_job(epochs=100_000, fold=number), Heard(), at_once=2))
    assert not multiprocessing.active_children()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backbone", "error", "message"),
    [
        (wild_backbone, DivergedError, "no longer a finite number"),
        (killed_backbone, StoppedError, "process was killed"),
    ],
)
def test_what_ends_one_stops_the_others(
    tmp_path: Path, backbone: Callable[[], tuple[nn.Module, int]], error: type[Exception], message: str
) -> None:
    """And what was stopped goes on: here the second, which would take for ever."""
    trainings = three(tmp_path, tmp_path / "out")[:2]

    def make(number: int) -> ExpertJob:
        return make_job(backbone=backbone) if number == 0 else make_job(epochs=100_000, fold=1)

    with pytest.raises(error, match=message):
        list(run_trainings(trainings, make, Heard(), at_once=2))
    deadline = time.monotonic() + 60
    while (trainings[1].folder / "lock").exists() and not is_free(trainings[1].folder / "lock"):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def is_free(lock: Path) -> bool:
    with lock.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
    return True


@pytest.mark.slow
def test_sigterm_stops_all_and_says_how_to_go_on(tmp_path: Path) -> None:
    heard = Heard()
    heard.on_line = lambda: os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(StoppedError, match="stopped; the same command goes on from here"):
        list(
            run_trainings(
                three(tmp_path, tmp_path / "out")[:2], lambda i: make_job(epochs=100_000, fold=i), heard, at_once=2
            )
        )
    assert heard.lines
    assert (tmp_path / "out" / "1" / "state.pt").is_file() or (tmp_path / "out" / "0" / "state.pt").is_file()
