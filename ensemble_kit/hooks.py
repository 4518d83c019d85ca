"""What a caller hangs on single experts, by name: a vote, weights, a function on probabilities.

A key is an expert as `describe()` says it ("age given mask=worn"), a node's name ("age": all experts of the node), or
"joint" for the finished joint probabilities, whatever an attribute is called. Where both an expert and its node are
given, the expert's own counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar, cast

import numpy as np

from ensemble_kit.arrays import FloatArray
from ensemble_kit.errors import DataError, UsageError, nearest
from ensemble_kit.predictions import SUM_TOLERANCE, Predictions, check_probs
from ensemble_kit.voting import Vote, check_weights, find_vote

Adjust = Callable[[FloatArray], FloatArray]
"""probabilities `(n_samples, n_classes)` -> probabilities of the same shape, row by row: a temperature, a prior."""

Weights = Mapping[str, float] | Mapping[str, Mapping[str, float]]
"""voter -> weight, for all experts; or expert or node -> voter -> weight."""

JOINT = "joint"
Hook = TypeVar("Hook")


@dataclass(frozen=True)
class HookNames:
    """The names that hooks may be given by, and whom each one means."""

    experts: Mapping[int, Predictions]
    """The experts that are asked, by number."""
    node_of: Mapping[int, str]
    """Their nodes' names."""
    idle: Sequence[str]
    """Further names that are no error: of nodes that need no expert, and of experts that no state asks, so that one
    set of hooks serves several graphs."""

    def pick(self, given: Mapping[str, Hook], what: str) -> dict[int, Hook]:
        """What was given for each asked expert, for those that have something.

        Raises:
            UsageError: a key that is no expert, no node and not "joint".
        """
        keys = {number: (expert.describe(), self.node_of[number]) for number, expert in self.experts.items()}
        known = list(dict.fromkeys([key for pair in keys.values() for key in pair] + [*self.idle, JOINT]))
        for key in given:
            if key not in known:
                raise UsageError(f'{what}: "{key}" is no expert and no node{nearest(key, known)}')
        own = {number: [key for key in pair if key in given and key != JOINT] for number, pair in keys.items()}
        return {number: given[found[0]] for number, found in own.items() if found}

    def check_place(self, given: Mapping[str, object], what: str, vote_at: str) -> None:
        """Raises UsageError where a vote or a weight would have no effect: one place votes, the other does not."""
        wrong = [key for key in given if (key == JOINT) != (vote_at == "joint")]
        if wrong and vote_at == "joint":
            raise UsageError(
                f'{what}: with vote_at=joint only the joint probabilities vote, found "{wrong[0]}"; give "joint", or '
                f"vote at the experts"
            )
        if wrong:
            raise UsageError(f'{what}: "joint" votes with vote_at=joint only; name experts or nodes')


def votes_of(
    names: HookNames, vote: str | Vote | Mapping[str, str | Vote], vote_at: str, weights: Weights | None
) -> tuple[dict[int, Vote], Vote]:
    """The vote of each asked expert, and that of the joint; soft where none is given.

    Raises:
        UsageError: unknown keys or votes, a vote where none takes place, or one that was fitted for other voters.
    """
    if not isinstance(vote, Mapping):
        one = find_vote(vote, weights_given=bool(weights))
        _check_fit(one, names.experts.values(), vote_at)
        return dict.fromkeys(names.experts, one), one
    names.pick(vote, "vote")
    names.check_place(vote, "vote", vote_at)
    rules = {key: find_vote(value, weights_given=bool(weights)) for key, value in vote.items()}
    soft = find_vote("soft")
    picked = names.pick(rules, "vote")
    for number, rule in picked.items():
        _check_fit(rule, [names.experts[number]], vote_at)
    if JOINT in rules:
        _check_fit(rules[JOINT], names.experts.values(), vote_at)
    return {number: picked.get(number, soft) for number in names.experts}, rules.get(JOINT, soft)


def _check_fit(rule: Vote, experts: Iterable[Predictions], vote_at: str) -> None:
    """Asks a vote that was fitted for certain voters (it has `check(voters, classes)`) whether these are they."""
    check = getattr(rule, "check", None)
    if callable(check):
        for expert in experts:
            check(expert.voters, None if vote_at == "joint" else expert.classes)


