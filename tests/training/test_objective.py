"""Loss, smoothing, class weights, mixing and samplers where the training meets them: every key changes something."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_training import SCHEMA, draw_table, folds_of, make_job, make_photos
from torch import Tensor
from torch.nn import functional as F

from ensemble_kit.data.samples import SampleTable
from ensemble_kit.errors import UsageError
from ensemble_kit.loading.cache import PhotoCache
from ensemble_kit.models.compute import choose_compute
from ensemble_kit.schema import Schema
from ensemble_kit.training import ExpertJob, train_fold
from ensemble_kit.training.folder import FoldFolder
from ensemble_kit.training.objective import Objective
from ensemble_kit.training.passes import Batch
from ensemble_kit.training.rows import choose_rows
from ensemble_kit.training.session import Session


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> SampleTable:
    """Twelve people; the rows of two of every three "incorrect" photos are unlabelled, so that classes are uneven."""
    drawn = draw_table(tmp_path_factory.mktemp("photos"), people=24)
    mask = [
        "" if name == "incorrect" and row % 9 > 3 else name for row, name in enumerate(drawn.frame["mask"].tolist())
    ]
    return SampleTable(drawn.frame.assign(mask=mask), drawn.root, drawn.schema)


@pytest.fixture(scope="module")
def photos(table: SampleTable, tmp_path_factory: pytest.TempPathFactory) -> PhotoCache:
    return make_photos(table, tmp_path_factory.mktemp("cache"))


def session_of(job: ExpertJob, table: SampleTable, photos: PhotoCache) -> Session:
    folds = folds_of(table)
    files = FoldFolder(Path("nowhere"), job.identity(table, folds))
    rows = choose_rows(job, table, folds, photos)
    return Session(job, table, photos, files, rows, choose_compute("cpu", "fp32"))


def first_batch(session: Session) -> tuple[Tensor, Tensor]:
    positions = session.batches(1)[0]
    rows = session.rows.train[positions]
    return torch.from_numpy(np.asarray(session.photos.photos[rows])), torch.from_numpy(
        session.rows.train_targets[positions]
    )


def first_loss(session: Session) -> float:
    torch.manual_seed(0)
    return float(session.back(Batch(*first_batch(session), number=0, share=1.0), pieces=1))


FIRST_LOSS: list[dict[str, Any]] = [
    {"loss": "focal"},
    {"loss": "focal=1"},
    {"loss": "macro_f1"},
    {"loss": "soft_margin"},
    {"loss": "cross_entropy+0.5*macro_f1"},
    {"loss": lambda logits, targets: (logits.softmax(dim=1) - targets).square().sum(dim=1).mean()},
    {"class_weights": "balanced"},
    {"class_weights": "effective=0.9"},
    {"class_weights": (1.0, 2.0, 3.0)},
    {"class_weights": lambda counts: 1 / counts},
    {"label_smoothing": 0.2},
    {"smoothing": "others"},
    {"mix": ("mixup",)},
    {"mix": ("mixup=1",)},
    {"mix": ("cutmix",)},
    {"mix": ("half_cutmix",)},
    {"sampler": "balanced"},
    {"sampler": "weighted"},
    {"sampler": "oversample"},
    {"sampler": "undersample"},
    {"sampler": "balanced", "balance_by": ("age",)},
    {"sampler": "balanced", "balance_by": ("gender", "age")},
    {"sampler": "balanced", "balance_by": ("joint",)},
]


def test_every_key_changes_the_loss_of_the_first_step_and_no_two_the_same_way(
    table: SampleTable, photos: PhotoCache
) -> None:
    losses = [first_loss(session_of(make_job(**changed), table, photos)) for changed in ({}, *FIRST_LOSS)]
    assert len({round(loss, 6) for loss in losses}) == len(losses)
    mixed = make_job(mix=("mixup",), mix_share=0.0)
    assert first_loss(session_of(mixed, table, photos)) == losses[0]


def test_every_key_changes_the_fingerprint(table: SampleTable) -> None:
    folds = folds_of(table)
    jobs = [make_job(**changed) for changed in ({}, {"mix_share": 0.5}, *FIRST_LOSS)]
    identities = [str(job.identity(table, folds)) for job in jobs]
    assert len(set(identities)) == len(jobs)
    sums = [
        make_job(loss=loss).settings_json()["loss"] for loss in ({"macro_f1": 1, "focal": 0.5}, "macro_f1+0.5*focal")
    ]
    assert sums == ["macro_f1+0.5*focal=2"] * 2


def test_the_first_loss_is_torchs(table: SampleTable, photos: PhotoCache) -> None:
    session = session_of(make_job(label_smoothing=0.3), table, photos)
    batch, targets = first_batch(session)
    session.network.train()
    logits = session.network(session.compute.inputs(batch, session.preprocess))
    expected = F.cross_entropy(logits, targets, label_smoothing=0.3)
    assert first_loss(session) == pytest.approx(float(expected.detach()), abs=1e-6)


def test_class_weights_follow_the_training_photos_of_the_fold(table: SampleTable, photos: PhotoCache) -> None:
    for fold in (0, 1):
        job = make_job(fold=fold, class_weights="balanced")
        session = session_of(job, table, photos)
        rows = [r for r, name in enumerate(table.frame["mask"]) if name and folds_of(table)[r] != fold]
        counts = [sum(table.frame["mask"][r] == name for r in rows) for name in SCHEMA["mask"].classes]
        assert len(set(counts)) > 1
        assert session.objective.weights[0] is not None
        np.testing.assert_allclose(
            session.objective.weights[0].numpy(), [len(rows) / (3 * n) for n in counts], rtol=1e-6
        )


def test_smoothing_and_weights_know_only_the_classes_under_the_condition(
    table: SampleTable, photos: PhotoCache
) -> None:
    ages = SCHEMA["age"].classes
    paths = [("worn", g, a) for g in ("male", "female") for a in ages[:2]]
    paths += [(m, g, a) for m in ("incorrect", "not_worn") for g in ("male", "female") for a in ages]
    schema = Schema(*SCHEMA.attributes, paths=paths)
    wrong = (table.frame["mask"] == "worn") & (table.frame["age"] >= 60)
    tax = SampleTable(table.frame.assign(mask=np.where(wrong, "", table.frame["mask"])), table.root, schema)
    job = make_job(schema=schema, attributes=("age",), condition={"mask": "worn"}, class_weights=(1.0, 2.0, 9.0))
    rows = choose_rows(job, tax, folds_of(table), photos)
    objective = Objective(job, rows, torch.device("cpu"))
    targets = objective.targets_of(torch.tensor([0, 1]))
    torch.testing.assert_close(targets, torch.tensor([[0.95, 0.05], [0.05, 0.95]]))
    assert objective.weights[0] is not None
    assert objective.weights[0].tolist() == [1.0, 2.0]
    logits = torch.tensor([[0.0, 0.0, 99.0], [0.0, 0.0, 99.0]])
    log2 = float(torch.log(torch.tensor(2.0)))
    assert float(objective(logits, targets)) == pytest.approx(log2 * 1.5)


def test_what_is_mixed_depends_on_seed_fold_epoch_and_batch_alone(table: SampleTable, photos: PhotoCache) -> None:
    inputs, targets = torch.rand(6, 3, 4, 4), torch.eye(6)

    def mixed(epoch: int, batch: int, **changed: Any) -> bytes:
        session = session_of(make_job(mix=("mixup=1",), **changed), table, photos)
        return session.objective.mixed(inputs, targets, epoch, batch)[0].numpy().tobytes()

    assert mixed(2, 3) == mixed(2, 3)
    different = {mixed(2, 3), mixed(2, 4), mixed(3, 3), mixed(2, 3, seed=1), mixed(2, 3, fold=1)}
    assert len(different) == 5


def counts_of(session: Session, keys: Any, epoch: int = 1) -> dict[Any, int]:
    """How often each key is drawn in an epoch; `keys` by row of the table."""
    drawn = session.rows.train[np.concatenate(session.batches(epoch))]
    values, counts = np.unique(np.asarray(keys, dtype=str)[drawn], return_counts=True)
    return dict(zip(values.tolist(), counts.tolist(), strict=True))


def test_what_is_balanced_over(table: SampleTable, photos: PhotoCache) -> None:
    ages, masks, genders = (table.frame[name].tolist() for name in ("age", "mask", "gender"))

    def session(**changed: Any) -> Session:
        return session_of(make_job(sampler="oversample", **changed), table, photos)

    assert len(set(counts_of(session(), masks).values())) == 1
    assert len(set(counts_of(session(attributes=("age",)), ages).values())) == 1
    assert len(set(counts_of(session(balance_by=("age",)), ages).values())) == 1
    assert len(set(counts_of(session(balance_by=("age",)), masks).values())) > 1
    both = list(zip(masks, genders, strict=True))
    joint = list(zip(masks, genders, ages, strict=True))
    assert len(set(counts_of(session(balance_by=("mask", "gender")), [str(k) for k in both]).values())) == 1
    assert len(set(counts_of(session(balance_by=("joint",)), [str(k) for k in joint]).values())) == 1


def test_training_borders_hold_for_what_is_balanced(table: SampleTable, photos: PhotoCache) -> None:
    job = make_job(attributes=("age",), borders=(30.0, 50.0), sampler="undersample", leave_out=((60.0, 60.0),))
    moved = table.frame["age"].where(np.arange(len(table)) % 2 == 0, table.frame["age"] + 5)
    shifted = SampleTable(table.frame.assign(age=moved), table.root, table.schema)
    session = session_of(job, shifted, photos)
    names = [("<30", "30-49", ">=50")[(age >= 30) + (age >= 50)] for age in moved]
    assert len(set(counts_of(session, names).values())) == 1


def test_photos_without_a_label_of_what_is_balanced_keep_their_share(table: SampleTable, photos: PhotoCache) -> None:
    job = make_job(attributes=("gender",), sampler="balanced", balance_by=("mask",))
    counts = counts_of(session_of(job, table, photos), table.frame["mask"].tolist())
    unlabelled = counts.pop("")
    trained = folds_of(table) != 0
    assert unlabelled == sum(np.asarray(table.frame["mask"] == "")[trained])
    assert max(counts.values()) - min(counts.values()) <= 1


def test_a_schedule_of_samplers_runs_over_all_epochs(table: SampleTable, photos: PhotoCache) -> None:
    session = session_of(make_job(sampler="natural->balanced", epochs=5), table, photos)
    rare = [counts_of(session, table.frame["mask"].tolist(), epoch)["incorrect"] for epoch in range(1, 6)]
    natural = counts_of(session_of(make_job(), table, photos), table.frame["mask"].tolist())["incorrect"]
    n = len(session.rows.train)
    assert rare[0] == natural
    assert n // 3 <= rare[-1] <= n // 3 + 1
    assert natural < rare[2] < n // 3


@pytest.mark.parametrize(
    "changed",
    [
        {"mix": ("mixup", "cutmix"), "mix_share": 0.5, "sampler": "natural->undersample", "loss": "focal+macro_f1"},
        {"attributes": ("age",), "condition": {"mask": "worn"}, "sampler": "oversample", "class_weights": "balanced"},
    ],
)
def test_whole_trainings_give_the_same_bits_again(
    table: SampleTable, photos: PhotoCache, tmp_path: Path, changed: dict[str, Any]
) -> None:
    for name in ("a", "b"):
        job = make_job(epochs=2, keep="last", **changed)
        train_fold(job, table=table, folds=folds_of(table), photos=photos, folder=tmp_path / name)
    assert (tmp_path / "a" / "best.safetensors").read_bytes() == (tmp_path / "b" / "best.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"loss": "crossentropy"}, 'no loss "crossentropy"; did you mean "cross_entropy"'),
        ({"loss": "macro_f1", "class_weights": "balanced"}, 'class_weights: the loss "macro_f1" takes none'),
        ({"class_weights": "inverse"}, 'no class_weights "inverse"'),
        (
            {"attributes": ("age",), "output": "ordinal", "loss": "cross_entropy+soft_margin"},
            'age: the loss "cross_entropy.soft_margin" reads each output by itself, and output = "ordinal" gives',
        ),
        ({"smoothing": "some"}, 'no smoothing "some"'),
        ({"label_smoothing": 1.0}, "label_smoothing: expected a share from 0, below 1, found 1.0"),
        ({"mix": ("mixdown",)}, r'no mixing "mixdown" \(known: mixup'),
        ({"mix_share": 1.5}, "mix_share: expected a share from 0 to 1, found 1.5"),
        ({"sampler": "balanced", "balance_by": ("hat",)}, 'balance_by: no attribute "hat"'),
        ({"balance_by": ("age",)}, 'balance_by: the sampler "natural" balances nothing; choose sampler = "balanced"'),
    ],
)
def test_jobs_that_make_no_sense(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        make_job(**changed)
    assert "\n" not in str(caught.value)


def test_too_few_class_weights_are_refused_before_training(table: SampleTable, photos: PhotoCache) -> None:
    with pytest.raises(UsageError, match="class_weights: expected one number for each of 3 classes, found 2"):
        session_of(make_job(class_weights=(1.0, 2.0)), table, photos)
