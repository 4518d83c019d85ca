"""Runs side by side: scores as scikit-learn gives them, differences that are real, and what cannot be compared."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from core_oracles import face_schema
from fit_cases import make_run
from sklearn.metrics import accuracy_score, f1_score
from typer.testing import CliRunner

import ensemble_kit as ek
from ensemble_kit.cli import app
from ensemble_kit.errors import DataError, UsageError
from ensemble_kit.files import read_json, write_json, write_text
from ensemble_kit.recipe.compare_runs import compare_runs, save_comparison
from ensemble_kit.runs import Run

SCHEMA = face_schema()
STATES = SCHEMA["mask"].classes


def world(n_people: int = 60) -> tuple[Any, list[str], list[str]]:
    rng = np.random.default_rng(0)
    people = [f"p{person}" for person in range(n_people) for _ in STATES]
    joint = np.array([m * 6 + rng.integers(6) for _ in range(n_people) for m in range(3)])
    return joint, people, [f"{i}.jpg" for i in range(len(people))]


def answers(joint: Any, ids: list[str], strength: float, seed: int, pooled: bool = False) -> list[ek.Predictions]:
    """Experts that lean to the truth; `strength` 0 = noise."""
    rng = np.random.default_rng(seed)
    experts = []
    asked: list[tuple[str, Mapping[str, str]]] = [("mask", {}), ("gender", {})]
    asked += [("age", {})] if pooled else [("age", {"mask": state}) for state in STATES]
    for name, condition in asked:
        true = SCHEMA.decode(joint)[name]
        n = len(SCHEMA[name].classes)
        logits = rng.normal(size=(len(ids), n)) + strength * (np.arange(n) == true[:, None])
        probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        experts.append(ek.Predictions(SCHEMA[name], [probs, probs], ids, condition))
    return experts


def run_of(
    folder: Path, strength: float, seed: int = 1, *, n_people: int = 60, history: bool = True, **more: Any
) -> Path:
    joint, people, ids = world(n_people)
    experts = answers(joint, ids, strength, seed, **more)
    make_run(folder, joint, people, experts, experts)
    for fold in folder.glob("experts/*/fold*"):
        lines = [
            {"epoch": e, "train_loss": 1 / e, "macro_f1": None if e == 1 else 0.5, "seconds": 30.0} for e in (1, 2)
        ]
        if history:
            write_text(fold / "metrics.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    return folder


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("runs")
    return [run_of(root / "weak", 2.0), run_of(root / "strong", 4.0, 2), run_of(root / "alike", 2.0, 3)]


def test_scores_are_those_of_scikit_learn(three: list[Path]) -> None:
    found = compare_runs(three, n_boot=50)
    joint, _, ids = world()
    run = Run.open(three[0])
    experts = run.out_of_fold()
    labels = ek.ConditionalEnsemble(SCHEMA, run.graph, experts).combine(route="soft").labels()
    row = found.rows[0]
    assert found.n_samples == len(ids) == 180
    assert found.n_people == 60
    assert row.scores["joint"].accuracy == pytest.approx(accuracy_score(joint, labels))
    wanted = f1_score(joint, labels, labels=range(18), average="macro", zero_division=0)
    assert row.scores["joint"].macro_f1 == pytest.approx(wanted)
    ages = SCHEMA.decode(joint)["age"], SCHEMA.decode(labels)["age"]
    assert row.scores["age"].macro_f1 == pytest.approx(f1_score(*ages, average="macro"))
    by_fold = [accuracy_score(joint[run.folds == f], labels[run.folds == f]) for f in (0, 1)]
    assert row.folds["accuracy"].mean == pytest.approx(np.mean(by_fold))
    assert row.folds["accuracy"].deviation == pytest.approx(np.std(by_fold, ddof=1))
    assert row.seconds == 5 * 2 * 2 * 30.0
    assert row.n_checkpoints == 10
    assert row.folder_bytes > 0


def test_real_differences_are_told_from_chance(three: list[Path]) -> None:
    found = compare_runs(three, n_boot=200)
    verdicts = {(d.run, d.what, d.metric): d.verdict for d in found.differences}
    assert verdicts["strong", "joint", "macro_f1"] == "higher"
    assert verdicts["strong", "joint", "accuracy"] == "higher"
    assert verdicts["alike", "joint", "macro_f1"] == "no difference shown"
    assert len(verdicts) == 2 * 4 * 2
    best = compare_runs(three, against="best", n_boot=200)
    assert best.against == "strong"
    assert {d.verdict for d in best.differences if (d.what, d.metric) == ("joint", "accuracy")} == {"lower"}
    assert compare_runs(three, against=str(three[2]), n_boot=10).against == "alike"


def test_a_run_and_its_copy_do_not_differ(three: list[Path], tmp_path: Path) -> None:
    twin = run_of(tmp_path / "twin", 2.0)
    for difference in compare_runs([three[0], twin], n_boot=50).differences:
        assert (difference.value, difference.interval) == (0, (0, 0))
        assert difference.verdict == "no difference shown"


def test_what_is_shared_is_compared_and_said(three: list[Path], tmp_path: Path) -> None:
    fewer = run_of(tmp_path / "fewer", 2.0, n_people=40)
    found = compare_runs([three[0], fewer], n_boot=20)
    assert found.n_samples == 120
    assert "more were held out in weak" in found.text()
    table = (fewer / "samples.csv").read_text()
    (fewer / "samples.csv").write_text(table.replace("female", "male", 1))
    with pytest.raises(DataError, match="labelled otherwise"):
        compare_runs([three[0], fewer])


def test_photos_that_only_one_run_held_out_are_left_aside(three: list[Path], tmp_path: Path) -> None:
    part = run_of(tmp_path / "part", 2.0)
    for fold in part.glob("experts/*/fold1/DONE"):
        fold.unlink()
    found = compare_runs([three[0], part], n_boot=20)
    assert found.n_samples == 90
    assert "more were held out in weak" in found.text()


def test_runs_without_the_graph_s_experts_are_read_otherwise(three: list[Path], tmp_path: Path) -> None:
    pooled = run_of(tmp_path / "pooled", 2.0, pooled=True)
    assert "pooled: the experts of its graph are not all there; read as independent" in compare_runs(
        [three[0], pooled], n_boot=20
    ).text().replace("\n  ", " ")
    alone = run_of(tmp_path / "alone", 2.0, pooled=True)
    (alone / "experts" / "mask" / "expert.json").unlink()
    found = compare_runs([three[0], alone], n_boot=20)
    assert set(found.rows[1].scores) == {"gender", "age"}
    assert {d.what for d in found.differences} == {"gender", "age"}
    assert "each attribute is answered by its pooled expert" in found.text().replace("\n  ", " ")


def test_refusals_are_one_line(three: list[Path], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="at least two runs"):
        compare_runs(three[:1])
    with pytest.raises(UsageError, match="each once"):
        compare_runs([three[0], three[0]])
    with pytest.raises(UsageError, match='did you mean "strong"'):
        compare_runs(three, against="strongg")
    other = run_of(tmp_path / "other", 2.0)
    text = (other / "samples.csv").read_text().splitlines()
    columns = text[0].split(",")
    place = columns.index("fold")
    turned = [
        ",".join(c if i != place else str(1 - int(c)) for i, c in enumerate(line.split(","))) for line in text[1:]
    ]
    (other / "samples.csv").write_text("\n".join([text[0], *turned]) + "\n")
    with pytest.raises(DataError, match="divided otherwise than weak"):
        compare_runs([three[0], other])
    info = read_json(other / "run.json")
    info["schema"]["attributes"][2]["borders"] = [25, 60]
    write_json(other / "run.json", info)
    with pytest.raises(DataError, match="another schema"):
        compare_runs([three[0], other])


def test_the_command_prints_writes_and_draws(three: list[Path], tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["compare-runs", *map(str, three), "--draws", "50", "--out", str(tmp_path / "c")])
    assert done.exit_code == 0, done.output
    assert "Runs compared out of fold on 180 photos of 60 people" in done.output
    assert "strong minus weak" in done.output
    assert max(map(len, done.output.splitlines()[:-1])) <= 100
    assert (tmp_path / "c" / "curves.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    stored = read_json(tmp_path / "c" / "comparison.json")
    told = CliRunner().invoke(app, ["compare-runs", *map(str, three), "--draws", "50", "--json"])
    assert json.loads(told.output) == stored
    assert {d["verdict"] for d in stored["differences"]} <= {"higher", "lower", "no difference shown"}


def test_without_histories_there_is_no_picture(tmp_path: Path) -> None:
    runs = [run_of(tmp_path / name, 2.0, history=False) for name in ("a", "b")]
    saved = save_comparison(tmp_path / "c", compare_runs(runs, n_boot=10))
    assert [path.name for path in saved] == ["comparison.txt", "comparison.json"]
