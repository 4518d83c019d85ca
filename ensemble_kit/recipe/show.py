"""Recipes as files to look at, copy and check."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ensemble_kit.errors import UsageError
from ensemble_kit.files import write_text
from ensemble_kit.graph import describe_expert
from ensemble_kit.recipe.belief_file import load_beliefs
from ensemble_kit.recipe.files import find_recipe
from ensemble_kit.recipe.load import Recipe, load_recipe
from ensemble_kit.recipe.run import check_predict, check_settings
from ensemble_kit.recipe.space import check_values
from ensemble_kit.recipe.starts import check_own, in_order
from ensemble_kit.recipe.votes import members_of


def headline(path: Path) -> str:
    """The first sentence of a recipe's first comment."""
    lines: list[str] = []
    for line in path.read_text("utf-8").splitlines():
        if not line.startswith("#") or not line.strip("# "):
            break
        lines.append(line.strip("# "))
    text = " ".join(lines)
    return text.partition(". ")[0].rstrip(".")


def copy_recipe(name: str, file: Path | None) -> Path:
    """Copies a recipe, to `NAME.toml` here when no file is named; what it refers to is found from there as well.

    Raises:
        UsageError: no such recipe, or the file is there already.
    """
    source = find_recipe(name)
    target = Path(source.name) if file is None else file / source.name if file.is_dir() else file
    if target.suffix != ".toml":
        raise UsageError(f"{target}: a recipe's name ends in .toml; name {target.with_suffix('.toml')}")
    if target.exists():
        raise UsageError(f"{target}: is there already; name another file")
    write_text(target, source.read_text("utf-8"))
    return target


def check_recipe(name: str, edits: Sequence[str] = ()) -> str:
    """Reads a recipe and its variants and looks every name up; returns what they would train.

    Raises:
        UsageError: what is wrong, in one line.
        DataError: the file is no recipe.
    """
    recipe = load_recipe(name, edits)
    lines = [_described(recipe)]
    if recipe.vote.of:
        members_of(recipe, edits)
        lines.append(f"{recipe.name}: a vote of {', '.join(recipe.vote.of)}")
    lines += [_described(load_recipe(name, edits, variant)) for variant in recipe.variants]
    if recipe.space:
        check_values(recipe.space, lambda more: check_names(load_recipe(name, [*edits, *more])))
        lines.append(f"ens tune searches {len(recipe.space)} settings: {', '.join(p.key for p in recipe.space)}")
    if "beliefs" in recipe.sections:
        file = load_beliefs(name, edits)
        lines.append(f"ens beliefs tests {len(file.beliefs)}: {', '.join(one.name for one in file.beliefs)}")
    return "\n".join(lines)


def check_names(recipe: Recipe) -> None:
    """Raises UsageError where a table of the training does not know a name, or settings do not go together."""
    settings_of = [recipe.settings_for(spec.attributes, condition=spec.condition) for spec in recipe.experts]
    for spec, settings in zip(recipe.experts, settings_of, strict=True):
        check_settings(recipe.schema, spec, settings)
    starts = [settings.weights for settings in settings_of]
    check_own(recipe.experts, starts)
    in_order(recipe.experts, starts)


def _described(recipe: Recipe) -> str:
    recipe.fixes_file()
    check_predict(recipe)
    check_names(recipe)
    share = recipe.data.val_ratio
    division = f"{recipe.data.folds} folds" if share is None else f"one validation share of {share:g}"
    names = [describe_expert(spec.attributes, spec.condition) for spec in recipe.experts]
    return f"{recipe.name}: well-formed; {len(names)} expert{'s' * (len(names) != 1)}, {division}: {'; '.join(names)}"
