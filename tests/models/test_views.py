"""Test-time augmentation: fixed views, averaged."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_training import tiny_backbone

from ensemble_kit.data.decode import Preprocess
from ensemble_kit.errors import UsageError
from ensemble_kit.models.compute import choose_compute, predict_probs
from ensemble_kit.models.heads import build_network
from ensemble_kit.models.views import VIEWS, find_views

PHOTOS = np.random.default_rng(0).integers(0, 256, (5, 24, 20, 3), dtype=np.uint8)
PLAIN = Preprocess(size=(24, 20))


@pytest.mark.parametrize("name", VIEWS)
def test_a_view_is_another_photo_of_the_same_shape_and_row_by_row(name: str) -> None:
    photos = torch.from_numpy(PHOTOS)
    seen = VIEWS[name](photos)
    assert (seen.shape, seen.dtype) == (photos.shape, torch.uint8)
    assert not torch.equal(seen, photos)
    assert torch.equal(VIEWS[name](photos[2:3]), seen[2:3])


def test_a_flip_and_a_zoom_by_hand() -> None:
    assert np.array_equal(VIEWS["flip"](torch.from_numpy(PHOTOS)).numpy(), PHOTOS[:, :, ::-1])
    flat = torch.full((1, 24, 20, 3), 7, dtype=torch.uint8)
    assert (VIEWS["zoom"](flat) == 7).all()


def test_probabilities_are_the_mean_over_the_plain_photo_and_the_views() -> None:
    compute = choose_compute("cpu", "fp32")
    network = compute.place(build_network(tiny_backbone, "none", 5, (0, 0)))
    spans = [(0, 3), (3, 5)]
    found = predict_probs(network, PHOTOS, PLAIN, compute, 2, None, spans, find_views(["flip", "bright"]))
    looks = [PHOTOS, PHOTOS[:, :, ::-1].copy(), VIEWS["bright"](torch.from_numpy(PHOTOS)).numpy()]
    expected = np.mean([predict_probs(network, look, PLAIN, compute, 5, None, spans) for look in looks], axis=0)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_allclose(found[:, :3].sum(axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(found[:, 3:].sum(axis=1), 1, atol=1e-6)


@pytest.mark.parametrize(
    ("names", "message"), [(["flipp"], 'no view "flipp"; did you mean "flip"'), (["flip", "flip"], "named twice")]
)
def test_bad_views(names: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        find_views(names)
