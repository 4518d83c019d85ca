"""The card of a checkpoint: what a model predicts and how its photos are prepared. Read without torch."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensemble_kit.arrays import Condition
from ensemble_kit.errors import MALFORMED, DataError, UsageError
from ensemble_kit.files import refuse_special, sha256_json
from ensemble_kit.graph import check_condition, describe_expert
from ensemble_kit.predictions import Predictions
from ensemble_kit.schema import Schema

FORMAT = "ensemble_kit.checkpoint"
VERSION = 1
MAX_HEADER = 100_000_000
"""The safetensors format's own limit on its header."""

CARD_SHA256 = "card_sha256"
"""The card's own hash, in the stored card alone. Releases before 0.4 did not write it."""

KEYS = ("schema", "condition", "heads", "backbone", "preprocess", "train", "metrics", "versions", "tensors_sha256")
TRAIN_KEYS = ("seed", "fold", "n_folds", "epoch", "samples_sha256", "train_groups_sha256", "held_out_groups_sha256")


@dataclass(frozen=True)
class Head:
    """One head: the columns `outputs[0]:outputs[1]` of the network's output answer a block of attributes.

    Args:
        attributes: their names.
        classes: one row of class names a column, in the columns' order.
        outputs: first column and the one after the last.
        edges: borders of the fine classes, when the head predicts finer classes than the attribute's.
        collapse: fine class -> attribute's class, with `edges`.
        output: what turns the head's numbers into these columns, a name of `models.outputs.OUTPUTS`.
    """

    attributes: tuple[str, ...]
    classes: tuple[tuple[str, ...], ...]
    outputs: tuple[int, int]
    edges: tuple[float, ...] | None = None
    collapse: tuple[int, ...] | None = None
    output: str = "classes"

    def to_json(self) -> dict[str, Any]:
        return {
            "attributes": list(self.attributes),
            "classes": [list(row) for row in self.classes],
            "outputs": list(self.outputs),
            "edges": None if self.edges is None else list(self.edges),
            "collapse": None if self.collapse is None else list(self.collapse),
            "output": self.output,
        }

    @classmethod
    def from_json(cls, value: Any) -> Head:
        first, last = value["outputs"]
        edges, collapse = value["edges"], value["collapse"]
        return cls(
            tuple(value["attributes"]),
            tuple(tuple(row) for row in value["classes"]),
            (int(first), int(last)),
            None if edges is None else tuple(float(edge) for edge in edges),
            None if collapse is None else tuple(int(number) for number in collapse),
            str(value.get("output", "classes")),
        )


@dataclass(frozen=True)
class Card:
    """Everything that must be known to use a checkpoint alone.

    `preprocess` is `data.decode.Preprocess` as JSON; `train` holds at least the keys of `TRAIN_KEYS`.
    """

    schema: Schema
    condition: Condition
    heads: tuple[Head, ...]
    backbone: Mapping[str, Any]
    preprocess: Mapping[str, Any]
    train: Mapping[str, Any]
    metrics: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    tensors_sha256: str = ""

    @property
    def n_outputs(self) -> int:
        return max(head.outputs[1] for head in self.heads)

    def describe(self) -> str:
        """`age given mask=worn, fold 2 of 5, epoch 7`."""
        experts = "; ".join(describe_expert(head.attributes, self.condition) for head in self.heads)
        soup = f", a soup of {len(self.train['soup']['of'])}" if "soup" in self.train else ""
        return f"{experts}, fold {self.train['fold']} of {self.train['n_folds']}, epoch {self.train['epoch']}{soup}"

    def to_json(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "version": VERSION,
            "schema": self.schema.to_json(),
            "condition": {name: list(classes) for name, classes in self.condition.items()},
            "heads": [head.to_json() for head in self.heads],
            "backbone": dict(self.backbone),
            "preprocess": dict(self.preprocess),
            "train": dict(self.train),
            "metrics": dict(self.metrics),
            "versions": dict(self.versions),
            "tensors_sha256": self.tensors_sha256,
        }

    @classmethod
    def from_json(cls, value: Any, source: str = "card") -> Card:
        """Raises DataError, naming `source`, when `value` is not what `to_json` writes."""
        if not isinstance(value, Mapping) or value.get("format") != FORMAT:
            raise DataError(f'{source}: expected a card of format "{FORMAT}", found {_found(value, "format")}')
        if value.get("version") != VERSION:
            found = _found(value, "version")
            raise DataError(f"{source}: expected card version {VERSION}, found {found}; update ensemble_kit to read it")
        missing = [key for key in KEYS if key not in value]
        train = value.get("train")
        missing += [f"train.{key}" for key in TRAIN_KEYS if not isinstance(train, Mapping) or key not in train]
        if missing:
            raise DataError(f"{source}: the card lacks {', '.join(missing)}; train the checkpoint again")
        try:
            schema = Schema.from_json(value["schema"])
            heads = tuple(Head.from_json(head) for head in value["heads"])
            condition = check_condition(value["condition"], schema)
            _check_heads(heads, schema)
            _check_kinds(value)
        except (UsageError, DataError, *MALFORMED) as error:
            raise DataError(f"{source}: the card contradicts itself ({error})") from None
        plain = {key: value[key] for key in KEYS if key not in ("schema", "condition", "heads")}
        return cls(schema=schema, condition=condition, heads=heads, **plain)


