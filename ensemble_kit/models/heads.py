"""The network of an expert: a backbone and one linear layer whose columns the heads share."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ensemble_kit.arrays import IntArray
from ensemble_kit.card import Head
from ensemble_kit.models.backbones import Builder, find_backbone, load_weights
from ensemble_kit.schema import Schema


class Network(nn.Module):
    """Photos `(n, 3, height, width)` -> logits `(n, n_outputs)`."""

    def __init__(self, backbone: nn.Module, n_features: int, n_outputs: int):
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(n_features, n_outputs)

    def forward(self, photos: Tensor) -> Tensor:
        logits: Tensor = self.head(self.backbone(photos))
        return logits


def block_head(schema: Schema, attributes: Sequence[str]) -> Head:
    """The head that predicts a block's joint classes, one column each."""
    block = schema.block(attributes)
    rows = [tuple(a.classes[i] for a, i in zip(block.attributes, row, strict=True)) for row in block.paths]
    return Head(tuple(attributes), tuple(rows), (0, block.n_joint))


def build_network(backbone: str | Builder, weights: str, n_outputs: int, seed: Sequence[int]) -> Network:
    """A fresh network. Its random weights depend on `seed` alone; the caller's random state is left as it was.

    Raises:
        DataError: the weights cannot be had, see `load_weights`.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(mix_seed(*seed))
        network, n_features = find_backbone(backbone).build()
        full = Network(network, n_features, n_outputs)
    load_weights(full.backbone, backbone, weights)
    return full


CLOSED = -1e4
"""The logit of an output that is closed: its probability is 0 in every precision, and it has no gradient."""


def close_outputs(network: Network, open_outputs: IntArray) -> None:
    """Closes all outputs but some: those of classes that an expert's condition rules out.

    Args:
        open_outputs: `(n_open,)` the outputs that stay.
    """
    closed = torch.ones(network.head.out_features, dtype=torch.bool)
    closed[torch.from_numpy(open_outputs)] = False
    with torch.no_grad():
        network.head.weight[closed] = 0
        network.head.bias[closed] = CLOSED


def mix_seed(*parts: int) -> int:
    """One 63-bit seed from several numbers, so that (1, 2) and (2, 1) differ."""
    import numpy as np

    state = np.random.SeedSequence(parts).generate_state(1, np.uint64)
    return int(state[0]) >> 1
