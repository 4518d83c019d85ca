"""Trial 0, the recipe as it stands: which values of the parameters it has."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ensemble_kit.graph import describe_expert
from ensemble_kit.recipe.edits import parse_edit
from ensemble_kit.recipe.load import Recipe
from ensemble_kit.recipe.settings import TrainSettings
from ensemble_kit.recipe.space import Choices, Parameter, edit_text

Load = Callable[[Sequence[str]], Recipe]
"""Edits -> the recipe with them."""


def first_params(space: Sequence[Parameter], load: Load) -> tuple[dict[str, Any], list[str]]:
    """The values of the recipe as it stands, {} when the space does not hold all of them; and what it does not hold."""
    recipe = load(())
    found: dict[str, Any] = {}
    outside: list[str] = []
    for parameter in space:
        value = value_of(recipe, parameter.key)
        if isinstance(parameter, Choices):
            alike = [
                one
                for one in parameter.values
                if value_of(load([edit_text(parameter.key, one)]), parameter.key) == value
            ]
        else:
            alike = [value] if parameter.holds(value) else []
        if alike:
            found[parameter.key] = alike[0]
        else:
            outside.append(f"{parameter.key} = {value}" if value is not None else parameter.key)
    return ({} if outside else found), outside


def value_of(recipe: Recipe, key: str) -> Any:
    """A setting's value once everything is resolved, as JSON has it; None where it has none, or several."""
    section, *rest = parse_edit(f"{key}=0").path
    if section == "train":
        return _of_training(recipe, rest)
    if section in ("data", "combine"):
        return _at(getattr(recipe, section).model_dump(mode="json"), rest)
    return _at(recipe.sections.get(section), rest)


def _of_training(recipe: Recipe, path: Sequence[str]) -> Any:
    settings = _settings(recipe, path[0])
    own = path if path[0] in TrainSettings.model_fields else path[1:]
    phases = [phase.model_dump(mode="json") for phase in settings.resolved_phases()]
    if own[0] == "phases" and len(own) > 1:
        return _at(phases, own[1:])
    values = [_at(phase, own) for phase in phases]  # a key beside phases is set in each of them
    return values[0] if all(value == values[0] for value in values) else None


def _settings(recipe: Recipe, name: str) -> TrainSettings:
    if name in TrainSettings.model_fields:
        return TrainSettings.model_validate(dict(recipe.train))
    for spec in recipe.experts:
        if describe_expert(spec.attributes, spec.condition) == " ".join(name.split()):
            return recipe.settings_for(spec.attributes, condition=spec.condition)
    return recipe.settings_for(name.split(","))


def _at(place: Any, path: Sequence[str]) -> Any:
    for part in path:
        if isinstance(place, Mapping):
            place = place.get(part)
        elif isinstance(place, Sequence) and not isinstance(place, str) and part.isdigit() and int(part) < len(place):
            place = place[int(part)]
        else:
            return None
    return place
