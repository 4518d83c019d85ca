"""From an annotated TOML file to a checked recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from ensemble_kit.arrays import Condition
from ensemble_kit.data.table import check_names
from ensemble_kit.errors import DataError, UsageError, nearest
from ensemble_kit.files import slug, taking_apart
from ensemble_kit.graph import Graph, describe_expert, expert_key
from ensemble_kit.recipe.edits import Edit, edited, parse_edit, with_variant
from ensemble_kit.recipe.experts import ExpertSpec as ExpertSpec
from ensemble_kit.recipe.experts import canonical, has_borders, plan_experts
from ensemble_kit.recipe.files import naming, read_sections, recipe_folder
from ensemble_kit.recipe.rules import check_rules
from ensemble_kit.recipe.schema_section import schema_of
from ensemble_kit.recipe.settings import (
    MEASURED,
    CombineSettings,
    DataSettings,
    PhaseSettings,
    PredictSettings,
    Settings,
    TrainSettings,
    TuneSettings,
    VoteSettings,
    lay_over,
)
from ensemble_kit.recipe.space import Parameter, parse_space
from ensemble_kit.runs import Run
from ensemble_kit.schema import Schema

SECTIONS = ("schema", "graph", "data", "train", "experts", "predict", "combine", "vote", "tune", "variants", "beliefs")
AnySettings = TypeVar("AnySettings", bound=Settings)


@dataclass(frozen=True)
class Recipe:
    """A checked recipe: the task (schema, graph), the data, and how to train and combine.

    Attributes:
        train: the `[train]` table as written, with the tables per attribute taken out.
        train_for: attribute (or block, `"gender,age"`) -> the keys of `[train.<attribute>]`.
        train_for_expert: `age given mask=worn` -> the keys of `[train."age given mask=worn"]`.
        experts: what `ens run` trains, in order.
        space: what `ens tune` may change, `tune` how it goes about it.
        sections: the file's, with the variant and the edits in them.
        edits: values set over the file; flags and the environment do not replace them.
        vote: who votes when the recipe is run without choosing a variant; nobody in a variant.
        variants: names of `[variants.NAME]`.
    """

    name: str
    path: Path
    schema: Schema
    graph: Graph
    data: DataSettings
    train: Mapping[str, Any]
    train_for: Mapping[tuple[str, ...], Mapping[str, Any]]
    train_for_expert: Mapping[str, Mapping[str, Any]]
    experts: tuple[ExpertSpec, ...]
    predict: PredictSettings
    combine: CombineSettings
    vote: VoteSettings
    tune: TuneSettings
    space: tuple[Parameter, ...]
    sections: Mapping[str, Any]
    edits: tuple[Edit, ...]
    variants: tuple[str, ...]

    def settings_for(
        self,
        attributes: Sequence[str],
        overrides: Mapping[str, Any] | None = None,
        *,
        condition: Condition | None = None,
    ) -> TrainSettings:
        """Defaults < `[train]` < `[train.<attribute>]` < `[train."<expert>"]` < overrides (flags and environment)."""
        names = self.names_of(attributes)
        expert = describe_expert(names, condition or {})
        settings = dict(self.train)
        for layer in (self.train_for.get(names, {}), self.train_for_expert.get(expert, {}), overrides or {}):
            settings = lay_over(settings, layer)
        return validated(TrainSettings, settings, f"train {expert}")

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
        set_already = self.edited_keys("data")
        if {"folds", "val_ratio"} & set_already:
            set_already |= {"folds", "val_ratio"}
        overrides = {key: value for key, value in overrides.items() if key not in set_already}
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
        kept = {key: value for key, value in overrides.items() if key not in self.edited_keys("combine")}
        merged = {**self.combine.model_dump(), **kept}
        return replace(self, combine=validated(CombineSettings, merged, "combine"))

    def with_train(self, overrides: Mapping[str, Any]) -> Recipe:
        """The same recipe with some training settings laid over every expert's; what was set by an edit stays."""
        validated(TrainSettings, overrides, "training options")
        laid = {key: value for key, value in overrides.items() if key not in self.edited_keys("train")}

        def over(own: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
            kept = {path[0] for path in self._set_for(names)}
            phases = {path[1:] for path in self._set_for(names) if path[0] == "phases"}
            return lay_over(own, {key: value for key, value in laid.items() if key not in kept}, phases)

        changed = replace(
            self,
            train=lay_over(self.train, laid, {e.path[2:] for e in self.edits if e.path[:2] == ("train", "phases")}),
            train_for={names: over(own, names) for names, own in self.train_for.items()},
            train_for_expert={key: over(own, (key,)) for key, own in self.train_for_expert.items()},
        )
        changed.check_experts()
        return changed

    def check_experts(self) -> None:
        """Raises UsageError when the settings of an expert to be trained are not what they should be."""
        for spec in self.experts:
            self.settings_for(spec.attributes, condition=spec.condition)

    def edited_keys(self, section: str) -> set[str]:
        """The keys of a section that edits set."""
        return {edit.path[1] for edit in self.edits if edit.path[0] == section}

    def _set_for(self, names: Sequence[str]) -> set[tuple[str, ...]]:
        """What edits set in one expert's table, as paths from there."""
        key = expert_key(",".join(names))
        return {
            edit.path[2:]
            for edit in self.edits
            if len(edit.path) > 2 and edit.path[0] == "train" and expert_key(edit.path[1]) == key
        }


def validated(model: type[AnySettings], values: Mapping[str, Any], where: str) -> AnySettings:
    """Raises UsageError with every fault at once, unknown keys with the nearest known one."""
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        raise UsageError("; ".join(_fault(fault, model, where) for fault in error.errors())) from None


def combine_of(run: Run) -> dict[str, Any]:
    """How a run combines, as its `run.json` says.

    Raises:
        DataError: it says what cannot be.
    """
    with taking_apart(run.folder / "run.json"):
        chosen = validated(CombineSettings, run.combine, "combine")
        check_rules(chosen, run.schema, run.graph)
        return chosen.model_dump()


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


def load_recipe(name: str | Path, edits: Sequence[str] = (), variant: str | None = None) -> Recipe:
    """Reads and checks a recipe, its variants too.

    Args:
        edits: values set over it, as in `train.age.epochs=3`, see `parse_edit`.
        variant: one of `[variants]`, laid over the rest; its name becomes part of the recipe's.

    Raises:
        UsageError: an unknown name or key, a value out of range, a graph that does not fit the schema.
        DataError: the file is not TOML, or its paths file is missing or no table of paths.
    """
    return read_recipe(name).load(edits, variant)


@dataclass(frozen=True)
class RecipeFile:
    """A recipe as its file was written when it was read, from which it can be loaded again with other edits."""

    path: Path
    written: Mapping[str, Any]

    def load(self, edits: Sequence[str] = (), variant: str | None = None) -> Recipe:
        """As `load_recipe`."""
        asked = tuple(parse_edit(text) for text in edits)
        with naming(self.path):
            return _chosen(self.path, self.written, asked, variant)


def read_recipe(name: str | Path) -> RecipeFile:
    """Reads a recipe's file, see `read_sections`."""
    return RecipeFile(*read_sections(name))


def load_variants(name: str | Path, edits: Sequence[str] = ()) -> dict[str, Recipe]:
    """Every variant of a recipe, by its name, with edits made below them: a variant's own values stay.

    Args:
        edits: of the values that the variants share, as in `train.epochs=3`; or of one variant alone, laid over it, as
            in `variants.focal.train.epochs=5`.

    Raises:
        UsageError, DataError: as `load_recipe`; an edit of a variant that is not there.
    """
    path, written = read_sections(name)
    asked = [parse_edit(text) for text in edits]
    with naming(path):
        _check_sections(written)
        variants = written.get("variants", {})
        shared = edited({k: v for k, v in written.items() if k != "variants"}, [e for e in asked if not _is_own(e)])
        own = [Edit(edit.path[1:], edit.value) for edit in asked if _is_own(edit)]
        for edit in own:
            if edit.path[0] not in variants:
                raise UsageError(f"--set variants.{edit.dotted}: no such variant{nearest(edit.path[0], variants)}")
            if len(edit.path) < 3:
                raise UsageError(f"--set variants.{edit.dotted}: set a key of a section, as in train.epochs=5")
        found = {}
        for variant in variants:
            sections = with_variant({**shared, "variants": variants}, variant)
            over = [Edit(edit.path[1:], edit.value) for edit in own if edit.path[0] == variant]
            try:
                found[variant] = _recipe(path, edited(sections, over), (), tuple(variants))
            except UsageError as error:
                raise UsageError(f"variants.{variant}: {error}") from None
        return {name: replace(one, name=f"{one.name}-{name}") for name, one in found.items()}


def _is_own(edit: Edit) -> bool:
    return edit.path[0] == "variants"


def _chosen(path: Path, written: Mapping[str, Any], edits: tuple[Edit, ...], variant: str | None) -> Recipe:
    """The recipe, or one of its variants; without a choice the variants, as written, are checked beside it."""
    _check_sections(written)
    names = tuple(written.get("variants", {}))
    chosen = written if variant is None else with_variant(written, variant)
    recipe = _recipe(path, edited(chosen, edits), edits, names)
    if variant is not None:
        return replace(recipe, name=f"{recipe.name}-{variant}", vote=validated(VoteSettings, {}, "vote"))
    for name in names:
        try:
            _recipe(path, with_variant(written, name), (), names)
        except UsageError as error:
            raise UsageError(f"variants.{name}: {error}") from None
    return recipe


def _check_sections(written: Mapping[str, Any]) -> None:
    for key in written:
        if key not in SECTIONS:
            raise UsageError(f'unknown section "{key}"{nearest(key, SECTIONS)}')
    for key in SECTIONS:
        if not isinstance(written.get(key, {}), dict):
            raise UsageError(f'"{key}" must be a section, [{key}]')
    for name, table in written.get("variants", {}).items():
        if not isinstance(table, dict) or name != slug(name):
            raise UsageError(f'variants: expected tables with plain names, as in [variants.focal], found "{name}"')
        if "variants" in table:
            raise UsageError(f"variants.{name}: has variants of its own; write them beside it")
        _check_sections(table)


def _recipe(path: Path, written: Mapping[str, Any], edits: tuple[Edit, ...], variants: tuple[str, ...]) -> Recipe:
    schema = schema_of(written.get("schema", {}), (path.parent, recipe_folder()))
    check_names(schema)
    graph = Graph(written["graph"]) if "graph" in written else Graph.independent(schema)
    graph.check(schema)
    train, train_for, own_tables = _train(written.get("train", {}), schema, graph)
    experts = plan_experts(schema, graph, written.get("experts", {}))
    train_for_expert = _as_described(own_tables, experts)
    tune = validated(TuneSettings, written.get("tune", {}), "tune")
    recipe = Recipe(
        name=path.stem,
        path=path,
        schema=schema,
        graph=graph,
        data=validated(DataSettings, written.get("data", {}), "data"),
        train=train,
        train_for=train_for,
        train_for_expert=train_for_expert,
        experts=experts,
        predict=validated(PredictSettings, written.get("predict", {}), "predict"),
        combine=validated(CombineSettings, written.get("combine", {}), "combine"),
        vote=validated(VoteSettings, written.get("vote", {}), "vote"),
        tune=tune,
        space=parse_space(tune.space, written),
        sections={key: value for key, value in written.items() if key != "variants"},
        edits=edits,
        variants=variants,
    )
    check_rules(recipe.combine, schema, graph)
    recipe.check_experts()
    _refuse_measured(recipe)
    described = [describe_expert(spec.attributes, spec.condition) for spec in recipe.experts]
    for key in train_for_expert:
        if key not in described:
            raise UsageError(f'[train."{key}"]: no such expert is trained{nearest(key, described)}')
    unused = set(train_for) - {expert.attributes for expert in recipe.experts}
    if unused:
        known = [",".join(expert.attributes) for expert in recipe.experts]
        name = ",".join(sorted(unused)[0])
        raise UsageError(f'[train."{name}"]: no expert of it is trained{nearest(name, sorted(set(known)))}')
    return recipe


def _as_described(
    tables: Mapping[str, Mapping[str, Any]], experts: Sequence[ExpertSpec]
) -> dict[str, Mapping[str, Any]]:
    """The tables of single experts by the name that each has everywhere, whatever the order it was written in."""
    described = [describe_expert(spec.attributes, spec.condition) for spec in experts]
    name_of = {expert_key(name): name for name in described}
    found: dict[str, Mapping[str, Any]] = {}
    for key, own in tables.items():
        name = name_of.get(expert_key(key), key)
        found[name] = lay_over(found.get(name, {}), own)  # an edit may have written it in another order
    return found


def _refuse_measured(recipe: Recipe) -> None:
    """Raises UsageError where an attribute's or expert's own table has keys that it makes nothing of."""
    tables = {",".join(names): (names, own) for names, own in recipe.train_for.items()}
    for spec in recipe.experts:
        key = describe_expert(spec.attributes, spec.condition)
        tables.setdefault(key, (spec.attributes, recipe.train_for_expert.get(key, {})))
    for key, (names, own) in tables.items():
        given = validated(TrainSettings, own, f"train {key}")
        found = [name for name in MEASURED if getattr(given, name) != TrainSettings.model_fields[name].default]
        if found and not has_borders(recipe.schema, names):
            raise UsageError(
                f"train {key}: {' and '.join(found)}: about a measured attribute; {','.join(names)} is none"
            )


def _train(
    section: Mapping[str, Any], schema: Schema, graph: Graph
) -> tuple[dict[str, Any], dict[tuple[str, ...], dict[str, Any]], dict[str, dict[str, Any]]]:
    """Splits `[train]` from `[train.age]` and `[train."age given mask=worn"]`: the tables that are no setting."""
    own = {k: v for k, v in section.items() if isinstance(v, dict) and k not in TrainSettings.model_fields}
    shared = {key: value for key, value in section.items() if key not in own}
    validated(TrainSettings, shared, "train")
    train_for = {canonical(schema, graph, key.split(",")): own[key] for key in own if " given " not in key}
    return shared, train_for, {" ".join(key.split()): own[key] for key in own if " given " in key}
