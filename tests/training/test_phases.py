"""Phases at work: summed gradients, clipping, frozen layers, and what changes at a switch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file
from tiny_training import draw_table, folds_of, make_job, make_phase, make_photos, tiny_backbone
from torch import nn
from torch.nn import functional as F

from ensemble_kit.data.samples import SampleTable
from ensemble_kit.errors import UsageError
from ensemble_kit.loading.cache import PhotoCache
from ensemble_kit.models.heads import build_network
from ensemble_kit.training import ExpertJob, train_fold
from ensemble_kit.training.phases import Phase, spans_of
from ensemble_kit.training.stage import Stage, portions

NORMS = ("1", "4")
"""The batch norms of the tiny backbone."""


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> SampleTable:
    return draw_table(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="module")
def photos(table: SampleTable, tmp_path_factory: pytest.TempPathFactory) -> PhotoCache:
    return make_photos(table, tmp_path_factory.mktemp("cache"))


def weights_of(table: SampleTable, photos: PhotoCache, folder: Path, job: ExpertJob) -> dict[str, Any]:
    train_fold(job, table=table, folds=folds_of(table), photos=photos, folder=folder)
    return dict(load_file(folder / "best.safetensors"))


def stage_of(phase: Phase, sizes: list[int], network: nn.Module | None = None) -> Stage:
    network = network or build_network(tiny_backbone, "none", 3, (0, 0))
    return Stage(network, spans_of([phase])[0], [sizes] * phase.epochs, {n for n, _ in network.named_parameters()})


@given(st.lists(st.integers(1, 9), min_size=1, max_size=12), st.integers(1, 5))
def test_the_shares_of_a_step_make_the_mean_over_its_photos(sizes: list[int], accumulate: int) -> None:
    found = portions(sizes, accumulate)
    assert len(found) == len(sizes)
    for step in range(-(-len(sizes) // accumulate)):
        inside = [i for i, part in enumerate(found) if part.step == step]
        total = sum(sizes[i] for i in inside)
        assert [found[i].share for i in inside] == [sizes[i] / total for i in inside]
        assert [found[i].opens for i in inside] == [True] + [False] * (len(inside) - 1)
        assert [found[i].closes for i in inside] == [False] * (len(inside) - 1) + [True]


@pytest.mark.parametrize("sizes", [[6, 6], [5, 5, 5], [4, 4, 4, 1]])
def test_an_accumulated_gradient_is_the_large_batchs(sizes: list[int]) -> None:
    torch.manual_seed(0)
    network = build_network(tiny_backbone, "none", 3, (0, 0)).double()
    x, targets = torch.rand(sum(sizes), 3, 16, 16, dtype=torch.float64), torch.arange(sum(sizes)) % 3
    stage = stage_of(make_phase(accumulate=len(sizes), freeze=NORMS), sizes, network)
    stage.train_mode()
    stage.open_step(1, 0, ())
    start = 0
    for portion, size in zip(stage.portions_of(1), sizes, strict=True):
        part = slice(start, start + size)
        stage.backward(F.cross_entropy(network(x[part]), targets[part]), portion.share)
        start += size
    summed = {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}
    stage.open_step(1, 0, ())
    stage.backward(F.cross_entropy(network(x), targets), 1.0)
    whole = {name: p.grad for name, p in network.named_parameters() if p.grad is not None}
    assert set(summed) == set(whole) == {"backbone.0.weight", "backbone.3.weight", "head.weight", "head.bias"}
    for name, gradient in whole.items():
        torch.testing.assert_close(summed[name], gradient, rtol=1e-10, atol=1e-14)


def test_a_training_in_parts_of_a_batch_ends_where_one_in_whole_batches_does(
    table: SampleTable, photos: PhotoCache, tmp_path: Path
) -> None:
    same: dict[str, Any] = {"freeze": NORMS, "augment": (), "epochs": 2, "keep": "last", "optimizer": "sgd"}
    whole = weights_of(table, photos, tmp_path / "whole", make_job(batch_size=8, **same))  # 18 photos: 8, 8, 2
    parts = weights_of(table, photos, tmp_path / "parts", make_job(batch_size=4, accumulate=2, **same))
    small = weights_of(table, photos, tmp_path / "small", make_job(batch_size=4, **same))
    for name, value in whole.items():
        np.testing.assert_allclose(parts[name], value, rtol=1e-4, atol=1e-6)
    assert any(np.abs(small[name] - whole[name]).max() > 1e-3 for name in whole)


@pytest.mark.parametrize(("clip", "expected"), [(0.5, 0.5), (0.0, 8.0), (20.0, 8.0)])
def test_a_steps_gradient_is_clipped_to_its_norm(clip: float, expected: float) -> None:
    phase = make_phase(optimizer="sgd=0", head_lr=1.0, backbone_lr=1.0, weight_decay=0.0, clip=clip, schedule="constant", warmup_epochs=0.0)  # fmt: skip
    stage = stage_of(phase, [4])
    parameters = list(stage.network.parameters())
    before = [p.detach().clone() for p in parameters]
    stage.open_step(1, 0, ())
    n = sum(p.numel() for p in parameters)
    for p in parameters:
        p.grad = torch.full_like(p, 8 / n**0.5)  # norm 8 in all
    stage.close_step()
    moved = sum(float(((p.detach() - b) ** 2).sum()) for p, b in zip(parameters, before, strict=True)) ** 0.5
    assert moved == pytest.approx(expected, rel=1e-4)


def test_frozen_layers_keep_their_weights_and_statistics(
    table: SampleTable, photos: PhotoCache, tmp_path: Path
) -> None:
    found = [
        weights_of(table, photos, tmp_path / str(epochs), make_job(epochs=epochs, freeze=("0", "1"), keep="last"))
        for epochs in (1, 2)
    ]
    for name in found[0]:
        is_frozen = name.startswith(("backbone.0.", "backbone.1."))
        assert np.array_equal(found[0][name], found[1][name]) == is_frozen, name
    assert not found[0]["backbone.1.running_mean"].any()  # never moved
    assert found[0]["backbone.1.num_batches_tracked"] == 0
    assert found[0]["backbone.4.running_mean"].any()


def test_a_switch_changes_the_optimiser_the_rates_the_schedule_and_what_is_frozen(
    table: SampleTable, photos: PhotoCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = make_phase(epochs=1, optimizer="adam", freeze=("backbone",), head_lr=0.1, schedule="constant", warmup_epochs=0.0)  # fmt: skip
    second = make_phase(epochs=2, optimizer="sgd", head_lr=0.4, backbone_lr=0.2, schedule="step=0.5", step_epochs=1, warmup_epochs=0.0, batch_size=9)  # fmt: skip
    seen: list[tuple[Any, ...]] = []
    close = Stage.close_step

    def noting(self: Stage) -> None:
        groups = self.optimizer.param_groups
        backbone = any(p.requires_grad for n, p in self.network.named_parameters() if n.startswith("backbone"))
        norms = [m.training for m in self.network.modules() if isinstance(m, nn.BatchNorm2d)]
        seen.append((type(self.optimizer).__name__, sorted({g["lr"] for g in groups}), backbone, norms))
        close(self)

    monkeypatch.setattr(Stage, "close_step", noting)
    steps: list[tuple[int, int]] = []
    job = make_job(phases=(first, second))
    train_fold(
        job,
        table=table,
        folds=folds_of(table),
        photos=photos,
        folder=tmp_path,
        on_step=lambda done, total: steps.append((done, total)),
    )
    assert job.epochs == 3
    one, two = ("Adam", [0.1], False, [False, False]), ("SGD", [0.2, 0.4], True, [True, True])
    assert seen == [one] * 3 + [two] * 2 + [("SGD", [0.1, 0.2], True, [True, True])] * 2
    assert steps == [(i + 1, 7) for i in range(7)]


def test_every_phase_is_checked_before_the_first_one_begins(
    table: SampleTable, photos: PhotoCache, tmp_path: Path
) -> None:
    job = make_job(phases=(make_phase(), make_phase(freeze=("layer9",))))
    with pytest.raises(UsageError, match='freeze: no layer "layer9"'):
        weights_of(table, photos, tmp_path, job)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"epochs": 0}, "epochs: expected at least 1, found 0"),
        ({"accumulate": 0}, "accumulate: expected at least 1, found 0"),
        ({"clip": -1.0}, "clip: expected a largest norm above 0, or 0 for none, found -1"),
        ({"optimizer": "adm"}, 'no optimizer "adm"; did you mean "adam"?'),
        ({"schedule": "cosin"}, 'no schedule "cosin"; did you mean "cosine"?'),
    ],
)
def test_a_phase_refuses_what_it_cannot_be(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        make_phase(**changed)
    assert message in str(caught.value)


def test_no_phase_is_no_training() -> None:
    with pytest.raises(UsageError, match="mask: expected at least one phase, found none"):
        make_job(phases=())


CHANGES: dict[str, Any] = {
    "accumulate": 2,
    "optimizer": "sgd",
    "clip": 0.01,
    "schedule": "constant",
    "freeze": ("0",),
}


@pytest.mark.parametrize("name", sorted(CHANGES))
def test_every_key_of_a_phase_is_obeyed(table: SampleTable, photos: PhotoCache, tmp_path: Path, name: str) -> None:
    same: dict[str, Any] = {"epochs": 1, "keep": "last", "backbone_lr": 0.05}
    plain = weights_of(table, photos, tmp_path / "plain", make_job(**same))
    other = weights_of(table, photos, tmp_path / "other", make_job(**same, **{name: CHANGES[name]}))
    assert any(not np.array_equal(plain[key], other[key]) for key in plain)
