"""From a recipe's `[schema]` to a schema."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ensemble_kit.errors import UsageError
from ensemble_kit.recipe.taxonomy import side_by_side, taxonomy_of
from ensemble_kit.schema import Attribute, Schema


def schema_of(section: Mapping[str, Any], places: Sequence[Path]) -> Schema:
    """The attributes in the order written; `taxonomy` stands for all of its own."""
    if not section:
        raise UsageError('no [schema]; write one line an attribute, as in mask = ["worn", "incorrect", "not_worn"]')
    is_taxonomy = "taxonomy" in section
    if not is_taxonomy and _looks_like_paths(section.get("paths")):
        raise UsageError('schema: paths need their attributes beside them, as in taxonomy = ["kind", "coarse", "fine"]')
    parts: list[Schema] = []
    for name, value in section.items():
        if is_taxonomy and name == "paths":
            continue
        if is_taxonomy and name == "taxonomy":
            parts.append(taxonomy_of(value, section.get("paths"), places))
        else:
            parts.append(Schema(_attribute(name, value)))
    return side_by_side(parts)


def _looks_like_paths(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, list) and any(isinstance(item, list) for item in value))


def _attribute(name: str, value: Any) -> Attribute:
    entry = {"classes": value} if isinstance(value, list) else value
    if not isinstance(entry, dict) or not set(entry) <= {"classes", "borders"} or "classes" not in entry:
        raise UsageError(f'schema: "{name}" must be a list of classes, or {{classes = [...], borders = [...]}}')
    return Attribute(name, entry["classes"], entry.get("borders"))
