"""Where backbones come from: torchvision's networks and timm's, cut before their pooling."""

from __future__ import annotations

import difflib
import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ensemble_kit.errors import UsageError

Size = tuple[int, int]

Builder = Callable[[], tuple[nn.Module, int]]
"""Returns a module with random weights, and `n_features`.

The module turns `(n, 3, height, width)` into a feature map `(n, n_features, h, w)`, which the head pools (or branches
over), or into vectors `(n, n_features)`.
"""


@dataclass(frozen=True)
class Backbone:
    """One row of the table.

    Args:
        build: makes the network with random weights.
        imagenet: returns ImageNet weights for it (may download), or None where there are none.
        imagenet_name: which ImageNet weights these are; part of a training's fingerprint.
        sized: (height, width) -> the row for photos of that size, for a network whose weights depend on it.
    """

    build: Builder
    imagenet: Callable[[], Mapping[str, Tensor]] | None = None
    imagenet_name: str = ""
    sized: Callable[[Size], Backbone] | None = None


def resnet(name: str) -> Backbone:
    """A torchvision ResNet or ResNeXt. The parts keep torchvision's names (`layer1.0.conv1.weight`)."""
    return _torchvision(name, lambda network: [(n, part) for n, part in network.named_children() if n not in _ENDS])


def vgg(name: str) -> Backbone:
    """A torchvision VGG without its three wide layers, which expect 7 x 7 maps."""
    return _torchvision(name, lambda network: [("features", network.features)])


def densenet(name: str) -> Backbone:
    """A torchvision DenseNet; its last rectifier stands between features and pooling."""
    return _torchvision(name, lambda network: [("features", network.features), ("relu", nn.ReLU(inplace=True))])


_ENDS = ("avgpool", "fc")


def _torchvision(name: str, parts: Callable[[Any], list[tuple[str, nn.Module]]]) -> Backbone:
    def build() -> tuple[nn.Module, int]:
        import torchvision  # 3.6 s: only when a network is built

        network = getattr(torchvision.models, name)(weights=None)
        last = [module for module in network.modules() if isinstance(module, nn.Linear)]
        n_features = 512 if name.startswith("vgg") else int(last[-1].in_features)
        return nn.Sequential(OrderedDict(parts(network))), n_features

    def imagenet() -> Mapping[str, Tensor]:
        import torchvision

        weights = torchvision.models.get_model_weights(name)["IMAGENET1K_V1"]
        state: Mapping[str, Tensor] = weights.get_state_dict(progress=False, check_hash=True)
        return {_new_style(key) if name.startswith("densenet") else key: value for key, value in state.items()}

    return Backbone(build, imagenet, "torchvision IMAGENET1K_V1")


def _new_style(key: str) -> str:
    """DenseNet's published weights call a layer's parts `norm.1`, its code calls them `norm1`.

    Examples:
        >>> _new_style("features.denseblock1.denselayer2.norm.1.weight")
        'features.denseblock1.denselayer2.norm1.weight'
    """
    for part in ("norm", "conv", "relu"):
        for number in ("1", "2"):
            key = key.replace(f".{part}.{number}.", f".{part}{number}.")
    return key


def timm(name: str, *, sized: bool = False) -> Backbone:
    """Any network of timm, with its default weights for `imagenet` or those of the tag in the name (`name.tag`).

    Args:
        sized: its weights depend on the photos' size (a vision transformer's positions).
    """
    row = Backbone(lambda: _timm_build(name, {}), lambda: _timm_weights(name, {}), f"timm {name}")
    if not sized:
        return row

    def for_size(size: Size) -> Backbone:
        own = {"img_size": size}
        return Backbone(lambda: _timm_build(name, own), lambda: _timm_weights(name, own), f"timm {name}")

    return Backbone(row.build, row.imagenet, row.imagenet_name, for_size)


def _timm(name: str) -> Any:
    try:
        import timm as library
    except ImportError:
        raise UsageError(
            f'the backbone {name} comes from timm, which is not installed; pip install "ensemble_kit[timm]"'
        ) from None
    if not library.is_model(name):
        close = difflib.get_close_matches(name.partition(".")[0], library.list_models(), n=3)
        hint = f"; did you mean {' or '.join(close)}?" if close else ""
        raise UsageError(f'timm has no network "{name}"{hint} (python -c "import timm; print(timm.list_models())")')
    return library


def _timm_build(name: str, options: Mapping[str, Any], pretrained: bool = False) -> tuple[nn.Module, int]:
    library = _timm(name)
    try:
        network = library.create_model(name, pretrained=pretrained, num_classes=0, **options)
    except AssertionError as error:  # such as: a size that is no multiple of the patches
        raise UsageError(f"timm:{name}: {' '.join(str(error).split())}") from None
    has_map = network.default_cfg.get("pool_size") is not None and getattr(network, "output_fmt", "NCHW") == "NCHW"
    if has_map:
        network.reset_classifier(0, "")
    return network, int(getattr(network, "head_hidden_size", None) or network.num_features)


def _timm_weights(name: str, options: Mapping[str, Any]) -> Mapping[str, Tensor]:
    log = logging.getLogger("huggingface_hub")
    level = log.level
    log.setLevel(logging.ERROR)  # a failed download is told once, by whoever asked for it
    try:
        return _timm_build(name, options, pretrained=True)[0].state_dict()
    finally:
        log.setLevel(level)


def is_sized(name: str) -> bool:
    """Whether timm's network takes the photos' size when it is built."""
    library = _timm(name)
    config = library.get_pretrained_cfg(name.partition(".")[0], allow_unregistered=True)
    return bool(getattr(config, "fixed_input_size", False))
