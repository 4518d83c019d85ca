"""The hash of a function of one's own: another where it does something else, the same in every process."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ensemble_kit.own_code import code_sha256


def part_of(text: str, **names: Any) -> Callable[..., Any]:
    """`part` of a little module."""
    module: dict[str, Any] = {"__name__": "own", "np": np, "functools": functools, **names}
    exec(compile(textwrap.dedent(text), "own.py", "exec"), module)
    part: Callable[..., Any] = module["part"]
    return part


BASE = """
    SCALE = 2.0
    names = {"a"}

    def helper(x):
        return x + 1

    def make(power, table):
        def part(x, p=0.5, *, q=("a", 1)):
            return helper(x) ** power * SCALE + p + len(table) + (x in {"a", "b", "c"})
        return part

    part = make(2, [1, 2])
"""
CLASS = """
    import math

    class Base:
        def helper(self, x):
            return x + 1

    class Part(Base):
        def __init__(self, power):
            self.power = power
            self._calls = 0

        @property
        def twice(self):
            return 2 * self.power

        def __call__(self, x):
            return self.helper(x) ** self.twice

    part = Part(2)
"""


@pytest.mark.parametrize(
    ("text", "old", "new"),
    [
        (BASE, "** power", "* power"),
        (BASE, "make(2,", "make(3,"),
        (BASE, "[1, 2]", "[1, 3]"),
        (BASE, "p=0.5", "p=0.25"),
        (BASE, '("a", 1)', '("a", 2)'),
        (BASE, "x + 1", "x + 2"),
        (BASE, "SCALE = 2.0", "SCALE = 3.0"),
        (BASE, '"c"}', '"d"}'),
        (CLASS, "Part(2)", "Part(3)"),
        (CLASS, "2 * self", "3 * self"),
        (CLASS, "x + 1", "x + 2"),
        (CLASS, "part = Part(2)", "part = Part"),
        (CLASS, "part = Part(2)", "part = Part(2).helper"),
        ("part = functools.partial(np.full, 3)", "3", "4"),
        ("part = functools.partial(print, end='a')", "'a'", "'b'"),
        ("part = functools.partial(np.add, np.arange(3))", "np.arange(3)", "np.arange(4)"),
        ("part = functools.partial(np.add, 1)", "np.add", "np.multiply"),
        ("part = lambda x: [y + 'a' for y in x]", "'a'", "'b'"),
    ],
)
def test_what_does_something_else_has_another_hash(text: str, old: str, new: str) -> None:
    assert old in text
    assert code_sha256(part_of(text)) == code_sha256(part_of(text))
    assert code_sha256(part_of(text)) != code_sha256(part_of(text.replace(old, new)))


@pytest.mark.parametrize(
    ("text", "old", "new"),
    [
        (BASE, "        def part", "\n\n        # moved, and told about\n        def part"),
        (BASE.replace("return helper", '"""Told."""; return helper'), "Told", "Said"),
        (BASE, 'names = {"a"}', 'names = {"b"}'),
        (CLASS, "part = Part(2)", "part = Part(2)\n    part._calls = 5"),
        (CLASS, "    class Part(Base):\n", '    class Part(Base):\n        """Told."""\n\n'),
    ],
)
def test_lines_docstrings_and_what_is_not_used_do_not_enter(text: str, old: str, new: str) -> None:
    assert old in text
    changed = text.replace(old, new)
    assert code_sha256(part_of(text)) == code_sha256(part_of(changed))


def test_modules_of_torch_are_told_from_each_other_by_their_state() -> None:
    import torch
    from torch import nn

    losses = [nn.CrossEntropyLoss(weight=torch.tensor(weights)) for weights in ([1.0, 2.0], [1.0, 2.0], [2.0, 1.0])]
    smoothed = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0]), label_smoothing=0.1)
    first, same, other = (code_sha256(loss) for loss in losses)
    assert first == same
    assert len({first, other, code_sha256(smoothed), code_sha256(nn.MSELoss())}) == 4


def test_cycles_end() -> None:
    recursive = part_of("def part(n):\n    return 0 if n < 1 else part(n - 1)\n")
    assert code_sha256(recursive) == code_sha256(recursive)
    loop: list[Any] = []
    loop.append(loop)
    assert code_sha256(functools.partial(print, loop))


def test_every_process_comes_to_the_same(tmp_path: Path) -> None:
    """Fresh from the source and from the compiled file, under several hash seeds."""
    (tmp_path / "own.py").write_text(textwrap.dedent(BASE) + "\nOTHER = ('a', 1)\n", encoding="utf-8")
    code = "import own; from ensemble_kit.own_code import code_sha256; print(code_sha256(own.part))"
    found = set()
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        found.add(done.stdout)
    assert len(found) == 1
