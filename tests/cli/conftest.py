"""One tiny trained run, made by the commands themselves, that the command tests share."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import SMALL, TINY, Done, Ens

from ensemble_kit.cli import main


@pytest.fixture(scope="session", autouse=True)
def tiny() -> Iterator[None]:
    """A backbone of two convolutions in the table: a ResNet18 of 45 MB is built and written in seconds each."""
    from tiny_training import tiny_backbone

    from ensemble_kit.models.backbones import BACKBONES, Backbone

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BACKBONES, TINY, Backbone(tiny_backbone))
        yield


@pytest.fixture(scope="session")
def ens(tmp_path_factory: pytest.TempPathFactory) -> Ens:
    """Runs `ens ...` in this process (torch is imported once), in a folder and an environment of its own."""
    home = tmp_path_factory.mktemp("home")

    def call(*words: object, cwd: Path = home, **environment: str) -> Done:
        out, err = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            for name in [name for name in os.environ if name.startswith("ENS_")]:
                patch.delenv(name)
            for name, value in environment.items():
                patch.setenv(name, value)
            patch.setattr(sys, "argv", ["ens", *map(str, words)])
            patch.chdir(cwd)
            code = 0
            try:
                main()
            except SystemExit as stop:
                code = int(stop.code or 0)
        return Done(code, out.getvalue(), err.getvalue())

    return call


@pytest.fixture(scope="session")
def faces(ens: Ens, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Generated faces, 36 + 6 people, 32 px."""
    out = tmp_path_factory.mktemp("data") / "faces"
    done = ens("data", "generate", out, "--people", 36, "--eval-people", 6, "--size", 32)
    assert done.code == 0, done.err
    return out


@pytest.fixture(scope="session")
def trained(ens: Ens, faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the documented training lines have been run as they stand, with ENS_DATA set."""
    folder = tmp_path_factory.mktemp("work")
    for line in (
        "train-mask",
        "train-gender",
        "train-age --mask-state worn",
        "train-age --mask-state incorrect",
        "train-age --mask-state not_worn",
    ):
        done = ens(*line.split(), cwd=folder, ENS_DATA=str(faces), **SMALL)
        assert done.code == 0, f"ens {line}: {done.err}"
    return folder
