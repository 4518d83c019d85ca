"""`--help` of every command: 80 columns, and no long list without headings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from ensemble_kit.cli import app
from ensemble_kit.cli.help import COMMANDS
from ensemble_kit.cli.training_options import DATA_OPTIONS, PANELS, TRAIN_OPTIONS

MOST = 15
"""Options under one heading."""

ROOT = get_command(app)


def paths(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    for name, one in getattr(command, "commands", {}).items():
        yield from paths(one, (*path, name))


def text_of(path: tuple[str, ...]) -> str:
    done = CliRunner().invoke(app, [*path, "--help"], env={"COLUMNS": "80", "TERMINAL_WIDTH": "80"})
    assert done.exit_code == 0
    return done.output


@pytest.mark.parametrize("path", list(paths(ROOT)), ids=" ".join)
def test_help_fits_and_its_lists_are_short(path: tuple[str, ...]) -> None:
    text = text_of(path)
    assert max(map(len, text.splitlines())) <= 80
    sections = re.split(r"\n(?=\S[^\n]*:\n  )", text)[1:]
    assert [part for part in sections if len(re.findall(r"^  \S", part, re.M)) > MOST] == []
    assert all("\x1b" not in part for part in sections)


def test_commands_are_told_in_whole_sentences() -> None:
    for path in ((), ("data",), ("recipes",)):
        commands = text_of(path).partition("\n\n")[2]
        assert "..." not in commands


def test_every_command_and_every_option_of_training_stands_under_one_heading() -> None:
    named = [name for names in COMMANDS.values() for name in names]
    assert sorted(named) == sorted(getattr(ROOT, "commands", {}))
    options = [name for names in PANELS.values() for name in names]
    assert sorted(options) == sorted({**DATA_OPTIONS, **TRAIN_OPTIONS})
