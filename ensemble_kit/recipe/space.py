"""What a search may change: keys of the recipe, as `--set` names them, each with a range or a list of values."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from ensemble_kit.errors import UsageError, nearest
from ensemble_kit.recipe.edits import Edit, parse_edit, refuse_unknown
from ensemble_kit.recipe.toml_text import toml_value

COMBINATIONS = 20
"""Of other parameters' values that are tried before a value is refused."""

RANGE_KEYS = ("low", "high", "log", "step")

FIXED = {
    "schema": "what the classes are",
    "data": "which photos are held out, and how they are labelled",
    "predict": "how photos to be answered are looked at, which no held-out photo is",
    "vote": "who votes afterwards",
    "beliefs": "what is believed of the recipe",
    "tune": "the search itself",
    "variants": "the recipe's variants",
}
"""Sections that no search changes: the scores of its trials would not be of the same photos and classes."""
FREE_DATA = ("extra", "extra_where")
"""Keys of `[data]` that say only what is trained on."""

HOW_TO = (
    'as in "train.head_lr" = { low = 1e-5, high = 1e-2, log = true } or "train.loss" = ["cross_entropy", "focal=2"]'
)


@dataclass(frozen=True)
class Range:
    """Numbers from low to high, both ends among them.

    Attributes:
        key: the setting, as `--set` names it.
        is_whole: whole numbers only.
        log: drawn evenly on a logarithmic scale.
        step: distance between neighbouring values; None = any (1 for whole numbers).
    """

    key: str
    low: float
    high: float
    is_whole: bool
    log: bool = False
    step: float | None = None

    @property
    def ends(self) -> tuple[Any, ...]:
        return self.low, self.high

    def holds(self, value: Any) -> bool:
        """Whether a search could draw this value."""
        if isinstance(value, bool) or not isinstance(value, int | float) or not self.low <= value <= self.high:
            return False
        if self.is_whole and value != int(value):
            return False
        steps = 0.0 if self.step is None else (value - self.low) / self.step
        return abs(steps - round(steps)) < 1e-8

    def described(self) -> str:
        scale = ", log" if self.log else f", step {self.step:g}" if self.step is not None else ""
        return f"{self.low:g} to {self.high:g}{scale}"


@dataclass(frozen=True)
class Choices:
    """Values to choose among, in no order; any that TOML has."""

    key: str
    values: tuple[Any, ...]

    @property
    def ends(self) -> tuple[Any, ...]:
        return self.values

    @property
    def labels(self) -> tuple[str, ...]:
        """The values as TOML writes them: what tells them apart."""
        return tuple(toml_value(value) for value in self.values)

    def holds(self, value: Any) -> bool:
        return toml_value(value) in self.labels

    def described(self) -> str:
        return " | ".join(self.labels)


Parameter = Range | Choices


def edit_text(key: str, value: Any) -> str:
    """What `--set` would be given.

    Examples:
        >>> edit_text("train.age.head_lr", 0.001), edit_text("train.augment", ["flip"])
        ('train.age.head_lr=0.001', 'train.augment=["flip"]')
    """
    return f"{key}={toml_value(value)}"


def parse_space(table: Mapping[str, Any], sections: Mapping[str, Any]) -> tuple[Parameter, ...]:
    """The parameters of `[tune] space`, in the order written; keys may be quoted whole or written as nested tables.

    Args:
        sections: the recipe's, which say what its keys are.

    Examples:
        >>> parse_space({"train.epochs": {"low": 2, "high": 8}}, {})
        (Range(key='train.epochs', low=2, high=8, is_whole=True, log=False, step=None),)
        >>> parse_space({"train": {"loss": ["focal=2", "macro_f1"]}}, {})
        (Choices(key='train.loss', values=('focal=2', 'macro_f1')),)

    Raises:
        UsageError: a key that no recipe has, with the nearest; one that a search may not change; no range or list.
    """
    found: dict[str, Parameter] = {}
    for path, value in _leaves(table, ""):
        edit = _edit_of(path)
        refuse_unknown(edit, sections, "tune.space: ")
        _refuse_fixed(edit)
        if edit.dotted in found:
            raise UsageError(f"tune.space: {edit.dotted} is there twice; leave one out")
        found[edit.dotted] = _parameter(edit.dotted, value)
    return tuple(found.values())


