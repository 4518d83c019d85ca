"""`ens recipes`, `--set` on the commands, and `--dry-run`."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from command_line import SMALL, Ens

from ensemble_kit.recipe.files import recipe_folder, recipe_names
from ensemble_kit.recipe.load import load_recipe


def tree(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_list_shows_each_recipe_with_what_it_is_for(ens: Ens) -> None:
    done = ens("recipes", "list")
    assert done.code == 0, done.err
    told = {line.split()[0]: line for line in done.out.splitlines() if not line.startswith(" ")}
    assert sorted(told) == recipe_names()
    assert all(len(line) > len(name) + 20 for name, line in told.items())


def test_show_prints_the_file_or_every_key(ens: Ens, tmp_path: Path) -> None:
    assert ens("recipes", "show", "face-mask").out == (recipe_folder() / "face_mask.toml").read_text()
    resolved = ens("recipes", "show", "face-mask", "--resolved", "--set", "train.age.epochs=3")
    assert tomllib.loads(resolved.out)["train"]["age"]["epochs"] == 3
    assert ens("recipes", "show", "face-mask", "--set", "train.epochs=3").code == 2


def test_copy_makes_a_recipe_of_ones_own(ens: Ens, tmp_path: Path) -> None:
    done = ens("recipes", "copy", "grocery", cwd=tmp_path)
    assert done.code == 0, done.err
    assert load_recipe(tmp_path / "grocery.toml").schema == load_recipe("grocery").schema
    again = ens("recipes", "copy", "grocery", cwd=tmp_path)
    assert again.code == 2
    assert "is there already" in again.err
    assert ens("recipes", "copy", "grocery", "other.txt", cwd=tmp_path).code == 2
    assert ens("recipes", "copy", "face-mask", "mine.toml", cwd=tmp_path).code == 0


@pytest.mark.parametrize("name", recipe_names())
def test_check_accepts_the_shipped_recipes(ens: Ens, name: str) -> None:
    done = ens("recipes", "check", name)
    assert done.code == 0, done.err
    assert done.out.startswith(f"{name}: well-formed")


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("recipes", "check", "face-mask", "--set", "train.sampler=balancd"), 2, 'did you mean "balanced"'),
        (("recipes", "check", "face-mask", "--set", "train.schedule=cosin"), 2, 'did you mean "cosine"'),
        (("recipes", "check", "face-mask", "--set", "train.feature_views=2"), 2, "expected a frozen backbone"),
        (
            ("recipes", "check", "face-mask", "--set", "train.soup=greedy"),
            2,
            'mask: soup = "greedy" averages the check',
        ),
        (("recipes", "check", "face-mask", "--set", "predict.tta=zom"), 2, 'tta: no view "zom"; did you mean "zoom"'),
        (("recipes", "check", "face-mask", "--set", "train.age.weights=run:gendr"), 2, 'did you mean "gender"'),
        (
            ("recipes", "check", "face-mask", "--set", "train.gender.weights=run:gender"),
            2,
            "gender start from each other",
        ),
        (("soup", "nowhere"), 3, "nowhere: expected a run"),
        (("recipes", "check", "nothing"), 2, 'no recipe "nothing"'),
        (("recipes", "show", "fase-mask"), 2, 'did you mean "face_mask"'),
        (("run", "face-mask", "--set", "train.epoch=3"), 2, 'did you mean "train.epochs"'),
        (("run", "face-mask", "--set", "train.epochs=3", "--epochs", "4"), 2, "leave one out"),
        (("run", "face-mask", "--variant", "x"), 2, 'no variant "x"'),
        (("run", "face-mask", "--all-variants"), 2, "face_mask has none"),
    ],
)
def test_faults_are_one_line(ens: Ens, words: tuple[str, ...], code: int, message: str) -> None:
    done = ens(*words)
    assert (done.code, done.err.count("\n")) == (code, 1)
    assert message in done.err


def test_a_dry_run_prints_the_plan_and_touches_nothing(ens: Ens, faces: Path, tmp_path: Path) -> None:
    before = tree(tmp_path)
    words = ("--data", faces, "--dry-run", "--set", "train.age.min_steps=0")
    done = ens("run", "quickstart", *words, cwd=tmp_path, **SMALL)
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert lines[0].startswith("quickstart -> runs/quickstart")
    assert "252 photos of 36 people" in lines[1]
    assert sum("to train" in line for line in lines[3:-3]) == 12
    mask = next(line for line in lines if line.startswith("mask "))
    assert mask.split()[1:6] == ["fold0", "126", "126", "1", "8"]
    assert "6 experts, 12 of 12 folds to train" in done.out
    assert any(line.startswith("disk: about") for line in lines[-2:])
    assert tree(tmp_path) == before


@pytest.mark.parametrize(
    ("edit", "code", "message"),
    [
        ("train.freeze=layer9", 2, 'no layer "layer9"; did you mean "layer4"'),
        ("train.class_weights=1,2", 2, "one number for each of 3 classes, found 2"),
        ("train.crop=[300,200]", 3, "the crop is 300x200 pixels (height x width), the photo only"),
    ],
)
def test_a_dry_run_refuses_what_the_training_would(
    ens: Ens, faces: Path, tmp_path: Path, edit: str, code: int, message: str
) -> None:
    real = {**SMALL, "ENS_BACKBONE": "resnet18"}
    done = ens("train-mask", "--data", faces, "--dry-run", "--set", edit, cwd=tmp_path, **real)
    assert done.code == code
    assert message in done.err.splitlines()[-1]
    assert tree(tmp_path) == {}


def test_a_dry_run_says_what_is_done(ens: Ens, faces: Path, trained: Path) -> None:
    before = tree(trained)
    done = ens("train-mask", "--dry-run", cwd=trained, ENS_DATA=str(faces), **SMALL)
    assert done.code == 0, done.err
    assert done.out.count("done before, skipped") == 2
    assert "0 of 2 folds to train" in done.out
    other = ens("train-mask", "--dry-run", "--set", "train.mask.epochs=2", cwd=trained, ENS_DATA=str(faces), **SMALL)
    assert other.out.count("refused without --restart") == 2
    fewer = ens("train-mask", "--dry-run", "--fold", 1, "--restart", cwd=trained, ENS_DATA=str(faces), **SMALL)
    assert "1 of 1 folds to train" in fewer.out
    assert tree(trained) == before


def test_a_set_beats_the_environment(ens: Ens, faces: Path, tmp_path: Path) -> None:
    words = ("train-mask", "--data", faces, "--dry-run", "--set", "train.epochs=2")
    done = ens(*words, cwd=tmp_path, **{**SMALL, "ENS_EPOCHS": "5"})
    assert done.code == 0, done.err
    assert next(line for line in done.out.splitlines() if line.startswith("mask ")).split()[4] == "2"


def test_what_an_expert_was_trained_by_is_saved(trained: Path) -> None:
    saved = load_recipe(trained / "runs" / "face_mask" / "experts" / "age-given-mask-worn" / "recipe.toml")
    settings = saved.settings_for(["age"], condition={"mask": ("worn",)})
    assert (settings.epochs, settings.size, settings.weights) == (1, (32, 32), "none")


def test_combine_takes_edits_of_its_section(ens: Ens, trained: Path, tmp_path: Path) -> None:
    run = trained / "runs" / "face_mask"
    done = ens("combine", run, "-o", tmp_path / "out", "--set", "combine.route=soft", "--json")
    assert done.code == 0, done.err
    assert '"route": "soft"' in (tmp_path / "out" / "combine.json").read_text()
    assert ens("combine", run, "-o", tmp_path / "out", "--set", "train.epochs=3").code == 2
    both = ens("combine", run, "-o", tmp_path / "out", "--set", "combine.route=soft", "--route", "hard")
    assert (both.code, both.err) == (2, "error: --route and --set combine.route set the same; leave one out\n")
    moved = ens("combine", run, "--set", "combine.borders.age=[30, 58]", "--borders", "age=30,50")
    assert "--borders and --set combine.borders.age set the same" in moved.err
    exported = ens("combine", run, "-o", tmp_path / "out", "--set", "combine.route=soft", ENS_ROUTE="hard")
    assert exported.code == 0
    assert '"route": "soft"' in (tmp_path / "out" / "combine.json").read_text()
