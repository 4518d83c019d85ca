"""`ens vote`, `compare`, `check-submission` and `estimate` as a user types them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from command_line import Ens
from simulated_submissions import scored_attributes, vote_of

import ensemble_kit as ek

SCHEMA = ek.load_recipe("face-mask").schema


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """a, b, c (b with 13.0 for 13, c in another order), the truth with its people, and a template."""
    out = tmp_path_factory.mktemp("answers")
    random = np.random.default_rng(4)
    labels, truth = scored_attributes(random, 600, 3)
    ids = [f"{number:06}.jpg" for number in range(600)]
    for name, own in zip("abc", labels, strict=True):
        order = random.permutation(600) if name == "c" else range(600)
        rows = [f"{ids[row]},{own[row]}{'.0' if name == 'b' else ''}\n" for row in order]
        (out / f"{name}.csv").write_text("ImageID,ans\n" + "".join(rows))
    ek.write_submission(out / "answers.csv", (ids, truth))
    (out / "people.csv").write_text("ImageID,person\n" + "".join(f"{name},p{n // 7}\n" for n, name in enumerate(ids)))
    (out / "info.csv").write_text("ImageID,ans\n" + "".join(f"{name},0\n" for name in reversed(ids)))
    (out / "apart").mkdir()
    for name in ("few.csv", "apart/few.csv"):  # apart: no people.csv beside it
        (out / name).write_text("ImageID,ans\n000000.jpg,1\n")
    return out


def read(path: Path) -> dict[str, int]:
    ids, labels = ek.read_submission(path, SCHEMA)
    return dict(zip(ids.tolist(), labels.tolist(), strict=True))


def test_vote_writes_the_majority_in_the_template_s_order(ens: Ens, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    done = ens("vote", "a.csv", "b.csv", "c.csv", "-o", out, "--template", "info.csv", cwd=folder)
    assert done.code == 0, done.err
    inputs = [read(folder / f"{name}.csv") for name in "abc"]
    ids = list(inputs[0])
    expected = vote_of(np.array([[own[name] for name in ids] for own in inputs]))
    assert read(out) == dict(zip(ids, expected.tolist(), strict=True))
    assert list(read(out)) == ids[::-1]
    assert "600 photos" in done.out
    assert "ties, joint:" in done.out
    assert f"submission: {out}" in done.out
    assert max(map(len, done.out.splitlines()[:-1])) <= 80


def test_vote_as_json_with_weights_and_training_counts(ens: Ens, folder: Path, faces: Path, tmp_path: Path) -> None:
    words = ["vote", "a.csv", "b.csv", "-o", tmp_path / "out.csv", "--by", "attribute", "--json"]
    plain = ens(*words, cwd=folder)
    counted = ens(*words, "--ties", "counts", "--counts-from", faces, cwd=folder)
    table = ens(*words, "--counts-from", faces / "train" / "train.csv", cwd=folder)
    assert (plain.code, counted.code, table.code) == (0, 0, 0), counted.err + table.err
    first, second = json.loads(plain.out), json.loads(counted.out)
    assert json.loads(table.out) == second
    assert set(first["ties"]) == {"mask", "gender", "age"}
    for name, found in first["ties"].items():
        assert found["by_counts"] == 0
        assert sum(found.values()) == sum(second["ties"][name].values())
    assert second["ties"]["mask"]["by_index"] < first["ties"]["mask"]["by_index"]
    heavy = ens(*words[:5], "--weights", "2,1", "--json", cwd=folder)
    assert json.loads(heavy.out)["inputs"][0] == {"file": "a.csv", "weight": 2.0, "agreement": 1.0}


def test_compare_prints_what_differs_and_writes_the_rows(ens: Ens, folder: Path, tmp_path: Path) -> None:
    words = ["compare", "a.csv", "c.csv", "--answers", "answers.csv", "--rows", tmp_path / "rows.csv"]
    done = ens(*words, cwd=folder)
    assert done.code == 0, done.err
    a, c, truth = (read(folder / f"{name}.csv") for name in ("a", "c", "answers"))
    differing = [name for name in a if a[name] != c[name]]
    assert f"600 photos, {len(differing)} differ" in done.out
    for word in ("kappa", "McNemar", "95 % over people", "largest changes"):
        assert word in done.out
    rows = (tmp_path / "rows.csv").read_text().splitlines()[1:]
    assert [row.split(",")[0] for row in rows] == differing
    found = json.loads(ens(*words, "--json", cwd=folder).out)
    assert found["verdict"]["joint"]["only_a"] == sum(a[n] == truth[n] for n in differing)
    assert found["agreement"]["joint"]["agreement"] == pytest.approx(1 - len(differing) / 600)
    assert len(found["rows"]) == len(differing)


def test_check_says_fine_or_lists_everything(ens: Ens, folder: Path) -> None:
    fine = ens("check-submission", "a.csv", "--template", "answers.csv", cwd=folder)
    assert (fine.code, fine.err) == (0, "")
    assert "a.csv: 600 rows, fine" in fine.out
    bad = ens("check-submission", "b.csv", "--template", "info.csv", cwd=folder)
    assert bad.code == 3
    assert "b.csv: 600 rows, 2 problems" in bad.out
    found = ens("check-submission", "b.csv", "--template", "info.csv", "--json", cwd=folder)
    assert found.code == 3
    assert len(json.loads(found.out)["problems"]) == 2


def test_check_against_a_data_set_and_a_run(ens: Ens, faces: Path, trained: Path) -> None:
    run = trained / "runs" / "face_mask"
    answers = faces / "eval" / "answers.csv"
    for done in (
        ens("check-submission", answers, "--data", faces),
        ens("check-submission", answers, ENS_DATA=str(faces)),
        ens("check-submission", answers, "--run", run),
    ):
        assert done.code == 0, done.out + done.err
        assert "joint shares:" in done.out
        assert "training" in done.out
    few = faces.parent / "few.csv"
    few.write_text("\n".join(answers.read_text().splitlines()[:5]) + "\n")
    done = ens("check-submission", few, "--run", run)
    assert done.code == 3
    assert "ids are missing" in done.out


def test_estimate_is_near_the_truth(ens: Ens, folder: Path) -> None:
    truth = read(folder / "answers.csv")
    scores = {n: np.mean([own == truth[i] for i, own in read(folder / f"{n}.csv").items()]) for n in "abc"}
    words = ["estimate", "c.csv", "--known", f"a.csv={scores['a']:.4f}", "--known", f"b.csv={scores['b']:.4f}"]
    done = ens(*words, cwd=folder)
    assert done.code == 0, done.err
    assert "90 % interval" in done.out
    found = json.loads(ens(*words, "--json", cwd=folder).out)
    assert found["low"] <= scores["c"] <= found["high"]
    wider = json.loads(ens(*words, "--scored-on", 100, "--json", cwd=folder).out)
    assert wider["high"] - wider["low"] > found["high"] - found["low"]


@pytest.mark.parametrize(
    ("line", "code", "message"),
    [
        ("vote a.csv b.csv", 2, "--out"),
        ("vote a.csv b.csv -o a.csv", 2, "a.csv: the file to write is one of those read and would be lost"),
        ("vote a.csv b.csv -o info.csv --template info.csv", 2, "is one of those read"),
        ("vote a.csv b.csv -o answers.csv --counts-from answers.csv", 2, "is one of those read"),
        ("vote a.csv b.csv -o o.csv --weights 1", 2, "--weights: expected one for each of 2 submissions, found 1"),
        ("vote a.csv b.csv -o o.csv --weights 1,x", 2, '--weights "1,x": expected numbers'),
        ("vote a.csv b.csv -o o.csv --weights 1,nan", 2, "expected weights >= 0, finite"),
        ("vote a.csv b.csv -o o.csv --by atribute", 2, 'did you mean "attribute"'),
        ("vote a.csv b.csv -o o.csv --ties count", 2, 'did you mean "counts"'),
        ("vote a.csv b.csv -o o.csv --ties counts", 2, "--ties counts needs --counts-from DATA"),
        ("vote a.csv b.csv -o o.csv --ties index --counts-from answers.csv", 2, "leave --counts-from out"),
        ("vote a.csv b.csv -o o.csv --recipe nope", 2, 'no recipe "nope"'),
        ("vote a.csv few.csv -o o.csv", 3, "few.csv: expected the same 600 ids, found 1: 599 are missing"),
        ("vote a.csv none.csv -o o.csv", 3, "none.csv: expected a CSV file"),
        ("vote a.csv people.csv -o o.csv", 3, "ans is missing"),
        ("vote a.csv -o o.csv --template few.csv", 3, "599 predicted ids are not in it"),
        ("vote a.csv b.csv -o o.csv --counts-from nowhere", 3, "nowhere: expected a data folder or table, found none"),
        ("compare a.csv a.csv", 2, "a.csv is named twice"),
        ("compare a.csv b.csv --rows b.csv", 2, "is one of those read"),
        ("compare a.csv b.csv --people people.csv", 2, "--people is for intervals"),
        ("compare a.csv b.csv --answers apart/few.csv", 3, "599 of 600 photos are not in apart/few.csv"),
        ("check-submission none.csv", 3, "none.csv: expected a CSV file"),
        ("check-submission a.csv --run nowhere", 3, "nowhere: expected a run"),
        ("estimate c.csv", 2, "expected at least 2 submissions of known score, found 0"),
        ("estimate c.csv --known a.csv", 2, '--known "a.csv": expected a file and its accuracy, as in a.csv=0.78'),
        ("estimate c.csv --known a.csv=good", 2, "expected a file and its accuracy"),
        ("estimate c.csv --known a.csv=78 --known b.csv=75", 2, "write 78.4 % as 0.784"),
        ("estimate c.csv --known a.csv=0.7 --known b.csv=0.7 --metric macro_f1", 2, "only accuracy follows"),
        ("estimate c.csv --known a.csv=0.1 --known b.csv=0.9", 3, "differ"),
        ("estimate few.csv --known a.csv=0.7 --known b.csv=0.7", 3, "expected the same 1 ids, found 600"),
    ],
)  # fmt: skip
def test_bad_calls_end_in_one_line(ens: Ens, folder: Path, line: str, code: int, message: str) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    done = ens(*line.split(), cwd=folder)
    assert done.code == code, done.err
    assert message in done.err
    assert "Traceback" not in done.err
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before


@pytest.mark.parametrize("line", ["vote a.csv b.csv -o {}/out.csv", "compare a.csv b.csv --answers answers.csv"])
def test_they_import_nothing_heavy(folder: Path, tmp_path: Path, line: str) -> None:
    words = ["ens", *line.format(tmp_path).split()]
    code = (
        f"import sys\nsys.argv = {words!r}\nfrom ensemble_kit.cli import main\n"
        "try:\n    main()\nexcept SystemExit as stop:\n    assert not stop.code\n"
        "assert not {'torch', 'pandas', 'sklearn', 'scipy', 'matplotlib'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_compare_writes_a_page_and_photos_only_where_asked(ens: Ens, folder: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    done = ens("compare", folder / "a.csv", folder / "b.csv", "--html", page, "--answers", folder / "answers.csv")
    assert done.code == 0, done.err
    assert "no photos are in it" in done.out
    assert "data:image" not in page.read_text("utf-8")
    (tmp_path / "images").mkdir()
    for number in range(600):
        photo = np.full((8, 8, 3), number % 255, dtype=np.uint8)
        cv2.imwrite(str(tmp_path / "images" / f"{number:06}.jpg"), photo)
    words = ("--html", page, "--photos", tmp_path, "--json")
    found = json.loads(ens("compare", folder / "a.csv", folder / "b.csv", *words).out)
    assert found["html"]["has_photos"]
    assert page.read_text("utf-8").count("data:image/webp") == found["n_differing"]


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["--photos", "."], 2, "pass --html FILE"),
        (["--html", "x.html", "--photos", "nowhere"], 3, "expected the folder with the photos"),
        (["--html", "x.html", "--photos", "empty"], 3, "none of the photos is there"),
        (["--html", "notes.txt"], 2, "is no page"),
        (["--html", "rows.html", "--rows", "rows.html"], 2, "is read for this page"),
    ],
)
def test_compare_refuses_pages_that_cannot_be(
    ens: Ens, folder: Path, tmp_path: Path, words: list[str], code: int, told: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("mine")
    done = ens("compare", folder / "a.csv", folder / "b.csv", *words, cwd=tmp_path)
    assert (done.code, done.err.count("\n")) == (code, 1)
    assert told in done.err
    assert " -o" not in done.err  # which it does not have
    assert not (tmp_path / "x.html").exists()


def test_compare_takes_runs(ens: Ens, trained: Path, folder: Path, tmp_path: Path) -> None:
    """A run without results says what to do; a folder that is no run is an error; its answers are its submission."""
    run = tmp_path / "run"
    shutil.copytree(trained / "runs" / "face_mask", run, ignore=shutil.ignore_patterns("cache", "experts", "results"))
    done = ens("compare", run, folder / "a.csv")
    assert (done.code, done.err.count("\n")) == (3, 1)
    assert f'run "ens combine {run}"' in done.err
    done = ens("compare", tmp_path, folder / "a.csv")
    assert (done.code, done.err.count("\n")) == (3, 1)
    (run / "results").mkdir()
    shutil.copy(folder / "b.csv", run / "results" / "submission.csv")
    done = ens("compare", run, folder / "a.csv", "--json")
    assert done.code == 0, done.err
    expected = json.loads(ens("compare", folder / "b.csv", folder / "a.csv", "--json").out)
    assert json.loads(done.out)["rows"] == expected["rows"]
    assert "without the truth" in done.err
