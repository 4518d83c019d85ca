"""`ens combine` on saved predictions: routes, votes, decisions, borders, facts, fitted files, cascades, reasons."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from command_line import Ens
from core_oracles import FACE_GRAPH, face_experts, face_schema, random_probs, sample_ids

from ensemble_kit.calibration import Temperature
from ensemble_kit.ensemble import ConditionalEnsemble
from ensemble_kit.fitted import Fitted, save_fitted
from ensemble_kit.predictions import Predictions, load_predictions, save_predictions
from ensemble_kit.submission import read_submission

N = 30
SCHEMA = face_schema()


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_predictions(tmp_path / "set", face_experts(4, N, ("fold0", "fold1", "fold2"), pooled=True), SCHEMA)
    return tmp_path / "set"


def ensemble(saved: Path) -> ConditionalEnsemble:
    return ConditionalEnsemble(SCHEMA, FACE_GRAPH, load_predictions(saved))


def answers(folder: Path) -> list[int]:
    labels: list[int] = read_submission(folder / "results" / "submission.csv", SCHEMA)[1].tolist()
    return labels


@pytest.mark.parametrize("route", ["hard", "soft", "threshold=0.7", "top-k=2", "sparse=0.2", "age:top_k=2"])
@pytest.mark.parametrize("vote", ["soft", "geometric", "age:median; mask:hard"])
def test_routes_and_votes_are_those_of_the_library(ens: Ens, saved: Path, route: str, vote: str) -> None:
    done = ens("combine", saved, "--route", route, "--vote", vote, "--json")
    assert done.code == 0, done.err
    rules = {"age": "median", "mask": "hard"} if ":" in vote else vote
    wanted = ensemble(saved).combine(route=route.removeprefix("age:"), vote=rules)
    assert answers(saved) == wanted.joint.labels().tolist()
    report = json.loads(done.out)
    assert report["photos_per_expert"] == wanted.counts
    assert report["distance_to_soft"]["mean"] == pytest.approx(wanted.mean_distance)


@pytest.mark.parametrize("decide", ["joint", "attribute", "top_down"])
def test_decisions(ens: Ens, saved: Path, decide: str) -> None:
    assert ens("combine", saved, "--route", "soft", "--decide", decide).code == 0
    assert answers(saved) == ensemble(saved).combine().labels(decide).tolist()  # type: ignore[arg-type]


def test_facts_for_all_photos_and_from_a_table(ens: Ens, saved: Path, tmp_path: Path) -> None:
    assert ens("combine", saved, "--route", "soft", "--known", "mask=worn").code == 0
    assert max(answers(saved)) < 6
    names = sample_ids(N)
    (tmp_path / "facts.csv").write_text(f"ImageID,mask\n{names[0]},not_worn\n{names[1]},\n{names[2]},incorrect\n")
    assert ens("combine", saved, "--route", "soft", "--known", tmp_path / "facts.csv").code == 0
    free = ensemble(saved).combine().joint.labels().tolist()
    told = answers(saved)
    assert told[0] >= 12
    assert 6 <= told[2] < 12
    assert [told[1], *told[3:]] == [free[1], *free[3:]]


def test_facts_that_name_a_photo_twice_are_refused(ens: Ens, saved: Path, tmp_path: Path) -> None:
    name = sample_ids(N)[0]
    (tmp_path / "facts.csv").write_text(f"ImageID,mask\n{name},worn\n{name},not_worn\n")
    found = ens("combine", saved, "--route", "soft", "--known", tmp_path / "facts.csv")
    assert (found.code, f'line 3: photo "{name}" comes twice' in found.err) == (3, True)


def test_borders_move_where_columns_are_finer(ens: Ens, tmp_path: Path) -> None:
    experts = face_experts(4, N)
    ages = random_probs(np.random.default_rng(1), 1, N, 61)
    fine = [
        Predictions(SCHEMA["age"], ages, sample_ids(N), {"mask": m}, edges=range(1, 61)) for m in SCHEMA["mask"].classes
    ]
    save_predictions(tmp_path / "set", [*experts[:2], *fine], SCHEMA)
    for borders in ([30, 60], [20, 58]):
        text = f"age={borders[0]},{borders[1]}"
        done = ens("combine", tmp_path / "set", "--borders", text)
        assert done.code == 0, done.err
        sums = np.stack([part.sum(axis=1) for part in np.split(ages[0], borders, axis=1)], axis=1)
        assert [label % 3 for label in answers(tmp_path / "set")] == sums.argmax(axis=1).tolist()


def test_what_was_fitted_is_applied(ens: Ens, saved: Path, tmp_path: Path) -> None:
    hot = Temperature(4.0)
    save_fitted(tmp_path / "fitted.json", [Fitted("temperature", "mask", hot)])
    assert ens("combine", saved, "--route", "soft", "--fitted", tmp_path / "fitted.json").code == 0
    (joint,) = load_predictions(saved / "results" / "joint")
    wanted = ensemble(saved).combine(adjust={"mask": hot}).joint
    assert np.array_equal(joint.probs, wanted.probs)
    assert not np.array_equal(joint.probs, ensemble(saved).combine().joint.probs)


def test_a_cascade_says_which_stage_answered(ens: Ens, saved: Path) -> None:
    done = ens("combine", saved, "--cascade", "hard:0.5; soft:0.3; independent:0", "--rows", "--json")
    assert done.code == 0, done.err
    report = json.loads(done.out)
    assert list(report["photos_per_stage"]) == ["hard", "soft", "independent", "abstained"]
    assert sum(report["photos_per_stage"].values()) == N
    with open(saved / "results" / "rows.csv", newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert {row["reason"] for row in rows} <= {"hard", "soft", "independent"}
    assert all(float(row["confidence"]) >= 0.5 for row in rows if row["reason"] == "hard")
    assert [int(row["label"]) for row in rows] == answers(saved)


def test_photos_that_no_stage_answers_need_an_answer(ens: Ens, saved: Path) -> None:
    done = ens("combine", saved, "--cascade", "hard:0.99")
    assert done.code == 3
    assert "have no answer" in done.err
    done = ens("combine", saved, "--cascade", "hard:0.5", "--missing", 7, "--json")
    report = json.loads(done.out)
    assert report["n_filled"] == report["photos_per_stage"]["abstained"] > 0


def test_rows_hold_the_classes_that_were_decided(ens: Ens, saved: Path) -> None:
    assert ens("combine", saved, "--route", "soft", "--decide", "attribute", "--rows").code == 0
    with open(saved / "results" / "rows.csv", newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert [int(row["label"]) for row in rows] == answers(saved)
    assert [row["joint_class"] for row in rows] == [SCHEMA.joint_names()[label] for label in answers(saved)]
    assert answers(saved) != ensemble(saved).combine().joint.labels().tolist()
    assert ens("combine", saved, "--route", "soft").code == 0
    assert not (saved / "results" / "rows.csv").exists()


def test_every_row_tells_its_route(ens: Ens, saved: Path) -> None:
    assert ens("combine", saved, "--route", "threshold=0.7", "--rows").code == 0
    with open(saved / "results" / "rows.csv", newline="") as handle:
        rows = list(csv.DictReader(handle))
    for row in rows:
        sure = float(row["age_confidence"]) >= 0.7
        assert row["age_route"] == ("one state" if sure else "all states")
        assert row["experts"].count("age given") == (1 if sure else 3)


BAD = [
    (["--route", "hrad"], 2, 'no route "hrad"; did you mean "hard"?'),
    (["--route", "top_k=x"], 2, "top_k"),
    (["--route", "shoe:hard"], 2, '"shoe" is no node with parents'),
    (["--route", "age:"], 2, 'expected one rule, or "node:rule; node:rule"'),
    (["--vote", "age:sfot"], 2, 'did you mean "soft"?'),
    (["--decide", "atribute"], 2, "decide"),
    (["--borders", "age"], 2, "expected an attribute and its borders, as in age=30,58"),
    (["--borders", "age=30,58"], 3, "cannot move afterwards"),
    (["--borders", "mask=1,2"], 2, 'the classes of "mask" are names'),
    (["--known", "mask=worn"], 2, "--known needs the soft joint, found --route hard; add --route soft"),
    (["--route", "soft", "--known", "mask=on"], 2, 'has no class "on"'),
    (["--route", "soft", "--known", "nothing"], 2, "expected attribute=class or a CSV file"),
    (["--fitted", "nowhere.json"], 3, "nowhere.json"),
    (["--cascade", "hard:0.5", "--route", "soft"], 2, "--cascade names its own routes"),
    (["--cascade", "hard"], 2, "expected stages and how sure they have to be"),
    (["--cascade", "hard:2"], 2, 'stage "hard" must ask for 0 to 1'),
    (["--cascade", "hrad:0.5"], 2, 'did you mean "hard"?'),
    (["--cascade", "hard:0.9; hard:0.5"], 2, 'stage "hard" comes twice'),
    (["--structure", "tree"], 2, "expected conditional, independent, flat"),
]


@pytest.mark.parametrize(("words", "code", "message"), BAD, ids=range(len(BAD)))
def test_what_cannot_be_is_one_line(ens: Ens, saved: Path, words: list[str], code: int, message: str) -> None:
    done = ens("combine", saved, *words)
    assert done.code == code, done.err
    assert message in done.err
    assert "Traceback" not in done.err
    assert not (saved / "results" / "submission.csv").exists()


def test_what_is_read_is_not_overwritten(ens: Ens, saved: Path, tmp_path: Path) -> None:
    assert ens("combine", saved, "-o", tmp_path / "out").code == 0
    before = (tmp_path / "out" / "joint" / "predictions.json").read_bytes()
    done = ens("combine", tmp_path / "out" / "joint", "-o", tmp_path / "out", "--structure", "flat")
    assert done.code == 2
    assert "would be overwritten by the result; name another folder with --out" in done.err
    assert (tmp_path / "out" / "joint" / "predictions.json").read_bytes() == before


def test_a_stage_without_its_expert_is_named(ens: Ens, tmp_path: Path) -> None:
    save_predictions(tmp_path / "set", face_experts(4, N), SCHEMA)
    done = ens("combine", tmp_path / "set", "--cascade", "hard:0.5; independent:0")
    assert done.code == 2
    assert '--cascade: stage "independent": no age expert' in done.err


def test_only_photos_without_an_answer_get_the_one_named(ens: Ens, tmp_path: Path) -> None:
    """The hard route never asks the expert that could not predict the photo."""
    experts = face_experts(4, N)
    row = int(np.flatnonzero((experts[0].probs[0] > 0.05).all(axis=1))[0])
    state = int(experts[0].labels()[row])
    other = 2 + (state + 1) % 3
    gap = np.array(experts[other].layers[0])
    gap[row] = np.nan
    experts[other] = Predictions(
        experts[other].attributes, [gap], experts[other].ids, experts[other].condition, voters=experts[other].voters
    )
    save_predictions(tmp_path / "set", experts, SCHEMA)
    assert ens("combine", tmp_path / "set", "--route", "hard").code == 0
    plain = answers(tmp_path / "set")
    assert ens("combine", tmp_path / "set", "--route", "hard", "--missing", 17).code == 0
    assert answers(tmp_path / "set") == plain
    assert ens("combine", tmp_path / "set", "--route", "soft").code == 3
    assert ens("combine", tmp_path / "set", "--route", "soft", "--missing", 17).code == 0
    assert answers(tmp_path / "set")[row] == 17
