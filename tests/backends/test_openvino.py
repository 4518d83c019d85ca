"""Real conversions with OpenVINO and NNCF, where they are installed."""

from __future__ import annotations

import importlib.util
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from forms_cases import World, load
from tiny_training import BACKBONES
from torch import Tensor, nn

from ensemble_kit.backends.form import Source
from ensemble_kit.backends.table import BACKENDS, compute_of
from ensemble_kit.errors import DataError
from ensemble_kit.inference import predict_table
from ensemble_kit.models.compute import num_threads
from ensemble_kit.predictions import load_predictions

if not all(importlib.util.find_spec(name) for name in ("openvino", "nncf")):
    pytest.skip('OpenVINO or NNCF is not installed: pip install "ensemble_kit[openvino]"', allow_module_level=True)


def inputs(n: int) -> Tensor:
    photos = torch.rand(n, 3, 14, 12, generator=torch.Generator().manual_seed(1)) * 4 - 2
    return photos.contiguous(memory_format=torch.channels_last)


def test_the_same_logits_for_any_number_of_photos_threads_and_order(world: World, tmp_path: Path) -> None:
    """Of two heads, seen through a window; from the files the second time."""
    for _ in range(2):
        converted = load(world.forms(BACKENDS["openvino"], folder=tmp_path), world.two)
    plain = load(world.forms(BACKENDS["torch"]), world.two)
    photos = inputs(7)
    with torch.inference_mode():
        expected = plain(photos)
    for rows in ([0, 1, 2, 3, 4, 5, 6], [3], [6, 0, 6, 2]):
        np.testing.assert_allclose(converted(photos[rows]), expected[rows], atol=1e-5)
    with num_threads(2):
        np.testing.assert_allclose(converted(photos), expected, atol=1e-5)


@pytest.mark.slow
def test_eight_bits_are_near_and_nothing_is_printed(
    world: World, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    told: list[str] = []
    shared: dict[str, Any] = {"device": "cpu", "backbones": BACKBONES}

    class Watcher:
        def say(self, line: str) -> None:
            told.append(line)

        def begin(self, title: str, total: float) -> None: ...
        def advance(self, done: float, title: str | None = None) -> None: ...
        def end(self) -> None: ...

    asked: dict[str, Any] = {"trained_on": world.trained_on, "accept_disagreement": True, "watcher": Watcher()}
    plain = predict_table(world.table, [world.worn], tmp_path / "plain", **shared)
    found = predict_table(
        world.table, [world.worn], tmp_path / "set", backend="openvino-int8", cache=tmp_path, **shared, **asked
    )
    (expected,), (said,) = load_predictions(plain), load_predictions(found)
    apart = np.abs(expected.layers[0] - said.layers[0]).max()
    assert 1e-7 < apart < 0.05  # other numbers, and not by much
    assert any("openvino-int8, age given mask=worn" in line for line in told)
    assert capfd.readouterr() == ("", "")
    assert {path.name for path in (tmp_path / "backends").glob("*/*")} == {"agreement.json", "model.bin", "model.xml"}
    assert "NNCF_CI" not in os.environ
    assert logging.getLogger("torch.utils.cpp_extension").level != logging.ERROR


class ForTwo(nn.Module):
    """A network whose answer has the batch size of its tracing."""

    def forward(self, photos: Tensor) -> Tensor:
        return photos.flatten().reshape(int(photos.shape[0]), -1)[:, :3]


class ByValue(nn.Module):
    def forward(self, photos: Tensor) -> Tensor:
        raise RuntimeError("this network wants\nsomething else")


@pytest.mark.parametrize(
    ("network", "size", "message"),
    [
        (ForTwo(), (14, 12), r"cannot be converted .*\(2, 3\): it takes one batch size alone\)"),
        (ByValue(), (14, 12), r"cannot be converted .*wants; something else\); answer with --backend torch"),
        (ForTwo(), None, "its card does not say the size of its photos"),
    ],
)
def test_what_cannot_be_converted(
    network: nn.Module, size: tuple[int, int] | None, message: str, tmp_path: Path
) -> None:
    row = BACKENDS["openvino"]
    source = Source("mask, fold 0", lambda: network, size, compute_of(row, "cpu"), lambda: iter(()))
    with pytest.raises(DataError, match=f"back end openvino: mask, fold 0: {message}") as caught:
        row.convert(source, tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_nothing_of_it_is_imported_before_it_is_asked_for() -> None:
    code = "import ensemble_kit.answering, sys; print(*(m for m in ('openvino', 'nncf') if m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
