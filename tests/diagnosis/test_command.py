"""`ens diagnose` on saved predictions and on a run."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from worlds import face_world

from ensemble_kit.cli import main
from ensemble_kit.predictions import Predictions, save_predictions
from ensemble_kit.schema import Attribute, Schema

FACES = Schema(
    Attribute("mask", ["worn", "incorrect", "not_worn"]),
    Attribute("gender", ["male", "female"]),
    Attribute("age", ["<30", "30-59", ">=60"], borders=[30, 60]),
)


def write_csv(path: Path, **columns: object) -> None:
    with open(path, "w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerow(list(columns))
        writer.writerows(zip(*columns.values(), strict=True))


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with predictions/, answers.csv, people.csv with a column eyes, and what is no such thing."""
    folder = tmp_path_factory.mktemp("saved")
    world = face_world(5, n_people=40, special=(2.5, 2.5, 2.5), n_voters=2)
    true = world.schema.decode(world.truth)
    gender = np.random.default_rng(0).integers(0, 2, len(world.ids))
    probs = np.full((2, len(gender), 2), 0.2) + 0.6 * np.eye(2)[gender]
    experts = [
        Predictions(FACES["gender"], probs, world.ids, voters=["fold0", "fold1"]),
        *(Predictions([FACES[e.names[0]]], e.probs, e.ids, e.condition, voters=e.voters) for e in world.experts),
    ]
    save_predictions(folder / "predictions", experts, FACES)
    save_predictions(
        folder / "worn-only", [e for e in experts if not e.condition or "worn" in e.condition["mask"]], FACES
    )
    answers = FACES.encode({"mask": true["mask"], "gender": gender, "age": true["age"]})
    write_csv(folder / "answers.csv", ImageID=world.ids, ans=answers)
    assert world.groups is not None
    eyes = np.where(np.arange(len(gender)) % 2 == 0, "brown", "")
    write_csv(folder / "people.csv", ImageID=world.ids, person=world.groups, eyes=eyes)
    write_csv(folder / "other.csv", ImageID=[f"x{name}" for name in world.ids], ans=answers)
    return folder


def ens(*words: object, cwd: Path) -> tuple[int, str, str]:
    out, err, code = io.StringIO(), io.StringIO(), 0
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        patch.setattr(sys, "argv", ["ens", "diagnose", *map(str, words)])
        patch.chdir(cwd)
        for name in ("ENS_DATA", "ENS_RUN", "ENS_VOTE", "ENS_FALLBACK", "ENS_RECIPE"):
            patch.delenv(name, raising=False)
        try:
            main()
        except SystemExit as stop:
            code = int(stop.code or 0)
    return code, out.getvalue(), err.getvalue()


def test_a_prediction_set(saved: Path) -> None:
    code, out, err = ens("predictions", "--answers", "answers.csv", "--draws", 100, cwd=saved)
    assert (code, err) == (0, "")
    assert max(map(len, out.splitlines())) <= 80
    assert out.startswith(
        "Diagnosis on the evaluation photos: 280 photos of 40 people, soft vote\n\nWhat to do\n- age: "
    )
    assert "specialising pays" in out
    for title in ("Joint class", "Router:", "Errors split", "Every expert on the photos", "Lowest joint", "Voters,"):
        assert title in out


def test_json_file_vote_and_subgroup(saved: Path) -> None:
    words = "predictions --answers answers.csv --people people.csv --subgroup eyes --vote hard --json -o out/found.json"
    code, out, err = ens(*words.split(), "--draws", 50, "--metric", "accuracy", cwd=saved)
    assert (code, out, err) == (0, "diagnosis: out/found.json\n", "")
    found = json.loads((saved / "out" / "found.json").read_text())
    assert (found["vote"], found["metric"], found["n_groups"], found["n_boot"]) == ("hard", "accuracy", 40, 50)
    assert [(row["kind"], row["name"], row["n_samples"]) for row in found["subgroups"] if row["kind"] == "eyes"] == [
        ("eyes", "brown", 140)
    ]


def test_a_subgroup_by_person(saved: Path, tmp_path: Path) -> None:
    write_csv(tmp_path / "height.csv", person=[f"p{n}" for n in range(40)], tall=["yes", "no"] * 20)
    from ensemble_kit.recipe.diagnose import read_column

    people = np.array(["p0", "p1", "p0", "p39", "q"])
    found = read_column("tall", [tmp_path / "height.csv"], np.array(list("abcde")), people)
    assert found == ["yes", "no", "yes", "no", ""]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ("", 2, 'no run under "runs"'),
        ("nowhere --answers answers.csv", 3, "nowhere: expected a run or a folder of predictions"),
        ("predictions", 3, "predictions: no answers to hold it against; pass --answers FILE"),
        ("predictions --answers nowhere.csv", 3, "nowhere.csv"),
        ("predictions --answers other.csv", 3, "people.csv: expected the same 280 ids"),
        ("predictions --answers answers.csv --people nobody.csv", 3, "nobody.csv: expected a table"),
        ("predictions --answers answers.csv --vote sft", 2, 'did you mean "soft"'),
        ("predictions --answers answers.csv --metric f1", 2, 'unknown metric "f1"'),
        ("predictions --answers answers.csv --fallback pool", 2, 'did you mean "pooled"'),
        ("predictions --answers answers.csv --people people.csv --subgroup eye", 2, 'did you mean "eyes"'),
        ("predictions --answers answers.csv --draws 0", 2, "--draws"),
        ("predictions --answers answers.csv -o predictions", 3, "predictions"),
        ("worn-only --answers answers.csv", 2, "no age expert for mask=incorrect, mask=not_worn"),
    ],
)
def test_bad_calls_end_in_one_line(saved: Path, words: str, code: int, message: str) -> None:
    found, out, err = ens(*words.split(), cwd=saved)
    assert message in err
    assert found == code
    assert out == ""
    assert "Traceback" not in err
    assert code == 2 or len(err.splitlines()) == 1


def test_a_fallback_where_an_expert_is_missing(saved: Path) -> None:
    words = "worn-only --answers answers.csv --fallback pooled --draws 20 --json"
    code, out, err = ens(*words.split(), cwd=saved)
    assert (code, err) == (0, "")
    assert [row["state"] for row in json.loads(out)["specialising"]] == ["", "mask=worn"]
