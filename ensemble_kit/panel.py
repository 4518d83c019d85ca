"""The voters of all experts on one block of photos at a time: what a forward pass reads from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace

import numpy as np

from ensemble_kit.arrays import BoolArray, FloatArray, FloatType, IdArray, IntArray
from ensemble_kit.checked import Checked
from ensemble_kit.descent import can_descend, descend
from ensemble_kit.errors import DataError, UsageError
from ensemble_kit.graph import Node
from ensemble_kit.hooks import Adjust, HookNames, Weights, adjusts_of, ask_adjust, votes_of, weights_of
from ensemble_kit.joint import QUICK as QUICK_ROUTES
from ensemble_kit.joint import Passed, Plan, Routed, forward, nearness
from ensemble_kit.predictions import SUM_TOLERANCE, Predictions
from ensemble_kit.routing import Route, is_own, route_hard
from ensemble_kit.voting import QUICK as QUICK_VOTES
from ensemble_kit.voting import Vote, ask_vote, ask_voters
from ensemble_kit.voting import is_own as is_own_vote

MANY = 16
"""Where more than a 16th of a block's rows is asked for, to work on all of them is faster than to pick them out."""

LEAST_WEIGHT = 1e-6
"""Smaller weights times small probabilities leave the range of float32."""


Fill = Callable[[Predictions, Sequence[str], IntArray], Predictions | None]
"""(expert, names of its voters that count, row numbers): called before these rows are read. It may write them into the
expert's layers: a network that runs only on photos whose route asks for it. Or it gives the expert with other layers,
to be read from then on, so that an expert that is never asked needs no memory."""


@dataclass(frozen=True)
class Asked:
    """What one block of photos needed.

    Attributes:
        rows: for each expert `(n_rows,)` whether it was asked for the photo.
        missing: for each expert the photos that were not computed, numbered within all.
        again: the photos in doubt, numbered within all; they do not count above.
    """

    rows: Mapping[int, BoolArray]
    missing: Mapping[int, list[int]]
    again: IntArray


