"""The commands as a user types them: what they print, write and refuse."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command_line import SMALL, Ens
from sklearn.metrics import f1_score

import ensemble_kit as ek


def column(path: Path, name: str) -> list[str]:
    with open(path, newline="", encoding="utf-8") as handle:
        return [row[name] for row in csv.DictReader(handle)]


@pytest.fixture(scope="module")
def combined(ens: Ens, trained: Path) -> str:
    done = ens("combine", cwd=trained)
    assert done.code == 0, done.err
    return done.out


def test_training_tells_every_epoch_and_says_what_it_keeps(ens: Ens, faces: Path, tmp_path: Path) -> None:
    done = ens(
        "train-gender",
        "--keep",
        "last",
        "--run",
        tmp_path / "run",
        "--fold",
        0,
        "--epochs",
        2,
        ENS_DATA=str(faces),
        **SMALL,
    )
    assert done.code == 0, done.err
    assert "no choice made on held-out photos" in done.out
    assert max(len(line) for line in done.out.splitlines() if "/" not in line) <= 80
    lines = [line for line in done.out.replace("\n  ", " ").splitlines() if line.startswith("gender, fold 0, epoch")]
    assert len(lines) == 2
    assert all(word in lines[0] for word in ("loss", "accuracy", "macro F1"))
    history = (tmp_path / "run" / "experts" / "gender" / "fold0" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in history] == [1, 2]


def test_out_of_fold_predictions_line_up_over_experts(trained: Path) -> None:
    run = ek.Run.open(trained / "runs" / "face_mask")
    experts = run.out_of_fold()
    assert [expert.describe() for expert in experts] == [
        "mask", "gender", "age given mask=worn", "age given mask=incorrect", "age given mask=not_worn",
    ]  # fmt: skip
    for expert in experts:
        assert np.isfinite(expert.layers[0]).all(), "every held-out photo is predicted, also outside the condition"
        assert list(expert.ids) == list(run.table.ids)


def test_no_person_is_in_two_folds(trained: Path) -> None:
    run = ek.Run.open(trained / "runs" / "face_mask")
    for person in set(run.table.groups):
        assert len(set(run.folds[run.table.groups == person])) == 1


def test_combine_predicts_what_is_missing_and_writes_the_submission(combined: str, trained: Path, faces: Path) -> None:
    results = trained / "runs" / "face_mask" / "results"
    assert column(results / "submission.csv", "ImageID") == column(faces / "eval" / "info.csv", "ImageID")
    (joint,) = ek.load_predictions(results / "joint")
    assert [int(ans) for ans in column(results / "submission.csv", "ans")] == joint.labels().tolist()
    counts = {
        line.rsplit(maxsplit=1)[0].strip(): int(line.split()[-1])
        for line in combined.splitlines()
        if line.startswith("age given") and line.split()[-1].isdigit()
    }
    assert sum(counts.values()) == 6 * 7, combined


def test_combining_again_needs_no_torch(combined: str, trained: Path) -> None:
    code = "import sys; sys.argv = ['ens', 'combine', '--route', 'soft', '-o', 'soft']\nfrom ensemble_kit.cli import main\nmain()\nassert not {'torch', 'torchvision', 'sklearn'} & set(sys.modules), 'too much imported'"
    code = code.replace(
        "main()\nassert", "try:\n    main()\nexcept SystemExit as stop:\n    assert not stop.code\nassert"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=trained, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (trained / "soft" / "submission.csv").is_file()


def test_evaluate_agrees_with_scikit_learn(ens: Ens, combined: str, trained: Path, faces: Path) -> None:
    submission = trained / "runs" / "face_mask" / "results" / "submission.csv"
    done = ens("evaluate", submission, "--answers", faces / "eval" / "answers.csv", "--json")
    assert done.code == 0, done.err
    scores = json.loads(done.out)
    truth, said = (np.array(column(path, "ans"), dtype=int) for path in (faces / "eval" / "answers.csv", submission))
    assert scores["joint"]["accuracy"]["value"] == pytest.approx(np.mean(truth == said))
    expected = f1_score(truth, said, labels=range(18), average="macro", zero_division=0)
    assert scores["joint"]["macro_f1"]["value"] == pytest.approx(expected)
    expected = f1_score(truth // 6, said // 6, labels=range(3), average="macro", zero_division=0)
    assert scores["mask"]["macro_f1"]["value"] == pytest.approx(expected)
    joint = ens("evaluate", submission.parent / "joint", "--answers", faces / "eval" / "answers.csv", "--json")
    assert json.loads(joint.out)["joint"] == scores["joint"]


def test_evaluating_a_run_compares_structures(ens: Ens, combined: str, trained: Path) -> None:
    done = ens("evaluate", cwd=trained)
    assert done.code == 0, done.err
    for structure in ("conditional hard", "conditional soft", "perfect mask"):
        assert structure in done.out
    assert max(len(line) for line in done.out.splitlines() if "/" not in line) <= 80


def test_a_finished_fold_is_skipped_and_other_settings_are_refused(ens: Ens, trained: Path, faces: Path) -> None:
    again = ens("train-mask", cwd=trained, ENS_DATA=str(faces), **SMALL)
    assert again.code == 0
    assert again.out.count("done before, skipped") == 2
    other = ens("train-mask", "--label-smoothing", "0.3", cwd=trained, ENS_DATA=str(faces), **SMALL)
    assert other.code == 3
    assert "label_smoothing" in other.err


def test_resume_needs_something_to_go_on_with(ens: Ens, trained: Path, faces: Path, tmp_path: Path) -> None:
    done = ens("train-mask", "--resume", cwd=trained, ENS_DATA=str(faces), **SMALL)
    assert done.out.count("done before, skipped") == 2, done.err
    for words in ("train-mask --resume", "run face-mask --resume", "train-gender --given mask=worn --resume"):
        none = ens(*words.split(), cwd=tmp_path, ENS_DATA=str(faces), **SMALL)
        assert (none.code, list(tmp_path.iterdir())) == (3, [])
        assert "--resume: expected a training to go on with in runs/face_mask" in none.err
    both = ens("train-mask", "--resume", "--restart", cwd=trained, ENS_DATA=str(faces), **SMALL)
    assert both.code == 2
    assert "leave one of them out" in both.err


def test_a_flag_beats_the_environment(ens: Ens, faces: Path, tmp_path: Path) -> None:
    """With the network that recipes name."""
    settings = {**SMALL, "ENS_BACKBONE": "resnet18", "ENS_EPOCHS": "7"}
    done = ens("train-mask", "--epochs", 1, "--fold", 1, "--run", tmp_path / "run", ENS_DATA=str(faces), **settings)
    assert done.code == 0, done.err
    stored = json.loads((tmp_path / "run" / "experts" / "mask" / "expert.json").read_text())
    assert stored["settings"]["epochs"] == 1


def test_a_missing_expert_is_named_with_the_command_that_trains_it(ens: Ens, faces: Path, tmp_path: Path) -> None:
    for line in ("train-mask", "train-gender", "train-age --mask-state incorrect,not_worn"):
        assert ens(*line.split(), "--val-ratio", 0.2, cwd=tmp_path, ENS_DATA=str(faces), **SMALL).code == 0
    done = ens("combine", cwd=tmp_path)
    assert done.code == 2
    assert "mask=worn" in done.err
    assert "ens train-age --mask-state worn" in done.err or "ens train age --given mask=worn" in done.err
    assert not (tmp_path / "runs" / "face_mask" / "results").exists(), "nothing half-written"
    assert (
        ens("train-age", "--mask-state", "any", "--val-ratio", 0.2, cwd=tmp_path, ENS_DATA=str(faces), **SMALL).code
        == 0
    )
    assert ens("combine", "--fallback", "pooled", cwd=tmp_path).code == 0


def test_card_prints_what_a_checkpoint_is(ens: Ens, trained: Path) -> None:
    done = ens("card", trained / "runs/face_mask/experts/age-given-mask-not_worn/fold0/best.safetensors")
    assert done.code == 0, done.err
    card = json.loads(done.out)
    assert card["condition"] == {"mask": ["not_worn"]}
    assert card["preprocess"]["size"] == [32, 32]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ("train-mask", 2, "set ENS_DATA, pass --data DIR"),
        ("train-mask --data nowhere", 3, "nowhere"),
        ("train mouth --data {faces}", 2, 'no attribute "mouth"'),
        ("train-age --mask-state wron --data {faces}", 2, 'no class "wron"; did you mean "worn"?'),
        ("train age --given mask --data {faces}", 2, "expected ATTRIBUTE=CLASS[,CLASS]"),
        ("train-age --mask-state worn --given mask=worn --data {faces}", 2, "once an attribute"),
        ("train-mask --data {faces} --epochs 0", 2, "epochs: Input should be greater than or equal to 1"),
        ("train-mask --data {faces} --backbone resnet81 --weights none", 2, 'did you mean "resnet18"'),
        ("train-mask --data {faces} --sampler even --weights none", 2, "known: natural, balanced"),
        ("train-mask --data {faces} --folds 1", 2, "leaves nothing to train on"),
        ("train-mask --data {faces} --weights nowhere.safetensors", 3, "nowhere.safetensors"),
        ("train-mask --data {faces} --fold 9 --weights none --size 32", 2, "folds 0 to 1"),
        ("train-mask --recipe face-msk", 2, 'did you mean "face_mask"'),
        ("combine", 2, 'no run under "runs"'),
        ("combine {faces}", 3, "expected a run (run.json) or saved predictions"),
        ("combine {run} --route hardest", 2, 'did you mean "hard"'),
        ("combine {run} --vote sft", 2, 'did you mean "soft"'),
        ("combine {run} --structure tree", 2, "expected conditional, independent, flat"),
        ("combine {run} --structure flat", 2, "mask,gender,age"),
        ("combine {run} --template {faces}/train/train.csv", 3, "ImageID"),
        ("predict {run} --part evl", 2, 'did you mean "eval"'),
        ("evaluate nothing.csv --answers {faces}/eval/answers.csv", 3, "nothing.csv"),
        ("evaluate {run}/results/submission.csv", 3, "pass --answers"),
        ("card {faces}/eval/answers.csv", 3, "answers.csv"),
        ("train-mask --data {faces} --weights none --optimizer adm", 2, 'no optimizer "adm"; did you mean "adam"'),
        ("train-mask --data {faces} --weights none --schedule step=2", 2, "expected a number between 0 and 1, found 2"),
        (
            "train-mask --data {faces} --weights none --size 32 --freeze layr1",
            2,
            'no layer "layr1"; did you mean "layer1"',
        ),
        ("train-mask --data {faces} --weights none --size 32 --feature-views 1", 2, "expected a frozen backbone"),
        ("soup {run}", 3, "expected two or more checkpoints to average, found 1"),
        ("soup {run} --kind gredy", 2, 'did you mean "greedy"'),
        ("soup {run} --expert mask,gender", 3, "no such expert is finished"),
        ("soup {run} -o soup.safetensors", 2, "--out and --run are for checkpoints"),
        ("soup a.safetensors b.safetensors", 2, "name the file to write: -o OUT.safetensors"),
        ("soup a.safetensors -o soup.safetensors", 3, "a.safetensors: expected a checkpoint"),
        ("soup a.safetensors -o soup.safetensors --expert age", 2, "are for a run"),
        ("run nowhere.toml", 2, 'no recipe "nowhere.toml"'),
        ("data check", 2, "set ENS_DATA"),
        ("data generate {faces}", 3, "faces"),
        ("data generate new --size 4", 2, "expected 16 to 8192 pixels"),
        ("data generate new --eval-like other", 2, "known: training, shifted"),
        ("combine --rout hard", 2, "--rout"),
        ("trian", 2, "trian"),
    ],
)
def test_bad_calls_end_in_one_line(
    ens: Ens, combined: str, trained: Path, faces: Path, tmp_path: Path, words: str, code: int, message: str
) -> None:
    filled = words.format(faces=faces, run=trained / "runs" / "face_mask").split()
    done = ens(*filled, cwd=tmp_path, ENS_FOLDS="2")
    assert message in done.err
    assert done.code == code, done.err
    assert "Traceback" not in done.err
    if done.err.startswith("error:"):
        assert len(done.err.strip().splitlines()) == 1
    assert not any(path.name.endswith(".tmp") for path in tmp_path.rglob("*"))
