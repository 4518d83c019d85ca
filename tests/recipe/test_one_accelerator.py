"""Never two models on one accelerator by accident."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from ensemble_kit.models import compute
from ensemble_kit.recipe.at_once import at_once as chosen
from ensemble_kit.recipe.settings import TrainSettings


@pytest.mark.parametrize(("device", "at_once"), [("cpu", 4), ("cuda", 1)])
def test_jobs_run_one_at_a_time_on_an_accelerator(monkeypatch: pytest.MonkeyPatch, device: str, at_once: int) -> None:
    found = compute.Compute(torch.device(device), "fp32", False)
    monkeypatch.setattr(compute, "choose_compute", lambda *_: found)
    settings: dict[str, Any] = {"jobs": 4}
    assert chosen([TrainSettings(**settings)] * 2, [], 9).number == at_once
