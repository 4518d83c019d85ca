"""The search of structures over a table of features or a run, and the recipe of what it found."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np

from ensemble_kit.arrays import FloatArray
from ensemble_kit.coverage import train_command
from ensemble_kit.data.rows import Rows, number_or_none, read_parquet, read_rows
from ensemble_kit.data.table import parse_labels
from ensemble_kit.errors import DataError, UsageError, nearest
from ensemble_kit.files import read_array, write_text
from ensemble_kit.recipe.evaluate import held_out_photos
from ensemble_kit.recipe.experts import ExpertSpec
from ensemble_kit.recipe.load import Recipe, load_recipe
from ensemble_kit.recipe.resolved import NAME, resolved_toml
from ensemble_kit.recipe.toml_text import toml_line
from ensemble_kit.runs import Run
from ensemble_kit.schema import Attribute, Schema
from ensemble_kit.structure_search import Candidate, StructureSearch, search_saved, search_structures

PERSON = ("group_id", "person", "people", "group")
OTHERS = ("sample_id", "path", "split", "fold", "id", "ImageID")
"""Columns of a table that are no features, whatever they hold."""

POOLED = 8
"""Side of the grid that the photos of a run's cache are averaged on."""

MAX_COLUMNS = 64
"""Features with more columns are reduced to their first principal components."""

N_COMMANDS = 50


def structures_of_run(
    run: Run, *, features: str | None = None, components: int = 32, **options: Any
) -> StructureSearch:
    """The search on a run's out-of-fold predictions, or on features of its photos.

    Args:
        features: None = the predictions of its experts. "pixels" = its cached photos, averaged on a grid; "cached" =
            what a frozen backbone made of them; else a file `(n_samples, ...)` .npy, rows as in samples.csv.
        components: principal components that features of many columns are reduced to; 0 = none.
        options: as `search_saved`, or as `search_structures` with features.

    Raises:
        UsageError, DataError: as these; no such features.
    """
    source = f"{run.folder}"
    if features is None:
        options.pop("estimator", None)
        options.pop("progress", None)
        photos = held_out_photos(run)
        found = search_saved(photos.experts, run.schema, photos.joint, groups=photos.groups, **options)
        return replace(found, source=source, commands=_commands(found, run))
    table, told = _run_features(run, features)
    reduced, note = _reduced(table, components)
    numbers = {name: run.table.numbers(name) for name in run.schema.names}
    groups = run.table.groups
    found = search_structures(reduced, numbers, schema=run.schema, groups=groups, **options)
    return replace(found, source=f"{source}, {told}", notes=(f"Experts here: {_estimator(options)} on {told}{note}.",))


def structures_of_table(
    file: Path,
    *,
    features: Sequence[str] | None = None,
    attributes: Sequence[str] | None = None,
    schema: Schema | None = None,
    people: str | None = None,
    **options: Any,
) -> StructureSearch:
    """The search on a CSV or Parquet table.

    Args:
        features: columns, patterns such as `f*` among them; every other column of numbers when left out.
        attributes: columns of labels, whose classes are those that occur; the schema's when left out.
        people: the column that says whose sample it is; `group_id`, `person`, ... where there is one.
        options: as `search_structures`.

    Raises:
        DataError: a column that is missing or holds no numbers.
    """
    rows = read_parquet(file, []) if file.suffix.lower() == ".parquet" else read_rows(file, [])
    known = _schema_of(rows, attributes) if attributes else schema
    if known is None:
        raise UsageError("name the columns of labels with --attributes mask,gender,age, or a recipe with --recipe")
    for name in known.names:
        _check_column(rows, name)
    numbers = {a.name: a.numbers(parse_labels(rows, a)) for a in known.attributes}
    person = people or next((name for name in PERSON if name in rows.columns), None)
    if person is not None:
        _check_column(rows, person)
    columns = _feature_columns(rows, features, {*known.names, person, *OTHERS})
    table = np.array([[_number(rows, name, i) for name in columns] for i in range(len(rows))], dtype=np.float64)
    groups = None if person is None else np.array(rows[person])
    found = search_structures(table, numbers, schema=known, groups=groups, **options)
    shown = ", ".join(columns[:4]) + (f" and {len(columns) - 4} more" if len(columns) > 4 else "")
    note = f"Experts here: {_estimator(options)}, on {len(columns)} features ({shown})."
    return replace(found, source=str(file), notes=(note,))


