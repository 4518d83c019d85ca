"""What was fitted on labelled photos, in one file that `ens combine --fitted` and Python read: weights, temperatures,
shifted priors, stacked votes, each with the place it belongs to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from ensemble_kit.arrays import FloatArray
from ensemble_kit.errors import MALFORMED, DataError, EnsembleKitError, UsageError, nearest
from ensemble_kit.files import read_json, write_json

FORMAT, VERSION = "ensemble_kit fitted", 1

JOINT = "joint"

KINDS: Mapping[str, str] = {
    "weights": "ensemble_kit.selection:Selection",
    "temperature": "ensemble_kit.calibration:Temperature",
    "shift": "ensemble_kit.shift:PriorShift",
    "stacking": "ensemble_kit.stacking:Stacking",
    "borders": "ensemble_kit.cutting:Cut",
}
"""Kind -> its class, with `to_json()` and `from_json(value)`; imported when a file holds one. To add a kind: a row here
and, where it is not a function on probabilities, a branch in `as_combine_arguments`."""

ADJUST_ORDER = ("temperature", "shift")
"""Kinds that are functions on probabilities, in the order they are applied at one place: a shift supposes calibrated
probabilities."""


class Stored(Protocol):
    """What can be saved."""

    def to_json(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Fitted:
    """One fitted thing and its place.

    Args:
        kind: a name in KINDS.
        where: an expert as `describe()` says it ("age given mask=worn"), a node ("age"), or "joint".
        value: of the kind's class.

    Raises:
        UsageError: an unknown kind, a value of another class, or no place.
    """

    kind: str
    where: str
    value: Any

    def __post_init__(self) -> None:
        if not isinstance(self.value, _class_of(self.kind)):
            raise UsageError(f'fitted "{self.kind}": expected {KINDS[self.kind]}, found {type(self.value).__name__}')
        if not isinstance(self.where, str) or not self.where:
            raise UsageError(f'fitted "{self.kind}": expected an expert, a node or "joint", found {self.where!r}')

    @classmethod
    def of(cls, value: Stored, where: str | None = None) -> Fitted:
        """The kind from the value's class, the place from the value itself where it knows it.

        Examples:
            >>> from ensemble_kit.calibration import Temperature
            >>> Fitted.of(Temperature(1.5), "age").kind
            'temperature'
        """
        for kind, path in KINDS.items():
            if type(value).__name__ == path.partition(":")[2]:
                return cls(kind, str(getattr(value, "where", "")) if where is None else where, value)
        known = ", ".join(path.partition(":")[2] for path in KINDS.values())
        raise UsageError(f"fitted: expected one of {known}, found {type(value).__name__}")


def save_fitted(path: Path, items: Iterable[Fitted]) -> None:
    """Writes fitted things as JSON, whole or not at all.

    Raises:
        UsageError: nothing to save, or two of one kind at one place.

    Examples:
        >>> import tempfile
        >>> from ensemble_kit.calibration import Temperature
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder) / "fitted.json"
        ...     save_fitted(file, [Fitted("temperature", "joint", Temperature(1.5))])
        ...     load_fitted(file)[0].value.value
        1.5
    """
    kept = list(items)
    _refuse_twice(kept)
    if not kept:
        raise UsageError("fitted: nothing to save")
    entries = [{"kind": item.kind, "where": item.where, "value": item.value.to_json()} for item in kept]
    write_json(Path(path), {"format": FORMAT, "version": VERSION, "items": entries})


def load_fitted(path: Path) -> list[Fitted]:
    """What `save_fitted` wrote.

    Raises:
        DataError: no such file, or not one of fitted things.
    """
    content = read_json(Path(path))
    found = content.get("format") if isinstance(content, Mapping) else None
    if found != FORMAT:
        raise DataError(f'{path}: expected a file of format "{FORMAT}", found {found!r}; make one with "ens fit"')
    if content.get("version") != VERSION:
        raise DataError(
            f"{path}: expected version {VERSION}, found {content.get('version')!r}; update ensemble_kit to read it"
        )
    items = content.get("items")
    if not isinstance(items, list) or not items:
        raise DataError(f'{path}: expected a list of items, found {items!r}; fit again with "ens fit"')
    return [_read_item(item, f"{path}, item {number}") for number, item in enumerate(items)]


def as_combine_arguments(items: Iterable[Fitted]) -> dict[str, Any]:
    """Keyword arguments for `ConditionalEnsemble.combine`: weights, vote, adjust, those that are needed.

    Borders are no part of them, see `borders_of`.

    At one place temperatures are applied before shifts; an expert that has one of the two only takes the other from its
    node, where that has it. Weights or a stacked vote of whole chains ("joint") need
    `vote_at="joint"`.

    Raises:
        UsageError: two of one kind at one place, or weights and a stacked vote at one place.

    Examples:
        >>> from ensemble_kit.calibration import Temperature
        >>> as_combine_arguments([Fitted("temperature", "joint", Temperature(1.5))])["adjust"]["joint"].value
        1.5
    """
    kept = list(items)
    _refuse_twice(kept)
    weights: dict[str, Mapping[str, float]] = {}
    votes = {item.where: item.value for item in kept if item.kind == "stacking"}
    adjusts: dict[str, list[Callable[[FloatArray], FloatArray]]] = {}
    for item in kept:
        if item.kind == "weights":
            for where, own in _weights_by_place(item).items():
                if where in weights or where in votes:
                    other = "weights" if where in weights else "a stacked vote"
                    raise UsageError(f'fitted: "{where}" has weights and {other} besides; leave one out')
                weights[where] = own
    adjusting = {(item.kind, item.where): item.value for item in kept if item.kind in ADJUST_ORDER}
    for where in dict.fromkeys(where for _, where in adjusting):
        node, _, condition = where.partition(" given ")
        for kind in ADJUST_ORDER:  # an expert's entry would hide its node's: what it lacks is taken from there
            step = adjusting.get((kind, where), adjusting.get((kind, node)) if condition else None)
            if step is not None:
                adjusts.setdefault(where, []).append(step)
    given = {
        "weights": weights,
        "vote": votes,
        "adjust": {where: steps[0] if len(steps) == 1 else InTurn(steps) for where, steps in adjusts.items()},
    }
    return {name: value for name, value in given.items() if value}


def borders_of(items: Iterable[Fitted]) -> dict[str, tuple[float, ...]]:
    """Attribute -> the borders to cut its finer columns at: for `Schema.with_borders`, before combining.

    Raises:
        UsageError: two for one attribute.
    """
    kept = [item for item in items if item.kind == "borders"]
    _refuse_twice(kept)
    return {item.where: item.value.borders for item in kept}


def votes_with(fitted: Mapping[str, Any], vote: Any, vote_at: str, nodes: Iterable[str]) -> Any:
    """Votes that were fitted, by place, and the one asked for everywhere else: what `combine(vote=...)` takes.

    Args:
        vote: a rule, or place -> rule.
        vote_at: with "joint" only the joint probabilities vote.
        nodes: names of the graph's nodes.

    Examples:
        >>> votes_with({"age": "hard"}, "median", "expert", ["mask", "age"])
        {'mask': 'median', 'age': 'hard'}
    """
    if not fitted:
        return vote
    if isinstance(vote, Mapping):
        return {**vote, **fitted}
    others = {} if vote_at == JOINT else dict.fromkeys(nodes, vote)
    return {**others, **fitted}


@dataclass(frozen=True)
class InTurn:
    """Functions on probabilities, one after the other."""

    steps: Sequence[Callable[[FloatArray], FloatArray]]

    def __call__(self, probs: FloatArray) -> FloatArray:
        for step in self.steps:
            probs = step(probs)
        return probs


def _weights_by_place(item: Fitted) -> dict[str, Mapping[str, float]]:
    """By expert; weights of whole chains are those of "joint"."""
    nested = {name: own for name, own in item.value.weights.items() if isinstance(own, Mapping)}
    return nested or {item.where: item.value.weights}


def _read_item(item: Any, who: str) -> Fitted:
    if not isinstance(item, Mapping) or not {"kind", "where", "value"} <= set(item):
        raise DataError(f"{who}: expected kind, where and value, found {item!r}")
    if not isinstance(item["kind"], str) or item["kind"] not in KINDS:
        raise DataError(f'{who}: unknown kind "{item["kind"]}"{nearest(item["kind"], KINDS)}')
    try:
        return Fitted(item["kind"], item["where"], _class_of(item["kind"]).from_json(item["value"]))
    except EnsembleKitError as error:
        raise DataError(f"{who}: {error}") from None
    except MALFORMED as error:
        raise DataError(f"{who}: not what was saved ({type(error).__name__}: {error}); fit it again") from None


def _class_of(kind: str) -> Any:
    if kind not in KINDS:
        raise UsageError(f'unknown kind "{kind}"{nearest(kind, KINDS)}')
    module, _, name = KINDS[kind].partition(":")
    try:
        return getattr(import_module(module), name)
    except (ModuleNotFoundError, AttributeError):
        raise UsageError(f'fitted "{kind}": {module} is not part of this ensemble_kit; update it') from None


def _refuse_twice(items: Sequence[Fitted]) -> None:
    places = [(item.kind, item.where) for item in items]
    for kind, where in places:
        if places.count((kind, where)) > 1:
            raise UsageError(f'fitted: two of kind "{kind}" for "{where}"; leave one out')
