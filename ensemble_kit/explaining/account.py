"""How one photo's answer came about, in plain sentences made from the numbers."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

WIDTH = 80
VOTES = re.compile(r"votes \d+ of \d+")
"""Stays on one line."""
STAYS = "\N{NO-BREAK SPACE}"


@dataclass(frozen=True)
class Said:
    """What one expert said about one photo.

    Attributes:
        expert: as `Predictions.describe()` says it.
        short: its condition's classes alone, "worn"; "" of a pooled one.
        share: how much its answer counts at this node, the gate's weight on its states; 1 where nothing is routed.
        probs: class -> probability, after the vote and what was fitted.
        voted: the same before what was fitted; None where nothing was.
        fitted: what was fitted, in words.
        votes: voter -> the class that it finds most probable, of those that count.
        weights: voter -> its weight, where they differ.
    """

    expert: str
    short: str
    share: float
    probs: Mapping[str, float]
    votes: Mapping[str, str]
    voted: Mapping[str, float] | None = None
    fitted: str = ""
    weights: Mapping[str, float] | None = None


@dataclass(frozen=True)
class Question:
    """One node of the graph, for one photo.

    Attributes:
        node: its name.
        said: the class that the answer has; "" where there is no answer.
        parents: of the node; () = every photo asks the same expert.
        route: the route's name.
        states: state in short -> the gate's weight on it, of those kept, the largest first.
        confidence: the router's belief in its first state.
        experts: those asked, the largest share first; none where one class alone is possible.
        probs: class -> probability within the answer, over all kept states.
    """

    node: str
    said: str
    probs: Mapping[str, float]
    experts: Sequence[Said] = ()
    parents: Sequence[str] = ()
    route: str = ""
    states: Mapping[str, float] | None = None
    confidence: float = 1.0


@dataclass(frozen=True)
class Account:
    """The whole way of one photo.

    Attributes:
        photo: as it was named.
        answer: attribute -> class; {} where it abstains.
        label: number of the joint class; -1 = none.
        probability: of the joint class.
        decide: how the classes were chosen from the joint.
        alone: attribute -> its own most probable class, where that is another than the answer's.
        truth: attribute -> true class, of those that are known.
        reason: why there is no answer.
        notes: further lines.
    """

    photo: str
    questions: Sequence[Question]
    answer: Mapping[str, str]
    label: int
    probability: float
    decide: str = "joint"
    alone: Mapping[str, str] | None = None
    truth: Mapping[str, str] | None = None
    reason: str = ""
    notes: Sequence[str] = ()

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def number(value: float) -> str:
    """A probability to two digits, never rounded to certainty.

    Examples:
        >>> [number(value) for value in (0.614, 0.9999, 1.0, 0.0004, 0.0)]
        ['0.61', '>0.99', '1.00', '<0.01', '0.00']
    """
    if 0.995 <= value < 1:
        return ">0.99"
    return "<0.01" if 0 < value < 0.005 else f"{value:.2f}"


def sentences(account: Account) -> list[str]:
    """One line a node, then the answer, then what is known besides; not wrapped."""
    lines = [_node(question) for question in account.questions]
    if account.answer:
        named = " / ".join(account.answer.values())
        lines.append(f"answer: {named} (class {account.label}), probability {number(account.probability)}")
        lines += _decided(account)
    else:
        lines.append(f"no answer: {account.reason}" if account.reason else "no answer")
    if account.truth:
        lines.append(_truth(account.answer, account.truth))
    return [*lines, *(f"note: {note}" for note in account.notes)]


def text(account: Account, width: int = WIDTH) -> str:
    """The photo's name and its sentences below, wrapped."""
    fill = textwrap.TextWrapper(
        width, initial_indent="  ", subsequent_indent="    ", break_long_words=False, break_on_hyphens=False
    ).fill
    whole = [VOTES.sub(lambda found: found[0].replace(" ", STAYS), line) for line in sentences(account)]
    return "\n".join([account.photo, *(fill(line).replace(STAYS, " ") for line in whole)])


