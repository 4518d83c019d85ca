"""`ens run` and `ens quickstart`: the whole job, what it leaves behind, and that a second call does nothing again."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import SMALL, TINY, Ens

from ensemble_kit.card import read_card
from ensemble_kit.recipe.quickstart import run_quickstart
from ensemble_kit.recipe.run import Silent

STRUCTURES = {"independent", "conditional_hard", "conditional_soft", "perfect_mask"}


class Listening(Silent):
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


def stamps(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*.safetensors")}


def test_run_does_the_whole_job_once(ens: Ens, faces: Path, tmp_path: Path) -> None:
    settings = {**SMALL, "ENS_MIN_STEPS": "0"}
    first = ens("run", "quickstart", "--data", faces, "--run", "r", cwd=tmp_path, **settings)
    assert first.code == 0, first.err
    assert "6 experts x 2 folds on 252 photos" in first.out
    assert "\nevery setting: r/recipe.toml\n" in first.out
    shown = ens("recipes", "show", tmp_path / "r" / "recipe.toml")
    assert shown.out == (tmp_path / "r" / "recipe.toml").read_text()
    metrics = json.loads((tmp_path / "r" / "results" / "metrics.json").read_text())
    assert set(metrics["joint"]) == STRUCTURES
    assert set(metrics["out_of_fold"]["joint"]) == STRUCTURES
    for scores in metrics["joint"].values():
        assert 0 <= scores["accuracy"] <= 1
        assert 0 <= scores["macro_f1"] <= 1
    written = stamps(tmp_path / "r")
    assert len(written) == 12
    again = ens("run", "quickstart", "--data", faces, "--run", "r", cwd=tmp_path, **settings)
    assert again.code == 0, again.err
    assert again.out.count("done before, skipped") == 12
    assert stamps(tmp_path / "r") == written


def test_a_run_refuses_other_folds_and_other_data(ens: Ens, faces: Path, trained: Path, tmp_path: Path) -> None:
    other = ens("train-mask", "--folds", 3, cwd=trained, ENS_DATA=str(faces), **{**SMALL, "ENS_FOLDS": "3"})
    assert other.code == 3
    assert "n_folds (2 there, 3 now)" in other.err
    drawn = tmp_path / "others"
    assert ens("data", "generate", drawn, "--people", 30, "--eval-people", 1, "--size", 32, "--seed", 5).code == 0
    data = ens("train-mask", cwd=trained, ENS_DATA=str(drawn), **SMALL)
    assert data.code == 3
    assert "samples_sha256" in data.err


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("quick") / "start"
    flags = {"backbone": TINY, "epochs": 1, "min_steps": 0, "size": (32, 24), "threads": 1, "jobs": 1}
    run_quickstart(out, Silent(), people=36, seed=1, flags=flags)
    return out


def test_quickstart_leaves_what_it_promises(quick: Path) -> None:
    metrics = json.loads((quick / "metrics.json").read_text())
    assert set(metrics["joint"]) == STRUCTURES
    assert (quick / "picture.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    template = (quick / "photos" / "eval" / "info.csv").read_text().splitlines()
    submission = (quick / "submission.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in submission] == [line.split(",")[0] for line in template]


@pytest.mark.slow
def test_quickstart_as_a_user_types_it(tmp_path: Path) -> None:
    """A process of its own, ResNet18, two trainings at a time: the README's first line."""
    command = [sys.executable, "-m", "ensemble_kit", "quickstart", "--out", "quickstart"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    metrics = json.loads((tmp_path / "quickstart" / "metrics.json").read_text())
    assert metrics["joint"]["conditional_hard"]["accuracy"] > 0.4  # of 18 classes
    card = next((tmp_path / "quickstart" / "run" / "experts").rglob("best.safetensors"))
    assert read_card(card).backbone["name"] == "resnet18"


def test_quickstart_again_skips_and_other_settings_are_refused(quick: Path, ens: Ens) -> None:
    listening = Listening()
    flags = {"backbone": TINY, "epochs": 1, "min_steps": 0, "size": (32, 24), "threads": 1}
    run_quickstart(quick, listening, people=36, seed=1, flags=flags)
    assert sum("done before, skipped" in line for line in listening.lines) == 12
    refused = ens("quickstart", "--out", quick, "--people", 40)
    assert refused.code == 3
    assert "drawn with other settings" in refused.err


def test_an_unreadable_photo_is_said_and_can_be_answered(ens: Ens, trained: Path, faces: Path, tmp_path: Path) -> None:
    broken = tmp_path / "faces"
    shutil.copytree(faces, broken)
    victim = sorted((broken / "eval" / "images").iterdir())[0]
    victim.write_bytes(victim.read_bytes()[:100])
    shutil.copytree(trained / "runs" / "face_mask", tmp_path / "run")
    said = ens("predict", tmp_path / "run", "--data", broken, "--name", "broken")
    assert said.code == 0, said.err
    assert "1 photos could not be read" in said.out
    refused = ens("combine", tmp_path / "run", "--name", "broken", "-o", tmp_path / "a")
    assert refused.code == 3
    assert "--missing" in refused.err
    filled = ens("combine", tmp_path / "run", "--name", "broken", "-o", tmp_path / "a", "--missing", 4, "--json")
    assert filled.code == 0, filled.err
    assert json.loads(filled.out)["n_filled"] == 1
    rows = dict(line.split(",") for line in (tmp_path / "a" / "submission.csv").read_text().splitlines())
    assert rows[victim.name] == "4"
    assert len(rows) == 6 * 7 + 1
