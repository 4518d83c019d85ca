"""What every command prints: `--json` wherever there is a result, valid and alone on stdout; lines that fit; no colour
and no bar where nobody looks."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command_line import SMALL, Ens
from typer.main import get_command

from ensemble_kit.cli import app
from ensemble_kit.cli.printed import as_json

NO_RESULT = {
    "card": "its whole output is JSON",
    "recipes show": "its output is a recipe, which is TOML",
    "serve": "prints nothing but where it listens",
}
"""Commands without `--json`, and why."""


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    for name, one in getattr(command, "commands", {}).items():
        if hasattr(one, "commands"):
            yield from commands(one, (*path, name))
        else:
            yield " ".join((*path, name)), one


ALL = dict(commands(get_command(app)))


@pytest.mark.parametrize("name", [name for name in ALL if name not in NO_RESULT])
def test_every_result_can_be_had_as_json(name: str) -> None:
    assert "--json" in {option for parameter in ALL[name].params for option in parameter.opts}


def strict(text: str) -> Any:
    def refuse(constant: str) -> Any:
        raise AssertionError(f"no JSON: {constant}")

    return json.loads(text, parse_constant=refuse)


def calls(run: Path, faces: Path, tmp: Path) -> dict[str, list[object]]:
    """A cheap call of each command that prints a result of a run or of data."""
    photo = sorted((faces / "eval" / "images").glob("*.jpg"))[0]
    answers = faces / "eval" / "answers.csv"
    zeros = faces / "eval" / "info.csv"
    made = tmp / "recipe.toml"
    return {
        "answer": ["answer", run, "-o", tmp / "answers"],
        "check-submission": ["check-submission", answers, "--template", zeros],
        "combine": ["combine", run, "-o", tmp / "combined"],
        "compare": ["compare", answers, zeros],
        "data check": ["data", "check", faces, "--no-decode"],
        "data generate": ["data", "generate", tmp / "more", "--people", 1, "--eval-people", 1, "--size", 16],
        "data manifest": ["data", "manifest", faces, "-o", tmp / "hashes"],
        "evaluate": ["evaluate", answers, "--answers", answers],
        "explain": ["explain", run, photo, "--no-pictures"],
        "predict": ["predict", run],
        "recipes check": ["recipes", "check", "face-mask"],
        "recipes copy": ["recipes", "copy", "face-mask", made],
        "recipes list": ["recipes", "list"],
        "run": ["run", "face-mask", "--data", faces, "--run", tmp / "planned", "--dry-run"],
        "train": ["train", "mask", "--data", faces, "--run", run, "--dry-run"],
        "vote": ["vote", answers, zeros, "-o", tmp / "voted.csv"],
    }


@pytest.fixture(scope="module")
def world(ens: Ens, trained: Path, faces: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[object]]:
    found = calls(trained / "runs/face_mask", faces, tmp_path_factory.mktemp("printed"))
    assert ens("predict", trained / "runs/face_mask", "--threads", 1).code == 0
    return found


NAMES = [
    "answer", "check-submission", "combine", "compare", "data check", "data generate", "data manifest", "evaluate",
    "explain", "predict", "recipes check", "recipes copy", "recipes list", "run", "train", "vote",
]  # fmt: skip
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


@pytest.mark.parametrize("name", NAMES)
def test_json_is_valid_and_alone_on_stdout(ens: Ens, world: dict[str, list[object]], name: str) -> None:
    done = ens(*world[name], "--json", **SMALL)
    assert done.code == 0, done.err
    assert isinstance(strict(done.out), dict)
    assert not CONTROL.search(done.out + done.err)


@pytest.mark.parametrize("name", ["check-submission", "compare", "data check", "evaluate", "explain", "recipes list"])
def test_piped_text_has_no_control_signs_and_fits(ens: Ens, world: dict[str, list[object]], name: str) -> None:
    done = ens(*world[name], **SMALL)
    assert done.code == 0, done.err
    assert not CONTROL.search(done.out + done.err)
    tables = [line for line in done.out.splitlines() if "/" not in line]  # paths are as long as they are
    assert [line for line in tables if len(line) > 80] == []


def test_numbers_that_are_none_become_null() -> None:
    value = {"a": [float("nan"), float("inf"), 1.5], "b": {"c": (float("-inf"), Path("x"))}, "d": None, "e": "é"}
    assert strict(as_json(value)) == {"a": [None, None, 1.5], "b": {"c": [None, "x"]}, "d": None, "e": "é"}
    assert "é" in as_json(value)