def against(probs: Mapping[str, float], said: str) -> str:
    """`30-59 0.61 against >=60 0.35`: the class and the strongest other one.

    Examples:
        >>> against({"<30": 0.04, "30-59": 0.61, ">=60": 0.35}, "30-59")
        '30-59 0.61 against >=60 0.35'
        >>> against({"apple": 1.0}, "apple")
        'apple 1.00'
    """
    others = {name: value for name, value in probs.items() if name != said}
    own = f"{said} {number(probs.get(said, 0.0))}"
    if not others:
        return own
    other = max(others, key=lambda name: others[name])
    return f"{own} against {other} {number(others[other])}"


def _node(question: Question) -> str:
    name, said = question.node, question.said or _first(question.probs)
    if not question.experts:
        if not question.probs:
            return f"{name}: not asked"
        return f"{name}: {said}, the one class that is possible here"
    if not question.parents:
        (expert,) = question.experts
        return f"{name}: {against(expert.probs, said)}{_how(expert, said)}"
    states = question.states or {}
    where = ", ".join(question.parents)
    if len(states) == 1:
        (state,) = states
        way = f"{where} {number(question.confidence)} {state}"
    else:
        kept = ", ".join(f"{number(share)} {state}" for state, share in states.items())
        way = f"{where} {kept} (route {question.route})"
    if len(question.experts) == 1:
        expert = question.experts[0]
        return f"{way} -> {_called(name, expert)} -> {against(expert.probs, said)}{_how(expert, said)}"
    each = "; ".join(
        f'"{one.short or "pooled"}" (counts {number(one.share)}) {against(one.probs, _first(one.probs))}'
        f"{_how(one, _first(one.probs))}"
        for one in question.experts
    )
    return f"{way} -> {name} experts {each} -> together {against(question.probs, said)}"


def _called(name: str, expert: Said) -> str:
    return f'{name} expert "{expert.short}"' if expert.short else f"pooled {name} expert"


def _how(expert: Said, said: str) -> str:
    """Votes, weights and what was fitted."""
    parts = []
    if len(expert.votes) > 1:
        n_for = sum(one == said for one in expert.votes.values())
        parts.append(f"votes {n_for} of {len(expert.votes)}{_dissent(expert.votes, said)}")
    if expert.weights:
        parts.append("weights " + ", ".join(f"{name} {value:.2g}" for name, value in expert.weights.items()))
    if expert.fitted and expert.voted is not None:
        parts.append(f"{expert.fitted} made it so from {number(expert.voted.get(said, 0.0))}")
    return "".join(f"; {part}" for part in parts)


def _dissent(votes: Mapping[str, str], said: str) -> str:
    others = [f"{voter} says {one}" for voter, one in votes.items() if one != said]
    return f" ({', '.join(others)})" if others and len(others) <= 3 else ""


def _decided(account: Account) -> list[str]:
    if not account.alone:
        return []
    names = ", ".join(f"{attribute} {one}" for attribute, one in account.alone.items())
    means = {
        "joint": "the most probable combination is answered, each class of which need not be the most probable one",
        "top_down": "classes are picked along the graph, each given those before it",
        "attribute": "each attribute is decided by itself",
    }
    return [f"by itself the most probable would be {names}: {means[account.decide]}"]


def _truth(answer: Mapping[str, str], truth: Mapping[str, str]) -> str:
    told = f"true: {' / '.join(truth.values())}"
    if not answer:
        return told
    wrong = [name for name, value in truth.items() if answer.get(name) != value]
    return f"{told}: {', '.join(wrong)} wrong" if wrong else f"{told}: right"


def _first(probs: Mapping[str, float]) -> str:
    return max(probs, key=lambda name: probs[name]) if probs else ""
