"""Values laid over a recipe as if its file had been edited: `--set train.age.epochs=3`, and a recipe's own variants."""

from __future__ import annotations

import copy
import difflib
import re
import tomllib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ensemble_kit.errors import UsageError, nearest
from ensemble_kit.recipe.settings import (
    PHASE_KEYS,
    CombineSettings,
    DataSettings,
    PredictSettings,
    Settings,
    TrainSettings,
    TuneSettings,
    VoteSettings,
)

ONE_VALUE = ("loss",)
"""Settings that may be written as a table and still are one value: another one replaces them whole."""
PART = r'"[^"]*"|[^."=\s][^."=]*'
EDIT = re.compile(rf"\s*((?:{PART})(?:\.(?:{PART}))*)\s*=(.*)", re.DOTALL)

MODELS: Mapping[str, type[Settings]] = {
    "data": DataSettings,
    "train": TrainSettings,
    "predict": PredictSettings,
    "combine": CombineSettings,
    "vote": VoteSettings,
    "tune": TuneSettings,
}
FREE = ("schema", "graph", "experts")
"""Sections whose keys are the task's own names; what they may be is checked when the recipe is read."""


@dataclass(frozen=True)
class Edit:
    """One value and where it goes: ("train", "age", "epochs")."""

    path: tuple[str, ...]
    value: Any

    @property
    def dotted(self) -> str:
        return ".".join(part if re.fullmatch(r"[\w,-]+", part) else f'"{part}"' for part in self.path)


def parse_edit(text: str) -> Edit:
    """`train.age.loss=focal`: the path, and the value as TOML writes it; what is no TOML is text.

    Examples:
        >>> parse_edit("train.age.epochs=3"), parse_edit("train.loss=focal=2").value
        (Edit(path=('train', 'age', 'epochs'), value=3), 'focal=2')
        >>> parse_edit('train."age given mask=worn".augment=["flip"]').path
        ('train', 'age given mask=worn', 'augment')

    Raises:
        UsageError: no path, no "=".
    """
    found = EDIT.fullmatch(text)
    path = tuple(part.strip('"').strip() for part in re.findall(PART, found[1])) if found else ()
    if found is None or len(path) < 2:
        raise UsageError(f'--set "{text}": expected SECTION.KEY=VALUE, as in train.epochs=5 or train.age.epochs=5')
    return Edit(path, parse_value(found[2].strip()))


def parse_value(text: str) -> Any:
    """A number, true, false, a quoted text, a list or a table as in TOML; anything else is the text itself.

    Examples:
        >>> [parse_value(text) for text in ("3", "1e-4", "true", "[30, 58]", "focal", "57-59", "2020-01-01")]
        [3, 0.0001, True, [30, 58], 'focal', '57-59', '2020-01-01']
    """
    try:
        read = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    value = read["value"]
    return value if len(read) == 1 and isinstance(value, bool | int | float | str | list | dict) else text


def edited(written: Mapping[str, Any], edits: Sequence[Edit]) -> dict[str, Any]:
    """The sections of a recipe with the edits made.

    Raises:
        UsageError: a key that no recipe has, with the nearest one; a value where a table should be.
    """
    sections = copy.deepcopy(dict(written))
    for edit in edits:
        refuse_unknown(edit, sections)
        _put(sections, edit)
    paths = {edit.path for edit in edits}
    _into_phases(sections.get("train"), ("train",), paths)
    if ("data", "folds") in paths and ("data", "val_ratio") not in paths:
        sections["data"].pop("val_ratio", None)  # two ways to divide: the one that was asked for
    return sections


def combining(stored: Mapping[str, Any], edits: Sequence[str]) -> dict[str, Any]:
    """How a run combines, with edits of `[combine]` made.

    Raises:
        UsageError: an edit of another section: the run is trained, only its combining can still be changed.
    """
    asked = [parse_edit(text) for text in edits]
    for edit in asked:
        if edit.path[0] != "combine":
            raise UsageError(f"--set {edit.dotted}: combining reads [combine] only; leave it out")
    section: dict[str, Any] = edited({"combine": dict(stored)}, asked)["combine"]
    return section


def edited_keys(edits: Sequence[str], section: str) -> set[str]:
    """The keys of a section that edits set."""
    return {edit.path[1] for edit in map(parse_edit, edits) if edit.path[0] == section}


def with_variant(written: Mapping[str, Any], variant: str) -> dict[str, Any]:
    """The recipe's sections with those of `[variants.NAME]` laid over; tables of keys are merged, values replaced.

    Raises:
        UsageError: the recipe has no such variant.
    """
    variants = written.get("variants", {})
    if variant not in variants:
        raise UsageError(f'no variant "{variant}"{nearest(variant, variants)}')
    base = {name: section for name, section in written.items() if name != "variants"}
    return _merged(base, variants[variant])


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = copy.deepcopy(dict(base))
    for key, value in over.items():
        both = isinstance(merged.get(key), dict) and isinstance(value, dict) and value and key not in ONE_VALUE
        merged[key] = _merged(merged[key], value) if both else copy.deepcopy(value)
    return merged


