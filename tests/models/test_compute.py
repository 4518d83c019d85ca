"""Device, precision, and the one path from uint8 photos to a network's input."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_training import tiny_backbone
from torch import nn

from ensemble_kit.data.decode import Preprocess
from ensemble_kit.errors import UsageError
from ensemble_kit.models.compute import Compute, choose_compute, num_threads, predict_probs
from ensemble_kit.models.heads import build_network

PREPROCESS = Preprocess(size=(4, 6), mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
RNG = np.random.default_rng(0)
PHOTOS = RNG.integers(0, 256, (5, 4, 6, 3), dtype=np.uint8)


@pytest.mark.parametrize("channels_last", [True, False])
def test_inputs_are_the_normalised_photos(channels_last: bool) -> None:
    compute = choose_compute("cpu", "fp32", channels_last)
    x = compute.inputs(torch.from_numpy(PHOTOS), PREPROCESS)
    expected = (PHOTOS / 255 - np.array(PREPROCESS.mean)) / np.array(PREPROCESS.std)
    np.testing.assert_allclose(x.numpy(), expected.transpose(0, 3, 1, 2), atol=1e-5)
    assert x.dtype == torch.float32
    assert x.is_contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)


def test_auto_resolves_everything() -> None:
    compute = choose_compute("auto", "auto", None)
    assert compute.device.type in ("cpu", "cuda")
    assert compute.precision in ("fp32", "bf16")
    assert isinstance(compute.channels_last, bool)


@pytest.mark.parametrize(
    ("device", "precision", "message"),
    [
        ("gpu", "auto", 'no device "gpu"'),
        ("cpu", "fp16", 'no precision "fp16"; did you mean "bf16"'),
    ],
)
def test_bad_names(device: str, precision: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        choose_compute(device, precision)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_cuda_where_there_is_none_says_what_to_do() -> None:
    with pytest.raises(UsageError, match="--device cuda: torch finds no CUDA device here; pass --device cpu or auto"):
        choose_compute("cuda")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_probabilities_are_the_softmax_of_the_networks_logits(precision: str) -> None:
    compute = choose_compute("cpu", precision)
    network = compute.place(build_network(tiny_backbone, "none", 3, (0, 0)))
    probs = predict_probs(network, PHOTOS, PREPROCESS, compute, batch_size=2)
    with torch.inference_mode():
        x = compute.inputs(torch.from_numpy(PHOTOS), PREPROCESS)
        logits = network.eval()(x).numpy().astype(np.float64)
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(probs, expected, atol=1e-6 if precision == "fp32" else 2e-2)
    assert probs.dtype == np.float32
    np.testing.assert_allclose(probs.sum(axis=1), 1, atol=1e-6)


def test_rows_choose_photos_and_every_batch_is_in_eval_mode() -> None:
    compute = Compute(torch.device("cpu"), "fp32", True)
    network = build_network(tiny_backbone, "none", 3, (0, 0)).train()
    seen: list[bool] = []
    network.register_forward_hook(lambda module, _, __: seen.append(any(m.training for m in module.modules())))
    rows = np.array([4, 0, 2])
    chosen = predict_probs(network, PHOTOS, PREPROCESS, compute, 2, rows)
    every = predict_probs(network, PHOTOS, PREPROCESS, compute, 5)
    np.testing.assert_allclose(chosen, every[rows], atol=1e-6)
    assert seen == [False] * 3


def test_normalising_leaves_the_photos_alone_and_takes_any_memory_order() -> None:
    compute = choose_compute("cpu", "fp32")
    photos = torch.from_numpy(PHOTOS.copy())
    expected = compute.inputs(photos, PREPROCESS)
    turned = photos.permute(3, 0, 1, 2).contiguous().permute(1, 2, 3, 0)
    assert torch.equal(compute.inputs(turned, PREPROCESS), expected)
    floats = photos.float()
    assert torch.equal(compute.inputs(floats, PREPROCESS), expected)
    assert torch.equal(floats, photos.float())


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_batches_hold_about_as_many_pixels_whatever_the_size(device: str) -> None:
    compute = Compute(torch.device(device), "fp32", True)
    sizes = [compute.fitting_batch((side, side)) for side in range(8, 1200, 7)]
    assert sizes == sorted(sizes, reverse=True)
    assert set(sizes) <= {2**n for n in range(3, 10)}
    assert compute.fitting_batch((224, 224)) == (8 if device == "cpu" else 256)


def test_threads_are_put_back() -> None:
    before = torch.get_num_threads()
    with num_threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before


def test_placing_keeps_the_module() -> None:
    network: nn.Module = build_network(tiny_backbone, "none", 3, (0, 0))
    assert choose_compute("cpu", "fp32", True).place(network) is network
