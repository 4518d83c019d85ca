"""Backbones: networks from photos to features, by name, and where their first weights come from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ensemble_kit.errors import DataError, UsageError, nearest
from ensemble_kit.files import sha256_file

Builder = Callable[[], tuple[nn.Module, int]]
"""Returns a module `(n, 3, height, width) -> (n, n_features)` with random weights, and `n_features`."""


@dataclass(frozen=True)
class Backbone:
    """One row of the table.

    Args:
        build: makes the network with random weights.
        imagenet: returns ImageNet weights for it (may download), or None where there are none.
        imagenet_name: which ImageNet weights these are; part of a training's fingerprint.
    """

    build: Builder
    imagenet: Callable[[], Mapping[str, Tensor]] | None = None
    imagenet_name: str = ""


def _resnet(name: str) -> Backbone:
    def build() -> tuple[nn.Module, int]:
        import torchvision  # 3.6 s: only when a network is built

        network = getattr(torchvision.models, name)(weights=None)
        n_features = int(network.fc.in_features)
        network.fc = nn.Identity()
        return network, n_features

    def imagenet() -> Mapping[str, Tensor]:
        import torchvision

        weights = torchvision.models.get_model_weights(name)["IMAGENET1K_V1"]
        state: Mapping[str, Tensor] = weights.get_state_dict(progress=False, check_hash=True)
        return {key: value for key, value in state.items() if not key.startswith("fc.")}

    return Backbone(build, imagenet, "torchvision IMAGENET1K_V1")


BACKBONES: dict[str, Backbone] = {
    "resnet18": _resnet("resnet18"),
    "resnet34": _resnet("resnet34"),
    "resnet50": _resnet("resnet50"),
}


def find_backbone(backbone: str | Builder, extra: Mapping[str, Builder] | None = None) -> Backbone:
    """The backbone of a name, or of a builder of one's own.

    Raises:
        UsageError: a name in neither table.
    """
    if not isinstance(backbone, str):
        return Backbone(backbone)
    if extra and backbone in extra:
        return Backbone(extra[backbone])
    if backbone not in BACKBONES:
        raise UsageError(f'no backbone "{backbone}"{nearest(backbone, [*BACKBONES, *(extra or {})])}')
    return BACKBONES[backbone]


def backbone_name(backbone: str | Builder) -> str:
    """What the card calls it."""
    return backbone if isinstance(backbone, str) else str(getattr(backbone, "__qualname__", type(backbone).__name__))


def describe_weights(backbone: str | Builder, weights: str) -> str:
    """What the first weights are, for the fingerprint: equal text, equal weights. Downloads nothing.

    Raises:
        DataError: `weights` is a path and there is no such file.
    """
    if weights == "none":
        return "none"
    if weights == "imagenet":
        return find_backbone(backbone).imagenet_name or "imagenet"
    path = Path(weights)
    if not path.is_file():
        raise DataError(f'no weights "{weights}": expected "imagenet", "none" or a .safetensors file that exists')
    return f"sha256:{sha256_file(path)}"


def load_weights(network: nn.Module, backbone: str | Builder, weights: str) -> None:
    """Puts the first weights into a freshly built backbone.

    Args:
        weights: `"imagenet"`, `"none"` (leaves the random ones), or a `.safetensors` file: a checkpoint of this
            package, whose backbone is taken, or a plain state dict of the backbone.

    Raises:
        DataError: the download failed, the file is unreadable, or its tensors do not fit.
    """
    if weights == "none":
        return
    if weights == "imagenet":
        _fill(network, _download(backbone), f"the ImageNet weights of {backbone_name(backbone)}")
        return
    state = _read_state(Path(weights))
    prefix = "backbone."
    if any(name.startswith(prefix) for name in state):
        state = {name[len(prefix) :]: value for name, value in state.items() if name.startswith(prefix)}
    _fill(network, state, weights)


def _download(backbone: str | Builder) -> Mapping[str, Tensor]:
    name = backbone_name(backbone)
    imagenet = find_backbone(backbone).imagenet
    if imagenet is None:
        raise UsageError(f"there are no ImageNet weights for {name}; pass --weights none or --weights FILE")
    try:
        return imagenet()
    except (OSError, RuntimeError, ValueError, EOFError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            f"could not download the ImageNet weights of {name} ({reason}); pass --weights none or --weights FILE"
        ) from None


def _read_state(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        state: dict[str, Tensor] = load_file(path)
    except (OSError, SafetensorError) as error:
        raise DataError(f"{path}: not readable as safetensors weights ({error})") from None
    return state


def _fill(network: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    wanted: dict[str, Any] = network.state_dict()
    for name, tensor in wanted.items():
        if name not in state:
            raise DataError(f'{source}: lacks the tensor "{name}" of the backbone; is it of another architecture?')
        if state[name].shape != tensor.shape:
            found, expected = tuple(state[name].shape), tuple(tensor.shape)
            raise DataError(f'{source}: tensor "{name}" has shape {found}, the backbone expects {expected}')
    with torch.no_grad():
        network.load_state_dict({name: state[name] for name in wanted})
