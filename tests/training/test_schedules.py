"""The rate of each step: bounds by property, values against the formula and against torch's own schedulers."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ensemble_kit.errors import UsageError
from ensemble_kit.training.schedules import SCHEDULES, Moment, cosine, find_schedule


@given(st.integers(1, 200), st.floats(0, 50))
def test_cosine_rises_then_falls_and_stays_within_the_peak(n_steps: int, n_warmup: float) -> None:
    factors = [cosine(Moment(step, n_steps, n_warmup)) for step in range(n_steps)]
    assert all(0 < factor <= 1 for factor in factors)
    top = factors.index(max(factors))
    assert factors[: top + 1] == sorted(factors[: top + 1])
    assert factors[top:] == sorted(factors[top:], reverse=True)


def test_cosine_against_the_formula() -> None:
    for step in range(10, 100):
        assert math.isclose(cosine(Moment(step, 100, 10)), (1 + math.cos(math.pi * (step - 10) / 90)) / 2)
    assert [cosine(Moment(step, 100, 10)) for step in range(3)] == [0.1, 0.2, 0.3]
    assert cosine(Moment(0, 1, 5)) == 1.0


@given(st.sampled_from(sorted(SCHEDULES)), st.integers(1, 60), st.integers(1, 9), st.floats(0, 20))
def test_every_schedule_stays_above_0_and_within_the_peak(
    name: str, n_steps: int, per_epoch: int, n_warmup: float
) -> None:
    schedule = find_schedule(name)
    for step in range(n_steps):
        epoch = step // per_epoch
        factor = schedule(Moment(step, n_steps, n_warmup, epoch, 3, tuple(0.1 for _ in range(epoch))))
        assert 0 < factor <= 1


def rates_of(scheduler: torch.optim.lr_scheduler.LRScheduler, n_steps: int) -> list[float]:
    rates = []
    for _ in range(n_steps):
        rates.append(float(scheduler.get_last_lr()[0]))
        scheduler.optimizer.step()
        scheduler.step()
    return rates


def plain() -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)


@pytest.mark.parametrize(("share", "n_steps"), [(0.3, 40), (0.25, 40), (0.5, 7)])
def test_one_cycle_is_torchs(share: float, n_steps: int) -> None:
    torchs = torch.optim.lr_scheduler.OneCycleLR(
        plain(), max_lr=1.0, total_steps=n_steps + 1, pct_start=share * n_steps / (n_steps + 1), cycle_momentum=False
    )
    # torch counts one step more than it takes: compare the rise, and the fall on our own count
    ours = [find_schedule(f"one_cycle={share}")(Moment(step, n_steps, 5)) for step in range(n_steps)]
    rise = [step for step in range(n_steps) if step <= share * n_steps - 1]
    expected = rates_of(torchs, n_steps)
    assert [ours[step] for step in rise] == pytest.approx([expected[step] for step in rise])
    assert ours[-1] == pytest.approx(1 / 25 * 1e-4)
    exact = torch.optim.lr_scheduler.OneCycleLR(
        plain(), 1.0, total_steps=n_steps, pct_start=share, cycle_momentum=False
    )
    assert ours[:-1] == pytest.approx(rates_of(exact, n_steps - 1))


def test_step_is_torchs() -> None:
    expected = rates_of(torch.optim.lr_scheduler.StepLR(plain(), step_size=3, gamma=0.5), 10)
    found = [find_schedule("step=0.5")(Moment(4 * e, 40, 0, epoch=e, step_epochs=3)) for e in range(10)]
    assert found == pytest.approx(expected)


@given(st.lists(st.sampled_from([0.1, 0.2, 0.3, 0.4]), max_size=20), st.integers(1, 4))
def test_plateau_is_torchs(scores: list[float], wait: int) -> None:
    optimizer = plain()
    torchs = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, mode="max", factor=0.1, patience=wait - 1, threshold=0, eps=0
    )
    for score in scores:
        torchs.step(score)
    ours = find_schedule("plateau")(Moment(9, 99, 0, step_epochs=wait, scores=tuple(scores)))
    assert ours == pytest.approx(optimizer.param_groups[0]["lr"])


def test_constant_warms_up() -> None:
    assert [find_schedule("constant")(Moment(s, 9, 3)) for s in range(5)] == pytest.approx([1 / 3, 2 / 3, 1, 1, 1])
    assert find_schedule("constant")(Moment(0, 9, 0)) == 1


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cosin", 'no schedule "cosin"; did you mean "cosine"?'),
        ("cosine=3", 'schedule "cosine" takes no number'),
        ("step=2", 'schedule "step": expected a number between 0 and 1, found 2'),
        ("plateau=0", 'schedule "plateau": expected a number between 0 and 1, found 0'),
    ],
)
def test_names_that_are_no_schedule(name: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        find_schedule(name)
    assert message in str(caught.value)
