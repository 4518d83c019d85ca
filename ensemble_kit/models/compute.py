"""Where and how a network runs: device, precision, memory format; and its probabilities for photos."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from ensemble_kit.arrays import ByteArray, FloatArray, IntArray
from ensemble_kit.data.decode import Preprocess
from ensemble_kit.errors import UsageError, nearest
from ensemble_kit.models.memory import Fitting
from ensemble_kit.models.views import View

PRECISIONS = ("auto", "fp32", "bf16")
DEVICES = ("auto", "cpu", "cuda")


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
        x = photos.to(self.device, non_blocking=True).permute(0, 3, 1, 2).to(torch.float32)
        mean = torch.tensor(preprocess.mean, device=self.device).view(3, 1, 1) * 255
        std = torch.tensor(preprocess.std, device=self.device).view(3, 1, 1) * 255
        x = (x - mean) / std
        return x if self.channels_last else x.contiguous()


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


@torch.inference_mode()
def predict_probs(
    network: Callable[[Tensor], Tensor],
    photos: ByteArray,
    preprocess: Preprocess,
    compute: Compute,
    batch_size: int,
    rows: IntArray | None = None,
    spans: Sequence[tuple[int, int]] | None = None,
    views: Sequence[View] = (),
    fitting: Fitting | None = None,
) -> FloatArray:
    """Softmax over each head's columns, `(n_samples, n_columns)` float32, computed in float32.

    Args:
        network: inputs -> logits, as `backends` make them; a module is left in eval mode.
        photos: `(n_photos, height, width, 3)` uint8, prepared; may be a memmap.
        rows: `(n_samples,)` which photos, at least one; all when left out.
        spans: first column and the one after the last of each head, side by side; one head of all when left out.
        views: further ways to look at each photo; the probabilities are the mean over the plain photo and these.
        fitting: how many photos fit in the memory, of calls before this one; where it runs out, fewer pass at a time.

    Raises:
        UsageError: memory runs out with a single photo.
    """
    if isinstance(network, nn.Module):
        network.eval()
    chosen = np.arange(len(photos)) if rows is None else rows

    def probs_of(some: slice) -> FloatArray:
        batch = torch.from_numpy(np.asarray(photos[chosen[some]]))
        probs = _softmax(network, batch, preprocess, compute, spans)
        for view in views:
            probs = probs + _softmax(network, view(batch), preprocess, compute, spans)
        return np.asarray((probs / (1 + len(views)) if views else probs).cpu().numpy())

    return np.concatenate(list((fitting or Fitting()).each(len(chosen), batch_size, probs_of)))


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
