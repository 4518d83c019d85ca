"""`ens diagnose`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from ensemble_kit.cli.options import (
    DEFAULT_RECIPE,
    Fallback,
    Json,
    OtherData,
    PeopleAndColumns,
    RecipeName,
    Subgroups,
    Truth,
    Vote,
    default_run,
    given,
)


def diagnose(
    target: Annotated[
        Path | None, typer.Argument(help="A run, or saved predictions of experts; default the last run.")
    ] = None,
    answers: Truth = None,
    people: PeopleAndColumns = None,
    data: OtherData = None,
    subgroup: Subgroups = None,
    vote: Vote = None,
    metric: Annotated[str, typer.Option(help="macro_f1 or accuracy: what verdicts are by.")] = "macro_f1",
    fallback: Fallback = None,
    n_boot: Annotated[int, typer.Option("--draws", min=1, help="Draws of people for the intervals.")] = 1000,
    recipe: RecipeName = DEFAULT_RECIPE,
    json: Json = False,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write to this file, not to the terminal.")] = None,
) -> None:
    """Where the errors come from, whether specialised experts pay, and what to do.

    Of a run: on the evaluation photos when they are predicted and their answers known, else out of fold.
    """
    from ensemble_kit.cli.printed import as_json
    from ensemble_kit.files import write_text
    from ensemble_kit.recipe.diagnose import diagnose_target
    from ensemble_kit.recipe.load import load_recipe

    chosen, named = load_recipe(recipe), target or default_run()
    if data is None and not (named / "run.json").is_file() and "ENS_DATA" in os.environ:
        data = Path(os.environ["ENS_DATA"])  # a run knows its own data, a prediction set does not
    found = diagnose_target(
        named,
        chosen,
        answers=answers,
        people=people,
        data=data,
        subgroups=subgroup or [],
        metric=metric,
        n_boot=n_boot,
        **given({"vote": vote, "fallback": fallback}),
    )
    text = as_json(found.to_json()) if json else found.text().rstrip("\n")
    if out is None:
        print(text)
    else:
        write_text(out, text + "\n")
        print(f"diagnosis: {out}")


def add_to(app: typer.Typer) -> None:
    app.command()(diagnose)
