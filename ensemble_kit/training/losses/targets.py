"""Targets as distributions: what every loss, and every mixing of photos, works on."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from ensemble_kit.errors import UsageError, nearest


def one_hot(targets: Tensor, n_classes: int) -> Tensor:
    """Class numbers `(n_samples,)` -> `(n_samples, n_classes)` float32."""
    return F.one_hot(targets, n_classes).to(torch.float32)


def smooth_all(targets: Tensor, share: float) -> Tensor:
    """`(1 - eps) t + eps / K`: the share goes to all classes, the true one too (torch's `label_smoothing`)."""
    return (1 - share) * targets + share / targets.shape[1]


def smooth_others(targets: Tensor, share: float) -> Tensor:
    """`(1 - eps) t + eps (1 - t) / (K - 1)`: the share goes to the other classes, and the true one keeps `1 - eps`."""
    if targets.shape[1] == 1:  # there are no others
        return targets
    return (1 - share) * targets + share * (1 - targets) / (targets.shape[1] - 1)


SMOOTHINGS: Mapping[str, Callable[[Tensor, float], Tensor]] = {"all": smooth_all, "others": smooth_others}


def smooth(targets: Tensor, share: float, kind: str = "all") -> Tensor:
    """Label smoothing of distributions `(n_samples, n_classes)`; rows go on summing to 1.

    Args:
        share: eps, from 0, below 1.
        kind: a name of `SMOOTHINGS`.

    Raises:
        UsageError: an unknown kind.

    Examples:
        >>> [round(v, 2) for v in smooth(torch.tensor([[1.0, 0.0, 0.0]]), 0.3, "all").tolist()[0]]
        [0.8, 0.1, 0.1]
        >>> [round(v, 2) for v in smooth(torch.tensor([[1.0, 0.0, 0.0]]), 0.3, "others").tolist()[0]]
        [0.7, 0.15, 0.15]
    """
    check_smoothing(kind)
    return SMOOTHINGS[kind](targets, share) if share else targets


def check_smoothing(kind: str) -> None:
    """Raises UsageError when the kind is no name of `SMOOTHINGS`."""
    if kind not in SMOOTHINGS:
        raise UsageError(f'no smoothing "{kind}"{nearest(kind, SMOOTHINGS)}')
