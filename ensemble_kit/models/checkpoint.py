"""Writing and reading checkpoints: one safetensors file with its card in the header."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import nn

from ensemble_kit.card import CARD_SHA256, Card, read_card, refuse_other_weights, tensors_sha256
from ensemble_kit.data.decode import Preprocess
from ensemble_kit.errors import MALFORMED, DataError, UsageError
from ensemble_kit.files import sha256_json, write_bytes
from ensemble_kit.models.backbones import Builder, find_backbone
from ensemble_kit.models.heads import HeadBuilder, Network, make_network, parts_of


def tensors_of(network: nn.Module) -> dict[str, NDArray[Any]]:
    """The weights as numpy arrays, in plain memory order."""
    return {name: tensor.detach().cpu().contiguous().numpy() for name, tensor in network.state_dict().items()}


def save_checkpoint(path: Path, network: nn.Module, card: Card) -> Card:
    """Writes the weights and the card in one replace; returns the card with the weights' hash filled in."""
    from safetensors.numpy import save

    tensors = tensors_of(network)
    full = replace(card, tensors_sha256=tensors_sha256(tensors))
    content = full.to_json()
    text = json.dumps({**content, CARD_SHA256: sha256_json(content)}, allow_nan=False, ensure_ascii=False)
    write_bytes(path, save(tensors, metadata={"card": text}))
    return full


def load_expert(
    path: Path,
    *,
    backbones: Mapping[str, Builder] | None = None,
    heads: Mapping[str, HeadBuilder] | None = None,
) -> tuple[Network, Card]:
    """Reads a checkpoint into a network in eval mode, on the CPU.

    Args:
        backbones: builders for names that the package does not know (a backbone of one's own).
        heads: the same for heads of one's own.

    Raises:
        DataError: cut short, of another kind, weights that do not match the card's hash or the network, or a
            backbone or head that is not known here.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    card = read_card(path)
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError, *MALFORMED) as error:
        raise DataError(f"{path}: not readable as safetensors ({error}); copy or train it again") from None
    refuse_other_weights(path, card, tensors)
    try:
        backbone, n_features = find_backbone(card.backbone["name"], backbones, seen_size(card)).build()
        head = card.backbone.get("head", "linear")
        network = make_network(backbone, n_features, parts_of(card.heads), (heads or {}).get(head, head))
    except UsageError as error:
        raise DataError(f"{path}: {error}") from None
    except (RuntimeError, MemoryError, *MALFORMED) as error:
        raise DataError(f"{path}: its network cannot be built ({_first_line(error)})") from None
    try:
        network.load_state_dict({name: torch.from_numpy(array) for name, array in tensors.items()})
    except RuntimeError as error:
        raise DataError(f"{path}: the weights do not fit {card.backbone['name']} ({_first_line(error)})") from None
    return network.eval(), card


def seen_size(card: Card) -> tuple[int, int] | None:
    """(height, width) of what the network sees, where the card says it."""
    size, window = card.preprocess.get("size"), card.preprocess.get("window")
    return Preprocess(size, window=window).seen if size else None


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[1] if len(lines) > 1 else (lines or [type(error).__name__])[0]
