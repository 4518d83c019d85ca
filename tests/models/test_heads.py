"""Heads: linear, deep, with branches; and what a checkpoint tells of them."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_training import BACKBONES, SCHEMA, tiny_backbone
from torch import nn

from ensemble_kit.card import Card
from ensemble_kit.errors import DataError, UsageError
from ensemble_kit.models.checkpoint import load_expert, save_checkpoint
from ensemble_kit.models.heads import HEADS, block_head, build_network, close_outputs, find_head, pool
from ensemble_kit.models.outputs import OUTPUTS, Part

TRAIN = dict.fromkeys(("samples_sha256", "train_groups_sha256", "held_out_groups_sha256"), "x")
MAPS = torch.rand(3, 4, 5, 6)


def small_maps() -> tuple[nn.Module, int]:
    return nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU()), 8


def card_of(backbone: str, head: str, output: str = "classes") -> Card:
    return Card(
        schema=SCHEMA,
        condition={},
        heads=(replace(block_head(SCHEMA, ["age"]), output=output),),
        backbone={"name": backbone, "init": "none", "head": head},
        preprocess={},
        train={**TRAIN, "seed": 0, "fold": 0, "n_folds": 2, "epoch": 1},
    )


@pytest.mark.parametrize("name", ["linear", "deep", "deep=7", "conv", "conv=7"])
def test_every_head_pools_and_gives_its_numbers_side_by_side(name: str) -> None:
    head = find_head(name)(4, [3, 2]).eval()
    assert head(MAPS).shape == (3, 5)
    assert not name.startswith("deep") or head(pool(MAPS)).equal(head(MAPS))


def test_a_linear_head_is_one_layer_over_the_means() -> None:
    head = find_head("linear")(4, [3])
    expected = nn.functional.linear(MAPS.mean((2, 3)), head.weight, head.bias)  # type: ignore[arg-type]
    assert torch.allclose(head(MAPS), expected, atol=1e-6)


def test_a_deep_head_is_linear_norm_rectifier_dropout_linear_of_the_width_given() -> None:
    (branch,) = find_head("deep=9")(4, [3]).branches  # type: ignore[misc]
    kinds = [nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Dropout, nn.Linear]
    layers = list(branch.children())[1:]
    assert [type(layer) for layer in layers] == kinds
    assert (layers[0].out_features, layers[3].p, layers[4].out_features) == (9, 0.5, 3)


def test_a_conv_branch_looks_before_the_pooling() -> None:
    """Two maps of equal means that a pooled head cannot tell apart."""
    one, two = torch.zeros(2, 1, 4, 6, 6)
    one[:, :, 2, 2:4], two[:, :, 2:4, 2] = 1, 1
    with torch.inference_mode():
        linear, conv = find_head("linear")(4, [3]), find_head("conv")(4, [3]).eval()
        assert torch.allclose(linear(one), linear(two), atol=1e-6)
        assert not torch.allclose(conv(one), conv(two), atol=1e-4)


@pytest.mark.parametrize(
    ("name", "message"),
    [("liner", 'no head "liner"; did you mean "linear"'), ("deep=0", "a width from 1"), ("linear=3", "a width from 1")],
)
def test_bad_heads(name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        find_head(name)


def test_a_conv_head_on_vectors_says_what_to_do() -> None:
    with pytest.raises(UsageError, match="this backbone gives no feature map; use head linear or deep"):
        build_network(tiny_backbone, "none", 3, (0, 0), head="conv")(torch.zeros(2, 3, 16, 16))


@pytest.mark.parametrize("name", [*HEADS, "own"])
@pytest.mark.parametrize("output", OUTPUTS)
def test_a_checkpoint_brings_its_head_and_output_back(tmp_path: Path, name: str, output: str) -> None:
    path = tmp_path / "a.safetensors"

    def own(n_features: int, numbers: list[int]) -> nn.Module:
        return find_head("deep=5")(n_features, numbers)

    part = Part(3, output, (30.0, 60.0))
    network = build_network(small_maps, "none", [part], (0, 0), head=own if name == "own" else name)  # type: ignore[arg-type]
    close_outputs(network, np.array([0, 2]))
    save_checkpoint(path, network, card_of("small_maps", name, output))
    loaded, found = load_expert(path, backbones=BACKBONES | {"small_maps": small_maps}, heads={"own": own})  # type: ignore[dict-item]
    x = torch.rand(2, 3, 16, 16)
    with torch.inference_mode():
        logits = loaded(x)
        assert torch.equal(copy.deepcopy(network).eval()(x), logits)
    assert (logits.softmax(1)[:, 1] == 0).all()
    assert found.heads[0].output == output


def test_an_unknown_head_of_a_checkpoint_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_checkpoint(path, build_network(tiny_backbone, "none", 3, (0, 0)), card_of("tiny_backbone", "mine"))
    with pytest.raises(DataError, match=r'a\.safetensors: no head "mine"'):
        load_expert(path, backbones=BACKBONES)
