"""`ens structures`: of a table, of a run, and the recipe it writes."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from command_line import Ens

QUICK = ("--folds", 3, "--draws", 100, "--max-parents", 1)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The mask turns round what the second feature says of age; 60 people of four samples each."""
    random = np.random.default_rng(0)
    mask, age = random.integers([3, 2], size=(240, 2)).T
    turned = np.where(mask == 1, -2.0, 2.0)
    f = np.stack([mask * 4.0, (2 * age - 1) * turned], axis=1) + random.normal(size=(240, 2))
    file = tmp_path_factory.mktemp("table") / "table.csv"
    with open(file, "w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["sample_id", "person", "mask", "age", "f1", "f2", "text"])
        for i in range(240):
            row = [("worn", "incorrect", "not_worn")[mask[i]], ("young", "old")[age[i]], *f[i].round(4), "x"]
            writer.writerow([f"s{i}", f"p{i // 4}", *row])
    return file


def test_a_table_ends_in_a_verdict_and_a_recipe(ens: Ens, table: Path, tmp_path: Path) -> None:
    out = tmp_path / "found.toml"
    done = ens("structures", table, "--attributes", "mask,age", "-o", out, *QUICK)
    assert done.code == 0, done.err
    assert max(map(len, done.out.replace(str(out), "").replace(str(table), "").splitlines())) <= 80
    assert "Use age by mask (incorrect | not_worn,worn) (chosen again without 3 of 3 folds)." in " ".join(
        done.out.split()
    )
    assert f"recipe: {out}" in " ".join(done.out.split())
    checked = ens("recipes", "check", out)
    assert checked.code == 0, checked.err
    assert "mask; age given mask=incorrect; age given mask=not_worn,worn" in " ".join(checked.out.split())


def test_json_has_every_structure(ens: Ens, table: Path) -> None:
    done = ens("structures", table, "--attributes", "mask,age", "--features", "f*", "--json", *QUICK)
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert found["winner"]["experts"]["age"] == [{"mask": ["incorrect"]}, {"mask": ["not_worn", "worn"]}]
    assert len(found["scored"]) == 1 + 4 + 1 + 1  # independent, age by mask, mask by age, flat
    assert found["n_people"] == 60
    assert found["unscored"] == []


def test_a_run_is_asked_for_what_its_experts_allow(ens: Ens, trained: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained / "runs" / "face_mask", run)
    out = tmp_path / "found.toml"
    done = ens("structures", run, "--draws", 100, "-o", out)
    assert done.code == 0, done.err
    assert "1 of 293 structures scored" in " ".join(done.out.split())
    assert "The independent one is not among them" in " ".join(done.out.split())
    pasted = " ".join(done.out.replace("\\\n", "").split())
    assert f" ens train age --run {run}" in pasted
    assert ens("recipes", "check", out).code == 0


def test_features_of_a_run_give_every_structure_a_score(ens: Ens, trained: Path, tmp_path: Path) -> None:
    run, features = trained / "runs" / "face_mask", tmp_path / "features.npy"
    n_samples = len((run / "samples.csv").read_text().splitlines()) - 1
    np.save(features, np.random.default_rng(0).normal(size=(n_samples, 2)))
    edges = ("--edge", "mask->age", "--no-group")
    for named in (features, "pixels"):
        done = ens("structures", run, "--features", named, *edges, *QUICK, "--json", "--components", 2)
        assert done.code == 0, done.err
        assert [one["name"] for one in json.loads(done.out)["scored"]] == ["independent", "age by mask", "flat"]


BAD = [
    ("TABLE", 2, "name the columns of labels with --attributes"),
    ("TABLE --attributes mask,ages", 3, 'no column "ages"; did you mean "age"'),
    ("TABLE --attributes mask,age --features f3", 3, 'no column "f3" .known: sample_id, person'),
    ("TABLE --attributes mask,age --features mask", 2, '"mask" is no feature but a label'),
    ("TABLE --attributes mask,age --features text", 3, 'line 2: feature text is "x", expected a number'),
    ("TABLE --attributes mask,age --people who", 3, 'no column "who"'),
    ("TABLE --attributes mask,age --edge mask-age", 2, "expected PARENT->CHILD"),
    ("TABLE --attributes mask,age --edge mask->ages", 2, 'no attribute "ages"; did you mean "age"'),
    ("TABLE --attributes mask,age --folds 2", 2, "folds: expected 3 or more, found 2"),
    ("TABLE --attributes mask,age --estimator svm", 2, 'unknown estimator "svm"'),
    ("TABLE --attributes mask,age --edge age->mask -o x.txt", 2, "a recipe's name ends in .toml; name x.toml"),
    ("nothing", 3, "expected a run .* or a table"),
    ("none.csv --attributes mask,age", 3, "expected a csv file"),
    ("RUN --features pixel", 2, 'expected "pixels", "cached" or a file .npy, found "pixel"'),
    ("RUN --features cached", 3, "features by one with a frozen backbone"),
]


@pytest.mark.parametrize(("line", "code", "message"), BAD)
def test_bad_calls(ens: Ens, table: Path, trained: Path, line: str, code: int, message: str) -> None:
    places = {"TABLE": table, "RUN": trained / "runs" / "face_mask"}
    done = ens("structures", *(places.get(word, word) for word in line.split()), *([] if "--folds" in line else QUICK))
    assert (done.code, done.out) == (code, ""), done.err
    assert re.search(message, done.err)
    assert len(done.err.strip().splitlines()) == 1