class Panel:
    """Reads, votes and adjusts block by block, counts what was asked, and notes what was not computed.

    Args:
        plan: which expert answers which state.
        experts: all experts of the ensemble; the plan's numbers are theirs.
        ids: the photos' ids, in the order of the result.
        rows: for each used expert, its row of each photo; None = the same order.
        checked: what is known of the experts' blocks.
        voters, vote, vote_at, weights, adjust, fill: as `ConditionalEnsemble.combine` takes them.
    """

    def __init__(
        self,
        plan: Plan,
        experts: Sequence[Predictions],
        ids: IdArray,
        rows: Mapping[int, IntArray | None],
        checked: Checked,
        *,
        voters: Sequence[str] | None,
        vote: str | Vote | Mapping[str, str | Vote],
        vote_at: str,
        weights: Weights | None,
        adjust: Mapping[str, Adjust] | None,
        fill: Fill | None = None,
    ):
        self.plan, self.ids, self.rows, self.checked, self.fill = plan, ids, rows, checked, fill
        self.experts: dict[int, Predictions] = {}
        for number in plan.used:
            expert = experts[number]
            self.experts[number] = expert.select_voters(sorted(expert.voters if voters is None else voters))
        node_of = {part.expert: step.node.name for step in plan.steps for part in step.parts if part.expert >= 0}
        idle = [step.node.name for step in plan.steps] + [experts[number].describe() for number in plan.unused]
        names = HookNames(self.experts, node_of, idle)
        self.weights = weights_of(names, weights, vote_at)
        self.nearly = nearness(plan, {number: int(np.count_nonzero(own)) for number, own in self.weights.items()})
        self.votes, self.joint_vote = votes_of(names, vote, vote_at, weights)
        self.adjusts, self.joint_adjust = adjusts_of(names, adjust)
        self.at_joint = vote_at == "joint"
        if self.at_joint:
            self._check_same_voters()
        self.counts = dict.fromkeys(plan.used, 0)
        self.missing: dict[int, list[int]] = {number: [] for number in plan.used}
        self.photos: slice | IntArray = slice(0, 0)
        self.n_rows = 0
        self.dtype: FloatType = np.dtype(np.float64)
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
            self.fill is None
            and not self.adjusts
            and self.joint_adjust is None
            and all(is_own_vote(vote) for vote in votes)
            and all(is_own(route) for route in routes.values())
        )

    def precision(self, routes: Mapping[Node, Route], dtype: str) -> FloatType:
        """float32 where that is asked for and changes no decision (rows in doubt are passed again), else float64."""
        is_quick = (
            dtype == "float32"
            and self.looks_by_rows(routes)
            and not self.at_joint
            and set(self.votes.values()) <= QUICK_VOTES
            and set(routes.values()) <= QUICK_ROUTES
            and len(set(routes.values())) <= 1  # what hard shuts would be faint to a soft one after it
            and all(((own == 0) | (own >= LEAST_WEIGHT)).all() for own in self.weights.values())
            and all(layer.dtype == np.float32 for expert in self.experts.values() for layer in expert.layers)
        )
        return np.dtype(np.float32 if is_quick else np.float64)

    def answer(self, photos: slice | IntArray, routes: Mapping[Node, Route], dtype: FloatType) -> tuple[Passed, Asked]:
        """The joint probabilities of a block of photos, voted, routed and adjusted.

        Changes nothing here: what was asked and what was missing come back, for `note`.

        Args:
            photos: from one to another, or their numbers.
            dtype: what `precision` says.
        """
        block = self._block(photos, dtype)
        passed = block._by_joint(routes) if self.at_joint else block._by_expert(routes)
        for rows in block.asked.values():
            rows[passed.in_doubt] = False
        asked = Asked(block.asked, block.missing, block._number(passed.in_doubt))
        if self.joint_adjust is None:
            return passed, asked
        tolerance = SUM_TOLERANCE * len(self.plan.schema.names)
        joint = ask_adjust(self.joint_adjust, passed.joint, "joint", tolerance)
        # the same function on equal rows keeps a distance of 0; what it makes of another one is not known
        distance = np.where(passed.distance == 0, 0.0, np.nan)
        return replace(passed, joint=joint, distance=distance), asked

    def descends(self, routes: Mapping[Node, Route]) -> bool:
        """Whether `descend` gives the labels: the hard route everywhere, in float32."""
        is_hard = all(route is route_hard for route in routes.values())
        return is_hard and self.precision(routes, "float32") == np.float32 and can_descend(self.plan)

    def descend(self, photos: slice) -> tuple[IntArray, IntArray]:
        """The labels of a block of photos, and the photos in doubt, numbered within all."""
        block = self._block(photos, np.dtype(np.float32))
        labels, in_doubt = descend(self.plan, block.n_rows, block._read, self.nearly)
        return labels, block._number(in_doubt)

    def voted(self, n_samples: int) -> dict[int, FloatArray]:
        """Every expert's voted, adjusted answers for all photos, `(n_samples, n_classes)` float64; 0 = no answer."""
        block = self._block(slice(0, n_samples), np.dtype(np.float64))
        rows = np.arange(n_samples, dtype=np.int64)
        return {number: block._read(number, rows) for number in self.plan.used}

    def note(self, asked: Asked) -> None:
        for number, rows in asked.rows.items():
            self.counts[number] += int(np.count_nonzero(rows))
            self.missing[number] += asked.missing[number]

    def _block(self, photos: slice | IntArray, dtype: FloatType) -> Panel:
        block = copy(self)
        block.photos, block.dtype = photos, dtype
        block.n_rows = photos.stop - photos.start if isinstance(photos, slice) else len(photos)
        block.asked = {number: np.zeros(block.n_rows, dtype=np.bool_) for number in self.plan.used}
        block.missing = {number: [] for number in self.plan.used}
        return block

    def _by_expert(self, routes: Mapping[Node, Route]) -> Passed:
        return forward(self.plan, self.n_rows, self._read, routes, self.dtype, self.nearly)

    def _read(self, number: int, rows: IntArray) -> FloatArray:
        """The voted, adjusted answers of an expert."""
        self._ask_fill(number, rows, np.flatnonzero(self.weights[number]))
        is_whole = self.dtype == np.float32 and self.rows[number] is None and len(rows) * MANY > self.n_rows
        found = slice(None) if is_whole else rows
        layers, all_speak = self._layers(number, found, range(len(self.weights[number])))
        vote, weights, tolerance = self.votes[number], self.weights[number], self._tolerance(number)
        values = ask_voters(vote, layers, weights, tolerance, all_speak=all_speak, dtype=self.dtype)
        return self._adjusted(number, self._present(number, rows, values))

    def _by_joint(self, routes: Mapping[Node, Route]) -> Passed:
        """Each voter's whole chain, then the vote; gates, confidence and kept are the voters' weighted means."""
        weights = self.weights[self.plan.used[0]]
        passed: list[Passed] = []
        chains: list[FloatArray] = []
        for voter in range(len(weights)):
            if weights[voter] == 0:
                chains.append(np.zeros((self.n_rows, self.plan.schema.n_joint)))
                continue

            def read(number: int, rows: IntArray, voter: int = voter) -> FloatArray:
                self._ask_fill(number, rows, [voter])
                values = self._layers(number, rows, [voter])[0][0].astype(np.float64)
                return self._adjusted(number, self._present(number, rows, values))

            passed.append(forward(self.plan, self.n_rows, read, routes))
            chains.append(passed[-1].joint)
        tolerance = SUM_TOLERANCE * len(self.plan.schema.names)
        joint = ask_vote(self.joint_vote, np.stack(chains), weights, tolerance)
        return _mean(passed, weights[weights > 0], joint)

    def _ask_fill(self, number: int, rows: IntArray, voters: Iterable[int]) -> None:
        if self.fill is not None:
            expert, join, photos = self.experts[number], self.rows[number], self._number(rows)
            names = [expert.voters[voter] for voter in voters]
            self.experts[number] = self.fill(expert, names, photos if join is None else join[photos]) or expert

    def _layers(self, number: int, rows: IntArray | slice, voters: Sequence[int]) -> tuple[list[FloatArray], bool]:
        """`(len(rows), n_classes)` of each voter, and whether it is known that no row is all zeros.

        Args:
            rows: within the block; a slice is all of them.
        """
        expert, join = self.experts[number], self.rows[number]
        photos = self.photos if join is None else join[self.photos]
        layers, all_speak = [], True
        for voter in voters:
            layer = expert.layers[voter]
            all_speak &= self.checked.look(expert, number, voter, photos)
            values = layer.view(np.ndarray)[photos] if isinstance(photos, slice) else layer.view(np.ndarray)
            if not isinstance(rows, slice) and len(rows) < self.n_rows:
                values = values.take(rows if isinstance(photos, slice) else photos[rows], axis=0)
            elif not isinstance(photos, slice):
                values = values.take(photos, axis=0)
            layers.append(values)
        return layers, all_speak

    def _number(self, rows: IntArray) -> IntArray:
        """Which photos rows of the block are."""
        return rows + self.photos.start if isinstance(self.photos, slice) else self.photos[rows]

    def _tolerance(self, number: int) -> float:
        return SUM_TOLERANCE * len(self.experts[number].attributes)

    def _present(self, number: int, rows: IntArray, values: FloatArray) -> FloatArray:
        """Counts what was asked; a row not computed is noted and read as abstained, to be refused at the end."""
        self.asked[number][rows] = True
        absent = np.isnan(values[:, 0])  # a row is NaN as a whole or not at all
        if absent.any():
            if self.dtype == np.float64:  # of a pass in float32 these are in doubt, and come again
                self.missing[number] += self._number(rows[absent]).tolist()
            values = np.where(absent[:, None], values.dtype.type(0), values)
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
    return Passed(joint, routed, np.where(is_soft, 0.0, np.nan), n_answered, passed[0].in_doubt)


def _arrays(routed: Routed) -> tuple[FloatArray, FloatArray, FloatArray]:
    return routed.gate, routed.confidence, routed.kept