def _put(sections: dict[str, Any], edit: Edit) -> None:
    place: Any = sections
    for depth, part in enumerate(edit.path):
        is_last = depth == len(edit.path) - 1
        where = ".".join(edit.path[:depth])
        if isinstance(place, list):
            if not part.isdigit() or int(part) >= len(place):
                raise UsageError(f"--set {edit.dotted}: {where} has the entries 0 to {len(place) - 1}, found {part}")
            key: Any = int(part)
        elif isinstance(place, dict):
            key = _same_block(place, part)
        else:
            raise UsageError(f"--set {edit.dotted}: {where} is one value, {place!r}; set {where} itself")
        if is_last:
            place[key] = edit.value
        elif isinstance(place, dict) and key not in place and edit.path[depth + 1].isdigit():
            name = ".".join(edit.path[: depth + 1])
            raise UsageError(f"--set {edit.dotted}: the recipe has no {name}; set it whole, as in {name}=[{{}}]")
        else:
            place = place[key] if isinstance(place, list) else place.setdefault(key, {})


def _into_phases(table: Any, place: tuple[str, ...], paths: Collection[tuple[str, ...]]) -> None:
    """A key that is set beside a list of phases holds in each of them, as a flag does, unless it is set there as well.

    Args:
        table: `[train]` or a table in it, which `place` leads to; edited in place.
    """
    if not isinstance(table, dict):
        return
    phases = table.get("phases")
    for number, phase in enumerate(phases if isinstance(phases, list) else ()):
        for key in PHASE_KEYS:
            is_own = (*place, "phases", str(number), key) in paths or (*place, "phases") in paths
            if (*place, key) in paths and not is_own and isinstance(phase, dict):
                phase.pop(key, None)
    for name in [part for part in table if part not in TrainSettings.model_fields]:
        _into_phases(table[name], (*place, name), paths)


def _same_block(table: Mapping[str, Any], name: str) -> str:
    """The key that the table writes this block with: "age,gender" is "gender,age"."""
    wanted = block_names(name)
    return next((key for key in table if len(wanted) > 1 and block_names(key) == wanted), name)


def block_names(key: str) -> list[str]:
    """The attributes that a table of `[train]` is about, sorted; "age given mask=worn" is one name of its own."""
    return sorted(part.strip() for part in key.split(",")) if " given " not in key else [key]


def refuse_unknown(edit: Edit, sections: Mapping[str, Any], where: str = "--set ") -> None:
    """Raises UsageError, beginning with `where`, when no recipe of this task has the key; names the nearest one."""
    section, key = edit.path[0], edit.path[1]
    if section in FREE:
        return
    known = _known_paths(sections)
    if section == "train" and key not in TrainSettings.model_fields and _is_expert(key, sections):
        if len(edit.path) == 2:
            raise UsageError(f"{where}{edit.dotted}: is a table; set a key of it, as in {edit.dotted}.epochs=5")
        asked = Edit((section, key, edit.path[2]), None)
        known += [Edit((section, key, field), None).dotted for field in TrainSettings.model_fields]
    else:
        asked = Edit(edit.path[: 2 if key in MODELS.get(section, Settings).model_fields else 3], None)
    if asked.dotted not in known:
        raise UsageError(f"{where}{edit.dotted}: unknown key{_nearest_path(asked, known)}")


def _known_paths(sections: Mapping[str, Any]) -> list[str]:
    found = [f"{section}.{field}" for section, model in MODELS.items() for field in model.model_fields]
    found += [f"train.{name}.{field}" for name in _attributes(sections) for field in TrainSettings.model_fields]
    return found + [Edit((section, name), None).dotted for section in FREE for name in sections.get(section, {})]


def _nearest_path(asked: Edit, known: Sequence[str]) -> str:
    """The nearest key, its whole path; where nothing is near, the keys beside it."""
    close = difflib.get_close_matches(asked.dotted, known, n=1, cutoff=0.7)
    if close:
        return f'; did you mean "{close[0]}"?'
    if asked.path[0] not in MODELS:
        return nearest(asked.path[0], (*MODELS, *FREE))
    return f" (known in {asked.path[0]}: {', '.join(MODELS[asked.path[0]].model_fields)})"


def _attributes(sections: Mapping[str, Any]) -> list[str]:
    schema = sections.get("schema", {})
    named = [name for name in schema if name not in ("taxonomy", "paths")]
    return [*schema.get("taxonomy", ()), *named] if isinstance(schema, dict) else []


def _is_expert(key: str, sections: Mapping[str, Any]) -> bool:
    """Whether a key of `[train]` names an expert's table: an attribute, a block, "age given mask=worn"."""
    attributes = _attributes(sections)
    return all(name in attributes for name in block_names(key.partition(" given ")[0]))
