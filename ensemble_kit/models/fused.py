"""Networks made ready to answer: batch norms folded into the convolutions before them, in the fastest memory format."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ensemble_kit.errors import StoppedError
from ensemble_kit.models.compute import Compute
from ensemble_kit.models.families import Size

NEARLY = 1e-4
"""Logits of the folded network may differ from the plain one's by this, relative to the largest."""


def ready(network: nn.Module, compute: Compute, size: Size | None) -> nn.Module:
    """A network that answers as `network` does, up to rounding, and faster; `network` itself is left as it is.

    On a CPU with channels last whatever the precision: convolutions without gradients gain from it in float32 too.

    Args:
        network: in eval mode.
        size: (height, width) of its photos, to try the folded network on; None = nothing is folded.
    """
    folded = copy.deepcopy(network).eval() if size is None else fold_batch_norms(network, size)
    return folded.to(compute.device).to(memory_format=torch.channels_last)


def fold_batch_norms(network: nn.Module, size: Size) -> nn.Module:
    """A copy with each batch norm that follows a convolution alone folded into it (Jacob et al. 2018, section 3.2).

    A part that cannot be traced, as what looks at shapes, is left whole, but for what can be folded inside it.
    A network that answers otherwise once folded is copied as it is.
    """
    plain = copy.deepcopy(network).eval()
    folded = _folded(copy.deepcopy(plain))
    return folded if _agree(plain, folded, size) else plain


def _folded(module: nn.Module) -> nn.Module:
    """The module folded, or with folded parts; it is changed."""
    tracer = _Tracer()
    try:
        graph = tracer.trace(module)
    except StoppedError:
        raise
    except Exception:  # control flow, and whatever else a module of somebody's may do
        return _with_folded_parts(module)
    for part in tracer.whole:
        _with_folded_parts(part)
    return _fold(fx.GraphModule(tracer.root, graph))


def _with_folded_parts(module: nn.Module) -> nn.Module:
    for name, part in list(module.named_children()):
        if next(part.children(), None) is not None:
            setattr(module, name, _folded(part))
    return module


class _Tracer(fx.Tracer):
    """Parts that cannot be traced are called as they are, and kept in `whole`."""

    def __init__(self) -> None:
        super().__init__()
        self.whole: list[nn.Module] = []

    def call_module(self, m: nn.Module, forward: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        n_before = len(self.graph.nodes)
        try:
            return super().call_module(m, forward, args, kwargs)
        except StoppedError:
            raise
        except Exception:
            for node in list(self.graph.nodes)[: n_before - 1 : -1]:
                self.graph.erase_node(node)
            self.whole.append(m)
            return self.create_proxy("call_module", self.path_of_module(m), args, kwargs)


def _fold(traced: fx.GraphModule) -> fx.GraphModule:
    modules = dict(traced.named_modules())
    for node in list(traced.graph.nodes):
        before = node.args[0] if node.op == "call_module" and node.args else None
        if not isinstance(before, fx.Node) or before.op != "call_module" or len(before.users) > 1:
            continue
        convolution, norm = modules.get(str(before.target)), modules.get(str(node.target))
        if not isinstance(convolution, nn.Conv2d) or type(norm) is not nn.BatchNorm2d:
            continue
        if _n_calls(traced, before.target) > 1 or _n_calls(traced, node.target) > 1 or norm.running_mean is None:
            continue
        _put(traced, modules, str(before.target), fuse_conv_bn_eval(convolution, norm))
        node.replace_all_uses_with(before)
        traced.graph.erase_node(node)
    traced.delete_all_unused_submodules()
    traced.recompile()
    return traced


def _n_calls(traced: fx.GraphModule, target: Any) -> int:
    return sum(node.op == "call_module" and node.target == target for node in traced.graph.nodes)


def _put(traced: fx.GraphModule, modules: dict[str, nn.Module], name: str, module: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(traced.get_submodule(parent), last, module)
    modules[name] = module


@torch.inference_mode()
def _agree(plain: nn.Module, folded: nn.Module, size: Size) -> bool:
    generator = torch.Generator().manual_seed(0)
    photos = torch.rand(2, 3, *size, generator=generator)
    expected = plain(photos)
    try:
        found = folded(photos)
    except (AttributeError, TypeError):  # a part of which more is used than its forward pass
        return False
    return bool((expected - found).abs().max() <= NEARLY * max(1.0, float(expected.abs().max())))