def _estimator(options: Mapping[str, Any]) -> str:
    from ensemble_kit.structure_search.sources import ESTIMATORS

    return ESTIMATORS.get(options.get("estimator", "logistic"), "estimators of your own")


# --- tables --------------------------------------------------------------------------------------------------------


def _schema_of(rows: Rows, names: Sequence[str]) -> Schema:
    for name in names:
        _check_column(rows, name)
    whole = [row for row in zip(*(rows[name] for name in names), strict=True) if all(row)]
    if not whole:
        raise DataError(f"{rows.source}: no row is labelled with all of {', '.join(names)}")
    return Schema.from_rows(names, whole)


def _check_column(rows: Rows, name: str) -> None:
    if name not in rows.columns:
        raise DataError(f'{rows.source}: no column "{name}"{nearest(name, rows.columns)}')


def _feature_columns(rows: Rows, asked: Sequence[str] | None, others: set[str | None]) -> list[str]:
    if asked is None:
        found = [n for n in rows.columns if n not in others and number_or_none((rows[n] or [""])[0]) is not None]
        if not found:
            raise DataError(f"{rows.source}: no column of numbers beside the labels; name them with --features")
        return found
    found = []
    for pattern in asked:
        matched = [name for name in rows.columns if fnmatchcase(name, pattern)]
        if not matched:
            raise DataError(f'{rows.source}: no column "{pattern}"{nearest(pattern, rows.columns)}')
        found += [name for name in matched if name not in found]
    labels = [name for name in found if name in others]
    if labels:
        raise UsageError(f'--features: "{labels[0]}" is no feature but a label, person or name of the sample')
    return found


def _number(rows: Rows, name: str, row: int) -> float:
    value = number_or_none(rows[name][row])
    if value is None:
        raise DataError(
            f'{rows.source} line {rows.lines[row]}: feature {name} is "{rows[name][row]}", expected a number; fill it '
            "in, or leave the column out with --features"
        )
    return value


# --- runs ----------------------------------------------------------------------------------------------------------


def _run_features(run: Run, features: str) -> tuple[FloatArray, str]:
    """`(n_samples, n_features)` and what they are."""
    cache = run.folder / "cache"
    if features == "cached":
        file = _newest(cache, lambda name: name.startswith("features-"), run)
        plain = read_array(file, memory_map=True)[0]
        return _flat(plain, run, file), "a frozen backbone's cached features"
    if features == "pixels":
        file = _newest(cache, lambda name: not name.startswith("features-"), run)
        return _pooled(read_array(file, memory_map=True), run, file), f"the photos' {POOLED} x {POOLED} averages"
    file = Path(features)
    if file.suffix != ".npy" or not file.is_file():
        raise UsageError(f'--features: of a run expected "pixels", "cached" or a file .npy, found "{features}"')
    return _flat(read_array(file, memory_map=True), run, file), file.name


def _newest(cache: Path, is_wanted: Callable[[str], bool], run: Run) -> Path:
    files = [file for file in cache.glob("*.npy") if is_wanted(file.name)]
    if not files:
        raise DataError(
            f"{cache}: nothing there yet; photos are cached by any training, features by one with a frozen backbone "
            f'(--set train.freeze=["backbone"]) in {run.folder}'
        )
    return max(files, key=lambda file: file.stat().st_mtime)


def _flat(values: FloatArray, run: Run, file: Path) -> FloatArray:
    if len(values) != len(run.table):
        raise DataError(f"{file}: expected {len(run.table)} rows as in samples.csv, found {len(values)}")
    return np.asarray(values, dtype=np.float64).reshape(len(values), -1)


def _pooled(photos: Any, run: Run, file: Path) -> FloatArray:
    """`(n_samples, height, width, 3)` uint8 -> averages on a grid, `(n_samples, POOLED * POOLED * 3)`."""
    if len(photos) != len(run.table):
        raise DataError(f"{file}: expected {len(run.table)} photos as in samples.csv, found {len(photos)}")
    cuts = [np.linspace(0, side, POOLED + 1).astype(np.int64)[:-1] for side in photos.shape[1:3]]
    found = np.empty((len(photos), POOLED, POOLED, 3), dtype=np.float64)
    areas = np.multiply.outer(*(np.diff([*c, side]) for c, side in zip(cuts, photos.shape[1:3], strict=True)))
    for start in range(0, len(photos), 256):
        part = np.asarray(photos[start : start + 256], dtype=np.float64)
        found[start : start + 256] = np.add.reduceat(np.add.reduceat(part, cuts[0], axis=1), cuts[1], axis=2)
    return (found / areas[:, :, None]).reshape(len(photos), -1)


