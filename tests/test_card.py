"""Cards: what a checkpoint says about itself, without torch."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save

from ensemble_kit.card import FORMAT, Card, Head, read_card, tensors_sha256
from ensemble_kit.errors import DataError
from ensemble_kit.schema import Attribute, Schema

SCHEMA = Schema(
    Attribute("mask", ["worn", "incorrect", "not_worn"]),
    Attribute("age", ["<30", "30-59", ">=60"], borders=[30, 60]),
)
TRAIN = {
    "seed": 1,
    "fold": 0,
    "n_folds": 5,
    "epoch": 3,
    "samples_sha256": "a",
    "train_groups_sha256": "b",
    "held_out_groups_sha256": "c",
}
CARD = Card(
    schema=SCHEMA,
    condition={"mask": ("worn",)},
    heads=(Head(("age",), (("<30",), ("30-59",), (">=60",)), (0, 3)),),
    backbone={"name": "resnet18", "init": "none"},
    preprocess={"size": [64, 64]},
    train=TRAIN,
    metrics={"macro_f1": 0.5},
    versions={"torch": "2"},
)
TENSORS: dict[str, Any] = {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.zeros(2, dtype=np.int64)}


def write(path: Path, card: Any = CARD, tensors: dict[str, Any] = TENSORS) -> Path:
    text = card if isinstance(card, str) else json.dumps(card.to_json() if isinstance(card, Card) else card)
    path.write_bytes(save(tensors, metadata={"card": text}))
    return path


def test_a_card_comes_back_as_it_was_written(tmp_path: Path) -> None:
    assert read_card(write(tmp_path / "a.safetensors")) == CARD


def test_fine_classes_and_several_heads_come_back(tmp_path: Path) -> None:
    heads = (
        Head(("age",), tuple((str(a),) for a in range(4)), (0, 4), edges=(30.0, 40.0, 60.0), collapse=(0, 1, 1, 2)),
        Head(("mask",), (("worn",), ("incorrect",), ("not_worn",)), (4, 7)),
    )
    card = replace(CARD, heads=heads, condition={})
    found = read_card(write(tmp_path / "a.safetensors", card))
    assert found == card
    assert found.n_outputs == 7


def test_the_header_can_be_read_in_a_few_lines_as_documented(tmp_path: Path) -> None:
    path = write(tmp_path / "a.safetensors")
    data = path.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    assert json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["card"])["format"] == FORMAT


def test_reading_a_card_imports_no_torch(tmp_path: Path) -> None:
    path = write(tmp_path / "a.safetensors")
    code = "import sys; from ensemble_kit.card import read_card; print(read_card(sys.argv[1]).describe()); "
    code += "assert not {'torch', 'pandas', 'safetensors'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True)
    assert done.stderr == ""
    assert done.stdout == "age given mask=worn, fold 0 of 5, epoch 3\n"


@pytest.mark.parametrize("share", [0.0, 0.001, 0.01, 0.3, 0.9, 0.999])
def test_a_file_cut_short_is_one_error_that_names_it(tmp_path: Path, share: float) -> None:
    path = write(tmp_path / "a.safetensors")
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(DataError, match=r"a\.safetensors: .*(cut short|bytes of weights)"):
        read_card(path)


@pytest.mark.parametrize("content", [b"PK\x03\x04 a zip", b"\x80\x04 a pickle", b"\xff" * 100, b"{}" * 20])
def test_a_file_of_another_kind_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other"
    path.write_bytes(content)
    with pytest.raises(DataError, match="other: not a whole safetensors file"):
        read_card(path)


def changed(**values: Any) -> dict[str, Any]:
    return CARD.to_json() | values


def without(key: str) -> dict[str, Any]:
    return {k: v for k, v in CARD.to_json().items() if k != key}


HEAD = CARD.heads[0].to_json()


@pytest.mark.parametrize(
    ("card", "message"),
    [
        ("not json", "the card is not JSON"),
        ([1], r"expected a card of format .*, found no JSON object \(list\)"),
        (changed(format="other"), "expected a card of format \"ensemble_kit.checkpoint\", found 'other'"),
        (changed(version=9), "expected card version 1, found 9; update"),
        (without("heads"), "the card lacks heads"),
        (without("tensors_sha256"), "the card lacks tensors_sha256"),
        (changed(train={"fold": 1}), "the card lacks train.seed, train.n_folds"),
        (changed(train=["seed"]), "the card lacks train.seed"),
        (changed(heads=[]), "no head"),
        (changed(heads=[HEAD | {"outputs": [0, 2]}]), "head age: 3 classes in 2 outputs"),
        (changed(heads=[HEAD | {"classes": [["young"], ["30-59"], [">=60"]]}]), 'has no class "young"'),
        (changed(heads=[HEAD | {"attributes": ["size"]}]), 'has no attribute "size"'),
        (changed(heads=[{"attributes": ["age"]}]), "the card contradicts itself"),
        (changed(condition={"mask": ["off"]}), 'has no class "off"'),
        (changed(schema={"attributes": []}), "the card contradicts itself"),
    ],
)
def test_a_card_that_cannot_be_used_says_why(tmp_path: Path, card: Any, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read_card(write(tmp_path / "a.safetensors", card))
    assert str(tmp_path / "a.safetensors") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_weights_without_a_card_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected a checkpoint .*, found no such file"):
        read_card(tmp_path / "none")
    plain = tmp_path / "plain.safetensors"
    plain.write_bytes(save(TENSORS))
    with pytest.raises(DataError, match=r"plain\.safetensors: a safetensors file without a card"):
        read_card(plain)


@given(st.permutations(["a", "b", "c", "d"]))
def test_the_hash_does_not_depend_on_the_order_of_the_tensors(order: list[str]) -> None:
    tensors = {name: np.full((2, 2), ord(name), dtype=np.float32) for name in "abcd"}
    assert tensors_sha256({name: tensors[name] for name in order}) == tensors_sha256(tensors)


def test_the_hash_sees_names_dtypes_shapes_and_values() -> None:
    base = np.zeros((2, 3), dtype=np.float32)
    variants: list[dict[str, Any]] = [
        {"w": base},
        {"v": base},
        {"w": base.reshape(3, 2)},
        {"w": base.view(np.int32)},
        {"w": base + 1},
        {"w": base, "v": base},
        {},
    ]
    assert len({tensors_sha256(v) for v in variants}) == len(variants)
    assert tensors_sha256({"w": np.asfortranarray(base)}) == tensors_sha256({"w": base})
    assert tensors_sha256({"n": np.array(3)}) != tensors_sha256({"n": np.array([3])})
