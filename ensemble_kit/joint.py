"""From experts' probabilities to joint probabilities: the one forward pass along a plan.

    joint[j] = prod over nodes b of Q_b(j_b | s_b(j)) * gate_b[s_b] / belief_b[s_b]

A joint class fixes the parents' state `s_b` of every node, hence the one expert that answers; there is no sum over
experts. A route replaces the belief over the states by its gate (Jeffrey's rule); with gate = belief this is the chain
rule. Arrays inside run class first, `(n_classes, n_rows)`, and every sum adds whole rows one by one, so that a photo's
bits do not depend on the photos beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from ensemble_kit.arrays import BoolArray, FloatArray, IntArray
from ensemble_kit.errors import DataError
from ensemble_kit.graph import Node
from ensemble_kit.plan import Part, Plan, Step, make_plan
from ensemble_kit.routing import Route, ask_route, highest_belief, is_own, route_hard, route_soft, watch_gate
from ensemble_kit.schema import Schema
from ensemble_kit.voting.rules import highest_of, level

__all__ = ["Passed", "Plan", "Read", "Routed", "Step", "best_columns", "forward", "make_plan", "with_known"]

NEARLY = 2e-5
"""Shares nearer than this to each other are looked at again in float64: a hundred roundings of float32."""

FAINT = 1e-30
"""Shares below this are looked at again in float64: float32 has few digits left for them, or none."""

QUICK: frozenset[Route] = frozenset({route_hard, route_soft})
"""Routes that decide by the highest belief alone, or not at all."""

Read = Callable[[int, IntArray], FloatArray]
"""(number of the expert, rows) -> probabilities `(len(rows), n_classes)`: a slice of saved ones, or a network's run.
Of all rows, those that were not asked for among them, where that is cheaper: what they hold does not count."""


@dataclass(frozen=True)
class Routed:
    """What the route did at one node with parents."""

    gate: FloatArray
    """`(n_rows, n_states)`"""
    confidence: FloatArray
    """`(n_rows,)` the belief's highest value; 0 where the row abstained before."""
    kept: FloatArray
    """`(n_rows,)` the share of the belief on states of gate > 0; 0 where the row abstains."""


@dataclass(frozen=True)
class Passed:
    """What a forward pass gives.

    `distance` is the total variation between a row's joint and the soft one, half the sum of the absolute differences.
    A gate that is the belief of some states divided by their sum makes the joint *the soft joint, given that the true
    states are among those kept*. So the distance is what that event lacks of probability 1, and exactly
    `1 - prod over nodes of kept` (the kept shares are conditional on the nodes before, hence the product).
    """

    joint: FloatArray
    """`(n_rows, n_joint)`; rows sum to 1 or, abstained, to 0."""
    routed: dict[Node, Routed]
    """For every node with parents."""
    distance: FloatArray
    """`(n_rows,)`; NaN where a gate is of another form, and where the row abstained."""
    n_answered: IntArray
    """`(n_rows,)` nodes, from the first on, that answered; fewer than all = the row abstained at the next one."""
    in_doubt: IntArray
    """Rows in which float32 may have decided otherwise than float64 would; none of a pass in float64."""


def nearness(plan: Plan, n_voters: Mapping[int, int]) -> float:
    """How near two shares have to be to change places in float32: NEARLY, or more where roundings add up to more.

    Args:
        n_voters: of each expert, those that have a weight.
    """
    n_roundings = 0
    for step in plan.steps:
        most = max((n_voters[part.expert] for part in step.parts if part.expert >= 0), default=0)
        widest = max((len(part.columns) for part in step.parts if part.restricted), default=0)
        n_roundings += 2 * most + widest + len(step.rounds) + 6
    return max(NEARLY, n_roundings * float(np.finfo(np.float32).eps))  # half of eps each, of either share


