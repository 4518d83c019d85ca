"""`jobs = 0`: as many trainings at a time as cores and memory allow, said in words."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny_training import make_job, tiny_backbone

from ensemble_kit.recipe import at_once as module
from ensemble_kit.recipe.at_once import PROCESS_BYTES, at_once, free_memory
from ensemble_kit.recipe.settings import TrainSettings
from ensemble_kit.training.plan import training_bytes


@pytest.mark.parametrize(
    ("cores", "memory_for", "threads", "trainings", "expected"),
    [(8, 99, None, 99, 8), (8, 3.5, None, 99, 3), (8, 99, 3, 99, 2), (8, 99, None, 5, 5), (1, 0.2, None, 9, 1)],
)
def test_the_least_of_cores_memory_and_trainings(
    monkeypatch: pytest.MonkeyPatch, cores: int, memory_for: float, threads: int | None, trainings: int, expected: int
) -> None:
    job = make_job()
    each = PROCESS_BYTES + training_bytes(job)
    monkeypatch.setattr(module, "available_cores", lambda: cores)
    monkeypatch.setattr(module, "free_memory", lambda: memory_for * each)
    settings: dict[str, Any] = {"jobs": 0, "threads": threads, "device": "cpu"}
    found = at_once([TrainSettings(**settings)], [job], trainings)
    assert found.number == expected
    assert found.why.startswith(f"jobs = 0: {expected} training")
    assert f"{cores} cores, " in found.why


def test_what_is_asked_for_is_done_without_a_word() -> None:
    settings: dict[str, Any] = {"jobs": 3, "device": "cpu"}
    assert at_once([TrainSettings(**settings)], [], 9) == module.AtOnce(3)
    assert (free_memory() or 1) > 0


def test_a_trainings_memory_is_weights_and_what_a_step_computes() -> None:
    network, n_features = tiny_backbone()
    photos, counted = torch.zeros(6, 3, 16, 16), list[int]()
    network.train()
    for layer in network.children():
        photos = layer(photos)
        counted.append(photos.numel() * 4)
    assert photos.shape[1] == n_features
    state = sum(t.numel() * t.element_size() for t in network.state_dict().values())
    head = 4 * (n_features * 3 + 3)
    expected = sum(counted) + 5 * (state + head)
    assert expected <= training_bytes(make_job(batch_size=6)) <= expected + 6 * 4 * 20
