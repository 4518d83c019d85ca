"""The network of an expert: a backbone, and a head that turns its features into logits over columns."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ensemble_kit.arrays import IntArray
from ensemble_kit.card import Head
from ensemble_kit.errors import UsageError, nearest
from ensemble_kit.models.backbones import Builder, find_backbone, load_weights
from ensemble_kit.models.families import Size
from ensemble_kit.models.outputs import CLOSED, Outputs, Part
from ensemble_kit.schema import Schema

HeadBuilder = Callable[[int, Sequence[int]], nn.Module]
"""(n_features, numbers of each of its heads) -> a module from a feature map `(n, n_features, h, w)` or vectors
`(n, n_features)` to `(n, sum of the numbers)`."""


class Network(nn.Module):
    """Photos `(n, 3, height, width)` -> logits `(n, n_columns)`.

    Attributes:
        backbone: photos -> a feature map or vectors; what may be kept to train heads alone.
        head: those features -> logits; it pools a map by itself.
        n_columns: how many logits a photo.
    """

    def __init__(self, backbone: nn.Module, head: nn.Module, n_columns: int):
        super().__init__()
        self.backbone = backbone
        self.head: Any = head  # of any kind, reached into by what knows its own
        self.n_columns = n_columns

    def forward(self, photos: Tensor) -> Tensor:
        logits: Tensor = self.head(self.backbone(photos))
        return logits


def pool(features: Tensor) -> Tensor:
    """A feature map `(n, c, h, w)` -> its mean `(n, c)`; vectors stay as they are."""
    return F.adaptive_avg_pool2d(features, 1).flatten(1) if features.ndim == 4 else features


class Linear(nn.Linear):
    """One linear layer over the pooled features; several heads share it, each with its own columns."""

    def forward(self, features: Tensor) -> Tensor:
        return super().forward(pool(features))


class Branches(nn.Module):
    """One branch a head, side by side."""

    def __init__(self, branches: Sequence[nn.Module]):
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, features: Tensor) -> Tensor:
        return torch.cat([branch(features) for branch in self.branches], dim=1)


class Pool(nn.Module):
    """`pool` as a layer."""

    def forward(self, features: Tensor) -> Tensor:
        return pool(features)


class MapOnly(nn.Module):
    """Lets a feature map pass.

    Raises:
        UsageError: the backbone gives vectors.
    """

    def forward(self, features: Tensor) -> Tensor:
        if features.ndim != 4:
            raise UsageError("head conv: this backbone gives no feature map; use head linear or deep")
        return features


DROPOUT = 0.5


def linear(n_features: int, numbers: Sequence[int]) -> nn.Module:
    """Pooling and one linear layer."""
    return Linear(n_features, sum(numbers))


def deep(n_features: int, numbers: Sequence[int], width: int = 256) -> nn.Module:
    """Each head: pooling, linear, batch norm, rectifier, dropout 0.5, linear."""
    return Branches([nn.Sequential(Pool(), *_two_layers(n_features, width, n)) for n in numbers])


def _two_layers(n_features: int, width: int, n_numbers: int) -> list[nn.Module]:
    hidden = [nn.Linear(n_features, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(DROPOUT)]
    return [*hidden, nn.Linear(width, n_numbers)]


def conv(n_features: int, numbers: Sequence[int], width: int = 128) -> nn.Module:
    """Each head: a 3 x 3 convolution of its own before the pooling, batch norm, rectifier, pooling, linear."""
    return Branches([_branch(n_features, width, n) for n in numbers])


def _branch(n_features: int, width: int, n_numbers: int) -> nn.Module:
    convolution = nn.Conv2d(n_features, width, 3, padding=1, bias=False)
    return nn.Sequential(MapOnly(), convolution, nn.BatchNorm2d(width), nn.ReLU(), Pool(), nn.Linear(width, n_numbers))


HEADS: dict[str, Callable[..., nn.Module]] = {"linear": linear, "deep": deep, "conv": conv}
"""Name -> head; `deep=256` and `conv=64` say how wide."""


def find_head(head: str | HeadBuilder) -> HeadBuilder:
    """The builder of a head's name, or the builder itself.

    Raises:
        UsageError: an unknown name, or a width that is none.

    Examples:
        >>> find_head("deep=8")(4, [3])(torch.zeros(2, 4, 5, 5)).shape
        torch.Size([2, 3])
    """
    if not isinstance(head, str):
        return head
    name, equals, value = head.partition("=")
    if name not in HEADS:
        raise UsageError(f'no head "{name}"{nearest(name, HEADS)}')
    if not equals:
        return HEADS[name]
    if name == "linear" or not (value.isascii() and value.isdigit() and len(value) <= 5) or int(value) < 1:
        raise UsageError(f'head: expected linear, deep=256 or conv=128 (a width from 1 to 99999), found "{head}"')
    return lambda n_features, numbers: HEADS[name](n_features, numbers, int(value))


def block_head(schema: Schema, attributes: Sequence[str]) -> Head:
    """The head that predicts a block's joint classes, one column each."""
    block = schema.block(attributes)
    return Head(tuple(attributes), block.class_rows(), (0, block.n_joint))


