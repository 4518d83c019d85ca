"""A run whose files were altered, through the commands that read it: exit 0 or 3, one line, no code run.

`pytest -m slow -s tests/cli/test_hostile_runs.py` prints the counts of the long campaign.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from command_line import SMALL, Done, Ens
from hostile_json import altered

RECIPE = """
[schema]
kind = ["bright", "dark"]
shade = ["red", "blue"]

[graph]
kind = []
shade = ["kind"]

[experts]
kind = ["pooled"]
shade = ["pooled"]

[combine]
fallback = "pooled"

[train]
batch_size = 16
augment = []
"""


@pytest.fixture(scope="module")
def world(ens: Ens, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a data set, a run on it, and fitted temperatures."""
    folder = tmp_path_factory.mktemp("hostile")
    rng = np.random.default_rng(0)
    (folder / "data").mkdir()
    lines = ["path,kind,shade,split"]
    for number in range(32):
        photo = rng.normal((170, 80)[number % 2], 20, (32, 32, 3))
        photo[..., 2 * (number // 2 % 2)] += 60
        cv2.imwrite(str(folder / "data" / f"{number:02}.png"), np.clip(photo, 0, 255).astype(np.uint8))
        kind, shade = ("bright", "dark")[number % 2], ("blue", "red")[number // 2 % 2]
        lines.append(f"{number:02}.png,{kind},{shade},{'train' if number < 24 else 'test'}")
    (folder / "data" / "samples.csv").write_text("\n".join(lines) + "\n")
    (folder / "task.toml").write_text(RECIPE)
    for words in (("run", "task.toml", "--data", "data", "--run", "r"), ("fit", "temperature", "r", "-o", "t.json")):
        done = ens(*words, cwd=folder, **SMALL)
        assert done.code == 0, done.err
    return folder


CARD_FILE = "experts/kind/fold0/best.safetensors"
COMMANDS: dict[str, tuple[str, ...]] = {
    "combine": ("combine", "r", "--fitted", "t.json"),
    "predict": ("predict", "r"),
    "answer": ("answer", "r"),
    "evaluate": ("evaluate", "r"),
    "diagnose": ("diagnose", "r"),
    "card": ("card", f"r/{CARD_FILE}"),
    "fit": ("fit", "temperature", "r", "-o", "u.json"),
    "train": ("train", "kind", "--recipe", "task.toml", "--data", "data", "--run", "r"),
    "staged": (
        "train",
        "shade",
        "--recipe",
        "task.toml",
        "--data",
        "data",
        "--run",
        "s",
        "--weights",
        f"r/{CARD_FILE}",
    ),
}
JSON_FILES = (
    "r/run.json",
    "r/experts/kind/expert.json",
    "r/experts/kind/fold0/DONE",
    "r/predictions/eval/predictions.json",
    "t.json",
)
OTHER_FILES = (
    f"r/{CARD_FILE}",
    "r/experts/kind/fold0/oof.npy",
    "r/predictions/eval/ids.npy",
    "r/predictions/eval/kind/fold0.npy",
    "r/predictions/eval/errors.csv",
    "r/samples.csv",
)


def ran(ens: Ens, folder: Path, command: str) -> Done:
    done = ens(*COMMANDS[command], cwd=folder, **SMALL)
    assert "Traceback" not in done.err
    return done


def test_the_files_are_there_and_the_commands_work(ens: Ens, world: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(world, tmp_path / "copy")
    for name in (*JSON_FILES, *OTHER_FILES):
        assert (folder / name).is_file(), name
    for command in COMMANDS:
        assert ran(ens, folder, command).code == 0, command


def damaged(content: bytes, is_json: bool, rng: np.random.Generator) -> bytes:
    how = int(rng.integers(4 if is_json else 2))
    if how == 0:
        return content[: int(rng.integers(len(content)))]
    if how == 1:
        at = int(rng.integers(len(content)))
        return content[:at] + bytes([content[at] ^ 1 << int(rng.integers(8))]) + content[at + 1 :]
    return json.dumps(altered(json.loads(content), rng)).encode()


@pytest.mark.parametrize("name", ["../../out", "/tmp/out", "..", "a/b", "a\0b"])
def test_a_prediction_set_stays_inside_its_run(ens: Ens, world: Path, name: str) -> None:
    done = ens("predict", "r", "--name", name, cwd=world, **SMALL)
    assert done.code == 2
    assert "a prediction set has a plain name" in done.err


WRONG_NAMES: dict[str, tuple[str, Any, str]] = {
    "route": ("combine", {"route": "hrad"}, 'no route "hrad"; did you mean "hard"?'),
    "route of a node": ("combine", {"route": {"kind": "hard"}}, '"kind" is no node with parents'),
    "vote": ("combine", {"vote": "sotf"}, 'unknown vote "sotf"; did you mean "soft"?'),
    "borders": ("combine", {"borders": {"kind": [1]}}, 'the classes of "kind" are names'),
    "view": ("predict", {"tta": ["flop"]}, 'no view "flop"; did you mean "flip"?'),
    "back end": ("predict", {"backend": "troch"}, 'no back end "troch"; did you mean "torch"?'),
    "compiling": ("predict", {"compile": "of"}, '--compile: no way "of"; did you mean "off"?'),
    "layout": ("layout", "tabel", 'no layout "tabel"; did you mean "table"?'),
}
"""Kind -> a key of run.json, what is put into it, and what is told."""


@pytest.mark.parametrize("kind", WRONG_NAMES)
def test_a_name_that_a_run_holds_wrongly_is_its_datas_fault(ens: Ens, world: Path, tmp_path: Path, kind: str) -> None:
    key, value, told = WRONG_NAMES[kind]
    folder = shutil.copytree(world, tmp_path / "copy")
    info = json.loads((folder / "r/run.json").read_text())
    info[key] = {**info[key], **value} if isinstance(value, dict) else value
    (folder / "r/run.json").write_text(json.dumps(info))
    for command in (
        ("predict",) if key == "predict" else ("combine", "answer") if key == "combine" else ("predict", "answer")
    ):
        done = ran(ens, folder, command)
        assert done.code == 3, (command, done.err)
        assert "run.json" in done.err
        assert told in done.err


@pytest.mark.parametrize("times", [1, pytest.param(40, marks=pytest.mark.slow)])
def test_altered_files_end_in_one_error_whatever_reads_them(ens: Ens, world: Path, tmp_path: Path, times: int) -> None:
    rng = np.random.default_rng(0)
    counts: Counter[Any] = Counter()
    commands, wrong = list(COMMANDS), []
    for name in (*JSON_FILES, *OTHER_FILES):
        for number in range(times):
            folder = shutil.copytree(world, tmp_path / "copy")
            content = (folder / name).read_bytes()
            if content:
                (folder / name).write_bytes(damaged(content, name in JSON_FILES, rng))
            command = commands[(number + len(name)) % len(commands)]
            try:
                done = ran(ens, folder, command)
            except Exception as error:  # every one is wanted, not the first alone
                done = Done(1, "", repr(error))
            if done.code not in (0, 3) or (done.code == 3 and "\nerror: " not in f"\n{done.err}"):
                wrong.append((name, command, done.code, done.err[-300:]))
            counts[done.code] += 1
            shutil.rmtree(folder)
    print(f"\n{counts.total()} altered files through {len(COMMANDS)} commands: by exit code {dict(counts)}")
    assert not wrong


class Bomb:
    def __init__(self, target: Path):
        self.target = target

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.target),)


def test_pickles_are_never_run(ens: Ens, world: Path, tmp_path: Path) -> None:
    target = tmp_path / "exploded"
    folder = shutil.copytree(world, tmp_path / "copy")
    content = pickle.dumps(Bomb(target))
    places = {
        "card": f"r/{CARD_FILE}",
        "staged": f"r/{CARD_FILE}",
        "combine": "t.json",
        "fit": "r/experts/kind/fold0/oof.npy",
        "evaluate": "r/run.json",
    }
    for command, name in places.items():
        before = (folder / name).read_bytes()
        (folder / name).write_bytes(content)
        assert ran(ens, folder, command).code == 3, command
        (folder / name).write_bytes(before)
    assert not target.exists()
