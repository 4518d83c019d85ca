"""Work that every test would do again and that proves nothing twice."""

from __future__ import annotations

import functools
import gc
from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest
import typer.main
import typer.testing

SHARED = ("tests/backends/", "tests/cli/")
"""Folders whose files share what takes seconds to make."""

hypothesis.settings.register_profile("no clock", deadline=None)  # how long a case took says nothing of the code
hypothesis.settings.load_profile("no clock")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """What is imported stays to the end: looking for garbage in it takes a fifth of the collection, and goes on."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def commands_are_built_once() -> Iterator[None]:
    """Typer reads the signatures of all commands at each call, which takes longer than most calls."""
    built = functools.cache(typer.main.get_command)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(typer.main, "get_command", built)
        patch.setattr(typer.testing, "_get_command", built)
        yield


def file_of(test: str) -> str:
    file = test.partition("::")[0]
    return next((folder for folder in SHARED if file.startswith(folder)), file)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """A file's tests in one process, so that its fixtures and imports are made once."""
    from xdist.scheduler import LoadScopeScheduling

    if config.option.dist != "load":  # another way was asked for
        return None
    config.option.loadscopereorder = False  # as collected: short examples of docstrings last, so that both end together
    scheduler = LoadScopeScheduling(config, log)
    scheduler._split_scope = file_of
    return scheduler
