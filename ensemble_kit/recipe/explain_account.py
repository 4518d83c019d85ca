"""The facts of one photo's way through the graph, gathered while it is combined."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ensemble_kit.arrays import FloatArray, IntArray
from ensemble_kit.decisions import decide_labels
from ensemble_kit.explaining.account import Account, Question, Said
from ensemble_kit.graph import expert_key
from ensemble_kit.plan import Step
from ensemble_kit.predictions import Predictions

if TYPE_CHECKING:
    from ensemble_kit.combined import Combined


@dataclass
class Recorder:
    """A function on an expert's probabilities that remembers what it was asked and what it answered."""

    inner: Callable[[FloatArray], FloatArray] | None
    seen: list[tuple[FloatArray, FloatArray]] = field(default_factory=list)

    def __call__(self, probs: FloatArray) -> FloatArray:
        answer = probs if self.inner is None else self.inner(probs)
        if not self.seen or not np.array_equal(self.seen[-1][0], probs):
            self.seen.append((np.array(probs), np.array(answer)))
        return answer

    def means(self) -> tuple[FloatArray, FloatArray]:
        """`(n_classes,)` before and after; the mean over the voters where each was asked by itself."""
        before, after = zip(*self.seen, strict=True)
        return np.mean([one[0] for one in before], axis=0), np.mean([one[0] for one in after], axis=0)


def recorders_of(answerer: Any, adjust: Mapping[str, Any]) -> dict[str, Recorder]:
    """One for each expert that a route may ask, around what was fitted for it or for its node."""
    given = {expert_key(key): function for key, function in adjust.items() if key != "joint"}
    found = {}
    ensemble = answerer.ensemble
    for step in ensemble.plan.steps:
        for place in sorted(set(step.expert_of_state.tolist()) - {-1}):
            name = ensemble.experts[place].describe()
            inner = given.get(expert_key(name), given.get(expert_key(step.node.name)))
            found[name] = Recorder(inner)
    return found


def account_of(
    photo: str,
    combined: Combined,
    experts: Sequence[Predictions],
    recorders: Mapping[str, Recorder],
    arguments: Mapping[str, Any],
    decide: Any,
    known: tuple[Mapping[str, str], Sequence[str]],
) -> Account:
    schema = combined.schema
    label = int(decide_labels(combined.joint, schema, combined.graph, decide)[0])
    answer: dict[str, str] = {}
    if label >= 0:
        numbers = schema.decode(np.array([label]))
        answer = {a.name: a.classes[int(numbers[a.name][0])] for a in schema.attributes}
    questions = [_question(step, combined, experts, recorders, arguments, answer) for step in combined.trace.plan.steps]
    alone = {}
    for name, said in answer.items():
        own = combined.joint.marginal(name)
        first = own.classes[int(own.labels()[0])][0]
        if first != said:
            alone[name] = first
    probability = float(np.asarray(combined.joint.layers[0])[0, label]) if label >= 0 else 0.0
    reason = "" if answer else str(combined.trace.reasons()[0])
    return Account(photo, questions, answer, label, probability, decide, alone, known[0], reason, known[1])


def _question(
    step: Step,
    combined: Combined,
    experts: Sequence[Predictions],
    recorders: Mapping[str, Recorder],
    arguments: Mapping[str, Any],
    answer: Mapping[str, str],
) -> Question:
    node, schema = step.node, combined.schema
    own = combined.joint.marginal(*node.attributes)
    probs = {
        " / ".join(row): float(p) for row, p in zip(own.classes, np.asarray(own.layers[0])[0], strict=True) if p > 0
    }
    said = " / ".join(answer[name] for name in node.attributes) if answer else ""
    gate = combined.gates[node][0] if node.parents else np.ones(1)
    shares: dict[int, float] = {}
    for place, share in zip(step.expert_of_state.tolist(), gate.tolist(), strict=True):
        if share > 0 and place >= 0:
            shares[place] = shares.get(place, 0.0) + share
    asked = sorted(shares, key=lambda place: -shares[place])
    told = [
        _said(experts[place], shares[place], recorders[experts[place].describe()], arguments, node.name)
        for place in asked
        if recorders[experts[place].describe()].seen
    ]
    if not node.parents:
        return Question(node.name, said, probs, told)
    states = {_state(step, row, schema): float(gate[row]) for row in np.argsort(-gate, kind="stable") if gate[row] > 0}
    route = combined.trace.routes[node]
    confidence = float(combined.confidence[node][0])
    return Question(node.name, said, probs, told, node.parents, route, states, confidence)


def _state(step: Step, row: IntArray | int, schema: Any) -> str:
    names = zip(step.node.parents, step.states[int(row)], strict=True)
    return " ".join(schema[parent].classes[int(place)] for parent, place in names)


def _said(expert: Predictions, share: float, recorder: Recorder, arguments: Mapping[str, Any], node: str) -> Said:
    before, after = recorder.means()
    classes = [" / ".join(row) for row in expert.classes]
    votes = {}
    for voter, layer in zip(expert.voters, expert.layers, strict=True):
        values = np.asarray(layer)[0]
        if not np.isnan(values).any():
            votes[voter] = classes[int(values.argmax())]
    fitted, weights = recorder.inner, _weights(arguments.get("weights"), expert, node)
    return Said(
        expert=expert.describe(),
        short=" ".join(",".join(names) for names in expert.condition.values()),
        share=share,
        probs=dict(zip(classes, after.tolist(), strict=True)),
        votes=votes,
        voted=None if fitted is None else dict(zip(classes, before.tolist(), strict=True)),
        fitted="" if fitted is None else _in_words(fitted),
        weights=weights,
    )


def _weights(given: Any, expert: Predictions, node: str) -> dict[str, float] | None:
    """Those of an expert's voters, where they differ."""
    if not given:
        return None
    nested = {expert_key(key): value for key, value in given.items() if isinstance(value, Mapping)}
    own = nested.get(expert_key(expert.describe()), nested.get(expert_key(node), {})) if nested else given
    weights = {voter: float(own.get(voter, 1.0)) for voter in expert.voters}
    return weights if len(set(weights.values())) > 1 else None


def _in_words(function: Any) -> str:
    """What was fitted, as `temperature 1.31`."""
    steps = getattr(function, "steps", None)
    if steps is not None:
        return " and ".join(_in_words(step) for step in steps)
    kind = {"Temperature": "temperature", "PriorShift": "the shifted prior"}.get(
        type(function).__name__, "what was fitted"
    )
    return f"{kind} {function.value:.2f}" if kind == "temperature" else kind
