"""From an annotated TOML file to a checked recipe."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from ensemble_kit.data.table import check_names
from ensemble_kit.errors import DataError, UsageError, nearest
from ensemble_kit.graph import Graph, check_condition
from ensemble_kit.recipe.settings import CombineSettings, DataSettings, PhaseSettings, Settings, TrainSettings, lay_over
from ensemble_kit.recipe.taxonomy import side_by_side, taxonomy_of
from ensemble_kit.schema import Attribute, Schema

SECTIONS = ("schema", "graph", "data", "train", "experts", "combine")
AnySettings = TypeVar("AnySettings", bound=Settings)


@dataclass(frozen=True)
class ExpertSpec:
    """One expert to train: what it predicts, and for whom."""

    attributes: tuple[str, ...]
    condition: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Recipe:
    """A checked recipe: the task (schema, graph), the data, and how to train and combine.

    Attributes:
        train: the `[train]` table as written, with the tables per attribute taken out.
        train_for: attribute (or block, `"gender,age"`) -> the keys of `[train.<attribute>]`.
        experts: what `ens run` trains, in order.
    """

    name: str
    path: Path
    schema: Schema
    graph: Graph
    data: DataSettings
    train: Mapping[str, Any]
    train_for: Mapping[tuple[str, ...], Mapping[str, Any]]
    experts: tuple[ExpertSpec, ...]
    combine: CombineSettings

    def settings_for(self, attributes: Sequence[str], overrides: Mapping[str, Any] | None = None) -> TrainSettings:
        """Defaults < `[train]` < `[train.<attribute>]` < overrides (flags and environment)."""
        own = self.train_for.get(self.names_of(attributes), {})
        return validated(
            TrainSettings, lay_over(lay_over(self.train, own), overrides or {}), f"train {','.join(attributes)}"
        )

    def names_of(self, attributes: Sequence[str]) -> tuple[str, ...]:
        """A block's names in the one order used everywhere: the graph's where it is a node, else the schema's.

        Raises:
            UsageError: a name that is no attribute of this recipe, or one named twice.
        """
        try:
            return canonical(self.schema, self.graph, attributes)
        except UsageError as error:
            raise UsageError(f'recipe "{self.name}": {error}; another recipe is named with --recipe') from None

    def with_data(self, overrides: Mapping[str, Any]) -> Recipe:
        """The same recipe with some data settings laid over; folds and a validation share rule each other out.

        Raises:
            UsageError: both were given, or a value out of range.
        """
        if {"folds", "val_ratio"} <= set(overrides):
            raise UsageError("give --folds or --val-ratio, not both")
        values = {**self.data.model_dump(), **overrides}
        if "folds" in overrides:
            values["val_ratio"] = None
        return replace(self, data=validated(DataSettings, values, "data"))

    def fixes_file(self) -> Path | None:
        """The label fix list: beside the recipe, or among the shipped ones (a copied recipe keeps working).

        Raises:
            DataError: it is in neither place.
        """
        if self.data.fixes in (None, "none"):
            return None
        places = [self.path.parent / str(self.data.fixes), recipe_folder() / str(self.data.fixes)]
        for place in places:
            if place.is_file():
                return place
        raise DataError(
            f"{places[0]}: no such fix list; write fixes under [data] relative to the recipe, or leave it out"
        )

    def with_combine(self, overrides: Mapping[str, Any]) -> Recipe:
        merged = {**self.combine.model_dump(), **overrides}
        return replace(self, combine=validated(CombineSettings, merged, "combine"))

    def with_train(self, overrides: Mapping[str, Any]) -> Recipe:
        """The same recipe with some training settings laid over every expert's."""
        validated(TrainSettings, overrides, "training options")
        train_for = {key: lay_over(own, overrides) for key, own in self.train_for.items()}
        changed = replace(self, train=lay_over(self.train, overrides), train_for=train_for)
        for expert in changed.experts:
            changed.settings_for(expert.attributes)
        return changed


def validated(model: type[AnySettings], values: Mapping[str, Any], where: str) -> AnySettings:
    """Raises UsageError with every fault at once, unknown keys with the nearest known one."""
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        raise UsageError("; ".join(_fault(fault, model, where) for fault in error.errors())) from None


def _fault(fault: Any, model: type[Settings], where: str) -> str:
    if len(fault["loc"]) > 2 and fault["loc"][0] == "phases":
        number = int(fault["loc"][1]) + 1
        return _fault({**fault, "loc": fault["loc"][2:]}, PhaseSettings, f"{where}, phase {number}")
    key = str(fault["loc"][0]) if fault["loc"] else ""
    if fault["type"] == "extra_forbidden":
        return f'{where}: unknown key "{key}"{nearest(key, model.model_fields)}'
    message, found = fault["msg"].removeprefix("Value error, "), fault["input"]
    shown = "" if isinstance(found, dict) or repr(found) in message else f" (found {found!r})"
    return f"{where}{'.' if key else ''}{key}: {message}{shown}"


