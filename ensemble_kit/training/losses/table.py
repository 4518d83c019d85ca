"""The table of losses, and how a sum of them is written."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor

from ensemble_kit.errors import UsageError, nearest
from ensemble_kit.named import name_of
from ensemble_kit.training.losses.formulas import cross_entropy, focal, macro_f1, soft_margin

Loss = Callable[[Tensor, Tensor], Tensor]
"""(logits `(n_samples, n_classes)`, target distributions of the same shape) -> one number, the batch's mean."""


@dataclass(frozen=True)
class LossFamily:
    """One row of the table.

    Args:
        formula: a function of logits and targets; `weights=` where it takes class weights, and the number first
            where it takes one.
        default: that number, for the name alone; None = it takes none.
        is_weighted: whether it takes class weights.
        needs_scores: whether it reads each logit by itself, so that log-probabilities in its place mean another thing.
    """

    formula: Callable[..., Tensor]
    default: float | None = None
    is_weighted: bool = True
    needs_scores: bool = False


LOSSES: Mapping[str, LossFamily] = {
    "cross_entropy": LossFamily(cross_entropy),
    "focal": LossFamily(focal, 2.0),
    "macro_f1": LossFamily(macro_f1, is_weighted=False),  # macro: every class counts alike already
    "soft_margin": LossFamily(soft_margin, needs_scores=True),
}
"""A further loss is one function and one row here; everywhere a name is taken, a function of one's own is as well."""


@dataclass(frozen=True)
class _Term:
    share: float
    name: str
    row: LossFamily
    number: float | None

    def loss(self, weights: Tensor | None) -> Loss:
        formula = self.row.formula if self.number is None else partial(self.row.formula, self.number)
        return partial(formula, weights=weights) if self.row.is_weighted else formula

    def __str__(self) -> str:
        number = "" if self.number is None else f"={self.number:g}"
        return f"{'' if self.share == 1 else f'{self.share:g}*'}{self.name}{number}"


def find_loss(loss: Any, weights: Tensor | None = None) -> Loss:
    """The loss of a name, of a sum, or the function itself.

    Args:
        loss: a name in LOSSES, with a number where it takes one ("focal=2"); a sum ("cross_entropy+0.5*macro_f1"); a
            mapping from names to shares; or a function of logits and targets.
        weights: `(n_classes,)` class weights, for every term that takes them.

    Raises:
        UsageError: an unknown name, a number or share that makes no sense, or class weights where nothing takes them.

    Examples:
        >>> import torch
        >>> logits, targets = torch.zeros(2, 2), torch.eye(2)
        >>> round(float(find_loss("cross_entropy+0.5*macro_f1")(logits, targets)), 4)  # log 2 + 0.25
        0.9431
    """
    if callable(loss):
        if weights is not None:
            raise UsageError("class_weights: a loss of your own weighs its classes itself; leave class_weights none")
        own: Loss = loss
        return own
    terms = _terms(loss)
    if weights is not None and not any(term.row.is_weighted for term in terms):
        raise UsageError(f'class_weights: the loss "{loss_name(loss)}" takes none; leave class_weights none')
    parts = [(term.share, term.loss(weights)) for term in terms]

    def total(logits: Tensor, targets: Tensor) -> Tensor:
        values = [share * part(logits, targets) for share, part in parts]
        return sum(values[1:], start=values[0])

    return total


def needs_scores(loss: Any) -> bool:
    """Whether a term of the loss reads each logit by itself. A function of one's own is taken to know what it gets."""
    return not callable(loss) and any(term.row.needs_scores for term in _terms(loss))


def loss_name(loss: Any) -> str:
    """How a loss is written in the card: sums as text, in their order; a function by its name.

    Examples:
        >>> loss_name({"focal": 1, "macro_f1": 0.5})
        'focal=2+0.5*macro_f1'
    """
    if callable(loss):
        return name_of(loss)
    return "+".join(map(str, _terms(loss)))


def _terms(loss: Any) -> list[_Term]:
    if isinstance(loss, Mapping):
        written = [(share, str(name)) for name, share in loss.items()]
    elif isinstance(loss, str):  # the + of 1e+3 belongs to the number
        written = [_split(term) for term in re.split(r"(?<!\d[eE])\+", loss)]
    else:
        raise UsageError(f"loss: expected a name, a sum of names or a function, found {loss!r}{nearest('', LOSSES)}")
    if not written:
        raise UsageError(f"loss: expected at least one term, found none{nearest('', LOSSES)}")
    return [_term(share, name) for share, name in written]


def _split(term: str) -> tuple[Any, str]:
    share, times, name = term.rpartition("*")
    return (share if times else 1.0), name


def _term(share: Any, text: str) -> _Term:
    name, equals, number = (part.strip() for part in text.partition("="))
    if name not in LOSSES:
        raise UsageError(f'no loss "{name}"{nearest(name, LOSSES)}')
    row = LOSSES[name]
    if equals and row.default is None:
        raise UsageError(f'loss "{name}" takes no number, found "{text.strip()}"; write "{name}"')
    value = row.default if not equals else _number(number, f'loss "{name}"', f'"{name}={row.default:g}"', least=0.0)
    return _Term(_number(share, f'the share of loss "{name}"', f'"0.5*{name}"', least=None), name, row, value)


def _number(value: Any, what: str, example: str, least: float | None) -> float:
    """A finite number, at least `least`, or above 0 where that is None."""
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not (math.isfinite(number) and (number > 0 if least is None else number >= least)):
        wanted = "above 0" if least is None else f"from {least:g}"
        raise UsageError(f"{what}: expected a number {wanted}, found {value!r}; write {example}")
    return number
