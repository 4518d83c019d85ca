"""The back ends, and how one is chosen: by name, or a function of one's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ensemble_kit.backends.cpu import bf16_note
from ensemble_kit.backends.form import Backend, Forward, Source
from ensemble_kit.backends.openvino_forms import OpenVino
from ensemble_kit.errors import UsageError, nearest
from ensemble_kit.models.compiled import check_compiling, compiled
from ensemble_kit.models.compute import Compute, choose_compute
from ensemble_kit.models.fused import ready
from ensemble_kit.named import name_of
from ensemble_kit.own_code import code_sha256

LEAST_EQUAL, LEAST_EQUAL_INT8 = 0.995, 0.99
"""Shares of equal labels; the first also for functions of one's own."""


@dataclass(frozen=True)
class Torch:
    """The network itself, batch norms folded.

    Attributes:
        compiling: one of `compiled.COMPILING`.
    """

    name: str = "torch"
    least_equal: float | None = None
    devices: tuple[str, ...] = ("cpu", "cuda")
    compiling: str = "off"

    def versions(self) -> Mapping[str, str]:
        compiling = {} if self.compiling == "off" else {"compile": self.compiling}
        return {"torch": str(torch.__version__), **compiling}

    def note(self, _compute: Compute, /) -> str | None:
        return None

    def convert(self, _source: Source, _folder: Path, /) -> None: ...

    def load(self, source: Source, _folder: Path, /) -> Forward:
        network = ready(source.network(), source.compute, source.size)
        return compiled(network, self.compiling, source.name, source.say)


@dataclass(frozen=True)
class TorchBf16(Torch):
    """The same with autocast: convolutions and products in bfloat16, the rest in float32."""

    name: str = "torch-bf16"
    least_equal: float | None = LEAST_EQUAL

    def note(self, compute: Compute, /) -> str | None:
        return bf16_note(compute.device)

    def load(self, source: Source, folder: Path, /) -> Forward:
        network = super().load(source, folder)

        def forward(photos: Tensor) -> Tensor:
            with torch.autocast(photos.device.type, torch.bfloat16):
                logits: Tensor = network(photos)
            return logits

        return forward


@dataclass(frozen=True)
class Own:
    """A function of one's own, given a `Source`, that returns a `Forward`. It is told from others by what it does."""

    make: Callable[[Source], Forward]
    least_equal: float | None = LEAST_EQUAL
    devices: tuple[str, ...] = ("cpu", "cuda")

    @property
    def name(self) -> str:
        return f"{name_of(self.make)}@{code_sha256(self.make)}"

    def versions(self) -> Mapping[str, str]:
        return {"torch": str(torch.__version__)}

    def note(self, _compute: Compute, /) -> str | None:
        return None

    def convert(self, _source: Source, _folder: Path, /) -> None: ...

    def load(self, source: Source, _folder: Path, /) -> Forward:
        return self.make(source)


BackendLike = str | Callable[[Source], Forward]

ROWS: tuple[Backend, ...] = (
    Torch(),
    TorchBf16(),
    OpenVino("fp32", LEAST_EQUAL),
    OpenVino("bf16", LEAST_EQUAL),
    OpenVino("int8", LEAST_EQUAL_INT8),
)
BACKENDS = {row.name: row for row in ROWS}
BY_PRECISION = {"fp32": "torch", "bf16": "torch-bf16"}
"""What `--precision` says of torch."""


def find_backend(
    backend: BackendLike | None = None, precision: str | None = None, device: str = "auto", compiling: str = "off"
) -> Backend:
    """A back end by its name, or a function of one's own; torch in float32 when nothing is said.

    Args:
        precision: of torch, in place of a name: fp32, bf16, or auto (bf16 where it pays).
        compiling: of torch: off, default or reduce-overhead, see `compiled.compiled`.

    Raises:
        UsageError: an unknown name, a precision beside a back end, a device that it does not run on, or compiling where
            it is not torch.
    """
    if precision is not None and backend is not None:
        raise UsageError(f'back end "{describe(backend)}" and precision "{precision}" rule each other out; give one')
    if precision is not None:
        backend = BY_PRECISION[choose_compute(device, precision).precision]
    found = _row("torch" if backend is None else backend)
    if device not in ("auto", *found.devices):
        raise UsageError(f'back end "{found.name}" runs on {", ".join(found.devices)}, found device "{device}"')
    if check_compiling(compiling) == "off":
        return found
    if not isinstance(found, Torch):
        raise UsageError(f'back end "{found.name}" compiles by itself or not at all; leave --compile out')
    return replace(found, compiling=compiling)


def _row(backend: BackendLike) -> Backend:
    if not isinstance(backend, str):
        return Own(backend)
    row = BACKENDS.get(backend.replace("_", "-"))
    if row is None:
        raise UsageError(f'no back end "{backend}"{nearest(backend, BACKENDS)}')
    return row


def describe(backend: Any) -> str:
    """What messages and prediction sets call it."""
    return backend if isinstance(backend, str) else Own(backend).name


def compute_of(backend: Backend, device: str) -> Compute:
    """Where its inputs are made: float32, channels last."""
    chosen = device if device != "auto" or "cuda" in backend.devices else "cpu"
    return choose_compute(chosen, "fp32", channels_last=True)
