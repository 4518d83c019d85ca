"""Which values are tried next. Optuna's samplers are asked; nothing of Optuna is stored.

What a trial is asked to try depends on the search's seed, its number, the finished trials of the batches before, and
the trials asked for before it in its own batch: not on how many run at a time, which ended first, or whether the
search was broken off.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from ensemble_kit.errors import UsageError, nearest
from ensemble_kit.recipe.space import Choices, Parameter
from ensemble_kit.recipe.toml_text import toml_value
from ensemble_kit.tuning.trials import COMPLETE, PRUNED, Trial

SAMPLERS = ("tpe", "random")
MOST_IMPORTANT_FROM = 4
"""Whole trials from which on the importance of parameters is estimated."""


def check_sampler(name: str) -> None:
    """Raises UsageError when there is no such sampler, or Optuna is missing."""
    if name not in SAMPLERS:
        raise UsageError(f'no sampler "{name}"{nearest(name, SAMPLERS)}')
    with _optuna():
        pass


def ask(
    space: Sequence[Parameter],
    number: int,
    known: Sequence[Trial],
    running: Sequence[Trial],
    *,
    sampler: str,
    seed: int,
    startup: int,
) -> dict[str, Any]:
    """The values of trial `number`.

    Args:
        known: the finished trials of the batches before, in order.
        running: those asked for before this one in its batch; values near theirs are avoided.
        startup: whole or pruned trials before tpe learns from them.

    Raises:
        UsageError: Optuna is missing.
    """
    with _optuna() as optuna:
        own_seed = (seed * 1_000_003 + number) % 2**32
        samplers = optuna.samplers
        chosen = (
            samplers.RandomSampler(seed=own_seed)
            if sampler == "random"
            else samplers.TPESampler(seed=own_seed, n_startup_trials=startup, multivariate=True, constant_liar=True)
        )
        study = optuna.create_study(direction="maximize", sampler=chosen)
        for trial in [*known, *running]:
            if trial.params and (trial.is_complete or trial.state == PRUNED or not trial.is_finished):
                study.add_trial(_frozen(optuna, space, trial))
        asked = study.ask(_distributions(optuna, space)).params
    return {parameter.key: _value_of(parameter, asked[parameter.key]) for parameter in space}


def importance(space: Sequence[Parameter], trials: Sequence[Trial], seed: int) -> dict[str, float]:
    """Each parameter's share of the variance of the whole trials' scores (fANOVA, Hutter et al. 2014); largest first.

    {} where too few trials are whole, or all score alike.
    """
    complete = [trial for trial in trials if trial.is_complete and trial.params]
    if len(complete) < MOST_IMPORTANT_FROM or len({trial.score for trial in complete}) < 2:
        return {}
    with _optuna() as optuna:
        study = optuna.create_study(direction="maximize")
        for trial in complete:
            study.add_trial(_frozen(optuna, space, trial))
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=seed)
        found = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return {key: float(share) for key, share in sorted(found.items(), key=lambda item: -item[1])}


@contextmanager
def _optuna() -> Iterator[ModuleType]:
    """Optuna, which tells nothing meanwhile: neither that a study was made, nor what of it is experimental."""
    try:
        import optuna
    except ImportError:
        raise UsageError('a search needs Optuna: pip install "ensemble_kit[tune]"') from None
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield optuna
    finally:
        optuna.logging.set_verbosity(before)


def _distributions(optuna: ModuleType, space: Sequence[Parameter]) -> dict[str, Any]:
    return {parameter.key: _distribution(optuna.distributions, parameter) for parameter in space}


def _distribution(kinds: Any, parameter: Parameter) -> Any:
    if isinstance(parameter, Choices):
        return kinds.CategoricalDistribution(parameter.labels)
    if parameter.is_whole:
        step = 1 if parameter.step is None else int(parameter.step)
        return kinds.IntDistribution(int(parameter.low), int(parameter.high), log=parameter.log, step=step)
    return kinds.FloatDistribution(parameter.low, parameter.high, log=parameter.log, step=parameter.step)


def _frozen(optuna: ModuleType, space: Sequence[Parameter], trial: Trial) -> Any:
    states = optuna.trial.TrialState
    return optuna.trial.create_trial(
        state={COMPLETE: states.COMPLETE, PRUNED: states.PRUNED}.get(trial.state, states.RUNNING),
        value=trial.score,
        params={parameter.key: _told(parameter, trial.params) for parameter in space},
        distributions=_distributions(optuna, space),
        intermediate_values=dict(enumerate(trial.after_fold)),
    )


def _told(parameter: Parameter, params: Mapping[str, Any]) -> Any:
    value = params[parameter.key]
    return toml_value(value) if isinstance(parameter, Choices) else value


def _value_of(parameter: Parameter, found: Any) -> Any:
    if isinstance(parameter, Choices):
        return parameter.values[parameter.labels.index(found)]
    return int(found) if parameter.is_whole else float(found)