def forward(
    plan: Plan,
    n_rows: int,
    read: Read,
    routes: Mapping[Node, Route],
    dtype: DTypeLike = np.float64,
    nearly: float = NEARLY,
) -> Passed:
    """Joint probabilities of `n_rows` photos, and what the routes did.

    An expert is asked once, for exactly the rows where the gate of one of its states is above 0. A row for which an
    expert that is needed abstains (all zero) abstains as a whole.

    Args:
        read: gives an expert's probabilities on some rows, each row a distribution or all zero.
        routes: for nodes with parents; soft where none is given.
        dtype: that products and sums run in. float32 is for routes in QUICK; what it might decide otherwise than
            float64 is told, to be passed again.
        nearly: as `nearness` says.
    """
    prefixes: FloatArray = np.ones((1, n_rows), dtype=dtype)
    routed: dict[Node, Routed] = {}
    near = np.ones(n_rows, dtype=dtype)
    doubts: list[IntArray] = []
    is_single = prefixes.dtype != np.float64
    is_live = np.ones(n_rows, dtype=np.bool_)
    n_answered = np.zeros(n_rows, dtype=np.int64)
    for step in plan.steps:
        if step.node.parents:
            belief = _belief(step, prefixes)
            route = routes.get(step.node, route_soft)
            gate = ask_route(route, belief.T)
            if is_single:  # a soft gate is shut where float64 might leave a last bit of belief
                faint = route is route_soft
                doubts.append(np.flatnonzero(belief.min(axis=0) < FAINT) if faint else nearly_tied(belief, nearly))
            opened = np.ascontiguousarray(gate.T)
            confidence, kept, is_share = watch_gate(belief, opened, is_share=is_own(route))
            routed[step.node] = Routed(gate, confidence, kept)
            near *= np.where(is_share, kept, near.dtype.type(np.nan))
            is_live &= kept > 0
            prefixes = _reweigh(prefixes, step.state_of, opened, belief)
            is_open = np.asarray(opened > 0)
        else:
            is_open = is_live[None, :]
        prefixes, is_silent, is_faint = _extend(step, prefixes, is_open, read)
        doubts.append(np.flatnonzero(is_faint))
        is_live &= ~is_silent
        n_answered += is_live
    if is_single:
        doubts.append(nearly_tied(prefixes, nearly))
    prefixes = _levelled(prefixes)
    distance = np.where(is_live, 1 - near, near.dtype.type(np.nan))
    in_doubt = np.unique(np.concatenate(doubts)) if is_single else np.zeros(0, dtype=np.int64)
    return Passed(prefixes.T, routed, distance, n_answered, in_doubt)


def nearly_tied(values: FloatArray, nearly: float = NEARLY) -> IntArray:
    """Rows of `(n_classes, n_rows)` float32 whose two highest may be the other way round in float64, or are all 0.

    Examples:
        >>> nearly_tied(np.array([[0.5, 0.6, 0.0], [0.5, 0.4, 0.0]], dtype=np.float32)).tolist()
        [0, 2]
    """
    highest, second, lower = values[0].copy(), np.zeros_like(values[0]), np.empty_like(values[0])
    for own in values[1:]:
        np.maximum(second, np.minimum(highest, own, out=lower), out=second)
        np.maximum(highest, own, out=highest)
    np.multiply(highest, 1 - nearly, out=lower)
    return np.flatnonzero(second >= lower)


def _belief(step: Step, prefixes: FloatArray) -> FloatArray:
    """`(n_states, n_rows)`."""
    belief = np.zeros((len(step.states), prefixes.shape[1]), dtype=prefixes.dtype)
    for members, states in step.rounds:
        belief[states] += prefixes[members]
    return _levelled(belief)


def _reweigh(prefixes: FloatArray, state_of: IntArray, gate: FloatArray, belief: FloatArray) -> FloatArray:
    """Every prefix times gate / belief of its state, 0/0 = 0; where the gate is the belief, bit for bit what it was."""
    if gate is belief:
        return prefixes
    as_was = gate == belief  # among them all states without belief, whose prefixes are 0
    if as_was.all():
        return prefixes
    times, over = (np.where(as_was, belief.dtype.type(1), values) for values in (gate, belief))
    moved = np.empty_like(prefixes)
    for share, prefix, state in zip(moved, prefixes, state_of.tolist(), strict=True):
        np.divide(prefix, over[state], out=share)
        share *= times[state]
    return moved


