"""Borders between finer columns: against brute force, planted ones, and data in which nothing is to be found."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from core_oracles import face_schema
from fit_cases import ens_fit, write_table
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score

import ensemble_kit as ek
from ensemble_kit import cutting
from ensemble_kit.cutting import Cut, choose_borders
from ensemble_kit.data.folds import make_folds
from ensemble_kit.errors import DataError, UsageError
from ensemble_kit.fitted import Fitted, borders_of, load_fitted, save_fitted
from ensemble_kit.predictions import Predictions, save_predictions
from ensemble_kit.submission import read_submission

EDGES = (10.0, 20.0, 30.0, 40.0, 50.0)
BEFORE = (20.0, 40.0)


def world(seed: int, n: int = 120, late: int = 0) -> tuple[Any, Any, Any]:
    """Probabilities of six bins around the true one, moved up by `late` bins; the true class; the person."""
    rng = np.random.default_rng(seed)
    bins = rng.integers(0, 6, size=n)
    logits = -0.8 * np.abs(np.arange(6) - (bins + late)[:, None]) + rng.normal(scale=0.7, size=(n, 6))
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return probs, np.searchsorted(BEFORE, bins * 10.0, side="right"), np.arange(n) // 3


def labels_at(probs: Any, borders: tuple[float, ...]) -> Any:
    place = np.searchsorted(borders, np.arange(6) * 10.0, side="right")
    sums = np.stack([probs[:, place == number].sum(axis=1) for number in range(len(borders) + 1)])
    return sums.astype(np.float32).argmax(axis=0)


def macro(truth: Any, labels: Any) -> float:
    return float(f1_score(truth, labels, labels=[0, 1, 2], average="macro", zero_division=0))


def best_of(probs: Any, truth: Any) -> tuple[float, ...]:
    """The borders that score best; of equals those that move least."""
    return max(
        combinations(EDGES, 2),
        key=lambda b: (round(macro(truth, labels_at(probs, b)), 12), -abs(b[0] - 20) - abs(b[1] - 40)),
    )


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10_000), late=st.integers(0, 2))
def test_the_choice_and_its_nested_score_are_those_of_brute_force(seed: int, late: int) -> None:
    probs, truth, people = world(seed, late=late)
    cut = choose_borders(probs, truth, EDGES, BEFORE, groups=people, n_folds=3, n_boot=20, seed=1)
    best = best_of(probs, truth)
    assert macro(truth, labels_at(probs, cut.found)) == pytest.approx(macro(truth, labels_at(probs, best)))
    assert cut.score == pytest.approx(macro(truth, labels_at(probs, best)))
    folds = make_folds(truth, people.astype(str), n_folds=3, seed=1)
    said = np.empty_like(truth)
    for fold in range(3):
        own = best_of(probs[folds != fold], truth[folds != fold])
        said[folds == fold] = labels_at(probs[folds == fold], own)
    assert cut.nested_score == pytest.approx(macro(truth, said))
    assert cut.nested_before == pytest.approx(macro(truth, labels_at(probs, BEFORE)))
    assert cut.gain.value == pytest.approx(cut.nested_score - cut.nested_before)


def test_planted_borders_are_found_and_others_are_refused() -> None:
    planted = [
        choose_borders(*world(seed, 300, late=1)[:2], EDGES, BEFORE, groups=None, n_boot=200) for seed in range(5)
    ]
    assert all(cut.is_better and cut.borders == cut.found == (30.0, 50.0) for cut in planted)
    plain = [choose_borders(*world(seed, 300)[:2], EDGES, BEFORE, groups=None, n_boot=200) for seed in range(10)]
    assert sum(cut.borders == BEFORE for cut in plain) >= 9
    refused = [cut for cut in plain if cut.found != BEFORE and not cut.is_better]
    assert all("Refused" in cut.text() and cut.borders == BEFORE for cut in refused)


def test_of_many_edges_one_border_moves_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    probs, truth, people = world(3, 300, late=1)
    whole = choose_borders(probs, truth, EDGES, BEFORE, groups=people, n_boot=20)
    monkeypatch.setattr(cutting, "MOST", 1)
    moved = choose_borders(probs, truth, EDGES, BEFORE, groups=people, n_boot=20)
    assert macro(truth, labels_at(probs, BEFORE)) < moved.score <= whole.score
    assert moved.found == whole.found


def test_what_is_not_labelled_or_not_computed_counts_nothing() -> None:
    probs, truth, people = world(5)
    more = np.concatenate([probs, np.full((4, 6), np.nan), probs[:4]])
    cut = choose_borders(
        more, [*truth, 0, 1, 2, 0, -1, -1, -1, -1], EDGES, BEFORE, groups=[*people, *[999] * 8], n_boot=20
    )
    assert cut == choose_borders(probs, truth, EDGES, BEFORE, groups=people, n_boot=20)


def test_it_is_stored_and_read(tmp_path: Path) -> None:
    cut = choose_borders(*world(0, late=1)[:2], EDGES, BEFORE, groups=None, n_boot=20, where="age")
    save_fitted(tmp_path / "b.json", [Fitted.of(cut)])
    (found,) = load_fitted(tmp_path / "b.json")
    assert (found.where, found.value) == ("age", cut)
    assert borders_of([found]) == {"age": cut.borders}
    bad: list[dict[str, Any]] = [{"found": [3, 2]}, {"found": [20]}, {"before": "x"}, {"gain": []}]
    for broken in bad:
        with pytest.raises(DataError, match="borders: "):
            Cut.from_json({**cut.to_json(), **broken})


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"edges": EDGES[:3]}, DataError, "expected a truth and 4 columns a photo"),
        ({"before": (15.0, 40.0)}, UsageError, "expected the borders 15, 40 among the columns' edges"),
        ({"truth": [-1] * 120}, DataError, "expected labelled photos, found none"),
        ({"metric": "f1"}, UsageError, 'unknown metric "f1"'),
        ({"n_folds": 200}, DataError, "200 folds need 200 people"),
    ],
)
def test_bad_input(changed: dict[str, Any], error: type[Exception], message: str) -> None:
    probs, truth, people = world(0)
    given_: dict[str, Any] = {"probs": probs, "truth": truth, "edges": EDGES, "before": BEFORE, "groups": people}
    with pytest.raises(error, match=message):
        choose_borders(**(given_ | changed))


SCHEMA = face_schema()
YEARS = tuple(float(year) for year in range(18, 71))


def saved_set(folder: Path, late: int, fine: bool = True) -> tuple[Path, Path, Any]:
    """Mask and gender told rightly, ages `late` years too old; a third of the photos in each mask state."""
    rng = np.random.default_rng(4)
    n = 360
    ages, states, ids = rng.integers(18, 70, size=n), np.arange(n) % 3, [f"{i}.jpg" for i in range(n)]
    joint = states * 6 + np.searchsorted([30, 60], ages, side="right")
    sure = np.full((n, 54), 0.1 / 53)
    sure[np.arange(n), np.clip(ages + late - 17, 0, 53)] = 0.9
    gender = np.tile([0.9, 0.1], (n, 1))
    experts = [
        Predictions(SCHEMA["mask"], [np.where(states[:, None] == np.arange(3), 0.9, 0.05)], ids),
        Predictions(SCHEMA["gender"], [gender], ids),
    ]
    for state in SCHEMA["mask"].classes:
        years = Predictions(SCHEMA["age"], [sure], ids, {"mask": state}, edges=YEARS)
        experts.append(years if fine else years.in_classes_of(SCHEMA))
    save_predictions(folder / "set", experts, SCHEMA)
    write_table(folder / "answers.csv", "ans", ids, joint)
    return folder / "set", folder / "answers.csv", joint


def test_the_command_moves_the_borders_and_combine_applies_them(tmp_path: Path) -> None:
    predictions, answers, joint = saved_set(tmp_path, late=4)
    file = tmp_path / "borders.json"
    told = ens_fit("borders", predictions, "--answers", answers, "-o", file)
    assert "Cutting at" in told
    assert f"--fitted {file}" in told
    (item,) = load_fitted(file)
    assert [abs(border - late) <= 1 for border, late in zip(item.value.borders, (34, 64), strict=True)] == [True, True]
    ens_fit(predictions, "--route", "hard", "--out", tmp_path / "plain", command="combine")
    ens_fit(predictions, "--route", "hard", "--out", tmp_path / "moved", "--fitted", file, command="combine")
    before, after = (read_submission(tmp_path / n / "submission.csv", SCHEMA)[1] for n in ("plain", "moved"))
    by_hand = [str(border) for border in item.value.borders]
    ens_fit(
        predictions,
        "--route",
        "hard",
        "--out",
        tmp_path / "hand",
        "--borders",
        f"age={','.join(by_hand)}",
        command="combine",
    )
    assert read_submission(tmp_path / "hand" / "submission.csv", SCHEMA)[1].tolist() == after.tolist()
    assert (after == joint).mean() > 0.97 > (before == joint).mean()
    with pytest.raises(UsageError, match="borders of age are set and fitted"):
        ens_fit(predictions, "--fitted", file, "--borders", "age=30,60", "--out", tmp_path / "x", command="combine")
    with pytest.raises(UsageError, match="--fitted holds borders"):
        ens_fit("temperature", predictions, "--answers", answers, "--fitted", file, "-o", tmp_path / "t.json")


def test_the_command_refuses_what_cannot_be_cut(tmp_path: Path) -> None:
    predictions, answers, _ = saved_set(tmp_path, late=0, fine=False)
    with pytest.raises(UsageError, match='train with columns = "years"'):
        ens_fit("borders", predictions, "--answers", answers, "-o", tmp_path / "b.json")
    with pytest.raises(UsageError, match="no expert of mask has columns finer"):
        ens_fit("borders", predictions, "--answers", answers, "--on", "mask", "-o", tmp_path / "b.json")
    fine, answers, _ = saved_set(tmp_path / "fine", late=0)
    told = ens_fit("borders", fine, "--answers", answers, "-o", tmp_path / "b.json")
    assert "best where they are, 30, 60" in told or "Refused" in told
    assert ek.Schema(*SCHEMA.attributes).with_borders(borders_of(load_fitted(tmp_path / "b.json"))) == SCHEMA