def check_values(parameters: Sequence[Parameter], load: Callable[[Sequence[str]], object]) -> None:
    """Loads the recipe with every choice, and with both ends of every range: alone, else beside others' values.

    Args:
        load: edits -> recipe, as `load_recipe` does.

    Raises:
        UsageError: a value that the recipe cannot have, whatever the others are.
    """
    for parameter in parameters:
        others = [other for other in parameters if other != parameter]
        for value in parameter.ends:
            own = edit_text(parameter.key, value)
            try:
                load([own])
            except UsageError as error:
                if not any(_loads(load, [own, *beside]) for beside in _beside(others)):
                    raise UsageError(f"tune.space: {parameter.key} = {toml_value(value)}: {error}") from None


def _beside(others: Sequence[Parameter]) -> Iterator[list[str]]:
    """Some combinations of the other parameters' values: a sampler to balance with, where what it balances is asked."""
    random = Random(0)  # noqa: S311  # no secret is drawn
    for _ in range(COMBINATIONS if others else 0):
        yield [edit_text(other.key, random.choice(other.ends)) for other in others]


def _loads(load: Callable[[Sequence[str]], object], edits: Sequence[str]) -> bool:
    try:
        load(edits)
    except UsageError:
        return False
    return True


def _leaves(table: Mapping[str, Any], above: str) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in table.items():
        path = f"{above}.{_part(key)}" if above else key
        is_table = isinstance(value, Mapping) and not {"low", "high"} & set(value)
        found += _leaves(value, path) if is_table and value else [(path, value)]
    return found


def _part(key: str) -> str:
    """A key of a nested table: "age given mask=worn" has to be quoted within a path."""
    return key if '"' in key or not any(sign in key for sign in ".= ") or "." in key else f'"{key}"'


def _edit_of(path: str) -> Edit:
    try:
        return parse_edit(f"{path}=0")
    except UsageError:
        raise UsageError(f'tune.space: "{path}" names no setting; {HOW_TO}') from None


def _refuse_fixed(edit: Edit) -> None:
    section, key = edit.path[:2]
    if section in FIXED and not (section == "data" and key in FREE_DATA):
        raise UsageError(
            f"tune.space: {edit.dotted} cannot be searched: it changes {FIXED[section]}, and all trials are scored "
            "alike; run the recipe once each, with --set"
        )


def _parameter(key: str, value: Any) -> Parameter:
    if isinstance(value, list):
        return _choices(key, value)
    if not isinstance(value, Mapping) or not {"low", "high"} <= set(value):
        raise UsageError(f"tune.space: {key}: expected a range or a list of values, found {value!r}; {HOW_TO}")
    for name in value:
        if name not in RANGE_KEYS:
            raise UsageError(f'tune.space: {key}: unknown key "{name}"{nearest(name, RANGE_KEYS)}')
    low, high, log, step = value["low"], value["high"], value.get("log", False), value.get("step")
    numbers = [low, high] if step is None else [low, high, step]
    if not all(_is_number(number) for number in numbers) or not isinstance(log, bool):
        raise UsageError(f"tune.space: {key}: expected numbers, and log = true or false; found {dict(value)!r}")
    is_whole = all(isinstance(number, int) for number in numbers)
    fault = _range_fault(low, high, log, step)
    if fault:
        raise UsageError(f"tune.space: {key}: {fault}, found {dict(value)!r}")
    if step is not None:
        high = low + step * math.floor((high - low) / step + 1e-9)  # the last value that can be drawn
    return Range(key, low, high, is_whole, log, step)


def _range_fault(low: float, high: float, log: bool, step: float | None) -> str | None:
    if not low < high:
        return "expected low below high"
    if log and low <= 0:
        return "expected low above 0 on a logarithmic scale"
    if log and step is not None:
        return "expected log or step, not both"
    return "expected a step above 0, up to high - low" if step is not None and not 0 < step <= high - low else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _choices(key: str, values: list[Any]) -> Choices:
    try:
        choices = Choices(key, tuple(values))
        labels = choices.labels
    except ValueError as error:
        raise UsageError(f"tune.space: {key}: {error}") from None
    if len(set(labels)) < len(labels) or len(labels) < 2:
        raise UsageError(f"tune.space: {key}: expected at least two values, each once, found {list(values)!r}")
    return choices
