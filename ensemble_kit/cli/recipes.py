"""`ens recipes`: list, show, copy and check recipes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ensemble_kit.cli.options import Edits, Json
from ensemble_kit.cli.printed import as_json, tell

Name = Annotated[str, typer.Argument(help="A shipped recipe's name, or a recipe file.")]
Variant = Annotated[str | None, typer.Option("--variant", help="One of the recipe's variants.")]

recipes = typer.Typer(no_args_is_help=True, help="The shipped recipes, and files of your own.")


@recipes.command("list")
def list_recipes(json: Json = False) -> None:
    """List the shipped recipes, each with what it is for."""
    from ensemble_kit.recipe.files import recipe_names
    from ensemble_kit.recipe.load import load_recipe
    from ensemble_kit.recipe.show import headline

    names = recipe_names()
    if json:
        loaded = [(name, load_recipe(name)) for name in names]
        told = [{"name": n, "about": headline(one.path), "variants": list(one.variants)} for n, one in loaded]
        print(as_json({"recipes": told}))
        return
    width = max(map(len, names))
    for name in names:
        recipe = load_recipe(name)
        print(_beside(f"{name:<{width}}  ", headline(recipe.path)))
        if recipe.variants:
            print(_beside(f"{'':<{width}}    --variant ", ", ".join(recipe.variants)))


def _beside(label: str, text: str) -> str:
    """The text in lines of 80 signs, all of them beside the label."""
    from textwrap import fill

    return fill(text, 80, initial_indent=label, subsequent_indent=" " * len(label), break_on_hyphens=False)


@recipes.command()
def show(
    name: Name,
    resolved: Annotated[bool, typer.Option("--resolved", help="Every key with its value, defaults filled in.")] = False,
    edits: Edits = None,
    variant: Variant = None,
) -> None:
    """Print a recipe as it is written, or resolved: every key with its value, as a recipe that runs again."""
    from ensemble_kit.errors import UsageError
    from ensemble_kit.recipe.files import find_recipe
    from ensemble_kit.recipe.load import load_recipe
    from ensemble_kit.recipe.resolved import resolved_toml

    if (edits or variant) and not resolved:
        raise UsageError("--set and --variant change the values, not the file; add --resolved to see them")
    text = resolved_toml(load_recipe(name, edits or (), variant)) if resolved else find_recipe(name).read_text("utf-8")
    print(text, end="")


@recipes.command()
def copy(
    name: Name,
    file: Annotated[Path | None, typer.Argument(help="Where to; default NAME.toml in this folder.")] = None,
    json: Json = False,
) -> None:
    """Copy a recipe to change it; run the copy by its path."""
    from ensemble_kit.recipe.show import copy_recipe

    made = copy_recipe(name, file)
    if json:
        print(as_json({"recipe": made}))
        return
    tell(f'{made}: change it, look at it with "ens recipes check {made}", run it with "ens run {made} --data DATA"')


@recipes.command()
def check(name: Name, edits: Edits = None, json: Json = False) -> None:
    """Check a recipe without any data: unknown keys, values out of range, the graph, each variant."""
    from ensemble_kit.recipe.show import check_recipe

    text = check_recipe(name, edits or ())
    if json:
        print(as_json({"recipe": name, "found": text.splitlines()}))
        return
    tell(text)


def add_to(app: typer.Typer) -> None:
    app.add_typer(recipes, name="recipes")
