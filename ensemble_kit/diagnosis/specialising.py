"""Does specialising pay: the routed experts against the pooled one, state by state."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ensemble_kit.arrays import IdArray, IntArray
from ensemble_kit.diagnosis.findings import (
    COSTS,
    MIN_PEOPLE,
    NO_DIFFERENCE,
    NOT_TESTED,
    PAYS,
    TOO_FEW,
    ChildScore,
    Specialising,
)
from ensemble_kit.diagnosis.question import Question
from ensemble_kit.diagnosis.simultaneous import simultaneous
from ensemble_kit.metrics import METRICS, Tally, View, interval
from ensemble_kit.structure_report import Gain
from ensemble_kit.structures.scorer import Measured, Scorer

WAYS = ("routed", "told")
STRETCH = 1.2
"""The main question is about all photos: its interval stays near the one it would have alone, and the states' are wider
by this, so that 95 % still hold for all of them together."""

LEVEL = 0.97
"""Asked of the bootstrap for 95 %: resamples of few people vary less than new people would (tests/diagnosis, slow)."""


def plain_gain(better: Measured, worse: Measured, metric: str) -> Gain:
    """The difference with its own interval."""
    draws = better.gain_over(worse, metric)
    return Gain(better.values[metric] - worse.values[metric], None if draws is None else interval(draws))


def child_score(question: Question, true: IntArray, routed: IntArray, truth: IntArray, scorer: Scorer) -> ChildScore:
    """The node by the expert of the routed state and by that of the true state `(n_samples,)`."""
    views = [View.all(question.n_classes)]
    measured = scorer.measure(
        {name: [Tally(truth, question.chain(state), views)] for name, state in (("routed", routed), ("told", true))}
    )
    predicted, told = measured["routed"][0], measured["told"][0]
    return ChildScore(
        question.node.name,
        question.node.parents,
        predicted.score(),
        told.score(),
        plain_gain(told, predicted, "accuracy"),
        plain_gain(told, predicted, "macro_f1"),
    )


@dataclass(frozen=True)
class _Looked:
    """One state (-1 = all) measured three ways: pooled, routed, told."""

    state: int
    n_samples: int
    n_people: int | None
    by: dict[str, Measured]

    @property
    def can_tell(self) -> bool:
        return self.n_people is not None and self.n_people >= MIN_PEOPLE


def compare_routed(
    question: Question,
    true: IntArray,
    routed: IntArray,
    truth: IntArray,
    groups: IdArray | None,
    scorer: Scorer,
    metric: str,
) -> list[Specialising]:
    """The routed experts against the pooled one on all photos and on those of each state with a specialised expert.

    The pooled expert is asked under the same route, of the classes that exist in the routed state. The intervals
    hold for all photos and all the states of the node together, and a verdict needs `MIN_PEOPLE` people.

    Args:
        true, routed: `(n_samples,)` states.
        truth: `(n_samples,)` the node's class.
        groups: `(n_samples,)` whose photo it is.
        metric: the one that the verdict is by.

    Returns:
        All photos first; nothing where no expert is specialised or none is pooled.
    """
    pooled = question.pooled
    special = [s for s in range(len(question.states)) if question.is_specialised(s) and (true == s).any()]
    if pooled is None or not special:
        return []
    answers = {
        "pooled": question.answers(pooled, routed),
        "told pooled": question.answers(pooled, true),
        "routed": question.chain(routed),
        "told": question.chain(true),
    }
    looked = _measure(question, answers, true, truth, special, groups, scorer)
    gains = {(way, name): _gains(looked, way, name) for way in WAYS for name in METRICS}
    return [
        Specialising(
            node=question.node.name,
            state="" if one.state < 0 else question.states[one.state],
            n_samples=one.n_samples,
            n_people=one.n_people,
            pooled=one.by["pooled"].score(),
            routed=one.by["routed"].score(),
            told=one.by["told"].score(),
            accuracy=gains["routed", "accuracy"][row],
            macro_f1=gains["routed", "macro_f1"][row],
            told_accuracy=gains["told", "accuracy"][row],
            told_macro_f1=gains["told", "macro_f1"][row],
            metric=metric,
            verdict=_verdict(one, gains["routed", metric][row]),
        )
        for row, one in enumerate(looked)
    ]


def _measure(
    question: Question,
    answers: dict[str, IntArray],
    true: IntArray,
    truth: IntArray,
    special: list[int],
    groups: IdArray | None,
    scorer: Scorer,
) -> list[_Looked]:
    number, views = question.pairs()
    chosen = [views[state] for state in special]
    asked = {}
    for name, labels in answers.items():
        local = np.where(labels < 0, -1, number[true, np.maximum(labels, 0)])
        asked[name, "all"] = [Tally(truth, labels, [View.all(question.n_classes)])]
        asked[name, "state"] = [Tally(number[true, truth], local, chosen)]
    measured = scorer.measure(asked)
    looked = []
    for row, state in enumerate([-1, *special]):
        inside = np.ones(len(true), dtype=np.bool_) if state < 0 else true == state
        n_people = None if groups is None else len(np.unique(groups[inside]))
        by = {name: measured[name, "all"][0] if state < 0 else measured[name, "state"][row - 1] for name in answers}
        looked.append(_Looked(state, int(inside.sum()), n_people, by))
    return looked


def _gains(looked: list[_Looked], way: str, metric: str) -> list[Gain]:
    against = "pooled" if way == "routed" else "told pooled"
    values = [one.by[way].values[metric] - one.by[against].values[metric] for one in looked]
    family = [row for row, one in enumerate(looked) if one.can_tell]
    draws = [looked[row].by[way].gain_over(looked[row].by[against], metric) for row in family]
    between = simultaneous(
        [values[row] for row in family],
        [one for one in draws if one is not None],
        [looked[row].n_people or 0 for row in family],
        [1.0 if looked[row].state < 0 else STRETCH for row in family],
        LEVEL,
    )
    found = dict(zip(family, between, strict=True))
    return [Gain(value, found.get(row)) for row, value in enumerate(values)]


def _verdict(one: _Looked, gain: Gain) -> str:
    if one.n_people is None:
        return NOT_TESTED
    if not one.can_tell:
        return TOO_FEW
    return {1: PAYS, -1: COSTS, 0: NO_DIFFERENCE}[gain.sign]
