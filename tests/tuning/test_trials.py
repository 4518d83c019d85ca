"""A search gives the same trials however often it is broken off and however many run at a time; pruning, failures."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from statistics import median

import pytest
import searches
from hypothesis import example, given, settings
from hypothesis import strategies as st
from searches import FIRST, SPACE, Formula, KilledError, make_plan, run, score_of

from ensemble_kit.errors import BusyError, DataError, DivergedError, UsageError
from ensemble_kit.files import read_json, write_json
from ensemble_kit.recipe.run import Silent, Watcher
from ensemble_kit.recipe.space import Choices, Parameter, Range
from ensemble_kit.tuning.asking import ask, importance
from ensemble_kit.tuning.search import Earlier, Listener, search
from ensemble_kit.tuning.trials import Trial, best_of, read_trial, trial_folder


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> dict[int, list[Trial]]:
    """Batch size -> eight trials in one go."""
    return {n: run(tmp_path_factory.mktemp("search"), make_plan(8, batch=n)) for n in (1, 2, 3)}


@settings(max_examples=12, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=4), st.sampled_from([1, 2, 3]))
@example([1, 2], 3)
def test_broken_off_anywhere_and_gone_on_with_gives_the_same_trials(
    unbroken: dict[int, list[Trial]], tmp_path_factory: pytest.TempPathFactory, deaths: list[int], batch: int
) -> None:
    folder = tmp_path_factory.mktemp("search")
    for n_folds in deaths:
        with suppress(KilledError):
            run(folder, make_plan(8, batch=batch), Formula(deaths=[n_folds]))
    trained = Formula()
    assert run(folder, make_plan(8, batch=batch), trained) == unbroken[batch]
    done = [number for number in range(8) if number not in trained.seen]
    assert max(deaths) < 3 or 0 in done  # what was finished is not trained again


def test_more_trials_later_are_those_of_a_longer_search(tmp_path: Path) -> None:
    for seed in range(4):
        grown, whole = tmp_path / f"grown{seed}", tmp_path / f"whole{seed}"
        for n_trials in (2, 6, 9, 11):  # in the middle of a batch
            run(grown, make_plan(n_trials, batch=3, seed=seed))
        assert run(grown, make_plan(11, batch=3, seed=seed)) == run(whole, make_plan(11, batch=3, seed=seed))


def test_the_order_in_which_trials_end_does_not_matter(unbroken: dict[int, list[Trial]], tmp_path: Path) -> None:
    formula = Formula(pause=0.02)  # the second of a batch is the quicker one
    assert run(tmp_path, make_plan(8, batch=2), formula, at_once=2) == unbroken[2]


@pytest.mark.parametrize("at_once", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_killed_in_the_middle_and_gone_on_with(unbroken: dict[int, list[Trial]], tmp_path: Path, at_once: int) -> None:
    code = [sys.executable, searches.__file__, str(tmp_path), "0.6", str(at_once)]
    paths = os.pathsep.join([str(Path(searches.__file__).parent), *filter(None, sys.path)])
    process = subprocess.Popen(code, env={**os.environ, "PYTHONPATH": paths})
    asked = trial_folder(tmp_path, 3) / "trial.json"
    until = time.monotonic() + 120
    while not asked.is_file() and time.monotonic() < until and process.poll() is None:
        time.sleep(0.01)
    assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    there = [trial for trial in (read_trial(tmp_path, number) for number in range(8)) if trial is not None]
    assert {trial.is_finished for trial in there} == {True, False}
    assert run(tmp_path, make_plan(8, batch=2)) == unbroken[2]


def test_trials_differ_with_the_seed_and_lie_in_the_space(unbroken: dict[int, list[Trial]], tmp_path: Path) -> None:
    trials = unbroken[1]
    assert trials[0].params == FIRST
    assert len({str(trial.params) for trial in trials}) == 8
    assert all(parameter.holds(trial.params[parameter.key]) for trial in trials for parameter in SPACE)
    assert all(type(trial.params["train.epochs"]) is int for trial in trials)
    others = run(tmp_path, make_plan(3, seed=1))
    assert others[1].params != trials[1].params


KEYS = st.sampled_from(["train.head_lr", "train.epochs", "train.weight_decay"])
NUMBERS = st.floats(1e-6, 1e3, allow_nan=False)
RANGES = st.builds(
    lambda key, low, width, kind: Range(key, int(low) + 1, int(low) + 2 + int(width), True, log=kind == 1)
    if kind < 2
    else Range(key, low, low + width, False, log=kind == 2),
    KEYS, NUMBERS, NUMBERS, st.integers(0, 3),
)  # fmt: skip
CHOICES = st.builds(
    lambda values: Choices("train.augment", tuple(values)),
    st.lists(st.one_of(st.booleans(), st.lists(st.sampled_from(["flip", "affine"])), st.text()), min_size=2, max_size=4, unique_by=str),
)  # fmt: skip


@settings(max_examples=12, deadline=None)
@given(st.lists(st.one_of(RANGES, CHOICES), min_size=1, max_size=3, unique_by=lambda p: p.key), st.integers(0, 99))
def test_whatever_the_space_values_are_of_it(space: list[Parameter], seed: int) -> None:
    known: list[Trial] = []
    for number in range(4):
        params = ask(space, number, known, known[-1:], sampler="tpe", seed=seed, startup=2)
        assert list(params) == [parameter.key for parameter in space]
        assert all(parameter.holds(params[parameter.key]) for parameter in space)
        known.append(Trial(number, params).done([0.5 + 0.1 * number]))


def test_a_trial_is_pruned_below_the_median_of_the_batches_before(unbroken: dict[int, list[Trial]]) -> None:
    assert {trial.state for trials in unbroken.values() for trial in trials} == {"complete", "pruned"}
    for batch, trials in unbroken.items():
        for trial in trials[1:]:
            before = 1 + (trial.number - 1) // batch * batch
            whole = [other for other in trials[:before] if other.is_complete]
            ends = [
                fold
                for fold in (0, 1)
                if len(whole) >= 2 and score_of(trial, fold) < median(other.after_fold[fold] for other in whole)
            ]
            assert len(trial.after_fold) == (ends[0] + 1 if ends else 3)
            assert trial.state == ("pruned" if ends else "complete")


def test_nothing_is_pruned_where_none_is_asked_for(tmp_path: Path) -> None:
    assert {trial.state for trial in run(tmp_path, make_plan(6, prune="none"))} == {"complete"}
    with pytest.raises(UsageError, match='did you mean "median"'):
        Earlier(tuple(Trial(n, {}).done([0.5]) for n in range(3)), "medain", 2).prunes([0.1])


def test_a_failed_trial_is_kept_and_the_search_goes_on(tmp_path: Path) -> None:
    trials = run(tmp_path, make_plan(5), Formula(fails=[2]))
    assert [trial.state == "failed" for trial in trials] == [False, False, True, False, False]
    assert trials[2].reason == "the loss is no longer a finite number"
    assert trials[2].score is None
    assert run(tmp_path, make_plan(5)) == trials
    with pytest.raises(DivergedError):
        run(tmp_path / "first", make_plan(3), Formula(fails=[0]))


class Busy(Formula):
    def __call__(self, trial: Trial, earlier: Earlier, watcher: Watcher) -> Trial:
        if trial.number == 1 and self.seen.count(-1) < 2:
            self.seen.append(-1)
            raise BusyError("trials/0001: being trained by process 7")
        return super().__call__(trial, earlier, watcher)


def test_processes_left_over_from_a_kill_are_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(tmp_path / "a", make_plan(2), Busy()) == run(tmp_path / "b", make_plan(2))
    monkeypatch.setattr("ensemble_kit.tuning.search.PATIENCE", -1.0)
    with pytest.raises(BusyError, match="being trained by process 7"):
        run(tmp_path / "c", make_plan(2), Busy())
    assert read_trial(tmp_path / "c", 1) == Trial(1, read_trial(tmp_path / "b", 1).params)  # type: ignore[union-attr]


def test_the_search_finds_what_is_planted(tmp_path: Path) -> None:
    trials = run(tmp_path, make_plan(25))
    best = best_of(trials)
    assert best.params["train.loss"] == "focal=2"
    assert 1e-3 < best.params["train.head_lr"] < 1e-2
    shares = importance(SPACE, trials, 0)
    assert next(iter(shares)) == "train.head_lr"
    assert sum(shares.values()) == pytest.approx(1)
    assert importance(SPACE, trials[:3], 0) == {}


def test_damaged_trials_and_second_searches_are_refused(tmp_path: Path) -> None:
    run(tmp_path, make_plan(2))
    file = trial_folder(tmp_path, 1) / "trial.json"
    whole = read_json(file)
    damaged: list[object] = [[], {**whole, "state": "lost"}, {**whole, "number": 7}, {**whole, "speed": 1}]
    for broken in damaged:
        write_json(file, broken)
        with pytest.raises(DataError, match=r"trial\.json: not what a search writes"):
            run(tmp_path, make_plan(2))
    write_json(file, whole)

    def again(trial: Trial) -> None:
        run(tmp_path, make_plan(3))

    with pytest.raises(UsageError, match="being searched by process"):
        search(tmp_path, make_plan(3), Formula(), Silent(), Listener(again, lambda trials: None))
