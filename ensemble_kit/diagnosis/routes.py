"""Where the route goes, and what comes of it: the router, the split of the errors, every expert in every state."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ensemble_kit.arrays import BoolArray, FloatArray, IntArray
from ensemble_kit.diagnosis.findings import CrossCell, ErrorSplit, RouterReport
from ensemble_kit.diagnosis.question import Question
from ensemble_kit.metrics import accuracy, confusion, macro_f1
from ensemble_kit.predictions import Predictions
from ensemble_kit.structures.photos import computed_rows


def routed_states(gate: FloatArray) -> IntArray:
    """The state that a hard gate `(n_samples, n_states)` opens; -1 = abstained."""
    return np.where((gate > 0).any(axis=1), gate.argmax(axis=1), -1).astype(np.int64)


def describe_router(question: Question, true: IntArray, routed: IntArray, belief: FloatArray) -> RouterReport:
    """The states taken against the true ones.

    Args:
        true: `(n_samples,)` state.
        routed: `(n_samples,)` state of the hard route, -1 = abstained.
        belief: `(n_samples, n_states)` of the soft chain.
    """
    n_states, n_samples = len(question.states), len(true)
    table = confusion(true, routed, n_states)
    sure = belief[np.arange(n_samples), np.maximum(routed, 0)].astype(np.float64)
    taken: BoolArray = routed >= 0
    right: BoolArray = routed == true
    return RouterReport(
        node=question.node.name,
        parents=question.node.parents,
        states=question.states,
        true_share=tuple(float(count / n_samples) for count in table.sum(axis=1)),
        predicted_share=tuple(float(count / n_samples) for count in table.sum(axis=0)[:-1]),
        confusion=tuple(tuple(int(cell) for cell in row) for row in table),
        accuracy=float(right.mean()),
        mean_confidence=_mean(sure[taken]),
        confidence_right=_mean(sure[right]),
        confidence_wrong=_mean(sure[taken & ~right]),
    )


def split_errors(question: Question, true: IntArray, routed: IntArray, truth: IntArray) -> list[ErrorSplit]:
    """The errors by whether the route was right and whether the true state's expert was.

    Args:
        true, routed: `(n_samples,)` states.
        truth: `(n_samples,)` the node's true class.

    Returns:
        All photos first (state ""), then those of each true state that has any.
    """
    route_right: BoolArray = routed == true
    expert_right: BoolArray = question.chain(true) == truth
    child_right: BoolArray = question.chain(routed) == truth
    groups = [("", np.ones(len(true), dtype=np.bool_))]
    groups += [(name, true == number) for number, name in enumerate(question.states) if (true == number).any()]
    return [
        ErrorSplit(
            node=question.node.name,
            state=name,
            n_samples=int(inside.sum()),
            right=int((inside & route_right & expert_right).sum()),
            wrong_route=int((inside & ~route_right & expert_right).sum()),
            wrong_expert=int((inside & route_right & ~expert_right).sum()),
            both=int((inside & ~route_right & ~expert_right).sum()),
            lucky=int((inside & ~route_right & child_right).sum()),
        )
        for name, inside in groups
    ]


def cross_matrix(
    question: Question, experts: Sequence[Predictions], true: IntArray, truth: IntArray
) -> list[CrossCell]:
    """Every expert of the node on the photos of every true state.

    Its answer is the most probable of the classes that exist in the state, and macro F1 is over these.

    Args:
        experts: of one voter each, all on the same photos; a row of NaN = not computed.
        true, truth: `(n_samples,)` state and class of the node.
    """
    asked = {None if (e := question.expert_of(s)) is None else e.describe() for s in range(len(question.states))}
    found = []
    for expert in sorted(experts, key=lambda one: (not one.condition, one.describe() not in asked)):
        computed = computed_rows(expert)
        labels = question.answers(expert, np.where(computed, true, -1))
        for number, name in enumerate(question.states):
            owner = question.expert_of(number)
            inside = true == number
            is_own = owner is not None and owner.describe() == expert.describe()
            found.append(_cell(question, expert, number, name, is_own, inside, computed, labels, truth))
    return found


def _cell(
    question: Question,
    expert: Predictions,
    number: int,
    name: str,
    is_own: bool,
    inside: BoolArray,
    computed: BoolArray,
    labels: IntArray,
    truth: IntArray,
) -> CrossCell:
    rows = np.flatnonzero(inside & computed)
    knows = (question.possible[number] & (question.columns(expert) >= 0)).any()
    local = np.cumsum(question.possible[number]) - 1
    n_classes = int(question.possible[number].sum())
    said = np.where(labels[rows] < 0, -1, local[labels[rows]])
    pair = (local[truth[rows]], said, n_classes)
    has_score = bool(len(rows)) and bool(knows)
    return CrossCell(
        node=question.node.name,
        expert=expert.describe(),
        state=name,
        is_pooled=not expert.condition,
        answers_state=is_own,
        n_samples=len(rows),
        n_missing=int((inside & ~computed).sum()),
        accuracy=accuracy(*pair) if has_score else None,
        macro_f1=macro_f1(*pair) if has_score else None,
    )


def _mean(values: FloatArray) -> float | None:
    return float(values.mean()) if len(values) else None
