"""`ens structures`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ensemble_kit.cli.options import Json, default_run

FEATURES, SPACE = "Tables and features", "Which structures are tried"


def structures(
    target: Annotated[
        Path | None, typer.Argument(help="A run, or a table of features (.csv, .parquet); default the last run.")
    ] = None,
    features: Annotated[
        str | None,
        typer.Option(
            help='Columns of a table: "f1,f2" or "f*". Of a run\'s photos: pixels, cached, or a file .npy.',
            rich_help_panel=FEATURES,
        ),
    ] = None,
    attributes: Annotated[
        str | None,
        typer.Option(
            help="Columns of labels: mask,gender,age; their classes are those that occur.", rich_help_panel=FEATURES
        ),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(envvar="ENS_RECIPE", help="Its schema for a table; what -o builds on. Default a run's own."),
    ] = None,
    people: Annotated[
        str | None,
        typer.Option(help="A table's column of persons; default group_id or person.", rich_help_panel=FEATURES),
    ] = None,
    estimator: Annotated[
        str, typer.Option(help="For features: logistic, forest or boosting.", rich_help_panel=FEATURES)
    ] = "logistic",
    components: Annotated[
        int,
        typer.Option(
            min=0,
            help="Principal components that a run's features of many columns are cut to.",
            rich_help_panel=FEATURES,
        ),
    ] = 32,
    edge: Annotated[
        list[str] | None,
        typer.Option(
            help="Only this may condition that: mask->age; may be given several times.", rich_help_panel=SPACE
        ),
    ] = None,
    max_parents: Annotated[
        int | None, typer.Option(min=0, help="Of one attribute; default any number.", rich_help_panel=SPACE)
    ] = None,
    group: Annotated[
        bool, typer.Option(help="Whether classes of a parent may share an expert.", rich_help_panel=SPACE)
    ] = True,
    blocks: Annotated[
        bool, typer.Option(help="Also experts that predict several attributes jointly.", rich_help_panel=SPACE)
    ] = False,
    metric: Annotated[str, typer.Option(help="macro_f1 or accuracy, of the joint class.")] = "macro_f1",
    route: Annotated[str, typer.Option(help="soft, hard, threshold=0.9, ...")] = "soft",
    folds: Annotated[int, typer.Option(min=2, help="Parts of the people; each scores what the others chose.")] = 5,
    n_boot: Annotated[int, typer.Option("--draws", min=100, help="Draws of people.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Of folds and draws.")] = 0,
    json: Json = False,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write the winner as a recipe to this file.")] = None,
) -> None:
    """Which attribute should condition which: every structure scored out of fold, the simplest one not beaten.

    Of a run its trained experts are asked; structures that lack experts are named with the commands that train them.
    With --features, and of a table, every expert is fitted anew on the features, so every structure has a score.
    """
    from ensemble_kit.cli.printed import show, tell
    from ensemble_kit.cli.progress import TerminalWatcher
    from ensemble_kit.errors import DataError
    from ensemble_kit.recipe.load import load_recipe
    from ensemble_kit.recipe.structures import (
        base_of,
        check_recipe_file,
        structures_of_run,
        structures_of_table,
        write_recipe,
    )
    from ensemble_kit.runs import Run
    from ensemble_kit.structure_search import Space

    if out is not None:
        check_recipe_file(out)  # before the work
    named = target or default_run()
    space = Space(_edges(edge), max_parents, group, blocks)
    base = None if recipe is None else load_recipe(recipe)
    options: dict[str, Any] = {
        "space": space, "metric": metric, "route": route, "folds": folds, "n_boot": n_boot, "seed": seed,
    }  # fmt: skip
    with TerminalWatcher(stderr=True) as watcher:
        watcher.begin("fitting experts", 1)
        options |= {"estimator": estimator, "progress": lambda done, total: watcher.advance(done / total)}
        if (named / "run.json").is_file():
            run = Run.open(named)
            base = base or base_of(run)
            found = structures_of_run(run, features=features, components=components, **options)
        elif named.suffix.lower() in (".csv", ".parquet"):
            found = structures_of_table(
                named,
                features=None if features is None else _names(features),
                attributes=None if attributes is None else _names(attributes),
                schema=None if base is None else base.schema,
                people=people,
                **options,
            )
        else:
            raise DataError(f"{named}: expected a run (a folder with run.json) or a table .csv or .parquet")
    if out is not None:
        write_recipe(out, found, base)
    show(found, json)
    if out is not None and not json:
        tell(f'\nrecipe: {out} ("ens recipes check {out}" says what it would train)')


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _edges(texts: list[str] | None) -> dict[str, list[str]] | None:
    """`["mask->age"]` -> `{"age": ["mask"]}`."""
    from ensemble_kit.errors import UsageError

    if not texts:
        return None
    found: dict[str, list[str]] = {}
    for text in texts:
        parent, arrow, child = (part.strip() for part in text.partition("->"))
        if not arrow or not parent or not child:
            raise UsageError(f'--edge: expected PARENT->CHILD, as in "mask->age" (in quotes), found "{text}"')
        found.setdefault(child, []).append(parent)
    return found


def add_to(app: typer.Typer) -> None:
    app.command()(structures)
