"""`ens run RECIPE` and `ens quickstart`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from ensemble_kit.cli.options import Json, given
from ensemble_kit.cli.train import Restart
from ensemble_kit.cli.training_options import run_folder, training_command


@training_command
def run(
    recipe: Annotated[str, typer.Argument(help="A recipe file, or the name of a shipped recipe.")],
    restart: Restart = False,
    *,
    data: Path | None,
    run: Path | None,
    division: Mapping[str, Any],
    flags: Mapping[str, Any],
) -> None:
    """Do the whole job: train every expert on every fold, predict, combine, evaluate. What is done is skipped."""
    from ensemble_kit.cli.progress import TerminalWatcher
    from ensemble_kit.recipe.load import load_recipe
    from ensemble_kit.recipe.whole import run_recipe

    chosen = load_recipe(recipe).with_data(division).with_train(flags)
    with TerminalWatcher() as watcher:
        run_recipe(chosen, data, run_folder(run, chosen.name), watcher, restart=restart)


def quickstart(
    out: Annotated[Path, typer.Option("--out", help="A folder for the photos, the run and the results.")],
    people: Annotated[
        int, typer.Option(envvar="ENS_PEOPLE", min=30, help="Training people drawn, seven photos each.")
    ] = 160,
    epochs: Annotated[int | None, typer.Option(envvar="ENS_EPOCHS", min=1, help="Default: the recipe's.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the photos, folds and weights.")] = 0,
    threads: Annotated[int | None, typer.Option(envvar="ENS_THREADS", min=1, help="CPU threads.")] = None,
    json: Json = False,
) -> None:
    """Draw faces, train mask, gender and age experts on two folds, combine them, and show what conditioning does.

    Nothing is downloaded. Run it again on the same folder and what is done is skipped.
    """
    from json import dumps

    from ensemble_kit.cli.progress import TerminalWatcher
    from ensemble_kit.recipe.quickstart import run_quickstart

    with TerminalWatcher(stderr=json) as watcher:
        report = run_quickstart(
            out, watcher, people=people, seed=seed, flags=given({"epochs": epochs, "threads": threads})
        )
    if json:
        print(dumps(report, indent=2))


def add_to(app: typer.Typer) -> None:
    app.command("quickstart")(quickstart)
    app.command("run")(run)
