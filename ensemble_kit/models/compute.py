"""Where and how a network runs: device, precision, memory format; and its probabilities for photos."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ensemble_kit.arrays import ByteArray, FloatArray, IntArray
from ensemble_kit.data.decode import Preprocess
from ensemble_kit.errors import UsageError, nearest
from ensemble_kit.models.memory import Fitting
from ensemble_kit.models.uploaded import Uploaded
from ensemble_kit.models.views import View

PRECISIONS = ("auto", "fp32", "bf16")
DEVICES = ("auto", "cpu", "cuda")
CPU_PIXELS, GPU_PIXELS = 2**19, 2**24
"""Pixels a batch of prediction has at most, where no other size is asked for."""


@dataclass(frozen=True)
class Compute:
    """A resolved choice: nothing in it is "auto" any more."""

    device: torch.device
    precision: str
    channels_last: bool

    def describe(self) -> str:
        return f"{self.device.type}, {self.precision}{', channels last' if self.channels_last else ''}"

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16")

    def place(self, network: nn.Module) -> nn.Module:
        form = torch.channels_last if self.channels_last else torch.contiguous_format
        return network.to(self.device).to(memory_format=form)

    def inputs(self, photos: Tensor, preprocess: Preprocess) -> Tensor:
        """Photos `(n, height, width, 3)` uint8 -> normalised `(n, 3, height, width)` float32 on the device.

        Of photos larger than the preprocessing's window the middle is taken. Training, validation and prediction all
        come through here.
        """
        rows, columns = preprocess.seen
        top, left = (photos.shape[1] - rows) // 2, (photos.shape[2] - columns) // 2
        if preprocess.window is not None:
            photos = photos[:, top : top + rows, left : left + columns]
        moved = photos.to(self.device, non_blocking=True)
        x = moved.to(torch.float32, memory_format=torch.contiguous_format, copy=True)
        mean, std = _line(preprocess.mean, columns, self.device), _line(preprocess.std, columns, self.device)
        lines = x.view(len(x), rows, columns * 3)  # whole lines at a time: 5x as fast as three values at a time
        x = lines.sub_(mean).div_(std).view(len(x), rows, columns, 3).permute(0, 3, 1, 2)
        return x if self.channels_last else x.contiguous()

    def fitting_batch(self, seen: tuple[int, int]) -> int:
        """Photos a forward pass, by what a network sees of each.

        On a CPU a batch's activations should stay in its caches. ResNet18 on 32 MB of them, measured: at 224 pixels
        batches of 8 are 1.14 times as fast as of 32, at 64 pixels batches of 64 are 1.15 times as fast as of 16.
        """
        on_cpu = self.device.type == "cpu"
        pixels, least, most = (CPU_PIXELS, 8, 64) if on_cpu else (GPU_PIXELS, 16, 512)
        fitting = max(1, pixels // (seen[0] * seen[1]))
        return min(most, max(least, 1 << (fitting.bit_length() - 1)))


@lru_cache(maxsize=64)
def _line(channels: tuple[float, float, float], columns: int, device: torch.device) -> Tensor:
    """`(columns * 3,)`: a photo's line of these values, for pixels from 0 to 255."""
    with torch.inference_mode(False):  # kept for training too
        return (torch.tensor(channels, device=device) * 255).repeat(columns)


def choose_compute(device: str, precision: str = "auto", channels_last: bool | None = None) -> Compute:
    """Resolves "auto".

    Raises:
        UsageError: an unknown name, or CUDA asked for where there is none.
    """
    if device not in DEVICES:
        raise UsageError(f'no device "{device}"{nearest(device, DEVICES)}')
    if precision not in PRECISIONS:
        raise UsageError(f'no precision "{precision}"{nearest(precision, PRECISIONS)}')
    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda: torch finds no CUDA device here; pass --device cpu or auto")
    chosen = torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")
    if precision == "auto":
        precision = "bf16" if _bf16_pays(chosen) else "fp32"
    if channels_last is None:
        # what tensor cores want; on a CPU (ResNet18, 64 px, measured) 1.03-1.2x in bf16, 0.6-1.0x in float32
        channels_last = precision == "bf16" or chosen.type == "cuda"
    return Compute(chosen, precision, channels_last)


