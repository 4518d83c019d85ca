"""Backbones: networks from photos to features, by name, and where their first weights come from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ensemble_kit.card import has_card, read_card, refuse_other_weights
from ensemble_kit.errors import DataError, UsageError, nearest
from ensemble_kit.files import refuse_special, sha256_file
from ensemble_kit.models.families import Backbone, Builder, Size, densenet, is_sized, resnet, timm, vgg
from ensemble_kit.named import name_of

__all__ = [
    "BACKBONES",
    "Backbone",
    "Builder",
    "check_backbone",
    "describe_weights",
    "find_backbone",
    "load_weights",
]

BACKBONES: dict[str, Backbone] = {
    "resnet18": resnet("resnet18"),
    "resnet34": resnet("resnet34"),
    "resnet50": resnet("resnet50"),
    "resnet101": resnet("resnet101"),
    "resnext50": resnet("resnext50_32x4d"),
    "resnext50_32x4d": resnet("resnext50_32x4d"),
    "vgg19": vgg("vgg19"),
    "densenet121": densenet("densenet121"),
    "efficientnet_b0": timm("efficientnet_b0.ra_in1k"),
    "efficientnet_b4": timm("efficientnet_b4.ra2_in1k"),
    "regnetx_032": timm("regnetx_032.tv2_in1k"),
    "convnext_small": timm("convnext_small.fb_in1k"),
    "vit_small": timm("vit_small_patch16_224.augreg_in21k_ft_in1k", sized=True),
}
"""Name -> network. `timm:NAME` stands for any other network of timm, `timm:NAME.TAG` for one with other weights."""

FROM_TIMM = "timm:"


def check_backbone(backbone: str | Builder, extra: Mapping[str, Builder] | None = None) -> None:
    """Raises UsageError when no table knows the name. What follows `timm:` is looked up when the network is built."""
    known = not isinstance(backbone, str) or backbone in (extra or {}) or backbone in BACKBONES
    if not known and not str(backbone).startswith(FROM_TIMM):
        hint = nearest(str(backbone), [*BACKBONES, *(extra or {})])
        raise UsageError(f'no backbone "{backbone}"{hint}; timm:NAME takes any network of timm')


def find_backbone(
    backbone: str | Builder, extra: Mapping[str, Builder] | None = None, size: Size | None = None
) -> Backbone:
    """The backbone of a name, or of a builder of one's own.

    Args:
        extra: builders for further names.
        size: (height, width) of the photos, for networks whose weights depend on it.

    Raises:
        UsageError: a name in neither table, or one that needs timm where it is not installed.
    """
    check_backbone(backbone, extra)
    if not isinstance(backbone, str):
        return Backbone(backbone)
    if extra and backbone in extra:
        return Backbone(extra[backbone])
    if backbone in BACKBONES:
        row = BACKBONES[backbone]
    else:
        name = backbone.removeprefix(FROM_TIMM)
        row = timm(name, sized=is_sized(name))
    return row if size is None or row.sized is None else row.sized(size)


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


def load_weights(network: nn.Module, backbone: str | Builder, weights: str, size: Size | None = None) -> None:
    """Puts the first weights into a freshly built backbone.

    Args:
        weights: `"imagenet"`, `"none"` (leaves the random ones), or a `.safetensors` file: a checkpoint of this
            package, whose backbone is taken, or a plain state dict of the backbone.
        size: see `find_backbone`.

    Raises:
        DataError: the download failed, the file is unreadable, or its tensors do not fit.
    """
    if weights == "none":
        return
    if weights == "imagenet":
        _fill(network, _download(backbone, size), f"the ImageNet weights of {name_of(backbone)}")
        return
    state = _read_state(Path(weights))
    prefix = "backbone."
    if any(name.startswith(prefix) for name in state):
        state = {name[len(prefix) :]: value for name, value in state.items() if name.startswith(prefix)}
    _fill(network, state, weights)


def _download(backbone: str | Builder, size: Size | None) -> Mapping[str, Tensor]:
    name = name_of(backbone)
    imagenet = find_backbone(backbone, size=size).imagenet
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

    refuse_special(path)
    try:
        state: dict[str, Tensor] = load_file(path)
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise DataError(f"{path}: not readable as safetensors weights ({error})") from None
    if has_card(path):
        refuse_other_weights(path, read_card(path), {name: tensor.numpy() for name, tensor in state.items()})
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