def recipe_folder() -> Path:
    """Where the shipped recipes lie: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    packed = package / "_recipes"
    return packed if packed.is_dir() else package.parent / "recipes"


def recipe_names() -> list[str]:
    return sorted(path.stem for path in recipe_folder().glob("*.toml"))


def find_recipe(name: str) -> Path:
    """A recipe's file: `name` is a path, or a shipped recipe's name with or without `.toml`."""
    path = Path(name)
    if path.suffix == ".toml" and path.is_file():
        return path
    stem = (path.stem if path.suffix == ".toml" else name).replace("-", "_")
    if stem in recipe_names() and path.name == name:  # a folder was named: then that very file was meant
        return recipe_folder() / f"{stem}.toml"
    raise UsageError(f'no recipe "{name}": expected a .toml file or a shipped recipe{nearest(name, recipe_names())}')


def load_recipe(name: str | Path) -> Recipe:
    """Reads and checks a recipe.

    Raises:
        UsageError: an unknown name or key, a value out of range, a graph that does not fit the schema.
        DataError: the file is not TOML, or its paths file is missing or no table of paths.
    """
    path = find_recipe(str(name))
    try:
        written = tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not readable as TOML ({error})") from None
    try:
        return _recipe(path, written)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None
    except DataError as error:  # the paths file names itself
        raise DataError(f"{path}: {error}") from None


def _recipe(path: Path, written: Mapping[str, Any]) -> Recipe:
    for key in written:
        if key not in SECTIONS:
            raise UsageError(f'unknown section "{key}"{nearest(key, SECTIONS)}')
    for key in SECTIONS:
        if not isinstance(written.get(key, {}), dict):
            raise UsageError(f'"{key}" must be a section, [{key}]')
    schema = _schema(written.get("schema", {}), (path.parent, recipe_folder()))
    check_names(schema)
    graph = Graph(written["graph"]) if "graph" in written else Graph.independent(schema)
    graph.check(schema)
    train, train_for = _train(written.get("train", {}), schema, graph)
    recipe = Recipe(
        name=path.stem,
        path=path,
        schema=schema,
        graph=graph,
        data=validated(DataSettings, written.get("data", {}), "data"),
        train=train,
        train_for=train_for,
        experts=plan_experts(schema, graph, written.get("experts", {})),
        combine=validated(CombineSettings, written.get("combine", {}), "combine"),
    )
    for expert in recipe.experts:
        recipe.settings_for(expert.attributes)
    unused = set(train_for) - {expert.attributes for expert in recipe.experts}
    if unused:
        known = [",".join(expert.attributes) for expert in recipe.experts]
        name = ",".join(sorted(unused)[0])
        raise UsageError(f'[train."{name}"]: no expert of it is trained{nearest(name, sorted(set(known)))}')
    return recipe


def canonical(schema: Schema, graph: Graph, names: Sequence[str]) -> tuple[str, ...]:
    """The names of an attribute or block in the one order used everywhere."""
    ordered = schema.in_order([name.strip() for name in names])
    node = graph.node_of(ordered)
    return node.attributes if node else ordered


def _schema(section: Mapping[str, Any], places: Sequence[Path]) -> Schema:
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


def _train(
    section: Mapping[str, Any], schema: Schema, graph: Graph
) -> tuple[dict[str, Any], dict[tuple[str, ...], dict[str, Any]]]:
    """Splits `[train]` from `[train.<attribute>]`; the latter are the values that are tables."""
    shared = {key: value for key, value in section.items() if not isinstance(value, dict)}
    own = {key: value for key, value in section.items() if isinstance(value, dict)}
    validated(TrainSettings, shared, "train")
    return shared, {canonical(schema, graph, key.split(",")): value for key, value in own.items()}


def plan_experts(schema: Schema, graph: Graph, section: Mapping[str, Any]) -> tuple[ExpertSpec, ...]:
    """The experts to train: `[experts]` where it says so, else one for every state of a node's parents.

    `[experts]` maps an attribute, or a block, to a list of conditions: a table (`{mask = "worn"}`), `"each"` (one
    for every state) or `"pooled"`. A block that is no node of the graph is trained beside it, for comparison.
    """
    wanted: dict[tuple[str, ...], list[dict[str, tuple[str, ...]]]] = {}
    for node in graph.nodes:
        wanted[node.attributes] = states_to_train(schema, node.attributes, node.parents)
    for key, conditions in section.items():
        names = canonical(schema, graph, key.split(","))
        node_or_none = graph.node_of(names)
        parents = node_or_none.parents if node_or_none else ()
        if not isinstance(conditions, list):
            raise UsageError(f'experts: "{key}" must be a list, as in ["each", "pooled", {{mask = "worn"}}]')
        wanted[names] = [c for item in conditions for c in _conditions(item, schema, names, parents)]
    return tuple(ExpertSpec(names, condition) for names, conditions in wanted.items() for condition in conditions)


def _conditions(
    item: Any, schema: Schema, names: tuple[str, ...], parents: tuple[str, ...]
) -> list[dict[str, tuple[str, ...]]]:
    if item == "each":
        return states_to_train(schema, names, parents)
    if item == "pooled":
        return [{}]
    if not isinstance(item, dict):
        raise UsageError(f'experts: expected "each", "pooled" or a condition such as {{mask = "worn"}}, found {item!r}')
    condition = check_condition(item, schema)
    if set(condition) & set(names):
        raise UsageError(f"experts: {','.join(names)} cannot be conditioned on itself, found {item!r}")
    return [condition]


def states_to_train(schema: Schema, names: Sequence[str], parents: Sequence[str]) -> list[dict[str, tuple[str, ...]]]:
    """The states of a node that need a model: those under which more than one class is possible."""
    if not parents:
        return [{}]
    own, above = schema.block(tuple(parents) + tuple(names)), schema.block(parents)
    states: list[dict[str, tuple[str, ...]]] = []
    for row in above.paths:
        below = own.paths[(own.paths[:, : len(parents)] == row).all(axis=1)]
        if len(below) > 1:
            states.append({name: (schema[name].classes[i],) for name, i in zip(parents, row, strict=True)})
    return states
