"""`ens fit weights` and `ens fit temperature`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ensemble_kit.cli.options import DEFAULT_RECIPE, Json, OtherData, RecipeName, default_run, given

Kind = Annotated[str, typer.Argument(help="weights (which voters to trust) or temperature (how sure to be).")]
Sources = Annotated[list[Path] | None, typer.Argument(help="Runs or saved predictions; default the last run.")]


def fit(
    kind: Kind,
    sources: Sources = None,
    on: Annotated[str, typer.Option(help="joint, or experts: each one by itself.")] = "joint",
    metric: Annotated[
        str | None, typer.Option(help="Of weights: macro_f1 (default), accuracy, log_loss or brier.")
    ] = None,
    rounds: Annotated[int | None, typer.Option(min=0, help="Of weights: votes added to each expert.")] = None,
    bags: Annotated[int | None, typer.Option(min=0, help="Of weights: climbs with half of the voters each.")] = None,
    folds: Annotated[int | None, typer.Option(min=2, help="Of weights: parts of the people, each scored once.")] = None,
    route: Annotated[str | None, typer.Option(envvar="ENS_ROUTE", help="As ens combine will be told.")] = None,
    vote: Annotated[str | None, typer.Option(envvar="ENS_VOTE", help="Of temperatures: as ens combine.")] = None,
    vote_at: Annotated[
        str | None, typer.Option(envvar="ENS_VOTE_AT", help="expert, or joint: whole chains are weighed.")
    ] = None,
    answers: Annotated[Path | None, typer.Option(help="ImageID,ans of the predicted photos.")] = None,
    people: Annotated[Path | None, typer.Option(help="ImageID,person; default people.csv beside the answers.")] = None,
    name: Annotated[str, typer.Option(help="Which prediction set of a run, with --answers or --data.")] = "eval",
    data: OtherData = None,
    recipe: RecipeName = DEFAULT_RECIPE,
    seed: Annotated[int, typer.Option(min=0, help="Of folds, bags and intervals.")] = 0,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Default results/KIND.json inside the run.")] = None,
    json: Json = False,
) -> None:
    """Fit voters' weights or temperatures on labelled photos, and say whether they help.

    A run is fitted on its held-out training photos, or, with --answers or --data, on predicted photos with answers.
    """
    from json import dumps

    from ensemble_kit.recipe.fit import FitOptions, find_fitter
    from ensemble_kit.recipe.fit import fit as fit_kind
    from ensemble_kit.recipe.labelled import read_labelled
    from ensemble_kit.recipe.load import load_recipe

    find_fitter(kind)
    named = sources or [default_run()]
    settings = given({"route": route, "vote": vote, "vote_at": vote_at})
    labelled = read_labelled(
        named,
        recipe=load_recipe(recipe),
        answers=answers,
        people=people,
        data=data,
        name=name,
        settings=settings,
    )
    options = FitOptions(on, metric, rounds=rounds, bags=bags, n_folds=folds, seed=seed)  # type: ignore[arg-type]
    report = fit_kind(kind, labelled, options, out or named[0] / "results" / f"{kind}.json", named, settings)
    print(dumps(report.to_json(), indent=2) if json else report.text())


def add_to(app: typer.Typer) -> None:
    app.command("fit")(fit)
