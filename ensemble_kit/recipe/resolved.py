"""The resolved recipe: every key with its value, as a recipe that can be run again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ensemble_kit.files import write_text
from ensemble_kit.graph import describe_expert
from ensemble_kit.recipe.files import recipe_folder
from ensemble_kit.recipe.load import Recipe, validated
from ensemble_kit.recipe.settings import Settings, TrainSettings, without_ruled_out
from ensemble_kit.recipe.toml_text import toml_key, toml_line

NAME = "recipe.toml"


def resolved_toml(recipe: Recipe) -> str:
    """Sections in the order of recipes; keys that are not set stand as comments, since TOML has no word for that.

    What the recipe names relative to its own file is named absolutely, so that the text may lie elsewhere. Flags and
    variables that were laid over the recipe are in it; its variants are not.
    """
    parts = [f"# Every setting of {recipe.name}, resolved from {recipe.path.name}: run it with ens run THIS_FILE"]
    parts.append(_table("schema", _schema(recipe)))
    parts.append(_table("graph", recipe.graph.to_json()))
    parts.append(_settings("data", recipe.data, _data(recipe)))
    shared = validated(TrainSettings, recipe.train, "train")
    parts.append(_settings("train", shared))
    parts += _own_tables(recipe, shared)
    parts.append(_table("experts", _experts(recipe)))
    parts.append(_settings("predict", recipe.predict))
    parts.append(_settings("combine", recipe.combine))
    if "tune" in recipe.sections:
        parts.append(_tune(recipe))
    return "\n\n".join(parts) + "\n"


def save_resolved(folder: Path, recipe: Recipe) -> Path:
    """Writes `recipe.toml` into a run folder."""
    file = Path(folder) / NAME
    write_text(file, resolved_toml(recipe))
    return file


def _settings(name: str, settings: Settings, changed: Mapping[str, Any] | None = None, left_out: str = "") -> str:
    """One section, each key with its help, but the one left out."""
    lines = [f"[{name}]"]
    values = {**_dump(settings), **(changed or {})}
    for key, field in type(settings).model_fields.items():
        if key == left_out:
            continue
        value, told = values[key], field.description
        lines.append(f"# {key}: not set; {told}" if value is None else _told(toml_line(key, value), told))
    return "\n".join(lines)


def _tune(recipe: Recipe) -> str:
    """`[tune]`, each parameter on a line of its own."""
    space = [f"space.{toml_line(key, value)}" for key, value in recipe.tune.space.items()]
    return "\n".join([_settings("tune", recipe.tune, left_out="space"), *space])


def _dump(settings: Settings) -> dict[str, Any]:
    """The values, without those that another key rules out."""
    values = settings.model_dump(mode="json")
    return dict.fromkeys(values) | without_ruled_out(values)


def _told(line: str, told: str | None) -> str:
    return f"# {told}\n{line}" if "\n" in line or len(line) > 40 else f"{line:<40}  # {told}"


def _table(name: str, values: Mapping[str, Any]) -> str:
    return "\n".join([f"[{name}]", *(toml_line(key, value) for key, value in values.items())])


def _own_tables(recipe: Recipe, shared: TrainSettings) -> list[str]:
    """`[train.<attribute>]` and `[train."age given mask=worn"]`: what differs from the table above it."""
    written = _dump(shared)
    tables = {",".join(names): (names, own) for names, own in recipe.train_for.items()}
    found = []
    for key, (names, own) in tables.items():
        values = _dump(recipe.settings_for(names))
        found.append(_own(key, {name: values[name] for name in own if values[name] != written[name]}))
    for spec in recipe.experts:
        key = describe_expert(spec.attributes, spec.condition)
        own = recipe.train_for_expert.get(key, {})
        values = _dump(recipe.settings_for(spec.attributes, condition=spec.condition))
        found.append(_own(key, {name: values[name] for name in own}))
    return [text for text in found if text]


def _own(key: str, values: Mapping[str, Any]) -> str:
    kept = {name: "none" if value is None else value for name, value in values.items()}
    return _table(f"train.{toml_key(key)}", kept) if kept else ""


def _schema(recipe: Recipe) -> dict[str, Any]:
    section = dict(recipe.sections["schema"])
    if isinstance(section.get("paths"), str):
        places = (recipe.path.parent / section["paths"], recipe_folder() / section["paths"])
        section["paths"] = str(next(place for place in places if place.is_file()).resolve())
    return section


def _data(recipe: Recipe) -> dict[str, Any]:
    """Files relative to the recipe, named absolutely; shipped ones keep their names."""
    changed: dict[str, Any] = {}
    if recipe.data.path is not None:
        changed["path"] = str((recipe.path.parent / recipe.data.path).resolve())
    if recipe.data.extra is not None:
        changed["extra"] = str((recipe.path.parent / recipe.data.extra).resolve())
    fixes = recipe.fixes_file()
    if fixes is not None and fixes.parent != recipe_folder():
        changed["fixes"] = str(fixes.resolve())
    return changed


def _experts(recipe: Recipe) -> dict[str, list[Any]]:
    """Every expert that is trained, and [] for nodes without one: nothing is left to the graph."""
    found: dict[str, list[Any]] = {node.name: [] for node in recipe.graph.nodes}
    for spec in recipe.experts:
        condition = {name: list(classes) for name, classes in spec.condition.items()}
        found.setdefault(",".join(spec.attributes), []).append(condition or "pooled")
    return found
