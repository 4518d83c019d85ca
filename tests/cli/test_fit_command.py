"""`ens fit shift` and `ens fit stacking` from the command line: what is printed, and what cannot be in one line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from command_line import Ens
from core_oracles import face_experts, face_schema

from ensemble_kit.fitted import load_fitted
from ensemble_kit.predictions import save_predictions

N = 72


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    experts = face_experts(4, N, ("fold0", "fold1"))
    save_predictions(tmp_path / "set", experts, face_schema())
    joint = np.random.default_rng(0).permutation(np.arange(N) % 18)
    rows = "".join(f"{name},{label}\n" for name, label in zip(experts[0].ids, joint, strict=True))
    (tmp_path / "answers.csv").write_text(f"ImageID,ans\n{rows}")
    return tmp_path / "set"


def test_a_shift_says_what_it_found_and_combine_reads_it(ens: Ens, saved: Path) -> None:
    reference = ("--reference", saved, "--answers", saved.with_name("answers.csv"))
    done = ens("fit", "shift", saved, *reference, "--on", "mask", "--on", "gender", "--json")
    assert done.code == 0, done.err
    report = json.loads(done.out)
    assert [item["where"] for item in report["items"]] == ["mask", "gender"]
    assert report["n_samples"] == N
    assert Path(report["file"]) == saved / "results" / "shift.json"
    done = ens("combine", saved, "--fitted", report["file"])
    assert done.code == 0, done.err


def test_a_stacked_vote_of_other_voters_is_one_line(ens: Ens, saved: Path, tmp_path: Path) -> None:
    file = tmp_path / "stacking.json"
    done = ens("fit", "stacking", saved, "--answers", saved.with_name("answers.csv"), "--folds", 2, "-o", file)
    assert done.code == 0, done.err
    assert "stacking of mask: 2 voters" in done.out
    assert f"next: ens combine {saved} --fitted {file}" in done.out
    assert {item.kind for item in load_fitted(file)} == {"stacking"}
    save_predictions(tmp_path / "other", face_experts(4, N, ("fold0", "fold7")), face_schema())
    done = ens("combine", tmp_path / "other", "--fitted", file)
    assert done.code == 2
    assert "fitted for the voters fold0, fold1, found fold0, fold7" in done.err
    assert "Traceback" not in done.err
    assert not (tmp_path / "other" / "results" / "submission.csv").exists()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["shift"], 3, "saved predictions have no out-of-fold ones to be compared with; add --reference SET"),
        (["shift", "--reference", "nowhere"], 3, "nowhere: expected a run (run.json) or saved predictions"),
        (["stacking"], 3, "no answers to these photos; pass --answers FILE"),
        (["stakcing"], 2, 'cannot fit "stakcing"; did you mean "stacking"?'),
    ],
)
def test_what_cannot_be_is_one_line(ens: Ens, saved: Path, words: list[str], code: int, message: str) -> None:
    done = ens("fit", words[0], saved, *words[1:])
    assert done.code == code, done.err
    assert message in done.err
    assert len(done.err.strip().splitlines()) == 1
    assert not (saved / "results").exists()
