"""Work that every test would do again and that proves nothing twice."""

from __future__ import annotations

import functools
import gc
from collections.abc import Iterator

import pytest
import typer.main
import typer.testing


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
