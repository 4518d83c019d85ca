"""The README tells the truth: its Python runs, its commands parse, CI runs its test line, its picture is there."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import typer

import ensemble_kit as ek
from ensemble_kit.cli import app
from ensemble_kit.recipe.files import recipe_folder
from ensemble_kit.recipe.load import load_recipe

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def commands() -> list[str]:
    """Every `ens ...` that the README shows, in blocks and in the text."""
    shown = re.findall(r"^(?:\.venv/bin/)?(ens [^#\n]*)", "\n".join(blocks("bash")), flags=re.MULTILINE)
    shown += re.findall(r"&& \.venv/bin/(ens [^\n]*)", README)
    shown += re.findall(r"`(ens [^`]+)`", README)
    return sorted({line.strip() for line in shown})


def saved_experts(folder: Path) -> None:
    """Six experts with two voters each, random numbers, as `ens quickstart` would have left them."""
    schema = load_recipe("quickstart").schema
    rng = np.random.default_rng(0)
    ids = [f"{number}.jpg" for number in range(20)]
    states = ("worn", "incorrect", "not_worn")
    wanted = [("mask", {}), ("gender", {}), ("age", {}), *(("age", {"mask": (state,)}) for state in states)]
    experts = []
    for name, condition in wanted:
        probs = rng.dirichlet(np.ones(len(schema[name].classes)), size=(2, len(ids)))
        experts.append(ek.Predictions(schema[name], probs, ids, condition, voters=["fold0", "fold1"]))
    ek.save_predictions(folder / "quickstart/run/predictions/eval", experts, schema)
    template = folder / "quickstart/photos/eval/info.csv"
    template.parent.mkdir(parents=True)
    template.write_text("ImageID,ans\n" + "".join(f"{name},0\n" for name in reversed(ids)), encoding="utf-8")


def test_the_python_blocks_run_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved_experts(tmp_path)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    assert len(blocks("python")) == 5
    for block in blocks("python"):
        exec(compile(block, "README.md", "exec"), names)
    written = (tmp_path / "output.csv").read_text().splitlines()
    assert written[0] == "ImageID,ans"
    assert [line.split(",")[0] for line in written[1:]] == [f"{number}.jpg" for number in reversed(range(20))]


def test_there_are_commands_to_check() -> None:
    assert len(commands()) > 12
    assert {"ens train-mask", "ens train-gender", "ens train-age --mask-state worn", "ens combine"} <= set(commands())


@pytest.mark.parametrize("line", commands())
def test_the_commands_parse(line: str) -> None:
    line = line.replace("[RUN or SET ...]", "RUN")
    words = shlex.split(line)[1:]
    command = typer.main.get_command(app)
    while words and not words[0].startswith("-") and hasattr(command, "commands"):
        command = command.commands[words.pop(0)]
    if words and words != ["--help"]:  # a bare name in the text is a mention, not a call
        command.make_context("ens", words)


def test_ci_runs_the_test_line() -> None:
    after = README.split("<!-- tests -->")[1]
    line = after.split("```bash\n")[1].split("\n")[0]
    assert line.startswith("python3 -m venv .venv")
    script = (ROOT / ".ci" / "run").read_text("utf-8")
    assert "<!-- tests -->" in script
    assert 'bash -c "$test_line"' in script


def test_every_picture_and_recipe_named_is_there() -> None:
    for path in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / path).is_file(), path
    for path in re.findall(r"`(recipes/[\w.]+\.\w+)`", README):
        assert (ROOT / path).is_file(), path


def test_the_routing_recipe_runs_alone_and_on_saved_predictions(tmp_path: Path) -> None:
    saved_experts(tmp_path)
    program = [sys.executable, str(recipe_folder() / "custom_routing.py")]
    alone = subprocess.run(program, capture_output=True, text=True, check=True)
    assert "photos: 4" in alone.stdout
    saved = [*program, str(tmp_path / "quickstart/run/predictions/eval")]
    assert "photos: 20" in subprocess.run(saved, capture_output=True, text=True, check=True).stdout
