"""`ens tune` on drawn photos and a tiny network: what it writes, takes over, refuses and may claim."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny_tune
from sklearn.metrics import f1_score
from tiny_training import draw_table
from tiny_tune import RECIPE, tune
from typer.testing import CliRunner

from ensemble_kit.cli import app
from ensemble_kit.errors import DataError, UsageError
from ensemble_kit.files import read_json
from ensemble_kit.models.backbones import BACKBONES
from ensemble_kit.recipe.load import load_recipe
from ensemble_kit.recipe.show import check_recipe
from ensemble_kit.runs import Run
from ensemble_kit.tuning.claims import gains, on_halves
from ensemble_kit.tuning.first import first_params
from ensemble_kit.tuning.report import SearchReport
from ensemble_kit.tuning.trials import Trial, read_trial


@pytest.fixture(autouse=True)
def known_backbone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BACKBONES, "tiny_backbone", tiny_tune.KNOWN["tiny_backbone"])


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("photos")
    draw_table(root, people=24).to_csv(root / "samples.csv")
    return root


@pytest.fixture(scope="module")
def searched(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[SearchReport, Path]:
    folder = tmp_path_factory.mktemp("tune") / "search"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BACKBONES, "tiny_backbone", tiny_tune.KNOWN["tiny_backbone"])
        return tune(folder, photos), folder


def test_each_trial_is_a_run_scored_out_of_fold(searched: tuple[SearchReport, Path]) -> None:
    report, folder = searched
    assert [trial.state for trial in report.trials] == ["complete"] * 3
    assert report.trials[0].params == {"train.age.head_lr": 0.01, "train.age.label_smoothing": 0.1}
    assert report.best == int(np.argmax([trial.after_fold[-1] for trial in report.trials]))
    for trial in report.trials:
        run = Run.open(folder / "trials" / f"{trial.number:04d}")
        labels = [expert.labels() for expert in run.out_of_fold()]
        joint = labels[0] * 3 + labels[1]
        for fold, score in enumerate(trial.after_fold):
            inside = run.folds <= fold
            wanted = f1_score(
                run.table.joint()[inside], joint[inside], labels=range(9), average="macro", zero_division=0
            )
            assert score == pytest.approx(wanted)
        settings = load_recipe(run.folder / "recipe.toml").settings_for(["age"])
        assert settings.head_lr == trial.params["train.age.head_lr"]
        assert settings.label_smoothing == trial.params["train.age.label_smoothing"]
        assert load_recipe(run.folder / "recipe.toml").settings_for(["mask"]).head_lr == 0.01


def test_what_no_parameter_touches_is_trained_once(searched: tuple[SearchReport, Path]) -> None:
    report, folder = searched
    files = [folder / "trials" / f"000{n}" / "experts" / "mask" / "fold1" / "oof.npy" for n in range(3)]
    assert len({file.stat().st_ino for file in files}) == 1
    assert len(list((folder / "cache").glob("*.npy"))) == 1
    kept = {int(file.parts[-5]) for file in folder.glob("trials/*/experts/age/fold0/best.safetensors")}
    assert kept == {0, report.best}


def test_the_best_trial_s_recipe_checks_and_its_run_is_done(searched: tuple[SearchReport, Path], photos: Path) -> None:
    report, folder = searched
    tuned = folder / "tiny_tuned.toml"
    assert "well-formed; 2 experts" in check_recipe(str(tuned))
    assert load_recipe(tuned).space == ()
    _, _, command = report.commands[1].partition(": ens ")
    done = CliRunner().invoke(app, command.split())
    assert done.exit_code == 0, done.output
    assert done.output.count("done before, skipped") == 4


def test_a_finished_search_is_read_again(searched: tuple[SearchReport, Path], photos: Path) -> None:
    report, folder = searched
    before = {file: file.stat().st_mtime_ns for file in folder.glob("trials/*/experts/*/*/DONE")}
    assert tune(folder, photos) == report
    assert {file: file.stat().st_mtime_ns for file in folder.glob("trials/*/experts/*/*/DONE")} == before
    stored = read_json(folder / "results.json")
    assert stored == json.loads(json.dumps(report.to_json()))
    text = (folder / "results.txt").read_text()
    paths = tuple(str(value) for value in [*report.files.values(), *report.commands])
    assert max(len(line) for line in text.splitlines() if not line.endswith(paths)) <= 80
    assert "The score of the best is too high" in text
    assert (folder / "history.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    for said in ("trial 0", "importance", "on 72 photos of 24", "train it anew: ens run"):
        assert said in text


def test_another_search_in_the_same_folder_is_refused(searched: tuple[SearchReport, Path], photos: Path) -> None:
    _, folder = searched
    wanted: list[tuple[list[str], dict[str, object], str]] = [
        (["train.mask.epochs=2"], {}, "experts.mask.epochs: 1 there, 2 now"),
        (['tune.space."train.age.epochs"=[1,2]'], {}, "space.train.age.epochs"),
        ([], {"seed": 1}, "seed: 0 there, 1 now"),
        ([], {"objective": "age"}, "objective"),
    ]
    for edits, more, told in wanted:
        with pytest.raises(DataError, match="holds a search that was begun otherwise") as error:
            tune(folder, photos, None, *edits, **more)
        assert told in str(error.value)
    with pytest.raises(DataError, match="holds a run, not a search"):
        tune(folder / "trials" / "0000", photos)


@pytest.mark.parametrize(
    ("edits", "told"),
    [
        (['tune.space."train.age.hed_lr"=[1,2]'], r'unknown key; did you mean "train.age.head_lr"'),
        (['tune.space."train.lr"={low=1,high=2}'], "unknown key"),
        (['tune.space."data.folds"=[2,3]'], "cannot be searched: it changes which photos are held out"),
        (['tune.space."train.age.head_lr"={low=1,high=0.5}'], "expected low below high"),
        (['tune.space."train.age.head_lr"={low=0,high=0.5,log=true}'], "above 0 on a logarithmic scale"),
        (['tune.space."train.age.head_lr"={low=1,high=2,steps=1}'], 'unknown key "steps"; did you mean "step"'),
        (['tune.space."train.age.epochs"=[1,1]'], "at least two values, each once"),
        (['tune.space."train.age.epochs"=3'], "expected a range or a list"),
        (['tune.space."train.age.epochs"={low=0,high=3}'], r"train\.age\.epochs = 0: .*greater than or equal to 1"),
        (['tune.space."train.age.loss"=["focl", "focal"]'], '= "focl": no loss "focl"; did you mean "focal"'),
        (["tune.space={}"], "nothing to search"),
        (["tune.objective=agee"], 'no objective "agee"; did you mean "age"'),
        (["tune.prune=best"], 'no pruner "best"'),
        (["tune.sampler=grid"], 'no sampler "grid"'),
    ],
)
def test_bad_searches_are_refused_before_anything_is_made(
    photos: Path, tmp_path: Path, edits: list[str], told: str
) -> None:
    with pytest.raises(UsageError, match=told):
        tune(tmp_path / "search", photos, None, *edits)
    assert not (tmp_path / "search").exists()


def test_without_optuna_one_line_says_what_to_install(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(UsageError, match=r'pip install "ensemble_kit\[tune\]"'):
        tune(tmp_path / "search", photos)


def test_the_recipe_as_it_stands_is_found_in_the_space(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text(
        RECIPE
        + """
