"""Each view is what it says, and probabilities are the mean over the plain photo and its views."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from tiny_training import make_job
from torch import nn

from ensemble_kit.arrays import ByteArray, FloatArray
from ensemble_kit.models.compute import choose_compute, predict_probs
from ensemble_kit.models.views import VIEWS, View

PHOTOS = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3)).astype(np.uint8)


def test_flip_exchanges_left_and_right() -> None:
    np.testing.assert_array_equal(VIEWS["flip"](torch.from_numpy(PHOTOS)).numpy(), PHOTOS[:, :, ::-1])


def test_brighter_and_darker_by_the_same_share() -> None:
    for name, factor in (("bright", 1.15), ("dark", 0.85)):
        expected = np.clip(np.round(PHOTOS * np.float32(factor)), 0, 255)
        assert np.abs(VIEWS[name](torch.from_numpy(PHOTOS)).numpy() - expected).max() <= 1


def test_probabilities_are_the_mean_over_the_views() -> None:
    torch.manual_seed(0)
    network, preprocess = nn.Sequential(nn.Flatten(), nn.Linear(768, 4)), make_job().preprocess
    compute, views = choose_compute("cpu", "fp32"), [VIEWS["flip"], VIEWS["bright"]]

    def probs(photos: ByteArray, asked: Sequence[View] = ()) -> FloatArray:
        return predict_probs(network, photos, preprocess, compute, 2, views=asked)

    each = [probs(PHOTOS), *(probs(view(torch.from_numpy(PHOTOS)).numpy()) for view in views)]
    np.testing.assert_allclose(probs(PHOTOS, views), np.mean(each, axis=0), atol=1e-6)
    assert np.abs(each[0] - each[1]).max() > 0.01
