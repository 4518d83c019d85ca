"""The trials of a search, batch by batch. A kill costs what the running trials did since their last whole epoch.

Trial 0 is the first batch by itself, then `batch` trials at a time. A trial is asked for, and pruned, with regard to
the finished trials of the batches before it alone. So the trials are the same however many run at a time, in whatever
order they end, and however often the search is broken off.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Protocol

from ensemble_kit.errors import BusyError, DataError, DivergedError, UsageError
from ensemble_kit.locks import hold, let_go
from ensemble_kit.recipe.run import Silent, Watcher
from ensemble_kit.recipe.space import Parameter
from ensemble_kit.recipe.trainings import LOOK_EVERY, STOPPED, begin_worker, stopping
from ensemble_kit.stopping import Stop
from ensemble_kit.tuning.asking import ask
from ensemble_kit.tuning.pruning import find_pruner
from ensemble_kit.tuning.trials import ASKED, Trial, best_of, read_trial, write_trial

PATIENCE = 45.0
"""Seconds in which the processes of a search that was killed have ended: each looks for its parent every second."""


@dataclass(frozen=True)
class Plan:
    """What is searched, and how.

    Attributes:
        first: the values of trial 0; {} = the space does not hold them.
        n_trials: trial 0 among them.
        batch: trials asked for together.
        prune: a name of `PRUNERS`; prune_after: whole trials before any is pruned.
        sampler, startup, seed: see `ask`.
    """

    space: tuple[Parameter, ...]
    first: Mapping[str, Any]
    n_trials: int
    batch: int
    prune: str
    prune_after: int
    sampler: str
    startup: int
    seed: int

    def batches(self) -> Iterator[range]:
        """The numbers of the trials that are asked for together."""
        yield range(1)
        for start in range(1, self.n_trials, self.batch):
            yield range(start, min(start + self.batch, self.n_trials))


@dataclass(frozen=True)
class Earlier:
    """The finished trials of the batches before: what a trial may know while it runs."""

    trials: tuple[Trial, ...]
    prune: str
    prune_after: int

    def prunes(self, after_fold: Sequence[float]) -> str | None:
        """Why a trial with these scores after its folds so far should end; None = it should not."""
        fold = len(after_fold) - 1
        others = [trial.after_fold[fold] for trial in self.trials if trial.is_complete and len(trial.after_fold) > fold]
        return find_pruner(self.prune)(after_fold[fold], others) if len(others) >= self.prune_after else None

    @property
    def kept(self) -> tuple[Trial, ...]:
        """Those whose checkpoints are there in any case: the first and the best."""
        if not self.trials:
            return ()
        return tuple({trial.number: trial for trial in (self.trials[0], best_of(self.trials))}.values())


class RunTrial(Protocol):
    """Trains and scores a trial in its folder; what is there of it already is gone on from. Can be pickled.

    Raises:
        BusyError: another process trains it; it is asked again for a while.
        UsageError, DataError, DivergedError: the trial fails; the search goes on.
        StoppedError: so does the search end.
    """

    def __call__(self, trial: Trial, earlier: Earlier, watcher: Watcher) -> Trial: ...


@dataclass(frozen=True)
class Listener:
    """Who is told: of each trial when it ends, and of all finished trials, in order, when a batch is finished."""

    on_trial: Callable[[Trial], None]
    on_batch: Callable[[Sequence[Trial]], None]


def search(
    folder: Path, plan: Plan, run_trial: RunTrial, watcher: Watcher, listener: Listener, *, at_once: int = 1
) -> list[Trial]:
    """Runs the trials that are not finished yet, and returns all.

    Args:
        folder: of the search; each trial has one of its own below.
        at_once: processes; 1 = none, this one runs the trials in order.

    Raises:
        EnsembleKitError: trial 0 fails, or the search is stopped.
    """
    trials: list[Trial] = []
    with _held(folder), _Workers(at_once) as workers:
        for numbers in plan.batches():
            asked = _asked(folder, plan, numbers, tuple(trials))
            earlier = Earlier(tuple(trials), plan.prune, plan.prune_after)
            left = [trial for trial in asked if not trial.is_finished]
            run = _Run(folder, run_trial, earlier)
            done: dict[int, Trial] = {}
            for trial in workers.run(run, left, watcher):
                done[trial.number] = trial
                listener.on_trial(trial)
            trials += [done.get(trial.number, trial) for trial in asked]
            listener.on_batch(trials)
    return trials


def _asked(folder: Path, plan: Plan, numbers: range, known: Sequence[Trial]) -> list[Trial]:
    """The trials of a batch: as they were asked for before, else asked for now."""
    batch: list[Trial] = []
    for number in numbers:
        trial = read_trial(folder, number)
        if trial is None:
            running = [replace(other, state=ASKED, after_fold=()) for other in batch]
            params = plan.first if number == 0 else _ask(plan, number, known, running)
            trial = Trial(number, dict(params))
            write_trial(folder, trial)
        batch.append(trial)
    return batch


def _ask(plan: Plan, number: int, known: Sequence[Trial], running: Sequence[Trial]) -> Mapping[str, Any]:
    return ask(plan.space, number, known, running, sampler=plan.sampler, seed=plan.seed, startup=plan.startup)


@dataclass(frozen=True)
class _Run:
    """One trial from where it stands to its file."""

    folder: Path
    run_trial: RunTrial
    earlier: Earlier

    def __call__(self, trial: Trial, watcher: Watcher) -> Trial:
        try:
            done = self._run(trial, watcher)
        except BusyError:
            raise
        except (UsageError, DataError, DivergedError) as error:
            if trial.number == 0:
                raise
            done = trial.failed(str(error))
        write_trial(self.folder, done)
        return done

    def _run(self, trial: Trial, watcher: Watcher) -> Trial:
        until = time.monotonic() + PATIENCE
        while True:
            try:
                return self.run_trial(trial, self.earlier, watcher)
            except BusyError:
                if time.monotonic() > until:
                    raise
            time.sleep(LOOK_EVERY)

    def apart(self, trial: Trial) -> Trial:
        return self(trial, Silent())


class _Workers:
    """Processes that run trials, kept from batch to batch; none where one trial runs at a time."""

    def __init__(self, at_once: int):
        self.at_once = at_once
        self._stack = ExitStack()
        self._pool: ProcessPoolExecutor | None = None
        self._processes: dict[int, BaseProcess] = {}
        self._stop = Stop()

    def __enter__(self) -> _Workers:
        return self

    def __exit__(self, *error: Any) -> bool | None:
        return self._stack.__exit__(*error)

    def run(self, run: _Run, trials: Sequence[Trial], watcher: Watcher) -> Iterator[Trial]:
        """Yields each trial when it is finished."""
        if self.at_once == 1 or len(trials) < 2:
            for trial in trials:
                yield run(trial, watcher)
            return
        pool = self._opened()
        running = {pool.submit(run.apart, trial) for trial in trials}
        self._processes.update(pool._processes or {})
        while running:
            self._stop.heed(STOPPED)
            ended, running = wait(running, LOOK_EVERY, FIRST_COMPLETED)
            for future in ended:
                yield future.result()

    def _opened(self) -> ProcessPoolExecutor:
        if self._pool is None:
            context = get_context("spawn")  # a forked torch may hang
            told = context.Queue()
            pool = ProcessPoolExecutor(self.at_once, context, begin_worker, (told, os.getpid()))
            self._pool = self._stack.enter_context(pool)
            self._stop = self._stack.enter_context(stopping(pool, self._processes, told))
        return self._pool


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Holds the search for this process.

    Raises:
        BusyError: another process runs it now.
    """
    folder.mkdir(parents=True, exist_ok=True)
    handle = hold(folder / "lock", "searched")
    try:
        yield
    finally:
        let_go(folder / "lock", handle)
