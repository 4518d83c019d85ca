"""What a recipe, a flag or a variable may write for a value, brought into the one form that settings hold."""

from __future__ import annotations

import re
from typing import Any


def as_pair(value: Any) -> Any:
    """One number, `"224"`, `"0.8,0.6"` and `[h, w]` all become a (height, width) pair."""
    if isinstance(value, str):
        value = [float(part) if "." in part else int(part) for part in value.replace("x", ",").split(",")]
        value = value[0] if len(value) == 1 else value
    return (value, value) if isinstance(value, int | float) else value


def as_ranges(value: Any) -> Any:
    """`"57-59"`, `"27-29,57-59"` and `["57-59"]` become ((57, 59),): both ends are left out."""
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, list | tuple):
        return value
    return tuple(as_range(part) if isinstance(part, str) else part for part in parts)


def as_range(text: str) -> tuple[float, float]:
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(?:-\s*(\d+(?:\.\d+)?))?\s*", text)
    if not found:
        raise ValueError(f'expected a range such as "57-59", found {text!r}')
    low = float(found[1])
    high = float(found[2]) if found[2] else low
    if high < low:
        raise ValueError(f'expected a range such as "57-59", found {text!r}, which ends before it begins')
    return low, high


def as_numbers(value: Any) -> Any:
    return [float(part) for part in value.split(",")] if isinstance(value, str) else value


def as_columns(value: Any) -> Any:
    """`"20,30,45"` becomes edges; a name stays one."""
    return as_numbers(value) if isinstance(value, str) and re.fullmatch(r"[\d.,\s]+", value) else value


def as_place(value: Any) -> Any:
    """`"0.4,0.5"` becomes shares; center and boxes stay names."""
    return as_numbers(value) if isinstance(value, str) and re.fullmatch(r"[\d.,\s]+", value) else value


def as_whole_numbers(value: Any) -> Any:
    return [int(part) for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def as_names(value: Any) -> Any:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def as_none(value: Any) -> Any:
    return None if value == "none" else value


def as_names_or_none(value: Any) -> Any:
    return () if value == "none" else as_names(value)


def as_sum(value: Any) -> Any:
    """`{ cross_entropy = 1.0, macro_f1 = 0.5 }` becomes `"cross_entropy+0.5*macro_f1"`."""
    if not isinstance(value, dict):
        return value
    if not all(isinstance(share, int | float) and not isinstance(share, bool) for share in value.values()):
        raise ValueError(
            f"expected loss -> its share, as in {{ cross_entropy = 1.0, macro_f1 = 0.5 }}, found {value!r}"
        )
    return "+".join(name if share == 1 else f"{share}*{name}" for name, share in value.items())


def as_rule_or_numbers(value: Any) -> Any:
    """`"1,2,4"` becomes numbers; `"balanced"` stays a name."""
    if isinstance(value, str) and re.fullmatch(r"[\d.,\s]+", value):
        return as_numbers(value)
    return value


def as_by_node(value: Any) -> Any:
    """`"coarse:hard; fine:top_k=3"` becomes a table, one rule a node; a plain name stays one for all."""
    if not isinstance(value, str) or ":" not in value:
        return value
    parts = [part.partition(":") for part in value.split(";") if part.strip()]
    for node, colon, rule in parts:
        if not (node.strip() and colon and rule.strip()):
            raise ValueError(f'expected one rule, or "node:rule; node:rule", found {value!r}')
    return {node.strip(): rule.strip() for node, _, rule in parts}


def as_classes_by_attribute(value: Any) -> Any:
    """`"age=>=60; mask=worn,incorrect"` and `{ age = ">=60" }` become attribute -> classes."""
    if isinstance(value, str):
        parts = [part.partition("=") for part in value.split(";") if part.strip()]
        if not all(name.strip() and equals and classes.strip() for name, equals, classes in parts):
            raise ValueError(f'expected ATTRIBUTE=CLASS[,CLASS], as in "age=>=60", found {value!r}')
        value = {name.strip(): classes for name, _, classes in parts}
    if not isinstance(value, dict):
        return value
    return {name: as_names(classes) for name, classes in value.items()}