def _found(value: Any, key: str) -> str:
    return repr(value.get(key)) if isinstance(value, Mapping) else f"no JSON object ({type(value).__name__})"


def _check_heads(heads: tuple[Head, ...], schema: Schema) -> None:
    if not heads:
        raise ValueError("no head")
    for head in heads:
        width = head.outputs[1] - head.outputs[0]
        if head.outputs[0] < 0 or width != len(head.classes):
            raise ValueError(f"head {','.join(head.attributes)}: {len(head.classes)} classes in {width} outputs")
        for row in head.classes:
            for name, value in zip(head.attributes, row, strict=True):
                if head.edges is None and head.collapse is None:
                    schema[name].index(value)
        attributes = [schema[name] for name in head.attributes]
        collapse = None if head.edges else head.collapse
        Predictions(attributes, [np.zeros((0, width))], [], classes=head.classes, edges=head.edges, to=collapse)


def _check_kinds(value: Mapping[str, Any]) -> None:
    """What commands read from the card without looking again."""
    for key in ("backbone", "preprocess", "train", "metrics", "versions"):
        if not isinstance(value[key], Mapping):
            raise TypeError(f"{key} must be a table, found {value[key]!r}")
    texts = {"backbone.name": value["backbone"]["name"], "tensors_sha256": value["tensors_sha256"]}
    texts |= {"backbone.head": value["backbone"].get("head", "linear")}
    for key, text in texts.items():
        if not isinstance(text, str):
            raise TypeError(f"{key} must be text, found {text!r}")
    for key in ("seed", "fold", "n_folds", "epoch"):
        number = value["train"][key]
        if not isinstance(number, int) or isinstance(number, bool) or number < 0:
            raise TypeError(f"train.{key} must be a whole number, found {number!r}")


def read_card(path: Path) -> Card:
    """Reads the card in a checkpoint's header. The tensors are not read, but the file must hold all of them.

    Raises:
        DataError: missing file, cut short, not safetensors, without a card, or with one that cannot be used.
    """
    header, size = _read_header(Path(path))
    try:
        ends = [int(item["data_offsets"][1]) for name, item in header.items() if name != "__metadata__"]
    except MALFORMED:
        raise DataError(f"{path}: not a whole safetensors file (its header is damaged); copy it again") from None
    if size != max(ends, default=0):
        raise DataError(f"{path}: expected {max(ends, default=0)} bytes of weights, found {size}; copy the file again")
    stored = header.get("__metadata__") or {}
    text = stored.get("card")
    if not isinstance(text, str):
        raise DataError(f'{path}: a safetensors file without a card; expected a checkpoint written by "ens train"')
    try:
        value = json.loads(text)
        sha256 = value.pop(CARD_SHA256, None) if isinstance(value, dict) else None
        is_as_written = sha256 is None or sha256 == sha256_json(value)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: the card is not JSON ({error})") from None
    if not is_as_written:
        raise DataError(f"{path}: the card was changed since it was written (its hash differs); copy the file again")
    return Card.from_json(value, str(path))


def has_card(path: Path) -> bool:
    """Whether a safetensors file is a checkpoint of this package, and not a plain state dict.

    Raises:
        DataError: missing file, cut short, or not safetensors.
    """
    return "card" in (_read_header(Path(path))[0].get("__metadata__") or {})


def refuse_other_weights(path: Path, card: Card, tensors: Mapping[str, NDArray[Any]]) -> None:
    """Raises DataError unless these are the weights that the card was written with."""
    expected, found = card.tensors_sha256, tensors_sha256(tensors)
    if found != expected:
        raise DataError(f"{path}: expected weights with hash {expected[:12]}, found {found[:12]}; copy the file again")


def _read_header(path: Path) -> tuple[dict[str, Any], int]:
    """The safetensors header, and the number of bytes that follow it."""
    refuse_special(path)
    try:
        with open(path, "rb") as handle:
            start = handle.read(8)
            length = struct.unpack("<Q", start)[0] if len(start) == 8 else MAX_HEADER + 1
            text = handle.read(length) if length <= MAX_HEADER else b""
            end = handle.seek(0, 2)
    except FileNotFoundError:
        raise DataError(f"{path}: expected a checkpoint (.safetensors), found no such file") from None
    except OSError as error:
        raise DataError(f"{path}: not readable as a checkpoint ({error.strerror})") from None
    try:
        header = json.loads(text) if len(text) == length else None
    except (ValueError, RecursionError):
        header = None
    if not isinstance(header, dict) or not all(isinstance(item, dict) for item in header.values()):
        raise DataError(f"{path}: not a whole safetensors file (cut short, or of another kind); copy or train it again")
    return header, end - 8 - length


def tensors_sha256(tensors: Mapping[str, NDArray[Any]]) -> str:
    """Hash over name, dtype, shape and bytes of the arrays, in the order of their names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        array = np.asarray(tensors[name])
        digest.update(json.dumps([name, array.dtype.str, list(array.shape)]).encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
