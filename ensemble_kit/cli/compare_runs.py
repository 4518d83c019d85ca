"""`ens compare-runs`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ensemble_kit.cli.options import Json


def compare_runs(
    runs: Annotated[list[Path], typer.Argument(help="Run folders, two or more.")],
    against: Annotated[
        str, typer.Option(help="What differences are from: first, best (by joint macro F1), or one of the runs.")
    ] = "first",
    n_boot: Annotated[int, typer.Option("--draws", min=1, help="Draws of people for the intervals.")] = 1000,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="A folder for the learning curves, the text and the JSON.")
    ] = None,
    json: Json = False,
) -> None:
    """Put runs side by side on their out-of-fold predictions, and say which differences are real.

    Macro F1 and accuracy, joint and per attribute, with intervals over people; spread over folds; time; room on disk.
    """
    from ensemble_kit.cli.printed import show
    from ensemble_kit.recipe.compare_runs import compare_runs as compare
    from ensemble_kit.recipe.compare_runs import save_comparison

    found = compare(runs, against=against, n_boot=n_boot)
    saved = save_comparison(out, found) if out else []
    show(found, json)
    if saved and not json:
        print(f"\nlearning curves: {saved[0]}" if saved[0].suffix == ".png" else f"\nwritten: {saved[0]}")


def add_to(app: typer.Typer) -> None:
    app.command("compare-runs")(compare_runs)
