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
from numpy.typing import ArrayLike

from ensemble_kit.arrays import BoolArray, FloatArray, IntArray
from ensemble_kit.errors import DataError
from ensemble_kit.graph import Node
from ensemble_kit.plan import Part, Plan, Step, make_plan
from ensemble_kit.routing import Route, ask_route, highest_belief, route_soft, watch_gate
from ensemble_kit.schema import Schema

__all__ = ["Passed", "Plan", "Read", "Routed", "Step", "best_columns", "forward", "make_plan", "with_known"]

Read = Callable[[int, IntArray], FloatArray]
"""(number of the expert, rows) -> probabilities `(len(rows), n_classes)`: a slice of saved ones, or a network's run."""


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
    """`(n_rows, n_joint)` in float64; rows sum to 1 or, abstained, to 0."""
    routed: dict[Node, Routed]
    """For every node with parents."""
    distance: FloatArray
    """`(n_rows,)`; NaN where a gate is of another form, and where the row abstained."""
    n_answered: IntArray
    """`(n_rows,)` nodes, from the first on, that answered; fewer than all = the row abstained at the next one."""


def forward(plan: Plan, n_rows: int, read: Read, routes: Mapping[Node, Route]) -> Passed:
    """Joint probabilities of `n_rows` photos, and what the routes did.

    An expert is asked once, for exactly the rows where the gate of one of its states is above 0. A row for which an
    expert that is needed abstains (all zero) abstains as a whole.

    Args:
        read: gives an expert's probabilities on some rows, each row a distribution or all zero.
        routes: for nodes with parents; soft where none is given.
    """
    prefixes: FloatArray = np.ones((1, n_rows), dtype=np.float64)
    routed: dict[Node, Routed] = {}
    near = np.ones(n_rows, dtype=np.float64)
    is_live = np.ones(n_rows, dtype=np.bool_)
    n_answered = np.zeros(n_rows, dtype=np.int64)
    for step in plan.steps:
        if step.node.parents:
            belief = _belief(step, prefixes)
            gate = ask_route(routes.get(step.node, route_soft), belief.T)
            opened = np.ascontiguousarray(gate.T)
            confidence, kept, is_share = watch_gate(belief, opened)
            routed[step.node] = Routed(gate, confidence, kept)
            near *= np.where(is_share, kept, np.nan)
            is_live &= kept > 0
            prefixes = _reweigh(prefixes, step.state_of, opened, belief)
            is_open = np.asarray(opened > 0)
        else:
            is_open = is_live[None, :]
        prefixes, is_silent = _extend(step, prefixes, is_open, read)
        is_live &= ~is_silent
        n_answered += is_live
    return Passed(prefixes.T, routed, np.where(is_live, 1 - near, np.nan), n_answered)


def _belief(step: Step, prefixes: FloatArray) -> FloatArray:
    """`(n_states, n_rows)`."""
    belief = np.zeros((len(step.states), prefixes.shape[1]), dtype=np.float64)
    for members, states in step.rounds:
        belief[states] += prefixes[members]
    return belief


def _reweigh(prefixes: FloatArray, state_of: IntArray, gate: FloatArray, belief: FloatArray) -> FloatArray:
    """Every prefix times gate / belief of its state, 0/0 = 0; where the gate is the belief, bit for bit what it was."""
    if gate is belief:
        return prefixes
    same = gate == belief
    if same.all():
        return prefixes
    moved = np.zeros_like(prefixes)
    for share, prefix, state in zip(moved, prefixes, state_of.tolist(), strict=True):
        np.divide(prefix, belief[state], out=share, where=belief[state] > 0)
        share *= gate[state]
        np.copyto(share, prefix, where=same[state])
    return moved


def _extend(step: Step, prefixes: FloatArray, is_open: BoolArray, read: Read) -> tuple[FloatArray, BoolArray]:
    """Prefixes times the answers of the node's experts `(n_after, n_rows)`, and the rows where one abstains."""
    n_rows = prefixes.shape[1]
    longer = np.zeros((step.n_after, n_rows), dtype=np.float64)
    abstains = np.zeros(n_rows, dtype=np.bool_)
    for number in sorted({part.expert for part in step.parts}):
        parts = [part for part in step.parts if part.expert == number]
        if number < 0:
            for part in parts:
                longer[part.after] = prefixes[part.before]
            continue
        rows = np.flatnonzero(is_open[step.expert_of_state == number].any(axis=0)).astype(np.int64)
        if not len(rows):
            continue
        answers = _pull(read, number, rows, n_rows)
        silent = highest_belief(answers) <= 0
        if len(rows) == n_rows:
            abstains |= silent
        else:
            abstains[rows] |= silent[rows]
        for part in parts:
            chosen = _possible(answers, part)
            for after, before, place in part.triples:
                np.multiply(prefixes[before], chosen[place], out=longer[after])
    if abstains.any():
        longer[:, abstains] = 0
    return longer, abstains


def _pull(read: Read, number: int, rows: IntArray, n_rows: int) -> FloatArray:
    """`(n_classes, n_rows)`; zero in the rows that are not needed, which may not have been computed."""
    values = read(number, rows)
    if len(rows) == n_rows:
        return np.ascontiguousarray(values.T, dtype=np.float64)
    answers = np.zeros((values.shape[1], n_rows), dtype=np.float64)
    answers[:, rows] = values.T
    return answers


def _possible(answers: FloatArray, part: Part) -> FloatArray:
    """The answers for the possible classes, summing to 1 over them; 0/0 = equal shares."""
    chosen = answers[part.columns]
    if not part.restricted:
        return chosen
    total = np.zeros(chosen.shape[1], dtype=np.float64)
    for row in chosen:
        total += row
    equal = np.full_like(chosen, 1 / len(part.columns))
    return np.divide(chosen, total, out=equal, where=total > 0)


def best_columns(joint: FloatArray) -> IntArray:
    """The highest column of each row `(n_rows,)`, of equal ones the lowest, -1 = abstained; of the float32 numbers that
    are kept, so that labels are those of the kept joint."""
    kept = np.ascontiguousarray(joint, dtype=np.float32)
    best = kept.argmax(axis=1)
    return np.where(kept[np.arange(len(kept)), best] > 0, best, -1).astype(np.int64)


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
