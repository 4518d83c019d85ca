"""Forward passes of one network, as fast as they go here: what answering is held against, nothing decoded or routed."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from shared import seconds
from torch import Tensor, nn

from ensemble_kit.backends.form import Source
from ensemble_kit.backends.openvino_forms import FILE
from ensemble_kit.backends.table import BACKENDS, compute_of
from ensemble_kit.models.fused import fold_batch_norms

Forward = Callable[[int], None]
"""Passes so many photos through the network."""
BATCHES = (8, 16, 32)


def torch_forwards(network: nn.Module, size: int) -> dict[str, Forward]:
    """Each float32 form and batch size of torch."""
    folded = fold_batch_norms(network, (size, size))
    modules: dict[str, tuple[nn.Module, torch.memory_format]] = {
        "plain": (network, torch.contiguous_format),
        "folded": (folded, torch.contiguous_format),
        "folded, channels last": (fold_batch_norms(network, (size, size)), torch.channels_last),
    }
    found: dict[str, Forward] = {}
    for name, (module, form) in modules.items():
        module = module.to(memory_format=form)
        for batch in BATCHES:
            photos = torch.randn(batch, 3, size, size).to(memory_format=form)

            def call(n: int, module: nn.Module = module, photos: Tensor = photos) -> None:
                with torch.inference_mode():
                    for start in range(0, n, len(photos)):
                        module(photos[: n - start])

            found[f"torch {name}, batches of {batch}"] = call
    return found


def openvino_forwards(network: nn.Module, size: int, threads: int, folder: Path) -> dict[str, Forward]:
    """OpenVINO itself in float32: one batch at a time on all threads, and one on each; of a fixed size, and of any."""
    backend = BACKENDS["openvino"]
    backend.convert(Source("", lambda: network, (size, size), compute_of(backend, "cpu"), lambda: iter(())), folder)
    found: dict[str, Forward] = {}
    for streams in sorted({1, threads}):
        settings = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": streams, "INFERENCE_PRECISION_HINT": "f32"}
        for batch in BATCHES[::2]:
            for is_fixed in (True, False):
                name = f"openvino, {streams} streams, batches of {batch}{'' if is_fixed else ' or fewer'}"
                found[name] = OpenVinoForward(folder / FILE, settings, batch, (size, size), is_fixed)
    return found


class OpenVinoForward:
    """Compiled when it is first called: of many, few are."""

    def __init__(self, file: Path, settings: dict[str, Any], batch: int, size: tuple[int, int], is_fixed: bool):
        self.file, self.settings, self.is_fixed = file, settings, is_fixed
        self.photos = torch.randn(batch, *size, 3).numpy()

    @cached_property
    def queue(self) -> Any:
        import openvino as ov

        core = ov.Core()
        model = core.read_model(self.file)
        if self.is_fixed:
            model.reshape(list(self.photos.shape))
        return ov.AsyncInferQueue(core.compile_model(model, "CPU", self.settings), self.settings["NUM_STREAMS"])

    def __call__(self, n: int) -> None:
        for start in range(0, n, len(self.photos)):
            photos = self.photos if self.is_fixed else self.photos[: n - start]
            self.queue.start_async([photos], share_inputs=True)
        self.queue.wait_all()


def fastest(calls: dict[str, Forward], n: int) -> str:
    """The fastest of the three that came out fastest when each was tried once."""
    for call in calls.values():
        call(8)
    once = {name: seconds(partial(call, n)) for name, call in calls.items()}
    best = sorted(once, key=lambda name: once[name])[:3]
    return min(best, key=lambda name: min(seconds(lambda: calls[name](n)) for _ in range(2)))
