"""Results as JSON on stdout, for other programs: valid whatever the numbers are."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from pathlib import Path
from typing import Any


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