def weights_of(names: HookNames, weights: Weights | None, vote_at: str) -> dict[int, FloatArray]:
    """Each asked expert's weights `(n_voters,)`, in its voters' order; 1 where none is given.

    Raises:
        UsageError: unknown experts or voters, weights that are no numbers >= 0, or that are all 0.
    """
    given = dict(weights or {})
    is_nested = [isinstance(value, Mapping) for value in given.values()]
    own: dict[int, Mapping[str, float]]
    if any(is_nested):
        if not all(is_nested):
            raise UsageError("weights: expected voter -> weight, or expert -> voter -> weight, found both in one")
        nested = cast(Mapping[str, Mapping[str, float]], given)
        own = names.pick(nested, "weights")
        names.check_place(nested, "weights", vote_at)
        if vote_at == "joint":
            own = dict.fromkeys(names.experts, nested[JOINT])
        for key, flat in nested.items():
            members = [number for number, value in own.items() if value is flat]
            _check_voters(flat, [names.experts[number] for number in members], f'weights of "{key}"')
    else:
        flat = cast(Mapping[str, float], given)
        own = dict.fromkeys(names.experts, flat)
        _check_voters(flat, list(names.experts.values()), "weights")
    result = {}
    for number, expert in names.experts.items():
        result[number] = np.array([_number(own.get(number, {}).get(voter, 1.0), voter) for voter in expert.voters])
        check_weights(result[number])
    return result


def _check_voters(flat: Mapping[str, float], experts: Sequence[Predictions], what: str) -> None:
    known = sorted({voter for expert in experts for voter in expert.voters})
    for voter in flat if experts else ():
        if voter not in known:
            raise UsageError(f'{what}: no voter "{voter}"{nearest(voter, known)}')


def _number(weight: object, voter: str) -> float:
    if isinstance(weight, bool) or not isinstance(weight, int | float | np.integer | np.floating):
        raise UsageError(f'weights: expected a number for "{voter}", found {weight!r}')
    return float(weight)


def adjusts_of(names: HookNames, adjust: Mapping[str, Adjust] | None) -> tuple[dict[int, Adjust], Adjust | None]:
    """The function on each asked expert's probabilities, for those that have one; and the one on the joint.

    Raises:
        UsageError: unknown keys, or what is no function.
    """
    if adjust is not None and not isinstance(adjust, Mapping):
        raise UsageError(f'adjust: expected expert, node or "joint" -> function, found {adjust!r}')
    given = dict(adjust or {})
    picked = names.pick(given, "adjust")
    for key, function in given.items():
        if not callable(function):
            raise UsageError(f'adjust: expected a function on probabilities for "{key}", found {function!r}')
    return picked, given.get(JOINT)


def ask_adjust(adjust: Adjust, probs: FloatArray, who: str, tolerance: float = SUM_TOLERANCE) -> FloatArray:
    """What a function makes of probabilities `(n_samples, n_classes)`, in float64, the contract checked.

    It is not asked about rows of zeros (abstained) or NaN (not computed), which stay as they are. It may answer zeros,
    which abstains.

    Raises:
        UsageError: a result of another shape, or one that changes when a row is asked alone.
        DataError: a result that is no distribution.
    """
    is_live = (probs > 0).any(axis=1)
    result = np.array(probs, dtype=np.float64)
    if not is_live.any():
        return result
    asked = np.ascontiguousarray(probs[is_live], dtype=np.float64)
    name = f'adjust "{getattr(adjust, "__name__", type(adjust).__name__)}" of {who}'
    found = np.array(adjust(asked.copy()))  # copies: the function may write into it, or give the same array again
    if found.shape != asked.shape or found.dtype.kind != "f":
        raise UsageError(
            f"{name}: expected probabilities, (n_samples, n_classes) = {asked.shape}, found {found.dtype} {found.shape}"
        )
    check_probs(found, name, tolerance)
    if np.isnan(found).any():
        row = int(np.flatnonzero(np.isnan(found).any(axis=1))[0])
        raise DataError(f"{name}: row {row} is NaN, made of {asked[row].tolist()}; answer zeros to abstain")
    for row in sorted({0, len(asked) // 2, len(asked) - 1}):
        alone = np.asarray(adjust(asked[row : row + 1].copy()))
        if not np.array_equal(alone, found[row : row + 1]):
            raise UsageError(f"{name}: row {row} alone differs from the same row among others")
    result[is_live] = found
    return result