def _reduced(table: FloatArray, components: int) -> tuple[FloatArray, str]:
    """The first principal components where there are many columns: labels have no part in them."""
    if table.shape[1] <= MAX_COLUMNS or components <= 0:
        return table, ""
    centred = table - table.mean(axis=0)
    _, directions = np.linalg.eigh(np.cov(centred, rowvar=False))
    return centred @ directions[:, ::-1][:, :components], f", {components} principal components"


def _commands(found: StructureSearch, run: Run) -> dict[str, tuple[str, ...]]:
    """What would train the experts of the structures that lack fewest."""
    recipe = run.folder / NAME
    where = f" --recipe {shlex.quote(str(recipe))}" if recipe.is_file() else ""
    where += f" --run {shlex.quote(str(run.folder))}"
    nearest_first = sorted(found.unscored, key=lambda one: (len(one.missing), one.candidate.size))
    return {
        one.candidate.name: tuple(train_command(role.attributes, role.condition) + where for role in one.missing)
        for one in nearest_first[:N_COMMANDS]
    }


# --- the recipe ----------------------------------------------------------------------------------------------------


def recipe_text(found: StructureSearch, base: Recipe | None) -> str:
    """The winner as a recipe: of `base` with its graph and experts, else of the schema alone."""
    winner = found.winner
    verdict = "\n".join(f"# {line}" for line in _wrapped(found.verdict))
    if base is None:
        parts = [_schema_section(found.schema), "[graph]\n" + _lines(winner.graph.to_json())]
        parts.append("[experts]\n" + _lines(_conditions(winner)))
        return f"# {winner.name}: what ens structures found.\n#\n{verdict}\n\n" + "\n\n".join(parts) + "\n"
    experts = tuple(ExpertSpec(role.attributes, role.condition) for role in winner.roles)
    names = {spec.attributes for spec in experts}
    described = {role.describe() for role in winner.roles}
    changed = replace(
        base,
        graph=winner.graph,
        experts=experts,
        train_for={key: own for key, own in base.train_for.items() if key in names},
        train_for_expert={key: own for key, own in base.train_for_expert.items() if key in described},
    )
    first, rest = resolved_toml(changed).split("\n", 1)
    return f"# {winner.name}: what ens structures found.\n#\n{verdict}\n#\n{first}\n{rest}"


def check_recipe_file(file: Path) -> None:
    """Raises UsageError unless the file's name ends in .toml."""
    if file.suffix != ".toml":
        raise UsageError(f"{file}: a recipe's name ends in .toml; name {file.with_suffix('.toml')}")


def write_recipe(file: Path, found: StructureSearch, base: Recipe | None) -> None:
    """Raises UsageError unless the file's name ends in .toml."""
    check_recipe_file(file)
    write_text(file, recipe_text(found, base))


def base_of(run: Run) -> Recipe | None:
    """The recipe that the run was made by, where it keeps one."""
    file = run.folder / NAME
    return load_recipe(str(file)) if file.is_file() else None


def _wrapped(text: str) -> list[str]:
    import textwrap

    return textwrap.wrap(text, 100, break_on_hyphens=False)


def _lines(values: Mapping[str, Any]) -> str:
    return "\n".join(toml_line(name, value) for name, value in values.items())


def _conditions(candidate: Candidate) -> dict[str, list[Any]]:
    return {
        name: [{parent: list(classes) for parent, classes in one.items()} or "pooled" for one in conditions]
        for name, conditions in candidate.conditions.items()
    }


def _schema_section(schema: Schema) -> str:
    if not schema.is_product:
        section: dict[str, Any] = {"taxonomy": list(schema.names), "paths": [list(row) for row in schema.class_rows()]}
        return "[schema]\n" + _lines(section)
    return "[schema]\n" + _lines({a.name: _attribute(a) for a in schema.attributes})


def _attribute(attribute: Attribute) -> Any:
    if attribute.borders is None:
        return list(attribute.classes)
    return {"classes": list(attribute.classes), "borders": list(attribute.borders)}
