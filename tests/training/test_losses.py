"""Losses against hand-computed values, torch's own functions, and gradients in double precision."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from ensemble_kit.errors import UsageError
from ensemble_kit.training.losses import (
    LOSSES,
    class_weights,
    cross_entropy,
    find_loss,
    focal,
    loss_name,
    macro_f1,
    one_hot,
    smooth,
    soft_margin,
)

NAMES = [*LOSSES, "focal=0", "focal=0.5", "focal=1", "cross_entropy+0.5*macro_f1", "0.2*soft_margin + focal=3"]


def batch(seed: int, n: int = 6, k: int = 4, *, hard: bool = False) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn((n, k), generator=generator, dtype=torch.float64)
    if hard:
        return logits, one_hot(torch.randint(k, (n,), generator=generator), k).double()
    return logits, torch.rand((n, k), generator=generator, dtype=torch.float64).softmax(dim=1)


def by_hand(logits: Tensor, targets: Tensor, weights: list[float], gamma: float) -> float:
    """Focal loss (gamma 0: cross-entropy) in plain loops."""
    total = 0.0
    for row, wanted in zip(logits.tolist(), targets.tolist(), strict=True):
        whole = sum(math.exp(z) for z in row)
        for z, t, w in zip(row, wanted, weights, strict=True):
            p = math.exp(z) / whole
            total -= w * t * (1 - p) ** gamma * math.log(p)
    return total / len(logits)


def macro_f1_by_hand(logits: Tensor, targets: Tensor) -> float:
    """From soft true positives, false positives and false negatives."""
    scores: list[float] = []
    probs: list[list[float]] = [[math.exp(z) / sum(math.exp(y) for y in row) for z in row] for row in logits.tolist()]
    for k in range(logits.shape[1]):
        pairs: list[tuple[float, float]] = [(p[k], t[k]) for p, t in zip(probs, targets.tolist(), strict=True)]
        hit, wrong, missed = (
            sum(p * t for p, t in pairs),
            sum(p * (1 - t) for p, t in pairs),
            sum((1 - p) * t for p, t in pairs),
        )
        if any(t > 0 for _, t in pairs):
            scores.append(2 * hit / (2 * hit + wrong + missed))
    return 1 - sum(scores) / len(scores)


@pytest.mark.parametrize("seed", range(3))
def test_values_by_hand(seed: int) -> None:
    logits, targets = batch(seed)
    weights = [0.5, 1.0, 2.0, 3.0]
    tensor = torch.tensor(weights, dtype=torch.float64)
    ones = [1.0] * 4
    assert float(cross_entropy(logits, targets)) == pytest.approx(by_hand(logits, targets, ones, 0))
    assert float(cross_entropy(logits, targets, tensor)) == pytest.approx(by_hand(logits, targets, weights, 0))
    for gamma in (0.0, 0.5, 2.0):
        assert float(focal(gamma, logits, targets)) == pytest.approx(by_hand(logits, targets, ones, gamma))
        assert float(focal(gamma, logits, targets, tensor)) == pytest.approx(by_hand(logits, targets, weights, gamma))
    for hard in (False, True):
        logits, targets = batch(seed, n=3, hard=hard)
        assert float(macro_f1(logits, targets)) == pytest.approx(macro_f1_by_hand(logits, targets))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("weighted", [False, True])
def test_torchs_own_functions(seed: int, weighted: bool) -> None:
    weights = torch.tensor([0.5, 1.0, 2.0, 3.0], dtype=torch.float64) if weighted else None
    logits, hard = batch(seed, hard=True)
    _, soft = batch(seed)
    for targets in (hard, soft):
        torch.testing.assert_close(cross_entropy(logits, targets, weights), F.cross_entropy(logits, targets, weights))
    torch.testing.assert_close(
        soft_margin(logits, hard, weights), F.multilabel_soft_margin_loss(logits, hard, weight=weights)
    )
    smoothed = F.cross_entropy(logits, hard.argmax(dim=1), label_smoothing=0.1)
    torch.testing.assert_close(cross_entropy(logits, smooth(hard, 0.1)), smoothed)


def test_shares_in_the_soft_margin_are_binary_targets() -> None:
    logits, targets = batch(0)
    torch.testing.assert_close(
        soft_margin(logits, targets), F.binary_cross_entropy_with_logits(logits, targets, reduction="mean")
    )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("hard", [False, True])
def test_gradients_in_double_precision(name: str, hard: bool) -> None:
    logits, targets = batch(3, n=4, k=3, hard=hard)
    loss = find_loss(name)
    assert torch.autograd.gradcheck(lambda x: loss(x, targets), (logits.requires_grad_(),))
    if LOSSES.get(name.partition("=")[0]) is None or LOSSES[name.partition("=")[0]].is_weighted:
        weighted = find_loss(name, torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64))
        assert torch.autograd.gradcheck(lambda x: weighted(x, targets), (logits,))


@pytest.mark.parametrize("name", NAMES)
def test_extreme_logits_give_finite_losses_and_gradients(name: str) -> None:
    logits = torch.tensor([[90.0, -90.0, 0.0], [0.0, 90.0, -90.0], [0.0, 0.0, 0.0]], requires_grad=True)
    for targets in (torch.eye(3), torch.eye(3).roll(1, 0)):
        loss = find_loss(name)(logits, targets)
        (gradient,) = torch.autograd.grad(loss, logits)
        assert torch.isfinite(loss)
        assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("name", [name for name in NAMES if "macro_f1" not in name])
def test_parts_of_a_batch_add_up_to_it(name: str) -> None:
    logits, targets = batch(5, n=7)
    loss = find_loss(name, torch.tensor([0.5, 1.0, 2.0, 3.0]))
    parts = 3 * loss(logits[:3], targets[:3]) + 4 * loss(logits[3:], targets[3:])
    torch.testing.assert_close(parts / 7, loss(logits, targets))


@given(st.integers(0, 10**6), st.floats(0.1, 3), st.floats(0.1, 3))
@settings(max_examples=20, deadline=None)
def test_a_sum_is_the_sum_of_its_shares(seed: int, a: float, b: float) -> None:
    logits, targets = batch(seed)
    expected = a * cross_entropy(logits, targets) + b * macro_f1(logits, targets)
    for written in (f"{a}*cross_entropy + {b}*macro_f1", {"cross_entropy": a, "macro_f1": b}):
        torch.testing.assert_close(find_loss(written)(logits, targets), expected)


@given(st.integers(0, 10**6))
@settings(max_examples=20, deadline=None)
def test_the_order_of_samples_and_of_classes_does_not_matter(seed: int) -> None:
    logits, targets = batch(seed)
    rows, columns = torch.randperm(6), torch.randperm(4)
    weights = torch.rand(4, dtype=torch.float64)
    for name in ("cross_entropy", "focal", "soft_margin", "macro_f1+cross_entropy"):
        moved = find_loss(name, weights[columns])(logits[rows][:, columns], targets[rows][:, columns])
        torch.testing.assert_close(moved, find_loss(name, weights)(logits, targets))


def test_a_class_that_is_absent_from_the_batch_neither_counts_nor_pulls() -> None:
    logits = torch.tensor([[2.0, 0.0, 1.0], [0.0, 1.0, 1.0]], dtype=torch.float64, requires_grad=True)
    targets = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], dtype=torch.float64)
    assert float(macro_f1(logits.detach(), targets)) == pytest.approx(macro_f1_by_hand(logits.detach(), targets))
    probs = logits.softmax(dim=1)
    present = 1 - (2 * (probs * targets).sum(0) / (probs.sum(0) + targets.sum(0)))[:2].mean()
    torch.testing.assert_close(macro_f1(logits, targets), present)
    (gradient,) = torch.autograd.grad(macro_f1(logits, targets), logits)
    assert (gradient[:, 2] > 0).all()  # answering it takes from the classes that are there
    perfect = torch.tensor([[50.0, 0.0, 0.0], [0.0, 50.0, 0.0]])
    assert float(macro_f1(perfect, targets.float())) == pytest.approx(0, abs=1e-6)


def test_focal_counts_sure_answers_less() -> None:
    sure, unsure = torch.tensor([[4.0, 0.0]]), torch.tensor([[0.5, 0.0]])
    target = torch.tensor([[1.0, 0.0]])
    ratios = [float(focal(g, sure, target) / focal(g, unsure, target)) for g in (0.0, 1.0, 2.0, 5.0)]
    assert ratios == sorted(ratios, reverse=True)


@given(st.integers(2, 6), st.floats(0.0, 0.9), st.sampled_from(["all", "others"]), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_smoothed_rows_sum_to_one_and_one_hot_rows_are_as_written(k: int, share: float, kind: str, seed: int) -> None:
    _, soft = batch(seed, k=k)
    torch.testing.assert_close(smooth(soft, share, kind).sum(dim=1), torch.ones(6, dtype=torch.float64))
    hard = one_hot(torch.tensor([1]), k).double()
    low = share / k if kind == "all" else share / (k - 1)
    assert smooth(hard, share, kind)[0, 0] == pytest.approx(low)
    assert smooth(hard, share, kind)[0, 1] == pytest.approx(1 - low * (k - 1))


def test_smoothing_a_single_class_leaves_it_whole() -> None:
    for kind in ("all", "others"):
        assert smooth(torch.ones(2, 1), 0.3, kind).tolist() == [[1.0], [1.0]]


def test_class_weights_by_hand_and_by_scikit_learn() -> None:
    from sklearn.utils.class_weight import compute_class_weight

    targets = np.array([0, 0, 0, 0, 2, 2, 5])
    classes = np.array([0, 2, 5])
    found = class_weights("balanced", targets, classes, 6)
    assert found is not None
    np.testing.assert_allclose(found, compute_class_weight("balanced", classes=classes, y=targets))
    assert float((found[np.searchsorted(classes, targets)]).mean()) == pytest.approx(1)
    raw = [(1 - 0.9) / (1 - 0.9**n) for n in (4, 2, 1)]
    found = class_weights("effective=0.9", targets, classes, 6)
    assert found is not None
    np.testing.assert_allclose(found, np.array(raw) / np.mean(raw))
    np.testing.assert_allclose(class_weights("effective=0", targets, classes, 6), 1)  # type: ignore[arg-type]
    nearly = class_weights("effective=0.9999999", targets, classes, 6)
    balanced = np.array([1 / 4, 1 / 2, 1]) / np.mean([1 / 4, 1 / 2, 1])
    np.testing.assert_allclose(nearly, balanced, rtol=1e-4)  # type: ignore[arg-type]
    assert class_weights("none", targets, classes, 6) is None
    listed = class_weights((1.0, 9.0, 2.0, 9.0, 9.0, 3.0), targets, classes, 6)
    assert listed is not None
    assert listed.tolist() == [1.0, 2.0, 3.0]
    own = class_weights(lambda counts: 1 / counts, targets, classes, 6)
    assert own is not None
    np.testing.assert_allclose(own, [1 / 4, 1 / 2, 1])


def test_a_class_without_a_photo_has_the_weight_one() -> None:
    found = class_weights("balanced", np.array([0, 0, 0, 1]), np.array([0, 1, 2]), 3)
    assert found is not None
    np.testing.assert_allclose(found, [2 / 3, 2, 1])


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("cross_entropy", "cross_entropy"),
        ("focal", "focal=2"),
        (" 0.5*focal=1.5 + macro_f1 ", "0.5*focal=1.5+macro_f1"),
        ("1e+0*soft_margin", "soft_margin"),
        ({"cross_entropy": 1.0, "macro_f1": 0.5}, "cross_entropy+0.5*macro_f1"),
        (cross_entropy, "cross_entropy"),
    ],
)
def test_how_losses_are_written(written: Any, name: str) -> None:
    assert loss_name(written) == name
    if not callable(written):
        assert loss_name(loss_name(written)) == name


def test_a_function_of_ones_own() -> None:
    def own(logits: Tensor, targets: Tensor) -> Tensor:
        return (logits.softmax(dim=1) - targets).square().mean()

    assert find_loss(own) is own


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        ("focl", 'no loss "focl"; did you mean "focal"'),
        ("focal=two", 'loss "focal": expected a number from 0, found \'two\'; write "focal=2"'),
        ("focal=-1", 'loss "focal": expected a number from 0'),
        ("cross_entropy=2", 'loss "cross_entropy" takes no number, found "cross_entropy=2"; write "cross_entropy"'),
        ("0*focal", 'the share of loss "focal": expected a number above 0'),
        ("x*focal", "the share of loss"),
        ({"focal": True}, "the share of loss"),
        ({}, "expected at least one term"),
        ("focal+", 'no loss ""'),
        (3, "loss: expected a name, a sum of names or a function, found 3"),
    ],
)
def test_losses_that_make_no_sense(loss: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message.replace("*", r"\*")) as caught:
        find_loss(loss)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("balancd", 'no class_weights "balancd"; did you mean "balanced"'),
        ("balanced=2", 'class_weights "balanced" takes no number'),
        (
            "effective=1",
            'class_weights "effective": expected a number from 0, below 1, found 1; write "effective=0.999"',
        ),
        ("effective=x", 'expected a number, found "x"'),
        ((), "expected a rule or numbers above 0"),
        ((1.0, 0.0), "expected a rule or numbers above 0"),
        ((1.0, 2.0), "expected one number for each of 3 classes, found 2"),
        ((1.0, 2.0, 3.0, 4.0), "expected one number for each of 3 classes, found 4"),
    ],
)
def test_class_weights_that_make_no_sense(rule: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        class_weights(rule, np.array([0, 1, 2]), np.array([0, 1, 2]), 3)


def test_class_weights_where_nothing_takes_them() -> None:
    weights = torch.ones(3)
    with pytest.raises(UsageError, match='class_weights: the loss "macro_f1" takes none'):
        find_loss("macro_f1", weights)
    with pytest.raises(UsageError, match="a loss of your own weighs its classes itself"):
        find_loss(lambda logits, targets: logits.sum(), weights)
    with pytest.raises(UsageError, match='no smoothing "other"; did you mean "others"'):
        smooth(torch.eye(2), 0.1, "other")
