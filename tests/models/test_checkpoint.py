"""Checkpoints: written in one piece, read back with every doubt raised."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save
from tiny_training import BACKBONES, SCHEMA, tiny_backbone

from ensemble_kit.card import Card, read_card
from ensemble_kit.errors import DataError
from ensemble_kit.models.checkpoint import load_expert, save_checkpoint
from ensemble_kit.models.heads import Network, block_head, build_network

TRAIN = dict.fromkeys(("samples_sha256", "train_groups_sha256", "held_out_groups_sha256"), "x")


def make(attributes: tuple[str, ...] = ("mask",)) -> tuple[Network, Card]:
    head = block_head(SCHEMA, attributes)
    card = Card(
        schema=SCHEMA,
        condition={},
        heads=(head,),
        backbone={"name": "tiny_backbone", "init": "none"},
        preprocess={},
        train={**TRAIN, "seed": 0, "fold": 0, "n_folds": 2, "epoch": 1},
    )
    return build_network(tiny_backbone, "none", len(head.classes), (0, 0)), card


def test_a_network_comes_back_bit_for_bit_in_eval_mode(tmp_path: Path) -> None:
    network, card = make()
    network = network.to(memory_format=torch.channels_last)
    written = save_checkpoint(tmp_path / "a.safetensors", network, card)
    loaded, found = load_expert(tmp_path / "a.safetensors", backbones=BACKBONES)
    assert found == written
    assert replace(found, tensors_sha256="") == card
    assert not any(module.training for module in loaded.modules())
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, loaded.state_dict()[name])


def test_a_block_has_one_output_a_joint_class_in_joint_order() -> None:
    head = block_head(SCHEMA, ("mask", "gender", "age"))
    assert len(head.classes) == 18
    assert head.classes[13] == ("not_worn", "male", "30-59")  # 2 * 6 + 0 * 3 + 1


def test_one_changed_weight_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    network, card = make()
    save_checkpoint(path, network, card)
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"a\.safetensors: expected weights with hash \w+, found \w+"):
        load_expert(path, backbones=BACKBONES)


def test_an_unknown_backbone_is_named_with_the_known_ones(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_checkpoint(path, *make())
    with pytest.raises(DataError, match=r'a\.safetensors: no backbone "tiny_backbone" .*resnet18'):
        load_expert(path)


def test_weights_of_another_network_are_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    network, card = make()
    save_checkpoint(path, network, replace(card, heads=make(("gender",))[1].heads))
    with pytest.raises(DataError, match="the weights do not fit tiny_backbone") as caught:
        load_expert(path, backbones=BACKBONES)
    assert "\n" not in str(caught.value)


def test_the_file_holds_plain_tensors_that_any_reader_opens(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    network, card = make()
    save_checkpoint(path, network, card)
    tensors = load_file(path)
    assert set(tensors) == set(network.state_dict())
    path.write_bytes(save(tensors, metadata={"card": json.dumps(read_card(path).to_json())}))
    assert np.isfinite(tensors["head.weight"]).all()
    load_expert(path, backbones=BACKBONES)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    network, card = make()
    save_checkpoint(path, network, card)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="JSON"):
        save_checkpoint(path, network, replace(card, metrics={"macro_f1": float("nan")}))
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]
