"""Parameter groups, optimisers by name, and frozen layers, read off what is built."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch
from tiny_training import make_phase, tiny_backbone
from torch import nn

from ensemble_kit.errors import UsageError
from ensemble_kit.models.heads import Network, build_network
from ensemble_kit.training.optimizers import find_optimizer, freeze_layers, make_optimizer, set_rates


def network() -> Network:
    return build_network(tiny_backbone, "none", 3, (0, 0))


def trainable(network: nn.Module) -> set[str]:
    return {name for name, parameter in network.named_parameters() if parameter.requires_grad}


def test_every_weight_is_in_one_group_with_its_rate_and_norms_and_biases_do_not_decay() -> None:
    built = network()
    optimizer = make_optimizer(built, make_phase(backbone_lr=0.1, head_lr=0.2, weight_decay=0.3))
    found = {id(p): (g["lr"], g["weight_decay"]) for g in optimizer.param_groups for p in g["params"]}
    assert sum(len(g["params"]) for g in optimizer.param_groups) == len(found)
    expected = {}
    for name, module in built.named_modules():
        rate = 0.2 if name.startswith("head") else 0.1
        for part, parameter in module.named_parameters(recurse=False):
            decays = part == "weight" and not isinstance(module, nn.BatchNorm2d)
            expected[id(parameter)] = (rate, 0.3 if decays else 0.0)
    assert found == expected


def test_setting_rates_keeps_their_ratio() -> None:
    optimizer = make_optimizer(network(), make_phase(backbone_lr=0.1, head_lr=0.2))
    set_rates(optimizer, 0.5)
    set_rates(optimizer, 0.25)  # from the peak, not from the last value
    assert {group["lr"] for group in optimizer.param_groups} == {0.025, 0.05}


@pytest.mark.parametrize(
    ("name", "kind", "settings"),
    [
        ("adamw", torch.optim.AdamW, {}),
        ("adam", torch.optim.Adam, {"decoupled_weight_decay": False}),
        ("sgd", torch.optim.SGD, {"momentum": 0.9, "nesterov": False}),
        ("sgd=0", torch.optim.SGD, {"momentum": 0.0}),
        ("nesterov", torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
        ("nesterov=0.8", torch.optim.SGD, {"momentum": 0.8, "nesterov": True}),
        (lambda groups: torch.optim.Adagrad(groups), torch.optim.Adagrad, {}),
    ],
)
def test_an_optimiser_by_name_or_by_function(name: Any, kind: type, settings: dict[str, Any]) -> None:
    optimizer = make_optimizer(network(), make_phase(optimizer=name, head_lr=0.2))
    assert type(optimizer) is kind
    for key, value in settings.items():
        assert all(group[key] == value for group in optimizer.param_groups)
    assert max(group["lr"] for group in optimizer.param_groups) == 0.2


def test_adam_couples_its_decay_and_adamw_does_not() -> None:
    """With a gradient of 0, Adam still moves by the rate (the decay is its gradient), AdamW by rate x decay x weight."""
    moved = {}
    for name in ("adam", "adamw"):
        weight = nn.Parameter(torch.full((1, 1), 2.0))
        optimizer = find_optimizer(name)([{"params": [weight], "lr": 0.1, "weight_decay": 0.01}])
        weight.grad = torch.zeros_like(weight)
        optimizer.step()
        moved[name] = 2.0 - weight.item()
    assert moved == {"adam": pytest.approx(0.1, rel=1e-4), "adamw": pytest.approx(0.1 * 0.01 * 2, rel=1e-3)}


def test_other_names_are_timms() -> None:
    pytest.importorskip("timm")
    for name in ("adamp", "timm:lamb"):
        built = network()
        optimizer = make_optimizer(built, make_phase(optimizer=name, backbone_lr=0.1, head_lr=0.2, weight_decay=0.3))
        assert type(optimizer).__name__ == name.removeprefix("timm:").replace("adamp", "AdamP").replace("lamb", "Lamb")
        assert {(g["lr"], g["weight_decay"]) for g in optimizer.param_groups} == {
            (rate, decay) for rate in (0.1, 0.2) for decay in (0.3, 0.0)
        }
    with pytest.raises(
        UsageError, match=r'no optimizer "adampp"; did you mean "adamp"\? \(known: .*nesterov, and \d+ of timm\)'
    ):
        find_optimizer("adampp")


def test_without_timm_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm.optim", None)
    with pytest.raises(UsageError, match=r'no optimizer "adamp".*pip install "ensemble_kit\[timm\]"'):
        find_optimizer("adamp")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("sgd=1", 'optimizer "sgd": expected a momentum from 0, below 1, found 1'),
        ("sgd=x", 'optimizer "sgd": expected a number, found "x"; write "sgd=0.9"'),
        ("adam=3", 'optimizer "adam" takes no number, found "adam=3"; write "adam"'),
        ("nesterov=0", 'optimizer "nesterov": expected a momentum above 0'),
    ],
)
def test_numbers_that_an_optimiser_cannot_take(name: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        find_optimizer(name)
    assert message in str(caught.value)


EVERYTHING = {f"backbone.{n}" for n in ("0.weight", "1.weight", "1.bias", "3.weight", "4.weight", "4.bias")} | {
    "head.weight",
    "head.bias",
}


@pytest.mark.parametrize(
    ("freeze", "left"),
    [
        ((), EVERYTHING),
        (("backbone",), {"head.weight", "head.bias"}),
        (("0", "backbone.1"), EVERYTHING - {"backbone.0.weight", "backbone.1.weight", "backbone.1.bias"}),
        (("head", "4.weight"), EVERYTHING - {"head.weight", "head.bias", "backbone.4.weight"}),
    ],
)
def test_frozen_layers_get_no_gradient_and_no_group(freeze: tuple[str, ...], left: set[str]) -> None:
    built = network()
    frozen = freeze_layers(built, freeze, EVERYTHING)
    assert trainable(built) == left
    names = {id(p): name for name, p in built.named_parameters()}
    optimizer = make_optimizer(built, make_phase())
    assert {names[id(p)] for group in optimizer.param_groups for p in group["params"]} == left
    assert len(frozen) == sum(not name.endswith("weight") for name in freeze)
    freeze_layers(built, (), EVERYTHING)  # the next phase
    assert trainable(built) == EVERYTHING


def test_what_never_trains_is_not_set_free_by_a_phase() -> None:
    built = network()
    freeze_layers(built, (), EVERYTHING - {"head.bias"})
    assert trainable(built) == EVERYTHING - {"head.bias"}


@pytest.mark.parametrize(
    ("freeze", "message"),
    [
        (("bakbone",), 'freeze: no layer "bakbone"; did you mean "backbone"? (known: backbone, head, 0, 1, 2'),
        (("1.wieght",), 'freeze: no layer "1.wieght"; did you mean "1.weight"? (known: 1.bias, 1.weight)'),
        (("backbone", "head"), "freeze: backbone, head leaves nothing to train"),
    ],
)
def test_names_that_cannot_be_frozen(freeze: tuple[str, ...], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        freeze_layers(network(), freeze, EVERYTHING)
    assert message in str(caught.value)
