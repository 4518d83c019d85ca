"""The formulas: each takes logits and target distributions and gives one number, the mean over the batch.

logits:  `(n_samples, n_classes)`, any float type; only the classes that are possible under the condition.
targets: `(n_samples, n_classes)`, rows that sum to 1: one-hot, smoothed or mixed.
weights: `(n_classes,)`, how much each class counts; None = all alike.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def cross_entropy(logits: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """`-sum_c w_c t_c log p_c`, the mean over samples: torch's `cross_entropy` with probabilities as targets.

    The sum is divided by the number of samples, not by the sum of their weights: then parts of a batch add up to it.

    Examples:
        >>> logits = torch.tensor([[0.0, 0.0], [0.0, 0.0]])
        >>> round(float(cross_entropy(logits, torch.eye(2))), 4)  # log 2
        0.6931
    """
    return _mean_over_samples(-targets * F.log_softmax(logits, dim=1), weights)


def focal(gamma: float, logits: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """`-sum_c w_c t_c (1 - p_c)^gamma log p_c`: what is answered well already counts less (Lin et al. 2017).

    Args:
        gamma: at least 0; 0 is cross-entropy, 2 the paper's choice.

    Examples:
        >>> logits = torch.tensor([[0.0, 0.0]])
        >>> round(float(focal(2, logits, torch.tensor([[1.0, 0.0]]))), 4)  # 0.25 log 2
        0.1733
    """
    log_probs = F.log_softmax(logits, dim=1)
    # at p = 1 the slope of (1 - p)^gamma is infinite for gamma < 1, and infinity times 0 is no number
    missing = (-torch.expm1(log_probs)).clamp_min(torch.finfo(logits.dtype).eps)
    return _mean_over_samples(-targets * missing**gamma * log_probs, weights)


def macro_f1(logits: Tensor, targets: Tensor) -> Tensor:
    """1 - the mean of the classes' soft F1, `2 sum_n p t / (sum_n p + sum_n t)` with shares in place of counts.

    A class without any target in the batch is left out of the mean: its F1 is 0 and has no slope, whatever is
    answered, so that it would only raise the loss by how many classes a batch happens to lack. Answering it wrongly
    still costs the classes that are there. Label smoothing gives every class some target, and then all of them count.

    Examples:
        >>> logits = torch.tensor([[0.0, 0.0, -1e4], [0.0, 0.0, -1e4]])
        >>> targets = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
        >>> float(macro_f1(logits, targets))  # both classes: 2 * 0.5 / (1 + 1)
        0.5
    """
    probs = F.softmax(logits, dim=1)
    answered, wanted, met = probs.sum(dim=0), targets.sum(dim=0), (probs * targets).sum(dim=0)
    is_there = (wanted > 0).to(probs.dtype)
    # where a class is not there, met is 0 too; the 1 only keeps 0 / 0 away when nothing was answered either
    f1 = 2 * met / (answered + wanted + (1 - is_there))
    return 1 - (f1 * is_there).sum() / is_there.sum()


def soft_margin(logits: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """The mean over classes of `w_c` times the binary logistic loss of "this class or not", and over samples.

    On one-hot targets it is torch's `multilabel_soft_margin_loss`; shares are taken as they are. An expert trained so
    still answers by the softmax of its logits: the order of the classes is what was trained, how sure it is was not, so
    fit a temperature before soft routes or votes.

    Examples:
        >>> logits = torch.tensor([[0.0, 0.0, 0.0]])
        >>> round(float(soft_margin(logits, torch.tensor([[1.0, 0.0, 0.0]]))), 4)  # log 2 each
        0.6931
    """
    losses = -(targets * F.logsigmoid(logits) + (1 - targets) * F.logsigmoid(-logits))
    return _mean_over_samples(losses, weights) / logits.shape[1]


def _mean_over_samples(losses: Tensor, weights: Tensor | None) -> Tensor:
    weighted = losses if weights is None else losses * weights.to(losses)
    return weighted.sum() / len(losses)
