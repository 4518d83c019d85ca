"""ruff's security rules hold for the whole package; each exception is listed here with its reason."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import ensemble_kit

PACKAGE = Path(ensemble_kit.__file__).parent
EXCEPTIONS = {
    ("loading/transforms.py", "S311"): "albumentations takes a random.Random; nothing secret is drawn",
    ("recipe/space.py", "S311"): "draws trials of a search; nothing secret is drawn",
    ("training/gpus.py", "S108"): "a lock that other accounts share; nothing that stands in the file is trusted",
}


def test_security_rules_are_on_and_their_exceptions_are_known() -> None:
    lint = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())["tool"]["ruff"]["lint"]
    assert "S" in lint["select"]
    assert [rule for rule in lint["ignore"] if rule.startswith("S")] == ["S101"]
    found = {
        (str(path.relative_to(PACKAGE)), rule)
        for path in PACKAGE.rglob("*.py")
        for comment in re.findall(r"# noqa: ?([A-Z0-9, ]+)", path.read_text())
        for rule in re.findall(r"\bS\d+", comment)
    }
    assert found == set(EXCEPTIONS)
