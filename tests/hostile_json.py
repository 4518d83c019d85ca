"""Stored values altered at random, as a broken disk, a hand or an attacker would: what the tests of readers share."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np

POOL: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    3,
    10**30,
    1e308,
    float("nan"),
    float("inf"),
    "",
    "x",
    "../../outside",
    "/etc/passwd",
    "a\0b",
    "=1+1",
    [],
    {},
    [None],
    [[]],
    ["a", "a"],
    {"a": {}},
    {"name": 3},
)


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place inside a value, as the keys that lead to it."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*at, key)
        yield from places(item, (*at, key))


def altered(value: Any, rng: np.random.Generator) -> Any:
    """A copy with one place replaced, left out, doubled or (of a list) reversed."""
    changed = copy.deepcopy(value)
    found = list(places(changed))
    *way, last = found[int(rng.integers(len(found)))]
    inside = changed
    for key in way:
        inside = inside[key]
    how = int(rng.integers(4))
    if how == 0:
        del inside[last]
    elif how == 1 and isinstance(inside[last], list):
        inside[last] = inside[last][::-1]
    elif how == 2 and isinstance(inside, list):
        inside.append(copy.deepcopy(inside[last]))
    else:
        inside[last] = copy.deepcopy(POOL[int(rng.integers(len(POOL)))])
    return changed
