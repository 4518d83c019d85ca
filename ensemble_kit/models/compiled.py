"""Networks through `torch.compile`: kernels written for this very machine, or CUDA graphs of them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, fx, nn

from ensemble_kit.errors import EnsembleKitError, UsageError, nearest
from ensemble_kit.models.memory import ran_out

COMPILING = ("off", "default", "reduce-overhead")
"""Values of `--compile`; the second and third are modes of `torch.compile`."""

LEAST_GRAPH = 16
"""Photos of the smallest CUDA graph; fewer are filled up."""

Network = Callable[[Tensor], Tensor]

_known: dict[Hashable, type[nn.Module]] = {}


def check_compiling(how: str) -> str:
    """The value itself.

    Raises:
        UsageError: an unknown one.
    """
    if how not in COMPILING:
        raise UsageError(f'--compile: no way "{how}"{nearest(how, COMPILING)}')
    return how


def padded(n_photos: int, how: str) -> int:
    """As how many photos a batch is run.

    Kernels are compiled for any number of photos but one. A CUDA graph is of one number alone: graphs of powers of two
    serve last batches of every size, and full ones, which `Compute.fitting_batch` makes powers of two, as they are.

    Examples:
        >>> [padded(n, "default") for n in (1, 2, 5, 20)], [padded(n, "reduce-overhead") for n in (1, 2, 5, 20)]
        ([2, 2, 5, 20], [16, 16, 16, 32])
    """
    return max(2, n_photos) if how == "default" else max(LEAST_GRAPH, 1 << (n_photos - 1).bit_length())


def compiled(network: nn.Module, how: str, name: str, say: Callable[[str], None] | None = None) -> Network:
    """The network compiled when it is first called; it answers the same up to rounding.

    What takes its time is done once for all networks of one form, for any number of photos (on a CPU once more for
    fewer than 16, whose convolutions are others).

    Args:
        how: one of `COMPILING`; off = the network itself.
        name: what messages call it.
        say: told before and after what takes its time.

    Raises (the returned function):
        UsageError: it cannot be compiled: no C++ compiler, or code that torch.compile cannot take.
    """
    if how == "off":
        return network
    is_new = _take_form(network, how)
    run = cast(Network, torch.compile(network.forward, mode=how))

    def forward(photos: Tensor) -> Tensor:
        nonlocal is_new
        given = _filled(photos, padded(len(photos), how))
        torch._dynamo.maybe_mark_dynamic(given, 0)
        if is_new and say is not None:
            how_long = "half a minute a kind of network, more on a busy machine; kept for later commands"
            say(f"compiling for this {_kind(photos)}: {how_long}")
        start = time.monotonic()
        logits = _called(run, given, name)
        if is_new and say is not None:
            say(f"compiled {name} in {time.monotonic() - start:.0f} s")
        is_new = False
        # cloned: a CUDA graph's next run overwrites what this one returned
        return logits[: len(photos)].clone() if how == "reduce-overhead" else logits[: len(photos)]

    return forward


def _take_form(network: nn.Module, how: str) -> bool:
    """Whether the network is the first of its form; later ones take the first one's class.

    A traced network has a class of its own, and what is compiled is compiled for a class. The same code on weights of
    the same shapes; whatever else a network may differ in, torch.compile looks for by itself.
    """
    if not isinstance(network, fx.GraphModule):
        return _known.setdefault((type(network), how), type(network)) is type(network)
    key = how, network.code, tuple((name, tensor.shape) for name, tensor in network.state_dict().items())
    is_new = key not in _known
    form: Any = _known.setdefault(key, type(network))
    network.__class__ = form
    return is_new


def _filled(photos: Tensor, n_photos: int) -> Tensor:
    if n_photos == len(photos):
        return photos
    is_last = photos.is_contiguous(memory_format=torch.channels_last)
    more = photos.new_zeros(n_photos - len(photos), *photos.shape[1:])
    form = torch.channels_last if is_last else torch.contiguous_format
    return torch.cat([photos, more]).contiguous(memory_format=form)


def _called(run: Network, photos: Tensor, name: str) -> Tensor:
    try:
        with _quiet():
            return run(photos)
    except torch._dynamo.exc.TorchDynamoException as error:
        if ran_out(error):
            raise
        cause = _innermost(error)
        if isinstance(cause, EnsembleKitError):  # stopped while it compiled
            raise cause from None
        if "C++ compiler" in str(cause) or type(cause).__name__ == "InvalidCxxCompiler":
            raise UsageError(
                "--compile: needs a C++ compiler, found none; install one (apt-get install g++, or its path in CXX), "
                "or leave --compile out"
            ) from error
        raise UsageError(f"{name}: cannot be compiled ({_in_short(cause)}); leave --compile out") from error


def _kind(photos: Tensor) -> str:
    return "GPU" if photos.is_cuda else "CPU"


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the compiler's remark that there is no GPU, where nobody asked for one."""
    log = logging.getLogger("torch.utils.cpp_extension")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


def _innermost(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _in_short(error: BaseException) -> str:
    """Its first line that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:200]
