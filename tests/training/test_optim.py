"""Parameter groups and the rate of each step."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st
from tiny_training import make_job, tiny_backbone
from torch import nn

from ensemble_kit.models.heads import build_network
from ensemble_kit.training.optim import make_optimizer, rate_factor, set_rates


def test_every_weight_is_in_one_group_with_its_rate_and_norms_and_biases_do_not_decay() -> None:
    network = build_network(tiny_backbone, "none", 3, (0, 0))
    optimizer = make_optimizer(network, make_job(backbone_lr=0.1, head_lr=0.2, weight_decay=0.3))
    found = {id(p): (g["lr"], g["weight_decay"]) for g in optimizer.param_groups for p in g["params"]}
    assert sum(len(g["params"]) for g in optimizer.param_groups) == len(found)
    expected = {}
    for name, module in network.named_modules():
        rate = 0.2 if name.startswith("head") else 0.1
        for part, parameter in module.named_parameters(recurse=False):
            decays = part == "weight" and not isinstance(module, nn.BatchNorm2d)
            expected[id(parameter)] = (rate, 0.3 if decays else 0.0)
    assert found == expected


@given(st.integers(1, 200), st.floats(0, 50))
def test_rates_rise_then_fall_and_stay_within_the_peak(n_steps: int, n_warmup: float) -> None:
    factors = [rate_factor(step, n_steps, n_warmup) for step in range(n_steps)]
    assert all(0 < factor <= 1 for factor in factors)
    top = factors.index(max(factors))
    assert factors[: top + 1] == sorted(factors[: top + 1])
    assert factors[top:] == sorted(factors[top:], reverse=True)


def test_rates_against_the_formula() -> None:
    for step in range(10, 100):
        assert math.isclose(rate_factor(step, 100, 10), (1 + math.cos(math.pi * (step - 10) / 90)) / 2)
    assert [rate_factor(step, 100, 10) for step in range(3)] == [0.1, 0.2, 0.3]
    assert rate_factor(0, 1, 5) == 1.0


def test_setting_rates_keeps_their_ratio() -> None:
    optimizer = make_optimizer(build_network(tiny_backbone, "none", 3, (0, 0)), make_job(backbone_lr=0.1, head_lr=0.2))
    set_rates(optimizer, 0.5)
    set_rates(optimizer, 0.25)  # from the peak, not from the last value
    assert {group["lr"] for group in optimizer.param_groups} == {0.025, 0.05}
