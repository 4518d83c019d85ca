"""What can be weighed: the voters of one expert, or those of every expert behind a joint.

A state says how often each voter counts, one tuple of whole numbers a block; a block is an expert. Voters are in the
order of their names, so that the order they are given in changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, TypeAlias

import numpy as np

from ensemble_kit.arrays import FloatArray, IntArray
from ensemble_kit.graph import Node
from ensemble_kit.joint import Plan, forward
from ensemble_kit.routing import Route
from ensemble_kit.selection.measure import Measure

Counts: TypeAlias = tuple[int, ...]
State: TypeAlias = tuple[Counts, ...]


class Answers(Protocol):
    """What voters with weights answer together.

    Attributes:
        voters: names, one tuple a block.
    """

    voters: tuple[tuple[str, ...], ...]

    def base(self, state: State | None) -> None:
        """Says that states one vote away from this one come next; None = each is added up anew."""
        ...

    def answer(self, state: State) -> FloatArray:
        """`(n_classes, n_samples)`."""
        ...


class Block:
    """One expert's voters: soft votes with whole-number weights, one vote added at a time.

    Args:
        probs: one `(n_samples, n_classes)` a voter, no NaN.
    """

    def __init__(self, probs: Sequence[FloatArray]):
        self._probs = [np.ascontiguousarray(layer.T, dtype=np.float64) for layer in probs]
        self._spoken = [(layer != 0).any(axis=0).astype(np.float64) for layer in self._probs]
        self._base: tuple[Counts, FloatArray, FloatArray] | None = None
        self._last: tuple[Counts, FloatArray] | None = None

    def base(self, counts: Counts | None) -> None:
        if counts is None:
            self._base = self._last = None
        elif self._base is None or self._base[0] != counts:
            self._base = (counts, *self._sums(counts))

    def voted(self, counts: Counts) -> FloatArray:
        """As `vote_soft`: the weighted mean over the voters that did not abstain, `(n_classes, n_samples)`."""
        if self._last is None or self._last[0] != counts:
            total, spoken = self._sums(counts)
            self._last = (counts, np.divide(total, spoken, out=np.zeros_like(total), where=spoken > 0))
        return self._last[1]

    def _sums(self, counts: Counts) -> tuple[FloatArray, FloatArray]:
        """The sum of the votes in the order of names, or one vote more than the base."""
        if self._base is not None:
            more = [a - b for a, b in zip(counts, self._base[0], strict=True)]
            if sum(map(abs, more)) == 0:
                return self._base[1], self._base[2]
            if sum(map(abs, more)) == 1 and max(more) == 1:
                voter = more.index(1)
                return self._base[1] + self._probs[voter], self._base[2] + self._spoken[voter]
        total, spoken = np.zeros_like(self._probs[0]), np.zeros_like(self._spoken[0])
        for count, probs, speaks in zip(counts, self._probs, self._spoken, strict=True):
            if count:
                total += count * probs
                spoken += count * speaks
        return total, spoken


class ExpertAnswers:
    """One expert's vote, or the vote of whole chains at the joint."""

    def __init__(self, probs: Sequence[FloatArray], voters: Sequence[str]):
        self.voters: tuple[tuple[str, ...], ...] = (tuple(voters),)
        self._block = Block(probs)

    def base(self, state: State | None) -> None:
        self._block.base(None if state is None else state[0])

    def answer(self, state: State) -> FloatArray:
        return self._block.voted(state[0])


class JointAnswers:
    """The joint of a plan whose experts each vote with weights of their own.

    Args:
        numbers: of the experts in the plan, one a block.
        probs: for each of them one `(n_samples, n_classes)` a voter.
        voters: for each of them the voters' names.
    """

    def __init__(
        self,
        plan: Plan,
        routes: Mapping[Node, Route],
        numbers: Sequence[int],
        probs: Sequence[Sequence[FloatArray]],
        voters: Sequence[Sequence[str]],
    ):
        self.plan, self.routes = plan, routes
        self.voters = tuple(tuple(names) for names in voters)
        self._place = {number: place for place, number in enumerate(numbers)}
        self._blocks = [Block(layers) for layers in probs]
        self._n_samples = len(probs[0][0])

    def base(self, state: State | None) -> None:
        for place, block in enumerate(self._blocks):
            block.base(None if state is None else state[place])

    def answer(self, state: State) -> FloatArray:
        def read(number: int, rows: IntArray) -> FloatArray:
            place = self._place[number]
            voted = self._blocks[place].voted(state[place]).T
            return voted if len(rows) == self._n_samples else voted[rows]

        return forward(self.plan, self._n_samples, read, self.routes).joint.T


class Panel:
    """Answers beside their measure; every state is scored once, on all folds.

    Attributes:
        n_folds: `score(state, n_folds)` is on all photos.
    """

    def __init__(self, answers: Answers, measure: Measure, folds: IntArray):
        self.answers, self.measure, self.folds = answers, measure, folds
        self.n_folds = int(folds.max()) + 1
        self.voters = answers.voters
        self._scores: dict[State, FloatArray] = {}

    def score(self, state: State, fold: int) -> float:
        """On the photos outside a fold, higher is better."""
        if state not in self._scores:
            reading = self.measure.read(self.answers.answer(state))
            self._scores[state] = self.measure.outside(reading)
        return float(self._scores[state][fold])

    def all(self) -> State:
        """Every voter once: the plain vote."""
        return tuple((1,) * len(names) for names in self.voters)

    def held_out(self, states: Sequence[State]) -> FloatArray:
        """The answer `(n_classes, n_samples)` of each fold's photos by that fold's state."""
        self.answers.base(None)
        answers = {state: np.array(self.answers.answer(state)) for state in dict.fromkeys(states)}
        found = np.zeros_like(next(iter(answers.values())))
        for fold, state in enumerate(states):
            rows = np.flatnonzero(self.folds == fold)
            found[:, rows] = answers[state][:, rows]
        return found
