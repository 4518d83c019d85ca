"""Trainings one after the other, or several at a time, each in a process of its own.

On a CPU two trainings of small photos on one thread each get through half as many photos again as one on two threads.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ensemble_kit.errors import StoppedError
from ensemble_kit.stopping import Stop, stoppable

if TYPE_CHECKING:
    from ensemble_kit.arrays import IntArray
    from ensemble_kit.data.samples import SampleTable
    from ensemble_kit.loading.cache import PhotoCache
    from ensemble_kit.training import ExpertJob, FoldResult

PATIENCE = (30.0, 10.0, 10.0)
"""Seconds to stop in: for the step that a process is in, after a second signal, and once killed."""

STOPPED = "stopped; the same command goes on from here"

LOOK_EVERY = 0.2
"""Seconds between two looks at what the processes tell."""


@dataclass(frozen=True)
class Training:
    """One fold of one expert.

    Attributes:
        photos: the cache, prepared as the job says.
        folder: gets the checkpoint.
        restart: train anew what is there.
        amount: of work, in any unit: of those that may begin the longest begins first.
        after: numbers of the trainings that have to be done before, since this one starts from their weights.
    """

    table: SampleTable
    folds: IntArray
    photos: PhotoCache
    folder: Path
    restart: bool
    amount: float
    after: tuple[int, ...] = ()

    def is_done(self) -> bool:
        return not self.restart and (self.folder / "DONE").is_file()


MakeJob = Callable[[int], "ExpertJob"]


class Listener(Protocol):
    """Who is told how the trainings go."""

    def line(self, text: str) -> None: ...
    def step(self, number: int, share: float) -> None: ...


def run_trainings(
    trainings: Sequence[Training], make_job: MakeJob, listener: Listener, at_once: int = 1
) -> Iterator[tuple[int, FoldResult]]:
    """Yields (number, result) as each ends.

    Args:
        make_job: number -> settings, called when the trainings before it are done.
        at_once: processes; 1 = none, this one trains them in order.

    Raises:
        EnsembleKitError: the first that a training raises; the others are stopped, and can be resumed.
    """
    left = dict(enumerate(trainings))
    for number, training in enumerate(trainings):
        is_waiting = not left.keys().isdisjoint(training.after)
        if at_once <= 1 or (training.is_done() and not is_waiting):  # what is done costs no process
            yield number, _train(training, make_job(number), listener.line, partial(listener.step, number))
            del left[number]
    if left:
        yield from _in_processes(left, make_job, listener, min(at_once, len(left)))


def _train(
    training: Training, job: ExpertJob, line: Callable[[str], None], step: Callable[[float], None]
) -> FoldResult:
    from ensemble_kit.training import train_fold

    step(0.0)
    return train_fold(
        job,
        table=training.table,
        folds=training.folds,
        photos=training.photos,
        folder=training.folder,
        restart=training.restart,
        on_epoch=lambda epoch: line(str(epoch)),
        on_step=lambda done, total: step(done / total),
        on_notice=lambda text: line(f"note: {text}"),
    )


def _in_processes(
    left: dict[int, Training], make_job: MakeJob, listener: Listener, at_once: int
) -> Iterator[tuple[int, FoldResult]]:
    n_threads = max(1, n_cores() // at_once)
    context = get_context("spawn")  # a forked torch may hang
    told = context.Queue()
    waited_for = {number for training in left.values() for number in training.after}
    done = waited_for - set(left)
    running: dict[Future[FoldResult], int] = {}
    workers: dict[int, BaseProcess] = {}  # the pool forgets its own when one of them dies
    with (
        ProcessPoolExecutor(at_once, context, begin_worker, (told, os.getpid())) as pool,
        stopping(pool, workers, told) as stop,
    ):
        while left or running:
            stop.heed(STOPPED)
            ready = [number for number, training in left.items() if done.issuperset(training.after)]
            ready.sort(key=lambda number: -left[number].amount)
            for number in ready[: at_once - len(running)]:
                job = make_job(number)
                job = job if job.threads else replace(job, threads=n_threads)
                running[pool.submit(_work, number, left.pop(number), job)] = number
                workers.update(pool._processes or {})
            ended, _ = wait(running, LOOK_EVERY, FIRST_COMPLETED)
            _pass_on(told, listener)
            for future in ended:
                number = running.pop(future)
                done.add(number)
                yield number, future.result()
    _pass_on(told, listener)  # results may overtake what was told before


def _pass_on(told: Any, listener: Listener) -> None:
    while not told.empty():
        number, news = told.get()
        if isinstance(news, str):
            listener.line(news)
        else:
            listener.step(number, news)


@contextmanager
def stopping(pool: ProcessPoolExecutor, workers: Mapping[int, BaseProcess], told: Any) -> Iterator[Stop]:
    """Whatever ends the block early ends the processes too, each leaving a training that can be resumed.

    The block heeds the signals, see `stoppable`.
    """
    try:
        with stoppable(STOPPED) as stop:
            yield stop
    except BaseException as error:
        pool.shutdown(wait=False, cancel_futures=True)
        _end(list(workers.values()), told)
        pool.shutdown()
        if isinstance(error, BrokenProcessPool):
            raise StoppedError(
                "a training's process was killed, perhaps for want of memory; the same command goes on from the last "
                "states that were saved, with --jobs 1 one training at a time"
            ) from None
        raise


def _end(processes: Sequence[BaseProcess], told: Any) -> None:
    """Stops processes: SIGTERM, heeded after a step, again where a step takes long; at last without asking."""
    ways = (BaseProcess.terminate, BaseProcess.terminate, BaseProcess.kill)
    for tell, patience in zip(ways, PATIENCE, strict=True):
        for process in processes:
            if process.is_alive():
                tell(process)
        until = time.monotonic() + patience
        while any(process.is_alive() for process in processes) and time.monotonic() < until:
            while not told.empty():  # a process ends only when all that it told has been fetched
                told.get()
            time.sleep(LOOK_EVERY / 10)


_told: Any = None


def begin_worker(told: Any, parent: int) -> None:
    """What a process of the pool does first: it lives no longer than its parent."""
    global _told
    _told = told
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which stops its workers
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    """A worker whose parent was killed stops as if it had been told to."""
    while os.getppid() == parent:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(30)
    os._exit(1)


def _work(number: int, training: Training, job: ExpertJob) -> FoldResult:
    return _train(training, job, lambda text: _told.put((number, text)), lambda share: _told.put((number, share)))


def n_cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
