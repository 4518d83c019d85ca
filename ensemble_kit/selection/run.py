"""The selection of an expert's voters, of every expert's, and of those behind a joint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ensemble_kit.arrays import IdArray, IntArray
from ensemble_kit.data.folds import make_folds
from ensemble_kit.ensemble import ConditionalEnsemble, VoteAt
from ensemble_kit.errors import DataError, UsageError, nearest
from ensemble_kit.ids import match_ids
from ensemble_kit.metrics import interval
from ensemble_kit.predictions import Predictions
from ensemble_kit.schema import Schema
from ensemble_kit.selection.greedy import best_single, select, singles
from ensemble_kit.selection.inputs import Routes, computed, in_order, labelled, routes_of, true_columns, voters_of
from ensemble_kit.selection.measure import LabelMetric, find_measure
from ensemble_kit.selection.panel import Answers, ExpertAnswers, JointAnswers, Panel, State
from ensemble_kit.selection.result import Gap, Selection, Weights


@dataclass(frozen=True)
class Search:
    """How to select.

    Attributes:
        metric: a name in METRICS ("macro_f1", "accuracy") or PHOTO_LOSSES ("log_loss", "brier"), or a function
            (truth, labels, n_classes) -> score, higher is better, a label of -1 abstained.
        rounds: votes added to each expert.
        start: begin with the N best voters.
        bags: 0 = one climb; else so many climbs, each with a random half of the voters, their weights added up.
        n_folds: people are divided into so many parts, each scored by what was selected on the others.
        n_boot: draws of people for the intervals.
        seed: of the folds, bags and draws.
    """

    metric: str | LabelMetric = "macro_f1"
    rounds: int = 20
    start: int = 1
    bags: int = 0
    n_folds: int = 5
    n_boot: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        for name, lowest in (("rounds", 0), ("start", 1), ("bags", 0), ("n_folds", 2), ("n_boot", 1)):
            if getattr(self, name) < lowest:
                raise UsageError(f"{name}: expected {lowest} or more, found {getattr(self, name)}")


def select_voters(
    predictions: Predictions | ArrayLike,
    truth: ArrayLike,
    *,
    groups: ArrayLike | None,
    metric: str | LabelMetric = "macro_f1",
    rounds: int = 20,
    start: int = 1,
    bags: int = 0,
    n_folds: int = 5,
    n_boot: int = 1000,
    seed: int = 0,
    voters: Sequence[str] | None = None,
    who: str | None = None,
) -> Selection:
    """Weights of one expert's voters for a soft vote (Caruana et al. 2004: greedy, with replacement).

    From the best voters one vote at a time is added, always the one that helps most; the best state on the way is kept.
    Equal scores go to the first name. The whole selection is done again without each part of the people, and scored on
    that part; the interval draws those people, it knows nothing of how another selection might have gone.

    Args:
        predictions: of several voters, or probabilities `(n_voters, n_samples, n_classes)`.
        truth: `(n_samples,)` the true column; -1 = not labelled, or not this expert's to answer: left out.
        groups: `(n_samples,)` whose photo it is; None = nobody knows, each photo counts as a person.
        metric, rounds, start, bags, n_folds, n_boot, seed: see `Search`.
        voters: names, where probabilities are given.
        who: the expert's name in the result, where probabilities are given.

    Raises:
        UsageError: one voter only, an unknown metric, numbers out of range.
        DataError: photos that a voter did not compute, too few people, lengths that differ.

    Examples:
        >>> random = np.random.default_rng(0)
        >>> truth = random.integers(0, 2, size=300)
        >>> good = np.where(truth[:, None] == [0, 1], 0.8, 0.2)
        >>> bad = np.full((300, 2), 0.5)
        >>> found = select_voters([good, bad], truth, groups=np.arange(300) // 3, voters=["good", "bad"])
        >>> found.weights, found.nested_score, found.beats_best_single
        ({'bad': 0.0, 'good': 1.0}, 1.0, False)
    """
    search = Search(metric, rounds, start, bags, n_folds, n_boot, seed)
    layers, names, name = voters_of(predictions, voters, who)
    true, people, keep = labelled(truth, groups, len(layers[0]), name)
    if true.max() >= layers[0].shape[1]:
        raise DataError(f"{name}: true classes must be 0 to {layers[0].shape[1] - 1}, found {true.max()}")
    kept = computed(layers, names, keep, name)
    order = sorted(range(len(names)), key=names.__getitem__)
    answers = ExpertAnswers([kept[i] for i in order], [names[i] for i in order])
    return _search(answers, true, people, layers[0].shape[1], search, where=name, vote_at="expert")


def select_for_experts(
    experts: Sequence[Predictions],
    schema: Schema,
    truth: IntArray,
    ids: IdArray,
    *,
    groups: ArrayLike | None,
    search: Search | None = None,
) -> list[Selection]:
    """`select_voters` for every expert that has several voters, each on the photos of its condition.

    Args:
        truth: `(n_samples,)` joint index; -1 = not labelled.
        ids: `(n_samples,)` the photos that `truth` and `groups` are of.

    Raises:
        UsageError: no expert has several voters.
        DataError: as `select_voters`; other photos.
    """
    several = [expert.in_classes_of(schema) for expert in experts if len(expert.voters) > 1]
    if not several:
        raise UsageError("weights: every expert has one voter only, so there is nothing to weigh; predict with several")
    chosen = search or Search()
    found = []
    for expert in several:
        rows = match_ids(expert.ids, ids, expert.describe())
        own = expert if rows is None else expert.select(rows)
        columns = true_columns(expert, schema, truth)
        found.append(select_voters(own, columns, groups=groups, **vars(chosen)))
    return found


def select_for_joint(
    ensemble: ConditionalEnsemble,
    truth: ArrayLike,
    *,
    groups: ArrayLike | None,
    ids: IdArray | None = None,
    route: Routes = "soft",
    vote_at: VoteAt = "expert",
    metric: str | LabelMetric = "macro_f1",
    rounds: int = 5,
    start: int = 1,
    bags: int = 0,
    n_folds: int = 5,
    n_boot: int = 1000,
    seed: int = 0,
) -> Selection:
    """Weights of the voters of all experts, so that the joint scores best.

    With vote_at="expert" every expert has weights of its own: each in turn, in the order of their names, is given the
    vote that helps the joint most. With vote_at="joint" whole chains are weighed: every voter's joint is worked out
    once, then these are selected as one expert's voters are.

    Args:
        ensemble: of the experts, all voters included.
        truth: `(n_samples,)` joint index; -1 = not labelled, left out.
        groups: as `select_voters`.
        ids: `(n_samples,)` the photos that `truth` and `groups` are of; the ensemble's when left out.
        route, vote_at: as the weights will be used in `combine`.
        metric, rounds, start, bags, n_folds, n_boot, seed: see `Search`.

    Raises:
        UsageError: every expert has one voter only; voters that are not shared, with vote_at="joint".
        DataError: as `select_voters`.
    """
    search = Search(metric, rounds, start, bags, n_folds, n_boot, seed)
    if vote_at not in ("expert", "joint"):
        raise UsageError(f'unknown vote_at "{vote_at}"{nearest(vote_at, ("expert", "joint"))}')
    true, people = in_order(truth, groups, ids, ensemble.ids)
    true, people, keep = labelled(true, people, len(ensemble.ids), "joint")
    if true.max() >= ensemble.schema.n_joint:
        raise DataError(f"joint: true classes must be 0 to {ensemble.schema.n_joint - 1}, found {true.max()}")
    answers, experts = _by_expert(ensemble, keep, route)
    n_joint = ensemble.schema.n_joint
    if vote_at == "joint":
        chains = _by_chain(answers, experts)
        return _search(chains, true, people, n_joint, search, where="joint", vote_at=vote_at)
    return _search(answers, true, people, n_joint, search, where="joint", vote_at=vote_at, experts=experts)


def _search(
    answers: Answers,
    true: IntArray,
    people: IdArray | None,
    n_classes: int,
    search: Search,
    *,
    where: str,
    vote_at: str,
    experts: Sequence[str] | None = None,
) -> Selection:
    if max(len(names) for names in answers.voters) == 1:
        raise UsageError(f"{where}: one voter only, so there is nothing to weigh; predict with several")
    groups = np.arange(len(true)).astype(np.str_) if people is None else people
    folds = make_folds(true, groups, n_folds=search.n_folds, seed=search.seed)
    panel = Panel(answers, find_measure(search.metric, true, folds, n_classes), folds)
    how = {"rounds": search.rounds, "start": search.start, "bags": search.bags, "seed": search.seed}
    each = range(search.n_folds)
    readings = [
        panel.measure.read(panel.held_out(states))
        for states in (
            [select(panel, fold, **how) for fold in each],
            [best_single(panel, fold)[1] for fold in each],
            [panel.all() for _ in each],
        )
    ]
    chosen = select(panel, search.n_folds, **how)
    nested = [panel.measure.value(reading) for reading in readings]
    draws = panel.measure.draws(readings, groups, search.n_boot, search.seed)
    gaps = [
        Gap(
            panel.measure.sign * (nested[0] - nested[other]),
            *interval(panel.measure.sign * (draws[0] - draws[other])),
        )
        for other in (1, 2)
    ]
    return Selection(
        weights=_named(chosen, answers.voters, experts),
        where=where,
        vote_at=vote_at,
        metric=panel.measure.name,
        score=panel.measure.value(panel.measure.read(panel.held_out([chosen] * search.n_folds))),
        nested_score=nested[0],
        nested_best_single=nested[1],
        nested_all=nested[2],
        best_single=best_single(panel, search.n_folds)[0],
        over_best_single=gaps[0],
        over_all=gaps[1],
        n_samples=len(true),
        n_groups=len(np.unique(groups)),
        n_folds=search.n_folds,
        people_known=people is not None,
    )


def _named(state: State, voters: Sequence[Sequence[str]], experts: Sequence[str] | None) -> Weights:
    weights = [dict(zip(names, map(float, counts), strict=True)) for names, counts in zip(voters, state, strict=True)]
    return weights[0] if experts is None else dict(zip(experts, weights, strict=True))


def _by_expert(ensemble: ConditionalEnsemble, keep: IntArray, route: Routes) -> tuple[Answers, list[str]]:
    used = sorted(ensemble.plan.used, key=lambda number: ensemble.experts[number].describe())
    experts = []
    for number in used:
        expert = ensemble.experts[number].in_classes_of(ensemble.schema)
        rows = match_ids(expert.ids, ensemble.ids, expert.describe())
        experts.append(expert.select(keep if rows is None else rows[keep]).select_voters(sorted(expert.voters)))
    every = np.arange(len(keep))
    probs = [computed(expert.layers, expert.voters, every, expert.describe()) for expert in experts]
    routes = routes_of(ensemble, route)
    answers = JointAnswers(ensemble.plan, routes, used, probs, [expert.voters for expert in experts])
    return answers, [expert.describe() for expert in experts]


def _by_chain(answers: Answers, experts: Sequence[str]) -> Answers:
    """Every voter's own joint, as one expert's voters."""
    names = answers.voters[0]
    for own, expert in zip(answers.voters, experts, strict=True):
        if own != names:
            odd = sorted(set(names) ^ set(own))[0]
            without = experts[0] if odd in own else expert
            raise UsageError(
                f'vote_at=joint needs the same voters in all experts: {without} has no "{odd}"; select at the experts'
            )
    alone = singles(answers.voters)
    return ExpertAnswers([np.array(answers.answer(alone[name]).T) for name in names], names)
