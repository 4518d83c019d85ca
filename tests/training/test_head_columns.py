"""Finer columns, other outputs and several heads on one backbone, from labels to out-of-fold probabilities."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_training import BACKBONES, SCHEMA, draw_table, folds_of, make_job, make_photos, tiny_backbone
from torch.nn import functional as F

from ensemble_kit.arrays import FloatArray, IntArray
from ensemble_kit.card import read_card
from ensemble_kit.data.decode import Preprocess
from ensemble_kit.data.samples import SampleTable
from ensemble_kit.errors import UsageError
from ensemble_kit.inference import predict_table
from ensemble_kit.loading.cache import PhotoCache
from ensemble_kit.metrics import macro_f1
from ensemble_kit.models.heads import build_network
from ensemble_kit.models.outputs import Part
from ensemble_kit.predictions import Predictions, load_predictions
from ensemble_kit.schema import Attribute, Schema
from ensemble_kit.training import EpochLine, FoldResult, train_fold
from ensemble_kit.training.columns import OpenColumns, heads_of
from ensemble_kit.training.normalising import normalised_by
from ensemble_kit.training.objective import Objective
from ensemble_kit.training.rows import choose_rows

EDGES = (25.0, 30.0, 40.0, 50.0, 60.0)
NAMES = ("mask", "gender", "age")


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> SampleTable:
    """The drawn people; some photos lack a label or two, one has none."""
    drawn = draw_table(tmp_path_factory.mktemp("photos"))
    columns = {name: drawn.frame[name].tolist() for name in drawn.frame.columns}
    for row in (0, 1, 20, 24):
        columns["gender"][row] = ""
    for row in (1, 2, 24):
        columns["age"][row] = float("nan")
    columns["mask"][24] = ""
    return SampleTable.from_columns(columns, drawn.root, SCHEMA)


@pytest.fixture(scope="module")
def photos(table: SampleTable, tmp_path_factory: pytest.TempPathFactory) -> PhotoCache:
    return make_photos(table, tmp_path_factory.mktemp("cache"))


def train(table: SampleTable, photos: PhotoCache, folder: Path, **changed: Any) -> tuple[FoldResult, EpochLine]:
    lines: list[EpochLine] = []
    job = make_job(**({"epochs": 1, "augment": (), "batch_size": 64} | changed))
    result = train_fold(job, table=table, folds=folds_of(table), photos=photos, folder=folder, on_epoch=lines.append)
    return result, lines[-1]


def first_logits(photos: PhotoCache, rows: IntArray, parts: list[Part]) -> torch.Tensor:
    job = make_job()
    network = build_network(tiny_backbone, "none", parts, (job.seed, job.fold)).train()
    mean, std = (torch.tensor(values).view(3, 1, 1) * 255 for values in (job.mean, job.std))
    x = (torch.from_numpy(photos.photos[rows]).permute(0, 3, 1, 2).float() - mean) / std
    return network(x).detach()  # type: ignore[no-any-return]


def column_of(ages: FloatArray) -> torch.Tensor:
    return torch.tensor([sum(age >= edge for edge in EDGES) for age in ages])


@pytest.mark.parametrize("output", ["classes", "ordinal", "regression"])
def test_the_first_loss_is_over_the_columns_of_the_number(
    table: SampleTable, photos: PhotoCache, tmp_path: Path, output: str
) -> None:
    _, line = train(table, photos, tmp_path, attributes=("age",), columns=EDGES, output=output, label_smoothing=0.2)
    ages = table.frame["age"].to_numpy()
    rows = np.flatnonzero((folds_of(table) != 0) & ~np.isnan(ages))
    logits = first_logits(photos, rows, [Part(6, output, EDGES)])
    expected = float(F.cross_entropy(logits, column_of(ages[rows]), label_smoothing=0.2))
    assert line.train_loss == pytest.approx(expected, rel=1e-4)


def test_fine_columns_are_scored_and_combined_by_the_classes_borders(
    table: SampleTable, photos: PhotoCache, tmp_path: Path
) -> None:
    result, line = train(table, photos, tmp_path / "run", attributes=("age",), columns=EDGES, epochs=2)
    oof = np.load(tmp_path / "run" / "oof.npy")
    assert oof.shape[1] == 6
    held_out = np.flatnonzero(folds_of(table) == 0)
    truth = table.numbers("age")[held_out]
    three = np.stack([oof[:, :2].sum(axis=1), oof[:, 2:5].sum(axis=1), oof[:, 5]], axis=1)
    known = truth >= 0
    assert line.macro_f1 == pytest.approx(macro_f1(truth[known], three[known].argmax(axis=1), 3))
    (head,) = read_card(result.checkpoint).heads
    assert (head.edges, head.collapse) == (EDGES, (0, 0, 1, 1, 1, 2))
    predict_table(table, [result.checkpoint], tmp_path / "set", device="cpu", precision="fp32", backbones=BACKBONES)
    (expert,) = load_predictions(tmp_path / "set")
    np.testing.assert_allclose(expert.probs[0][held_out], oof, atol=2e-6)
    moved = Schema(Attribute("age", SCHEMA["age"].classes, borders=[25, 50]))
    np.testing.assert_allclose(expert.in_classes_of(moved).probs[0][:, 0], expert.probs[0][:, 0], atol=1e-6)


def test_separate_heads_train_on_the_rows_they_are_labelled_for(
    table: SampleTable, photos: PhotoCache, tmp_path: Path
) -> None:
    _, line = train(table, photos, tmp_path, attributes=NAMES, heads="separate", label_smoothing=0.2)
    folds, numbers = folds_of(table), [table.numbers(name) for name in NAMES]
    rows = np.flatnonzero((folds != 0) & (np.stack(numbers) >= 0).any(axis=0))
    assert 24 not in rows or folds[24] == 0
    logits = first_logits(photos, rows, [Part(3), Part(2), Part(3)])
    losses = []
    for part, own in zip(torch.split(logits, [3, 2, 3], dim=1), numbers, strict=True):
        labelled = own[rows] >= 0
        targets = torch.from_numpy(own[rows][labelled])
        losses.append(float(F.cross_entropy(part[labelled], targets, label_smoothing=0.2)))
    assert line.train_loss == pytest.approx(np.mean(losses), rel=1e-4)


def test_separate_heads_become_one_prediction_an_attribute(
    table: SampleTable, photos: PhotoCache, tmp_path: Path
) -> None:
    """The age head in fine columns beside two of classes; scores are means over the heads."""
    result, line = train(
        table, photos, tmp_path / "run", attributes=NAMES, heads="separate", columns=EDGES, output="regression"
    )
    heads = read_card(result.checkpoint).heads
    assert [(head.attributes, head.outputs, head.output) for head in heads] == [
        (("mask",), (0, 3), "classes"),
        (("gender",), (3, 5), "classes"),
        (("age",), (5, 11), "regression"),
    ]
    predict_table(table, [result.checkpoint], tmp_path / "set", device="cpu", precision="fp32", backbones=BACKBONES)
    experts: list[Predictions] = load_predictions(tmp_path / "set")
    assert [expert.names for expert in experts] == [("mask",), ("gender",), ("age",)]
    oof = np.load(tmp_path / "run" / "oof.npy")
    held_out = np.flatnonzero(folds_of(table) == 0)
    scored = []
    for expert, head in zip(experts, heads, strict=True):
        np.testing.assert_allclose(expert.probs[0][held_out], oof[:, slice(*head.outputs)], atol=2e-6)
        truth = table.numbers(expert.names[0])[held_out]
        labels = expert.in_classes_of(SCHEMA).probs[0][held_out].argmax(axis=1)
        n_classes = len(SCHEMA[expert.names[0]].classes)
        scored.append(macro_f1(truth[truth >= 0], labels[truth >= 0], n_classes))
    assert line.macro_f1 == pytest.approx(np.mean(scored))


def test_rows_of_separate_heads(table: SampleTable, photos: PhotoCache) -> None:
    rows = choose_rows(make_job(attributes=NAMES, heads="separate", columns=EDGES), table, folds_of(table), photos)
    expected = np.stack([table.numbers("mask"), table.numbers("gender"), table.numbers("age")], axis=1)
    assert np.array_equal(rows.score_targets, expected[rows.score])
    ages = table.frame["age"].to_numpy()[rows.train]
    columns = np.where(np.isnan(ages), -1, column_of(ages).numpy())
    assert np.array_equal(rows.train_targets[:, 2], columns)
    assert rows.possible.tolist() == list(range(11))
    same = [
        (a == b) == (x == y).all()
        for a, x in zip(rows.train_keys, expected[rows.train], strict=True)
        for b, y in zip(rows.train_keys, expected[rows.train], strict=True)
    ]
    assert all(same)


def test_targets_of_a_missing_label_are_zero_and_mixed_ones_count_whole() -> None:
    columns = OpenColumns(heads_of(make_job(attributes=("mask", "gender"), heads="separate")), np.array([0, 2, 3, 4]))
    shares = columns.distributions(torch.tensor([[2, 1], [0, -1]]))
    assert shares.tolist() == [[0, 1, 0, 1], [1, 0, 0, 0]]
    mixed = 0.25 * shares + 0.75 * shares.flip(0)
    logits = torch.rand(2, 4)
    pairs = list(columns.by_head(logits, mixed))
    assert torch.equal(pairs[1][1], logits[:, 2:])
    assert torch.allclose(pairs[1][2], torch.tensor([[0.0, 1.0], [0.0, 1.0]]))
    expected = (F.cross_entropy(logits[:, :2], mixed[:, :2]) + F.cross_entropy(logits[:, 2:], pairs[1][2])) / 2
    assert torch.allclose(columns.loss([F.cross_entropy] * 2, logits, mixed), expected)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"attributes": ("mask",), "columns": EDGES}, "columns and output are for one measured attribute"),
        ({"attributes": ("gender", "age"), "output": "ordinal"}, 'or with heads = "separate"'),
        ({"attributes": ("mask",), "output": "regression"}, "one measured attribute"),
        ({"attributes": ("age",), "columns": (20.0,)}, "the border 30 lies inside a column"),
    ],
)
def test_columns_that_do_not_fit(changed: dict[str, Any], message: str) -> None:
    with pytest.raises((UsageError, Exception), match=message):
        heads_of(make_job(**changed))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"heads": "seperate"}, 'no heads "seperate"; did you mean "separate"'),
        ({"normalise": "photo"}, 'no normalise "photo"; did you mean "photos"'),
        ({"attributes": ("age",), "columns": EDGES, "borders": (25.0, 60.0)}, "training borders have no meaning"),
        ({"head": "deeep"}, 'no head "deeep"'),
        ({"prepare": ("gray",)}, 'no step "gray"'),
        ({"output": "ordnal"}, 'no output "ordnal"'),
    ],
)
def test_bad_jobs(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make_job(**changed)


def test_photos_are_normalised_by_those_trained_on_and_the_card_says_so(
    table: SampleTable, photos: PhotoCache, tmp_path: Path
) -> None:
    result, _ = train(table, photos, tmp_path, normalise="photos")
    rows = np.flatnonzero((folds_of(table) != 0) & (table.numbers("mask") >= 0))
    pixels = photos.photos[rows].reshape(-1, 3) / 255
    stored = Preprocess.from_json(read_card(result.checkpoint).preprocess)
    np.testing.assert_allclose(stored.mean, pixels.mean(axis=0), rtol=1e-9)
    np.testing.assert_allclose(stored.std, pixels.std(axis=0), rtol=1e-9)
    assert normalised_by(photos.preprocess, photos, rows) == normalised_by(photos.preprocess, photos, rows[::-1])
    predict_table(table, [result.checkpoint], tmp_path / "set", device="cpu", precision="fp32", backbones=BACKBONES)
    (expert,) = load_predictions(tmp_path / "set")
    held_out = np.flatnonzero(folds_of(table) == 0)
    np.testing.assert_allclose(expert.probs[0][held_out], np.load(tmp_path / "oof.npy"), atol=2e-6)


@pytest.mark.parametrize(
    "changed",
    [
        {"head": "deep=8"},
        {"output": "ordinal"},
        {"augment": ("invert=1",)},
        {"augment": ("flip", "invert"), "augment_share": 1.0},
    ],
)
def test_each_key_changes_the_first_loss(
    table: SampleTable, photos: PhotoCache, tmp_path: Path, changed: dict[str, Any]
) -> None:
    _, plain = train(table, photos, tmp_path / "a")
    _, other = train(table, photos, tmp_path / "b", **changed)
    assert plain.train_loss != other.train_loss


def test_class_weights_of_fine_columns_are_those_of_their_classes(table: SampleTable, photos: PhotoCache) -> None:
    job = make_job(attributes=NAMES, heads="separate", columns=EDGES, class_weights="balanced")
    rows = choose_rows(job, table, folds_of(table), photos)
    weights = [own.numpy() for own in Objective(job, rows, torch.device("cpu")).weights if own is not None]
    for name, own, to in zip(NAMES, weights, ([0, 1, 2], [0, 1], [0, 0, 1, 1, 1, 2]), strict=True):
        labels = table.numbers(name)[rows.train]
        counts = np.bincount(labels[labels >= 0])
        np.testing.assert_allclose(own, (counts.sum() / (len(counts) * counts))[to], rtol=1e-6)


def test_what_is_left_out_is_the_label_of_the_measured_head_alone(table: SampleTable, photos: PhotoCache) -> None:
    columns = {name: table.frame[name].tolist() for name in table.frame.columns}
    columns["age"] = [50.0 if age == 45 and row % 2 else age for row, age in enumerate(columns["age"])]
    own = SampleTable.from_columns(columns, table.root, SCHEMA)
    ranges: tuple[tuple[tuple[float, float], ...], ...] = (((48.0, 52.0),), ())
    jobs = [make_job(attributes=NAMES, heads="separate", leave_out=left_out) for left_out in ranges]
    rows, plain = (choose_rows(job, own, folds_of(own), photos) for job in jobs)
    assert np.array_equal(rows.train, plain.train)
    is_left_out = own.frame["age"].to_numpy()[rows.train] == 50
    assert is_left_out.any()
    assert (rows.train_targets[is_left_out, 2] == -1).all()
    assert np.array_equal(rows.train_targets[~is_left_out], plain.train_targets[~is_left_out])
    assert np.array_equal(rows.train_targets[:, :2], plain.train_targets[:, :2])


@pytest.mark.parametrize("output", ["classes", "ordinal", "regression"])
def test_columns_of_classes_that_a_condition_rules_out_are_closed(tmp_path: Path, output: str) -> None:
    """A taxonomy without worn masks from 30 to 59: the expert of worn masks gives their years no probability."""
    drawn = draw_table(tmp_path / "photos")
    ages = SCHEMA["age"].classes
    paths = [("worn", a) for a in (ages[0], ages[2])] + [(m, a) for m in ("incorrect", "not_worn") for a in ages]
    schema = Schema(SCHEMA["mask"], SCHEMA["age"], paths=paths)
    frame = drawn.frame[~((drawn.frame["mask"] == "worn") & (drawn.frame["age"] == 45.0))]
    columns = {name: frame[name].tolist() for name in frame.columns if name != "gender"}
    own = SampleTable.from_columns(columns, drawn.root, schema)
    changed = {"schema": schema, "attributes": ("age",), "condition": {"mask": ("worn",)}, "columns": EDGES}
    train(own, make_photos(own, tmp_path / "cache"), tmp_path / "run", output=output, **changed)
    probs = np.load(tmp_path / "run" / "oof.npy")
    assert (probs[:, 2:5] == 0).all()
    np.testing.assert_allclose(probs.sum(axis=1), 1, atol=1e-5)
