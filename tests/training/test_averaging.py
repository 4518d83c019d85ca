"""Averaged weights, their batch-norm statistics, and early stopping."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from tiny_training import BACKBONES, draw_table, folds_of, make_job, make_phase, make_photos, tiny_backbone
from torch import nn

from ensemble_kit.data.samples import SampleTable
from ensemble_kit.errors import UsageError
from ensemble_kit.loading.cache import PhotoCache
from ensemble_kit.models.checkpoint import load_expert
from ensemble_kit.models.compute import choose_compute
from ensemble_kit.models.heads import build_network
from ensemble_kit.training import EpochLine, ExpertJob, FoldResult, train_fold
from ensemble_kit.training.averaging import Average, ema_share, even_share, norms_of, plain_batches, refresh_batch_norm


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> SampleTable:
    return draw_table(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="module")
def photos(table: SampleTable, tmp_path_factory: pytest.TempPathFactory) -> PhotoCache:
    return make_photos(table, tmp_path_factory.mktemp("cache"))


def train(table: SampleTable, photos: PhotoCache, folder: Path, job: ExpertJob, **options: Any) -> FoldResult:
    return train_fold(job, table=table, folds=folds_of(table), photos=photos, folder=folder, **options)


def test_means_against_their_formulas() -> None:
    network = nn.Linear(1, 1, bias=False)
    values = [1.0, 4.0, -2.0, 8.0]
    ema, even, expected = Average(network, ema_share(0.5)), Average(network, even_share), network.weight.item()
    for n, value in enumerate(values):
        with torch.no_grad():
            network.weight.fill_(value)
        ema.add(network)
        even.add(network)
        decay = min(0.5, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * value
    assert ema.weights["weight"].item() == pytest.approx(expected)
    assert even.weights["weight"].item() == pytest.approx(np.mean(values))
    assert network.weight.item() == 8.0  # what trains is left alone


def test_refreshed_statistics_are_the_photos_own() -> None:
    """One batch norm on the input: its mean and variance are those of the pixels, whatever they were."""
    network = nn.Sequential(nn.BatchNorm2d(3), nn.Dropout(0.9), nn.BatchNorm2d(3))
    x = torch.rand(24, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    first, second = norms_of(network).values()
    assert first.running_mean is not None
    assert first.running_var is not None
    assert second.running_mean is not None
    first.running_mean.fill_(7.0)
    second.running_mean.fill_(5.0)
    refresh_batch_norm(network, [first], torch.tensor_split(x, 3))
    torch.testing.assert_close(first.running_mean, x.mean(dim=(0, 2, 3)))
    torch.testing.assert_close(
        first.running_var, torch.stack([b.var(dim=(0, 2, 3)) for b in torch.tensor_split(x, 3)]).mean(dim=0)
    )
    assert (second.running_mean == 5.0).all()  # not named: left alone
    assert first.momentum == 0.1
    assert not network.training


def test_plain_batches_hold_each_photo_once_and_never_one_alone(photos: PhotoCache) -> None:
    job, compute = make_job(), choose_compute("cpu", "fp32")
    for n, size in ((5, 2), (7, 3), (2, 64), (9, 4)):
        batches = list(plain_batches(photos.photos, np.arange(n), job.preprocess, compute, size, 0))
        assert min(len(batch) for batch in batches) >= 2
        whole = compute.inputs(torch.from_numpy(np.array(photos.photos[:n])), job.preprocess)
        assert torch.cat(batches).sum(dim=0).allclose(whole.sum(dim=0), atol=1e-4)


@pytest.mark.parametrize("settings", [{"ema": 0.8}, {"swa_epochs": 2}])
def test_the_mean_is_kept_and_its_batch_norms_are_refreshed(
    table: SampleTable, photos: PhotoCache, tmp_path: Path, settings: dict[str, Any]
) -> None:
    job = make_job(keep="every 1", **settings)
    train(table, photos, tmp_path / "mean", job)
    plain = make_job(keep="every 1")
    train(table, photos, tmp_path / "plain", plain)
    kept, last = (load_file(tmp_path / name / "best.safetensors") for name in ("mean", "plain"))
    assert all(not np.array_equal(kept[name], last[name]) for name in ("backbone.0.weight", "head.bias"))
    if "swa_epochs" in settings:
        ends = [load_file(tmp_path / "plain" / name) for name in ("epoch002.safetensors", "epoch003.safetensors")]
        for name in ("backbone.0.weight", "backbone.4.bias", "head.weight"):
            np.testing.assert_allclose(kept[name], (ends[0][name] + ends[1][name]) / 2, rtol=1e-5, atol=1e-7)
        first = load_file(tmp_path / "mean" / "epoch001.safetensors")  # before the window: what trains
        assert np.array_equal(
            first["head.weight"], load_file(tmp_path / "plain" / "epoch001.safetensors")["head.weight"]
        )
    network, card = load_expert(tmp_path / "mean" / "best.safetensors", backbones=BACKBONES)
    rows = np.flatnonzero(folds_of(table) != 0)
    moments = []
    hook = network.backbone[0].register_forward_hook(lambda m, i, out: moments.append(out))  # type: ignore[index]
    network(choose_compute("cpu", "fp32").inputs(torch.from_numpy(np.asarray(photos.photos[rows])), job.preprocess))
    hook.remove()
    np.testing.assert_allclose(kept["backbone.1.running_mean"], moments[0].mean(dim=(0, 2, 3)).detach(), atol=1e-5)
    assert card.train["settings"][next(iter(settings))] == next(iter(settings.values()))


def test_frozen_batch_norms_are_not_refreshed(table: SampleTable, photos: PhotoCache, tmp_path: Path) -> None:
    train(table, photos, tmp_path, make_job(ema=0.5, freeze=("0", "1"), epochs=1))
    kept = load_file(tmp_path / "best.safetensors")
    assert not kept["backbone.1.running_mean"].any()
    assert kept["backbone.4.running_mean"].any()


def scored(monkeypatch: pytest.MonkeyPatch, values: list[float]) -> None:
    """Makes the held-out photos score as told, their loss falling."""
    given = iter(enumerate(values))

    def told(*_: object) -> dict[str, float]:
        number, value = next(given)
        return {"val_loss": 1.0 - 0.1 * number, "accuracy": 0.5, "macro_f1": value}

    monkeypatch.setattr("ensemble_kit.training.session.scores", told)


@pytest.mark.parametrize(
    ("patience", "values", "epochs"),
    [
        (0, [0.5, 0.4, 0.4, 0.4, 0.4], [1, 2, 3, 4, 5]),
        (1, [0.5, 0.4], [1, 2]),
        (2, [0.5, 0.4, 0.6, 0.6, 0.5], [1, 2, 3, 4, 5]),
        (2, [0.5, 0.4, 0.5], [1, 2, 3]),
        (3, [0.1, 0.2, 0.2, 0.2, 0.3], [1, 2, 3, 4, 5]),
    ],
)
@pytest.mark.parametrize("keep", ["best", "last"])
def test_a_training_ends_when_patience_does(
    table: SampleTable, photos: PhotoCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, patience: int,
    values: list[float], epochs: list[int], keep: str,
) -> None:  # fmt: skip
    scored(monkeypatch, values)
    lines: list[EpochLine] = []
    result = train(table, photos, tmp_path, make_job(patience=patience, epochs=5, keep=keep), on_epoch=lines.append)
    assert [line.epoch for line in lines] == epochs
    assert result.epoch == (1 + int(np.argmax(values)) if keep == "best" else epochs[-1])


def test_patience_ends_a_phase_and_the_next_one_begins(
    table: SampleTable, photos: PhotoCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored(monkeypatch, [0.9, 0.8, 0.1, 0.2, 0.1])
    job = make_job(phases=(make_phase(epochs=4), make_phase(epochs=4, optimizer="sgd")), patience=1)
    result = train(table, photos, tmp_path, job)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 5, 6, 7]
    said = "mask, fold 0: stopped early after epoch {}, 1 scored epochs in a row without a better macro F1"
    assert result.notices == (said.format(2), said.format(7))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"ema": 1.0}, "expected ema from 0, below 1"),
        ({"ema": 0.9, "swa_epochs": 1}, "ema and swa_epochs both say"),
        ({"patience": 1, "swa_epochs": 1}, "swa_epochs counts from the last epoch"),
        ({"patience": 1, "score_every": 0}, "patience waits for scored epochs"),
    ],
)
def test_settings_that_contradict_each_other(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        make_job(**changed)
    assert message in str(caught.value)


def test_a_network_without_batch_norm_has_nothing_to_refresh() -> None:
    network = build_network(tiny_backbone, "none", 3, (0, 0))
    refresh_batch_norm(network, [], iter(()))
    assert not network.training