def parts_of(heads: Sequence[Head], edges: Sequence[Sequence[float] | None] | None = None) -> list[Part]:
    """What the columns of each head of a card are.

    Args:
        edges: numbers between the columns of each head where the head does not say them itself (columns that are the
            classes); left out when the weights bring their own.
    """
    given = [None] * len(heads) if edges is None else edges
    parts = []
    for head, numbers in zip(heads, given, strict=True):
        n_columns = head.outputs[1] - head.outputs[0]
        between = head.edges or (tuple(range(n_columns - 1)) if numbers is None else tuple(numbers))
        parts.append(Part(n_columns, head.output, tuple(map(float, between))))
    return parts


def make_network(
    backbone: nn.Module, n_features: int, parts: Sequence[Part], head: str | HeadBuilder = "linear"
) -> Network:
    """A backbone and the head for these columns, with the weights of torch's random state."""
    numbers = find_head(head)(n_features, [part.n_numbers for part in parts])
    n_columns = sum(part.n_columns for part in parts)
    if all(part.output == "classes" for part in parts):
        return Network(backbone, numbers, n_columns)
    return Network(backbone, nn.Sequential(OrderedDict(numbers=numbers, output=Outputs(parts))), n_columns)


def build_network(
    backbone: str | Builder,
    weights: str,
    columns: int | Sequence[Part],
    seed: Sequence[int],
    *,
    head: str | HeadBuilder = "linear",
    size: Size | None = None,
) -> Network:
    """A fresh network. Its random weights depend on `seed` alone; the caller's random state is left as it was.

    Args:
        columns: how many columns, or what the columns of each head are.
        size: (height, width) of the photos, for backbones whose weights depend on it.

    Raises:
        DataError: the weights cannot be had, see `load_weights`.
    """
    parts = [Part(columns)] if isinstance(columns, int) else columns
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(mix_seed(*seed))
        network, n_features = find_backbone(backbone, size=size).build()
        full = make_network(network, n_features, parts, head)
    load_weights(full.backbone, backbone, weights, size)
    return full


def close_outputs(network: Network, open_columns: IntArray) -> None:
    """Closes all columns but some: those of classes that an expert's condition rules out.

    Args:
        open_columns: `(n_open,)` the columns that stay.

    Raises:
        UsageError: a head of one's own does not end in a linear layer.
    """
    closed = torch.ones(network.n_columns, dtype=torch.bool)
    closed[torch.from_numpy(open_columns)] = False
    if not closed.any():
        return
    outputs = next((module for module in network.head.modules() if isinstance(module, Outputs)), None)
    if outputs is not None:
        outputs.close(closed)
        return
    last = _last_layers(network.head)
    with torch.no_grad():
        for layer, piece in zip(last, torch.split(closed, [layer.out_features for layer in last]), strict=True):
            layer.weight[piece] = 0
            layer.bias[piece] = CLOSED


def _last_layers(head: nn.Module) -> list[nn.Linear]:
    """The layers that give the logits, one a branch."""
    branches = list(head.branches) if isinstance(head, Branches) else [head]
    found = [[module for module in branch.modules() if isinstance(module, nn.Linear)] for branch in branches]
    if not all(found):
        raise UsageError("head: one that can close classes must end in a linear layer, one for each of its heads")
    return [layers[-1] for layers in found]


def mix_seed(*parts: int) -> int:
    """One 63-bit seed from several numbers, so that (1, 2) and (2, 1) differ."""
    import numpy as np

    state = np.random.SeedSequence(parts).generate_state(1, np.uint64)
    return int(state[0]) >> 1
