"""One fold of one expert, from drawn photos to its files."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_training import BACKBONES, draw_table, folds_of, make_job, make_photos, tiny_backbone
from torch import nn

from ensemble_kit.card import read_card
from ensemble_kit.data.samples import SampleTable
from ensemble_kit.errors import DataError, DivergedError, UsageError
from ensemble_kit.loading.cache import PhotoCache
from ensemble_kit.metrics import macro_f1
from ensemble_kit.models import heads
from ensemble_kit.models.checkpoint import load_expert
from ensemble_kit.models.compute import choose_compute, predict_probs
from ensemble_kit.training import EpochLine, ExpertJob, FoldResult, train_fold
from ensemble_kit.training.job import LATER
from ensemble_kit.training.rows import groups_sha256

FORK = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")  # Python 3.12+ about torch's own workers


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> SampleTable:
    return draw_table(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="module")
def photos(table: SampleTable, tmp_path_factory: pytest.TempPathFactory) -> PhotoCache:
    return make_photos(table, tmp_path_factory.mktemp("cache"))


def train(table: SampleTable, photos: PhotoCache, folder: Path, job: ExpertJob, **options: Any) -> FoldResult:
    return train_fold(job, table=table, folds=folds_of(table), photos=photos, folder=folder, **options)


def history_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def without_times(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v for k, v in line.items() if k not in ("seconds", "photos_per_second")} for line in history]


def test_eight_photos_are_learnt_by_heart(tmp_path: Path) -> None:
    table = draw_table(tmp_path / "photos", people=12)
    folds = np.full(len(table), 1)
    rows = [0, 1, 2, 3, 4, 5, 9, 10]
    folds[rows] = 0
    folds = np.where(folds == 0, -1, 0)  # eight to train on, the rest held out
    job = make_job(epochs=40, augment=(), label_smoothing=0.0, batch_size=8, weight_decay=0.0)
    photos = make_photos(table, tmp_path / "cache")
    lines: list[EpochLine] = []
    train_fold(job, table=table, folds=folds, photos=photos, folder=tmp_path / "fold", on_epoch=lines.append)
    assert lines[-1].train_loss < 0.05
    network, _ = load_expert(tmp_path / "fold" / "best.safetensors", backbones=BACKBONES)
    probs = predict_probs(network, photos.photos, job.preprocess, choose_compute("cpu", "fp32"), 8, np.array(rows))
    assert probs.argmax(axis=1).tolist() == table.numbers("mask")[rows].tolist()


def test_the_files_of_a_fold_agree_with_each_other(table: SampleTable, photos: PhotoCache, tmp_path: Path) -> None:
    job = make_job(epochs=6)
    lines: list[EpochLine] = []
    steps: list[tuple[int, int]] = []
    result = train(
        table, photos, tmp_path, job, on_epoch=lines.append, on_step=lambda done, total: steps.append((done, total))
    )
    assert sorted(p.name for p in tmp_path.iterdir()) == ["DONE", "best.safetensors", "metrics.jsonl", "oof.npy"]
    assert [line.to_json() for line in lines] == history_of(tmp_path)
    assert steps == [(i + 1, 18) for i in range(18)]  # 18 photos in batches of 6, 6 epochs
    best = max(lines, key=lambda line: line.macro_f1 or 0.0)  # the first of equals
    card = read_card(result.checkpoint)
    assert (result.epoch, card.train["epoch"]) == (best.epoch, best.epoch)
    assert card.metrics == {"val_loss": best.val_loss, "accuracy": best.accuracy, "macro_f1": best.macro_f1}
    running = [max(line.macro_f1 or 0.0 for line in lines[: i + 1]) for i in range(len(lines))]
    assert [line.best for line in lines] == [i == 0 or running[i] > running[i - 1] for i in range(len(lines))]
    assert (result.skipped, result.resumed, result.notices) == (False, False, ())


def test_the_kept_checkpoint_gives_the_saved_scores_and_out_of_fold_rows(
    table: SampleTable, photos: PhotoCache, tmp_path: Path
) -> None:
    job = make_job(epochs=5, backbone_lr=0.05, head_lr=0.05)
    result = train(table, photos, tmp_path, job)
    network, card = load_expert(result.checkpoint, backbones=BACKBONES)
    held_out = np.flatnonzero(folds_of(table) == 0)
    compute = choose_compute("cpu", "fp32")
    probs = predict_probs(network, photos.photos, job.preprocess, compute, 64, held_out)
    oof = np.load(tmp_path / "oof.npy")
    np.testing.assert_allclose(oof, probs, atol=1e-6)
    score = macro_f1(table.numbers("mask")[held_out], oof.argmax(axis=1), 3)
    assert score == pytest.approx(result.metrics["macro_f1"])
    groups = table.groups
    assert card.train["held_out_groups_sha256"] == groups_sha256(table, held_out)
    assert card.train["train_groups_sha256"] == groups_sha256(table, np.flatnonzero(folds_of(table) != 0))
    assert not set(groups[held_out]) & set(groups[folds_of(table) != 0])


def test_out_of_fold_rows_cover_photos_outside_the_condition(
    table: SampleTable, photos: PhotoCache, tmp_path: Path
) -> None:
    job = make_job(attributes=("age",), condition={"mask": ("worn",)})
    train(table, photos, tmp_path, job)
    oof = np.load(tmp_path / "oof.npy")
    assert oof.shape == (int((folds_of(table) == 0).sum()), 3)
    assert oof.dtype == np.float32
    np.testing.assert_allclose(oof.sum(axis=1), 1, atol=1e-5)


def test_a_block_predicts_its_joint_classes(table: SampleTable, photos: PhotoCache, tmp_path: Path) -> None:
    job = make_job(attributes=("mask", "gender"), epochs=2)
    result = train(table, photos, tmp_path, job)
    card = read_card(result.checkpoint)
    assert card.heads[0].attributes == ("mask", "gender")
    assert card.heads[0].classes[3] == ("incorrect", "female")
    assert np.load(tmp_path / "oof.npy").shape[1] == 6


@FORK
@pytest.mark.parametrize("changed", [{}, {"workers": 2}, {"sampler": "balanced"}, {"precision": "bf16"}])
def test_the_same_seed_gives_the_same_bits(
    table: SampleTable, photos: PhotoCache, tmp_path: Path, changed: dict[str, Any]
) -> None:
    augment = ("flip", "affine", "brightness_contrast", "crop", "dropout")
    same = {k: v for k, v in changed.items() if k != "workers"}
    train(table, photos, tmp_path / "a", make_job(augment=augment, **same))
    torch.rand(3)
    np.random.default_rng().random()
    train(table, photos, tmp_path / "b", make_job(augment=augment, **changed))
    for name in ("best.safetensors", "oof.npy"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert without_times(history_of(tmp_path / "a")) == without_times(history_of(tmp_path / "b"))


def test_another_seed_gives_other_weights(table: SampleTable, photos: PhotoCache, tmp_path: Path) -> None:
    hashes = {
        read_card(train(table, photos, tmp_path / str(seed), make_job(seed=seed, epochs=1)).checkpoint).tensors_sha256
        for seed in (0, 1)
    }
    assert len(hashes) == 2


CHANGES: dict[str, Any] = {
    "augment": (),
    "batch_size": 9,
    "backbone_lr": 0.02,
    "head_lr": 0.02,
    "weight_decay": 0.5,
    "label_smoothing": 0.0,
    "warmup_epochs": 1.0,
    "sampler": "balanced",
    "precision": "bf16",
    "crop": (0.5, 0.5),
    "mean": (0.1, 0.1, 0.1),
    "std": (0.9, 0.9, 0.9),
    "seed": 1,
    "fold": 1,
    "epochs": 3,
}


@pytest.mark.parametrize("name", sorted(CHANGES))
def test_every_setting_is_obeyed(table: SampleTable, photos: PhotoCache, tmp_path: Path, name: str) -> None:
    hashes = set()
    for changed in ({}, {name: CHANGES[name]}):
        job = make_job(**({"epochs": 2, "keep": "last"} | changed))
        cache = make_photos(table, tmp_path / "cache", job) if name == "crop" else photos
        result = train(table, cache, tmp_path / str(len(changed)), job)
        hashes.add(read_card(result.checkpoint).tensors_sha256)
    assert len(hashes) == 2


def test_the_callers_random_state_and_threads_are_left_alone(
    table: SampleTable, photos: PhotoCache, tmp_path: Path
) -> None:
    threads = torch.get_num_threads()
    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(5)
    train(table, photos, tmp_path, make_job(epochs=1, threads=threads + 1))
    assert torch.equal(torch.rand(2), expected)
    assert torch.get_num_threads() == threads


class Recording(nn.Module):
    """Notes at each forward pass whether it, or anything in it, is in training mode."""

    seen: list[tuple[bool, bool]] = []  # noqa: RUF012  # shared on purpose: the trainer builds its own instances

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.n_features = tiny_backbone()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        modes = {module.training for module in self.modules()}
        assert len(modes) == 1
        Recording.seen.append((modes.pop(), torch.is_grad_enabled()))
        features: torch.Tensor = self.inner(x)
        return features


def recording() -> tuple[nn.Module, int]:
    module = Recording()
    return module, module.n_features


def test_every_validation_batch_runs_in_eval_mode_and_every_training_batch_in_train_mode(
    table: SampleTable, photos: PhotoCache, tmp_path: Path
) -> None:
    Recording.seen = []
    train(table, photos, tmp_path, make_job(backbone=recording, epochs=2, batch_size=9))
    epoch = [(True, True)] * 2 + [(False, False)]  # two batches of nine, one validation batch
    assert Recording.seen == epoch * 2 + [(False, False)]  # and the out-of-fold predictions


def test_batch_norm_never_meets_a_single_photo(table: SampleTable, photos: PhotoCache, tmp_path: Path) -> None:
    sizes: list[int] = []

    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, _ = tiny_backbone()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if self.training:
                sizes.append(len(x))
            features: torch.Tensor = self.inner(x)
            return features

    train(table, photos, tmp_path, make_job(backbone=lambda: (Counting(), 64), epochs=1, batch_size=17))
    assert sizes == [18]


def test_each_fold_starts_from_fresh_weights(
    table: SampleTable, photos: PhotoCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[bytes] = []
    original = heads.Network.__init__

    def noting(self: heads.Network, *args: Any) -> None:
        original(self, *args)
        begun.append(self.head.weight.detach().numpy().tobytes())

    def starts(order: list[int], name: str) -> dict[int, bytes]:
        found = {}
        for fold in order:
            begun.clear()
            train(table, photos, tmp_path / name / str(fold), make_job(fold=fold, epochs=1))
            found[fold] = begun[0]
        return found

    monkeypatch.setattr(heads.Network, "__init__", noting)
    first, second = starts([0, 1], "a"), starts([1, 0], "b")
    assert first == second  # what was trained before does not matter
    assert first[0] != first[1]
    for fold in (0, 1):
        one, two = (tmp_path / name / str(fold) / "best.safetensors" for name in "ab")
        assert one.read_bytes() == two.read_bytes()


def epochs_kept(folder: Path) -> Iterator[tuple[str, int]]:
    for path in sorted(folder.glob("*.safetensors")):
        yield path.stem, read_card(path).train["epoch"]


@pytest.mark.parametrize(
    ("keep", "expected"),
    [
        ("last", [("best", 5)]),
        ("every 2", [("best", 5), ("epoch002", 2), ("epoch004", 4)]),
    ],
)
def test_what_is_kept(
    table: SampleTable, photos: PhotoCache, tmp_path: Path, keep: str, expected: list[tuple[str, int]]
) -> None:
    result = train(table, photos, tmp_path, make_job(keep=keep, epochs=5))
    assert list(epochs_kept(tmp_path)) == expected
    assert result.epoch == 5
    assert read_card(result.checkpoint).train["settings"]["keep"] == keep
    assert not any(line["best"] for line in history_of(tmp_path))


def test_a_loss_that_is_not_finite_stops_with_what_to_try(
    table: SampleTable, photos: PhotoCache, tmp_path: Path
) -> None:
    huge = {"backbone_lr": 1e30, "head_lr": 1e30}
    job = make_job(attributes=("age",), condition={"mask": "worn"}, fold=1, batch_size=3, **huge)
    with pytest.raises(
        DivergedError,
        match=r"age given mask=worn, fold 1, epoch 1: the loss is no longer a finite number; try lower rates .*1e\+29",
    ) as caught:
        train(table, photos, tmp_path, job)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_unreadable_photos_are_left_out_named_and_nan(tmp_path: Path) -> None:
    broken = ["p000_worn.png", "p007_worn.png"]
    table = draw_table(tmp_path / "photos", broken=broken)
    photos = make_photos(table, tmp_path / "cache")
    result = train(table, photos, tmp_path / "fold", make_job(epochs=1))
    assert [notice.split(":")[0] for notice in result.notices] == broken
    assert all("expected a photo" in notice and notice.endswith("left out") for notice in result.notices)
    oof = np.load(tmp_path / "fold" / "oof.npy")
    held_out = table.ids[folds_of(table) == 0].tolist()
    assert np.flatnonzero(np.isnan(oof).any(axis=1)).tolist() == [held_out.index("p000/worn")]
    assert np.isnan(oof[0]).all()


def test_a_cache_of_other_photos_is_refused(table: SampleTable, photos: PhotoCache, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="belongs to other samples"):
        train(table.select(range(20)), photos, tmp_path, make_job())
    with pytest.raises(DataError, match="was prepared with"):
        train(table, photos, tmp_path, make_job(crop=(0.5, 0.5)))
    with pytest.raises(DataError, match="expected one fold a sample, found 3 for 36 samples"):
        train_fold(make_job(), table=table, folds=np.zeros(3, dtype=np.int64), photos=photos, folder=tmp_path)


def test_the_line_of_an_epoch_reads_well() -> None:
    line = EpochLine("mask", 0, 2, 10, 0.51, 0.42, 0.9, 0.8, 12.2, 250.4, True)
    assert str(line) == (
        "mask, fold 0, epoch 2/10: loss 0.510, validation loss 0.420, accuracy 0.900, macro F1 0.800 * "
        "(12 s, 250 photos/s)"
    )
    line = EpochLine("mask", 0, 1, 10, 0.51, None, None, None, 12.2, 250.4, False)
    assert str(line) == "mask, fold 0, epoch 1/10: loss 0.510   (12 s, 250 photos/s)"


@pytest.mark.parametrize(
    ("keep", "score_every", "scored"),
    [
        ("best", 1, [1, 2, 3, 4, 5]),
        ("best", 2, [2, 4, 5]),
        ("last", 0, [5]),
        ("last", 9, [5]),
        ("every 3", 0, [3, 5]),
        ("every 3", 4, [3, 4, 5]),
    ],
)
def test_only_the_epochs_asked_for_are_scored_and_scoring_changes_no_weights(
    table: SampleTable, photos: PhotoCache, tmp_path: Path, keep: str, score_every: int, scored: list[int]
) -> None:
    lines: list[EpochLine] = []
    job = make_job(epochs=5, keep=keep, score_every=score_every)
    result = train(table, photos, tmp_path / "fold", job, on_epoch=lines.append)
    assert [line.epoch for line in lines if line.macro_f1 is not None] == scored
    assert [line.to_json() for line in lines] == history_of(tmp_path / "fold")
    whole = {line["epoch"]: line for line in history_of(_every_epoch(table, photos, tmp_path / "whole"))}
    for line in lines:
        expected = whole[line.epoch]
        assert line.train_loss == expected["train_loss"]
        assert line.macro_f1 == (expected["macro_f1"] if line.epoch in scored else None)
        assert line.val_loss == (expected["val_loss"] if line.epoch in scored else None)
    best = max(scored, key=lambda epoch: float(whole[epoch]["macro_f1"])) if keep == "best" else 5
    assert result.epoch == best
    assert result.metrics["macro_f1"] == whole[best]["macro_f1"]
    extras = [path.name for path in (tmp_path / "fold").glob("epoch*")]
    assert extras == (["epoch003.safetensors"] if keep == "every 3" else [])
    assert all(read_card(tmp_path / "fold" / name).metrics["macro_f1"] == whole[3]["macro_f1"] for name in extras)


def _every_epoch(table: SampleTable, photos: PhotoCache, folder: Path) -> Path:
    train(table, photos, folder, make_job(epochs=5))
    return folder


def test_scores_are_every_so_many_epochs_not_fewer_than_none() -> None:
    with pytest.raises(UsageError, match="score_every: expected 0 or more epochs, found -1"):
        make_job(score_every=-1)


def test_every_setting_but_the_machines_enters_the_identity(table: SampleTable) -> None:
    folds = folds_of(table)
    base = make_job().identity(table, folds)
    machine = {"device": "auto", "share_gpu": True, "workers": 2, "threads": None, "tensorboard": True, "save_every": 5}
    for name, value in machine.items():
        assert make_job(**{name: value}).identity(table, folds) == base
    named = {f.name for f in dataclasses.fields(ExpertJob)} - set(machine) - {"schema"}
    assert set(base["settings"]) == named - set(LATER)
    for name, value in {"window": (8, 8), "people_share": 0.5, "soup": "greedy"}.items():
        other = make_job(keep="every 1", **{name: value}).identity(table, folds)
        assert set(other["settings"]) == (named - set(LATER)) | {name}
