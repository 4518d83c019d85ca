"""`ens data report --run`: what a run doubts becomes a fix list that `ens data check` and training take."""

from __future__ import annotations

import json
from pathlib import Path

from command_line import Ens

from ensemble_kit.data.fixes import read_fixes


def test_doubts_of_a_run_become_a_list_that_check_takes(ens: Ens, faces: Path, trained: Path, tmp_path: Path) -> None:
    run, fixes, page = trained / "runs" / "face_mask", tmp_path / "fixes.csv", tmp_path / "page.html"
    words = ("data", "report", "--run", run, "--suspects", "confidence", "--suggest-fixes", fixes)
    done = ens(*words, "--json", "-o", page)
    assert (done.code, done.err) == (0, "")
    facts = json.loads(done.out)
    assert (facts["run"], facts["suspects"]) == (str(run), "confidence")
    about = {one["attribute"]: one for one in facts["doubts"]}
    assert {name: one["of"] for name, one in about.items()} == {"mask": "photos", "gender": "people", "age": "people"}
    assert about["gender"]["labelled_and_predicted"] == 36
    assert all(
        one["labelled_and_predicted"] - one["answered_as_labelled"] >= len(one["doubts"]) for one in about.values()
    )
    assert [list(fix.cells) for fix in read_fixes(fixes)] == facts["suggested_fixes"]
    assert page.is_file()
    checked = ens("data", "check", faces, "--fixes", fixes, "--no-decode", "--json")
    assert checked.code == 0
    report = json.loads(checked.out)["fixes"]
    assert report["applied"]
    assert report["changed"] > 0
    without = ens("data", "check", faces, "--fixes", "none", "--no-decode", "--json")
    assert json.loads(without.out)["fixes"] is None


def test_a_run_on_other_photos_is_refused(ens: Ens, trained: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    assert ens("data", "generate", other, "--people", 6, "--eval-people", 2, "--size", 16, "--seed", 9).code == 0
    for folder in (other / "train" / "images").iterdir():
        folder.rename(folder.with_name(folder.name.replace("00000", "90000")))
    table = other / "train" / "train.csv"
    table.write_text(table.read_text().replace("00000", "90000"))
    run = trained / "runs" / "face_mask"
    done = ens("data", "report", other, "--run", run, "--suspects", "confidence", "-o", tmp_path / "page.html")
    assert done.code == 3
    assert "none of its photos is in these data" in done.err
    assert not (tmp_path / "page.html").exists()
