"""Settings as TOML: the few kinds of values that recipes have, written so that `tomllib` reads them back alike."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

WIDTH = 110
"""Longer lists go over several lines."""


def toml_key(name: str) -> str:
    """A key, quoted where TOML asks for it.

    Examples:
        >>> toml_key("age"), toml_key("gender,age")
        ('age', '"gender,age"')
    """
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _text(name)


def toml_value(value: Any) -> str:
    """A text, number, list or table on one line; keys of tables without a value (None) are left out.

    Examples:
        >>> toml_value(["worn", 1e-4, True, {"mask": "worn", "age": None}])
        '["worn", 0.0001, true, { mask = "worn" }]'

    Raises:
        ValueError: a kind of value that recipes do not have.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
        return repr(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(toml_value(item) for item in value)}]"
    if isinstance(value, Mapping):
        pairs = [f"{toml_key(name)} = {toml_value(item)}" for name, item in value.items() if item is not None]
        return f"{{ {', '.join(pairs)} }}" if pairs else "{}"
    raise ValueError(f"no TOML for {value!r}")


def toml_line(name: str, value: Any) -> str:
    """`name = value`, a long list one entry a line."""
    line = f"{toml_key(name)} = {toml_value(value)}"
    if len(line) <= WIDTH or not isinstance(value, list | tuple):
        return line
    return "\n".join([f"{toml_key(name)} = [", *(f"    {toml_value(item)}," for item in value), "]"])


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