def _extend(
    step: Step, prefixes: FloatArray, is_open: BoolArray, read: Read
) -> tuple[FloatArray, BoolArray, BoolArray]:
    """Prefixes times the answers of the node's experts `(n_after, n_rows)`, the rows where one abstains, and those
    in which the possible classes have so little that float32 cannot tell their shares."""
    n_rows = prefixes.shape[1]
    longer = np.zeros((step.n_after, n_rows), dtype=prefixes.dtype)
    abstains, is_faint = np.zeros(n_rows, dtype=np.bool_), np.zeros(n_rows, dtype=np.bool_)
    for number, parts in step.parts_of.items():
        if number < 0:
            for part in parts:
                longer[part.after] = prefixes[part.before]
            continue
        needed = is_open[step.expert_of_state == number].any(axis=0)
        rows = np.flatnonzero(needed)
        if not len(rows):
            continue
        values = read(number, rows)
        answers = np.ascontiguousarray(values.T, dtype=prefixes.dtype)
        is_some = len(values) < n_rows  # the others stay 0: what is computed grows with the rows that were asked
        silent = highest_belief(answers) <= 0
        abstains[rows if is_some else slice(None)] |= silent if is_some else silent & needed
        for part in parts:
            chosen, total = _possible(answers, part)
            if total is not None and total.dtype != np.float64:
                is_faint[rows if is_some else slice(None)] |= total < FAINT if is_some else (total < FAINT) & needed
            for after, before, place in part.triples:
                if is_some:
                    longer[after, rows] = prefixes[before].take(rows) * chosen[place]
                else:
                    np.multiply(prefixes[before], chosen[place], out=longer[after])
    if abstains.any():
        longer[:, abstains] = 0
    return longer, abstains, is_faint


def _possible(answers: FloatArray, part: Part) -> tuple[FloatArray, FloatArray | None]:
    """The answers for the possible classes, summing to 1 over them; 0/0 = equal shares. And what they summed to.

    What is level among the possible ones may have been below the highest of all, where the vote did not look.
    """
    chosen = answers if part.is_whole else answers[part.columns]
    if not part.restricted:
        return chosen, None
    total = np.zeros(chosen.shape[1], dtype=chosen.dtype)
    for row in chosen:
        total += row
    equal = np.full_like(chosen, 1 / len(part.columns))
    return _levelled(np.divide(chosen, total, out=equal, where=total > 0)), total


def _levelled(values: FloatArray) -> FloatArray:
    """In place: sums and products that are equal may differ in their last bit, by the order of the voters.

    Of float32, rows in which that could matter are in doubt anyway.
    """
    return level(values) if values.dtype == np.float64 else values


def best_columns(joint: FloatArray) -> IntArray:
    """The highest column of each row `(n_rows,)`, of equal ones the lowest, -1 = abstained; of the float32 numbers that
    are kept, so that labels are those of the kept joint."""
    kept = np.ascontiguousarray(joint.T, dtype=np.float32)  # class by class, which is how the forward pass lays it out
    highest, n_joint = highest_of(kept), len(kept)
    places = np.zeros(len(highest), dtype=np.int8 if n_joint < 128 else np.int32)  # from the last, so 0 = none
    for number, own in enumerate(kept):
        is_best = (own == highest).astype(places.dtype)
        np.maximum(places, np.multiply(is_best, n_joint - number, out=is_best), out=places)
    labels = n_joint - places.astype(np.int64)
    labels[highest <= 0] = -1
    return labels


def with_known(joint: FloatArray, schema: Schema, known: Mapping[str, ArrayLike]) -> FloatArray:
    """Joint probabilities given facts (Bayes): the truth of an attribute, or what is known at hand.

    Args:
        joint: `(n_samples, n_joint)`.
        known: attribute -> class numbers `(n_samples,)`, -1 where it is not known.

    Returns:
        `(n_samples, n_joint)` of joint's type. A fact that the joint holds impossible leaves equal shares of the joint
        classes it allows; an abstained row stays so.

    Raises:
        DataError: class numbers out of range or of another length, or facts that no joint class has together.
    """
    allowed = np.ones((len(joint), schema.n_joint), dtype=np.bool_)
    for name, numbers in known.items():
        attribute, given = schema[name], np.asarray(numbers)
        is_good = given.dtype.kind in "iu" and given.shape == (len(joint),)
        if not is_good or ((given < -1) | (given >= len(attribute.classes))).any():
            raise DataError(
                f"known {name}: expected {len(joint)} class numbers from 0 to {len(attribute.classes) - 1} or -1, "
                f"found {given.dtype} {given.shape}"
            )
        column = schema.paths[:, schema.names.index(name)]
        allowed &= (column == given[:, None]) | (given < 0)[:, None]
    if not allowed.any(axis=1).all():
        row = int(np.flatnonzero(~allowed.any(axis=1))[0])
        raise DataError(f"known facts of row {row}: no joint class has them together")
    kept = np.where(allowed, joint, 0).astype(np.float64)
    total = np.zeros((len(joint), 1), dtype=np.float64)
    for column in kept.T:
        total[:, 0] += column
    shares = allowed / np.where((joint > 0).any(axis=1), allowed.sum(axis=1), np.inf)[:, None]
    return np.divide(kept, total, out=shares, where=total > 0).astype(joint.dtype)
