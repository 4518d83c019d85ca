"""OpenVINO, an extra: the network converted once and compiled for this CPU, in float32, bfloat16 or 8-bit numbers."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ensemble_kit.backends.cpu import bf16_note, int8_note
from ensemble_kit.backends.form import Forward, Source
from ensemble_kit.errors import DataError, EnsembleKitError, UsageError
from ensemble_kit.models.compute import Compute
from ensemble_kit.models.families import Size

FILE = "model.xml"
"""Beside it, OpenVINO writes model.bin."""
SETTINGS = {"ENABLE_CPU_PINNING": False}
"""Threads are not nailed to cores: several checkpoints share them."""
PART = 4
"""Photos that are worth threads of their own: of a batch the parts run side by side, none waiting for the others'."""


@dataclass(frozen=True)
class OpenVino:
    """A row of `BACKENDS`.

    Attributes:
        precision: fp32, bf16 or int8 (weights and activations, ranges from training photos, by NNCF).
    """

    precision: str
    least_equal: float | None
    devices: tuple[str, ...] = ("cpu",)

    @property
    def name(self) -> str:
        return "openvino" if self.precision == "fp32" else f"openvino-{self.precision}"

    def versions(self) -> Mapping[str, str]:
        packages = ("torch", "openvino", *(("nncf",) if self.precision == "int8" else ()))
        try:
            return {package: metadata.version(package) for package in packages}
        except metadata.PackageNotFoundError as error:
            raise UsageError(
                f'back end "{self.name}" needs {error.name}, which is not installed; '
                'pip install "ensemble_kit[openvino]"'
            ) from None

    def note(self, compute: Compute, /) -> str | None:
        if self.precision == "int8":
            return int8_note()
        if self.precision == "bf16" and bf16_note(compute.device):
            return "this CPU has neither AVX512-BF16 nor AMX: OpenVINO computes in float32 here"
        return None

    def convert(self, source: Source, folder: Path, /) -> None:
        try:
            with _quiet():
                import openvino as ov

                model = _converted(source.network(), _size_of(source))
                if self.precision == "int8":
                    model = _quantised(model, source)
                ov.save_model(model, folder / FILE, compress_to_fp16=False)
        except (EnsembleKitError, OSError):
            raise
        except Exception as error:  # whatever a converter makes of a module that somebody wrote
            told = _innermost(error)
            raise DataError(
                f"back end {self.name}: {source.name}: cannot be converted ({told}); answer with --backend torch"
            ) from error

    def load(self, _source: Source, folder: Path, /) -> Forward:
        return Compiled(_core().read_model(folder / FILE), "bf16" if self.precision == "bf16" else "f32")


class Compiled:
    """A converted network as a `Forward`, on as many threads as torch has when it is called."""

    def __init__(self, model: Any, precision: str):
        self.model, self.precision, self.threads = model, precision, 0
        self.requests: list[Any] = []

    def __call__(self, photos: Tensor) -> Tensor:
        if self.threads != torch.get_num_threads():
            self.threads = torch.get_num_threads()
            n_parts = max(1, min(self.threads, len(photos) // PART))
            settings = {"INFERENCE_NUM_THREADS": self.threads, "INFERENCE_PRECISION_HINT": self.precision}
            compiled = _core().compile_model(self.model, "CPU", SETTINGS | settings | {"NUM_STREAMS": n_parts})
            self.requests = [compiled.create_infer_request() for _ in range(n_parts)]
        parts = np.array_split(_rows_of(photos), min(len(self.requests), len(photos)))
        busy = self.requests[: len(parts)]
        for request, part in zip(busy, parts, strict=True):
            request.start_async([part], share_inputs=True)
        for request in busy:
            request.wait()
        return torch.from_numpy(np.concatenate([request.get_output_tensor(0).data for request in busy]))


def _innermost(error: BaseException) -> str:
    """What a converter wraps in its own advice: the first error of all, on one line."""
    for _ in range(20):  # chains may be circular
        error = error.__cause__ or error.__context__ or error
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return "; ".join(lines[-2:])[:200] or type(error).__name__  # OpenVINO's end with what came of it


def _rows_of(photos: Tensor) -> Any:
    """`(n, height, width, 3)`: how the inputs lie in memory already, channels last."""
    return photos.permute(0, 2, 3, 1).contiguous().numpy()


def _converted(network: nn.Module, size: Size) -> Any:
    """The network as an OpenVINO model of any number of photos.

    By the front end itself: `openvino.convert_model` does the same and tells its makers.
    """
    import openvino as ov
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder
    from openvino.preprocess import PrePostProcessor

    front_end = FrontEndManager().load_by_framework("pytorch")
    example = torch.rand(3, 3, *size, generator=torch.Generator().manual_seed(0))
    decoder = TorchScriptPythonDecoder(network, example_input=example[:2])  # named: nothing else keeps it until convert
    model = front_end.convert(front_end.load(decoder))
    model.reshape([-1, 3, *size])
    steps = PrePostProcessor(model)
    steps.input().tensor().set_element_type(ov.Type.f32).set_layout(ov.Layout("NHWC"))
    steps.input().model().set_layout(ov.Layout("NCHW"))
    built = steps.build()
    with torch.inference_mode():
        shapes = tuple(network(example).shape), tuple(Compiled(built, "f32")(example).shape)
    if shapes[0] != shapes[1]:  # it was traced with two photos
        raise ValueError(f"expected answers of shape {shapes[0]}, found {shapes[1]}: it takes one batch size alone")
    return built


def _quantised(model: Any, source: Source) -> Any:
    """Weights and activations in 8 bits, the ranges of activations as on the calibration photos."""
    nncf = _nncf()
    photos = [_rows_of(photo[None]) for batch in source.photos() for photo in batch]
    return nncf.quantize(model, nncf.Dataset(photos), subset_size=len(photos), preset=nncf.QuantizationPreset.MIXED)


def _size_of(source: Source) -> Size:
    if source.size is None:
        raise DataError(f"back end openvino: {source.name}: its card does not say the size of its photos")
    return source.size


@cache
def _core() -> Any:
    import openvino as ov

    core = ov.Core()
    core.set_property({"ENABLE_MMAP": False})  # forms are replaced while others use them
    return core


def _nncf() -> Any:
    """NNCF without its reports to its makers, which it sends unless it thinks that it is being tested."""
    before = os.environ.get("NNCF_CI")
    os.environ["NNCF_CI"] = "1"
    try:
        import nncf
    finally:
        if before is None:
            del os.environ["NNCF_CI"]
        else:
            os.environ["NNCF_CI"] = before
    return nncf


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the converters' progress and deprecations, which nobody here can do anything about."""
    log = logging.getLogger("torch.utils.cpp_extension")  # says that there is no GPU, where nobody asked for one
    level = log.level
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            log.setLevel(logging.ERROR)
            yield
    finally:
        log.setLevel(level)