"train.backbone_lr" = { low = 1e-3, high = 1.0 }
"train.augment" = [["flip"], []]
"combine.route" = ["soft", "hard"]
"""
    )
    from ensemble_kit.recipe.load import read_recipe

    file = read_recipe(tmp_path / "r.toml")
    params, outside = first_params(file.load().space, file.load)
    assert params == {
        "train.age.head_lr": 0.01,
        "train.age.label_smoothing": 0.1,
        "train.backbone_lr": 0.01,
        "train.augment": [],
        "combine.route": "hard",
    }
    assert outside == []
    edits = ["train.age.head_lr=0.5"]
    params, outside = first_params(file.load().space, lambda more: file.load([*edits, *more]))
    assert (params, outside) == ({}, ["train.age.head_lr = 0.5"])


def test_choosing_among_noise_is_seen_through() -> None:
    rng = np.random.default_rng(0)
    people = np.array([f"p{i // 5}" for i in range(400)])
    truth = rng.integers(4, size=400)
    labels = [np.where(rng.random(400) < 0.6, truth, rng.integers(4, size=400)) for _ in range(30)]
    intervals, gained = gains(truth, labels, people, 4)
    scores = [f1_score(truth, one, average="macro") for one in labels]
    best = int(np.argmax(scores[1:]))
    assert gained[best].value == pytest.approx(scores[best + 1] - scores[0])
    assert {gain.verdict for gain in gained} == {"no difference shown"}
    halves = on_halves(truth, labels, people, 4)
    assert halves.first == pytest.approx(scores[0], abs=0.02)
    assert max(scores) > 0.74  # 0.7 is what each would have on many photos
    assert halves.chosen == pytest.approx(0.7, abs=0.02)
    labels[7] = np.where(rng.random(400) < 0.95, truth, 0)
    assert gains(truth, labels, people, 4)[1][6].verdict == "higher"
    assert on_halves(truth, labels, people, 4).chosen == pytest.approx(
        f1_score(truth, labels[7], average="macro"), abs=0.02
    )
    low, high = intervals[0] or (1, 0)
    assert low < scores[0] < high


def program(folder: Path, photos: Path, at_once: int) -> subprocess.Popen[bytes]:
    """A search of eight trials, in a process of its own."""
    here = Path(tiny_tune.__file__).parent
    paths = os.pathsep.join([str(here), str(here.parent), *filter(None, sys.path)])
    words = [str(folder), str(photos), str(at_once), "8", "train.age.epochs=6"]
    return subprocess.Popen([sys.executable, tiny_tune.__file__, *words], env={**os.environ, "PYTHONPATH": paths})


def trials_of(folder: Path) -> list[Trial | None]:
    found = [read_trial(folder, number) for number in range(8)]
    return [None if trial is None else replace(trial, seconds=0.0) for trial in found]


@pytest.mark.slow
@pytest.mark.parametrize("at_once", [1, 2])
def test_eight_trials_killed_and_gone_on_with_are_those_of_an_unbroken_search(
    photos: Path, tmp_path: Path, at_once: int
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert program(whole, photos, at_once).wait() == 0
    for number in (0, 2, 5):  # killed while each of these trains
        process = program(killed, photos, at_once)
        place = killed / "trials" / f"000{number}" / "experts" / "age"
        until = time.monotonic() + 400
        while not list(place.glob("fold*/state.pt")) and process.poll() is None and time.monotonic() < until:
            time.sleep(0.005)
        assert process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not all(trial and trial.is_finished for trial in trials_of(killed)[: number + 1])
    assert program(killed, photos, at_once).wait() == 0
    assert trials_of(killed) == trials_of(whole)
    best = read_json(whole / "results.json")["best"]
    assert read_json(killed / "results.json")["best"] == best
    for fold in (0, 1):
        place = Path("trials") / f"{best:04d}" / "experts" / "age" / f"fold{fold}" / "oof.npy"
        assert (killed / place).read_bytes() == (whole / place).read_bytes()