def _bf16_pays(device: torch.device) -> bool:
    """On a CPU only with the instructions for it (1.7x measured with AVX512_BF16); emulated, bf16 is slower."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    tests = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(bool(getattr(torch.cpu, name, bool)()) for name in tests)


@contextmanager
def num_threads(threads: int | None) -> Iterator[None]:
    """Runs the block with this many torch threads; None leaves them alone."""
    before = torch.get_num_threads()
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        yield
    finally:
        if threads is not None:
            torch.set_num_threads(before)


@contextmanager
def whole_float32(device: torch.device) -> Iterator[None]:
    """Within the block float32 on a GPU is float32: convolutions and products do not round their inputs to TF32.

    By torch's settings of single operations (`fp32_precision`, since 2.9), which are put back. While a block changes
    them, torch refuses to read its older `allow_tf32`.
    """
    if device.type != "cuda":
        yield
        return
    operations: tuple[Any, ...] = torch.backends.cuda.matmul, getattr(torch.backends.cudnn, "conv")  # noqa: B009
    before = [operation.fp32_precision for operation in operations]
    try:
        for operation in operations:
            operation.fp32_precision = "ieee"
        yield
    finally:
        for operation, precision in zip(operations, before, strict=True):
            operation.fp32_precision = precision


@torch.inference_mode()
def predict_probs(
    network: Callable[[Tensor], Tensor],
    photos: ByteArray | Uploaded,
    preprocess: Preprocess,
    compute: Compute,
    batch_size: int | None = None,
    rows: IntArray | None = None,
    spans: Sequence[tuple[int, int]] | None = None,
    views: Sequence[View] = (),
    fitting: Fitting | None = None,
) -> FloatArray:
    """Softmax over each head's columns, `(n_samples, n_columns)` float32, computed in float32.

    Args:
        network: inputs -> logits, as `backends` make them; a module is left in eval mode.
        photos: `(n_photos, height, width, 3)` uint8, prepared; may be a memmap, or on the GPU already.
        batch_size: photos a forward pass; what suits device and photos when left out.
        rows: `(n_samples,)` which photos, at least one; all when left out.
        spans: first column and the one after the last of each head, side by side; one head of all when left out.
        views: further ways to look at each photo; the probabilities are the mean over the plain photo and these.
        fitting: how many photos fit in the memory, of calls before this one; where it runs out, fewer pass at a time.

    Raises:
        UsageError: memory runs out with a single photo.
    """
    if isinstance(network, nn.Module):
        network.eval()
    batch_size = batch_size or compute.fitting_batch(preprocess.seen)
    chosen = np.arange(len(photos)) if rows is None else rows

    def probs_of(some: slice) -> Tensor:
        batch = photos.rows(chosen[some]) if isinstance(photos, Uploaded) else _rows(photos, chosen[some])
        probs = _softmax(network, batch, preprocess, compute, spans)
        for view in views:
            probs = probs + _softmax(network, view(batch), preprocess, compute, spans)
        return probs / (1 + len(views)) if views else probs

    with whole_float32(compute.device):
        batches = list((fitting or Fitting()).each(len(chosen), batch_size, probs_of))
    return np.asarray(torch.cat(batches).cpu().numpy())  # all at once: a GPU need not wait for each batch to be fetched


def _rows(photos: ByteArray, rows: IntArray) -> Tensor:
    return torch.from_numpy(np.asarray(photos[rows]))


def _softmax(
    network: Callable[[Tensor], Tensor],
    photos: Tensor,
    preprocess: Preprocess,
    compute: Compute,
    spans: Sequence[tuple[int, int]] | None,
) -> Tensor:
    with compute.autocast():
        logits = network(compute.inputs(photos, preprocess))
    if spans is None or len(spans) == 1:
        return torch.softmax(logits.float(), dim=1)
    return torch.cat([torch.softmax(logits[:, first:last].float(), dim=1) for first, last in spans], dim=1)
