"""`ens run RECIPE` and `ens quickstart`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ensemble_kit.cli.options import Data, Device, Json, RunFolder, given
from ensemble_kit.cli.train import (
    BatchSize,
    Epochs,
    Folds,
    Precision,
    Restart,
    Seed,
    Size,
    Threads,
    ValRatio,
    Weights,
)


def run(
    recipe: Annotated[str, typer.Argument(help="A recipe file, or the name of a shipped recipe.")],
    data: Data = None,
    run: RunFolder = None,
    folds: Folds = None,
    val_ratio: ValRatio = None,
    weights: Weights = None,
    size: Size = None,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    precision: Precision = None,
    device: Device = None,
    threads: Threads = None,
    seed: Seed = None,
    restart: Restart = False,
) -> None:
    """Do the whole job: train every expert on every fold, predict, combine, evaluate. What is done is skipped."""
    from ensemble_kit.cli.progress import TerminalWatcher
    from ensemble_kit.recipe.load import load_recipe
    from ensemble_kit.recipe.whole import run_recipe

    flags = {
        "weights": weights, "size": size, "epochs": epochs, "batch_size": batch_size, "precision": precision,
        "device": device, "threads": threads, "seed": seed,
    }  # fmt: skip
    chosen = load_recipe(recipe).with_data(given({"folds": folds, "val_ratio": val_ratio})).with_train(given(flags))
    with TerminalWatcher() as watcher:
        run_recipe(chosen, data, run or Path("runs") / chosen.name, watcher, restart=restart)


def quickstart(
    out: Annotated[Path, typer.Option("--out", help="A folder for the photos, the run and the results.")],
    people: Annotated[
        int, typer.Option(envvar="ENS_PEOPLE", min=30, help="Training people drawn, seven photos each.")
    ] = 120,
    epochs: Epochs = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the photos, folds and weights.")] = 0,
    threads: Threads = None,
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
