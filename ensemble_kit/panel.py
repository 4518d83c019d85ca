"""The voters of all experts on one block of photos at a time: what a forward pass reads from."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass

import numpy as np

from ensemble_kit.arrays import BoolArray, FloatArray, IdArray, IntArray
from ensemble_kit.errors import DataError, UsageError
from ensemble_kit.graph import Node
from ensemble_kit.hooks import Adjust, HookNames, Weights, adjusts_of, ask_adjust, votes_of, weights_of
from ensemble_kit.joint import Passed, Plan, Routed, forward
from ensemble_kit.predictions import SUM_TOLERANCE, Predictions, are_all_one
from ensemble_kit.routing import Route, is_own
from ensemble_kit.voting import OWN as OWN_VOTES
from ensemble_kit.voting import Vote, ask_vote


@dataclass(frozen=True)
class Asked:
    """What one block of photos needed.

    Attributes:
        counts: photos that each expert was asked for.
        missing: for each expert the photos that were not computed, numbered within all.
    """

    counts: Mapping[int, int]
    missing: Mapping[int, list[int]]


class Panel:
    """Reads, votes and adjusts block by block, counts what was asked, and notes what was not computed.

    Args:
        plan: which expert answers which state.
        experts: all experts of the ensemble; the plan's numbers are theirs.
        ids: the photos' ids, in the order of the result.
        rows: for each used expert, its row of each photo; None = the same order.
        voters, vote, vote_at, weights, adjust: as `ConditionalEnsemble.combine` takes them.
    """

    def __init__(
        self,
        plan: Plan,
        experts: Sequence[Predictions],
        ids: IdArray,
        rows: Mapping[int, IntArray | None],
        *,
        voters: Sequence[str] | None,
        vote: str | Vote | Mapping[str, str | Vote],
        vote_at: str,
        weights: Weights | None,
        adjust: Mapping[str, Adjust] | None,
    ):
        self.plan, self.ids, self.rows = plan, ids, rows
        self.experts: dict[int, Predictions] = {}
        for number in plan.used:
            expert = experts[number]
            self.experts[number] = expert.select_voters(sorted(expert.voters if voters is None else voters))
        node_of = {part.expert: step.node.name for step in plan.steps for part in step.parts if part.expert >= 0}
        idle = [step.node.name for step in plan.steps] + [experts[number].describe() for number in plan.unused]
        names = HookNames(self.experts, node_of, idle)
        self.weights = weights_of(names, weights, vote_at)
        self.votes, self.joint_vote = votes_of(names, vote, vote_at, weights)
        self.adjusts, self.joint_adjust = adjusts_of(names, adjust)
        self.at_joint = vote_at == "joint"
        if self.at_joint:
            self._check_same_voters()
        self.counts = dict.fromkeys(plan.used, 0)
        self.missing: dict[int, list[int]] = {number: [] for number in plan.used}
        self.start = self.stop = 0
        self.asked: dict[int, BoolArray] = {}

    def _check_same_voters(self) -> None:
        first = self.experts[self.plan.used[0]]
        for expert in self.experts.values():
            if expert.voters != first.voters:
                raise UsageError(
                    f"vote_at=joint needs the same voters in all experts: {first.describe()} has "
                    f"{', '.join(first.voters)}, {expert.describe()} has {', '.join(expert.voters)}; "
                    f"name those that all have, or vote at the experts"
                )

    def looks_by_rows(self, routes: Mapping[Node, Route]) -> bool:
        """Whether all that is called is our own, so that blocks may be worked on side by side."""
        votes = [*self.votes.values(), self.joint_vote]
        return (
            not self.adjusts
            and self.joint_adjust is None
            and all(isinstance(vote, Hashable) and vote in OWN_VOTES for vote in votes)
            and all(is_own(route) for route in routes.values())
        )

    def answer(self, start: int, stop: int, routes: Mapping[Node, Route]) -> tuple[Passed, Asked]:
        """The joint probabilities of the photos from `start` to `stop`, voted, routed and adjusted.

        Changes nothing here: what was asked and what was missing come back, for `note`.
        """
        block = copy(self)
        block.start, block.stop = start, stop
        block.asked = {number: np.zeros(stop - start, dtype=np.bool_) for number in self.plan.used}
        block.missing = {number: [] for number in self.plan.used}
        passed = block._by_joint(routes) if self.at_joint else block._by_expert(routes)
        counts = {number: int(np.count_nonzero(rows)) for number, rows in block.asked.items()}
        asked = Asked(counts, block.missing)
        if self.joint_adjust is None:
            return passed, asked
        tolerance = SUM_TOLERANCE * len(self.plan.schema.names)
        joint = ask_adjust(self.joint_adjust, passed.joint, "joint", tolerance)
        # the same function on equal rows keeps a distance of 0; what it makes of another one is not known
        distance = np.where(passed.distance == 0, 0.0, np.nan)
        return Passed(joint, passed.routed, distance, passed.n_answered), asked

    def note(self, asked: Asked) -> None:
        for number, count in asked.counts.items():
            self.counts[number] += count
            self.missing[number] += asked.missing[number]

    def _by_expert(self, routes: Mapping[Node, Route]) -> Passed:
        def read(number: int, rows: IntArray) -> FloatArray:
            probs = self._layers(number, rows, range(len(self.weights[number])))
            values = ask_vote(self.votes[number], probs, self.weights[number], self._tolerance(number), checked=True)
            return self._adjusted(number, self._present(number, rows, values))

        return forward(self.plan, self.stop - self.start, read, routes)

    def _by_joint(self, routes: Mapping[Node, Route]) -> Passed:
        """Each voter's whole chain, then the vote; gates, confidence and kept are the voters' weighted means."""
        weights = self.weights[self.plan.used[0]]
        passed: list[Passed] = []
        chains: list[FloatArray] = []
        for voter in range(len(weights)):
            if weights[voter] == 0:
                chains.append(np.zeros((self.stop - self.start, self.plan.schema.n_joint)))
                continue

            def read(number: int, rows: IntArray, voter: int = voter) -> FloatArray:
                values = self._layers(number, rows, [voter])[0].astype(np.float64)
                return self._adjusted(number, self._present(number, rows, values))

            passed.append(forward(self.plan, self.stop - self.start, read, routes))
            chains.append(passed[-1].joint)
        tolerance = SUM_TOLERANCE * len(self.plan.schema.names)
        joint = ask_vote(self.joint_vote, np.stack(chains), weights, tolerance)
        return _mean(passed, weights[weights > 0], joint)

    def _layers(self, number: int, rows: IntArray, voters: Sequence[int]) -> FloatArray:
        """`(n_voters, len(rows), n_classes)`; rows count within the block.

        What is mapped from files is checked here, all voters at once; a fault is then looked for one by one.
        """
        expert, join = self.experts[number], self.rows[number]
        is_whole = len(rows) == self.stop - self.start
        layers = [expert.layers[voter] for voter in voters]
        probs = np.empty((len(layers), len(rows), len(expert.classes)), dtype=np.result_type(*layers))
        for values, layer in zip(probs, layers, strict=True):
            plain = layer.view(np.ndarray)
            if join is not None:
                plain.take(join[rows + self.start], axis=0, out=values, mode="clip")
            elif is_whole:
                values[:] = plain[self.start : self.stop]
            else:
                plain[self.start : self.stop].take(rows, axis=0, out=values, mode="clip")
        if any(isinstance(layer, np.memmap) for layer in layers) and not self._are_good(number, probs):
            for values, voter in zip(probs, voters, strict=True):
                expert.check(values, voter)
        return probs

    def _are_good(self, number: int, probs: FloatArray) -> bool:
        """Whether every row sums to 1 with nothing below 0. A check only, so the product may round as it likes."""
        total = probs.reshape(-1, probs.shape[2]) @ np.ones(probs.shape[2], dtype=probs.dtype)
        return are_all_one(total, self._tolerance(number)) and bool(probs.min(initial=0) >= 0)

    def _tolerance(self, number: int) -> float:
        return SUM_TOLERANCE * len(self.experts[number].attributes)

    def _present(self, number: int, rows: IntArray, values: FloatArray) -> FloatArray:
        """Counts what was asked; a row not computed is noted and read as abstained, to be refused at the end."""
        self.asked[number][rows] = True
        absent = np.isnan(values[:, 0])  # a row is NaN as a whole or not at all
        if absent.any():
            self.missing[number] += (rows[absent] + self.start).tolist()
            values = np.where(absent[:, None], 0, values)
        return values

    def _adjusted(self, number: int, values: FloatArray) -> FloatArray:
        if number not in self.adjusts:
            return values
        who = self.experts[number].describe()
        return ask_adjust(self.adjusts[number], values, who, self._tolerance(number))

    def refuse_missing(self) -> None:
        """Raises DataError when a route needed what was not computed."""
        gaps = []
        for number, found in self.missing.items():
            rows = sorted(set(found))
            if rows:
                gaps.append(f'{len(rows)} by "{self.experts[number].describe()}" (the first is "{self.ids[rows[0]]}")')
        if gaps:
            raise DataError(
                f"of {len(self.ids)} photos these have no prediction that the route needs: {'; '.join(gaps)}; see "
                f'errors.csv of the predictions, mend the photos and run "ens predict" again, or answer them with '
                "--missing JOINT_CLASS"
            )


def _mean(passed: Sequence[Passed], weights: FloatArray, joint: FloatArray) -> Passed:
    """The voters' passes as one, around the joint they voted for.

    A distance of the result is known where every voter's is 0: the same vote over the soft chains gives the same.
    """
    shares = weights / weights.sum()
    routed = {}
    for node in passed[0].routed:
        gate, confidence, kept = (np.zeros_like(a) for a in _arrays(passed[0].routed[node]))
        for one, share in zip(passed, shares, strict=True):
            for total, values in zip((gate, confidence, kept), _arrays(one.routed[node]), strict=True):
                total += share * values
        routed[node] = Routed(gate, confidence, kept)
    is_soft = np.logical_and.reduce([one.distance == 0 for one in passed])
    n_answered = np.maximum.reduce([one.n_answered for one in passed])
    return Passed(joint, routed, np.where(is_soft, 0.0, np.nan), n_answered)


def _arrays(routed: Routed) -> tuple[FloatArray, FloatArray, FloatArray]:
    return routed.gate, routed.confidence, routed.kept
