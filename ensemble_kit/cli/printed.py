"""What is printed: results as text or as JSON, valid whatever the numbers are; no name acts on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import isfinite
from pathlib import Path
from typing import Any, Protocol

from ensemble_kit.shown import shown


class Result(Protocol):
    """What a command found: as plain values, and as text to be read."""

    def to_json(self) -> Mapping[str, Any]: ...
    def text(self) -> str: ...


def show(found: Result, json: bool) -> None:
    """Prints a result: JSON where --json was given, else text, no line wider than a terminal usually is."""
    if json:
        print(as_json(found.to_json()))
    else:
        tell(found.text().rstrip("\n"))


def tell(text: str) -> None:
    """Prints text, its lines broken where they are wider than a terminal usually is."""
    from ensemble_kit.columns import folded

    print(folded(text))


def as_json(value: Any) -> str:
    """Indented JSON; what is no finite number becomes null, since NaN is no JSON.

    Examples:
        >>> print(as_json({"score": float("nan"), "file": Path("a"), "rows": (1, 2)}))
        {
          "score": null,
          "file": "a",
          "rows": [
            1,
            2
          ]
        }
    """
    from json import dumps

    return dumps(_plain(value), indent=2, ensure_ascii=False, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, Path):
        return str(value)
    return None if isinstance(value, float) and not isfinite(value) else value


class Plain:
    """A stream that writes out what cannot be seen, so that a file name does not colour, move or rename a terminal."""

    def __init__(self, stream: Any):
        self.stream = stream

    def write(self, text: str) -> int:
        self.stream.write(shown(text))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextmanager
def plain_streams() -> Iterator[None]:
    """Everything printed inside goes through `Plain`; a progress bar, whose own signs act, writes below it."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = Plain(sys.stdout), Plain(sys.stderr)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
