"""`ens fit weights`, `temperature`, `shift`, `stacking` and `borders`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ensemble_kit.cli.help import FITTING, ROUTING
from ensemble_kit.cli.options import DEFAULT_RECIPE, Json, OtherData, RecipeName, default_run, given

Kind = Annotated[
    str,
    typer.Argument(
        help="weights (which voters to trust), temperature (how sure to be), shift (which classes are commoner now), "
        "stacking (a vote that is learnt) or borders (where to cut columns finer than the classes)."
    ),
]
Sources = Annotated[list[Path] | None, typer.Argument(help="Runs or saved predictions; default the last run.")]


def fit(
    kind: Kind,
    sources: Sources = None,
    on: Annotated[
        list[str] | None,
        typer.Option(
            help="joint, or experts: each by itself; of a shift also attributes, or names (of borders too): age."
        ),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(help="What must gain: macro_f1 (default), accuracy; of weights, stacking also log_loss, brier."),
    ] = None,
    rounds: Annotated[
        int | None, typer.Option(min=0, help="Of weights: votes added to each expert.", rich_help_panel=FITTING)
    ] = None,
    bags: Annotated[
        int | None,
        typer.Option(min=0, help="Of weights: climbs with half of the voters each.", rich_help_panel=FITTING),
    ] = None,
    folds: Annotated[
        int | None,
        typer.Option(
            min=2, help="Of weights, stacking, borders: parts of the people, each scored once.", rich_help_panel=FITTING
        ),
    ] = None,
    route: Annotated[
        str | None, typer.Option(envvar="ENS_ROUTE", help="As ens combine will be told.", rich_help_panel=ROUTING)
    ] = None,
    vote: Annotated[
        str | None, typer.Option(envvar="ENS_VOTE", help="Of temperatures: as ens combine.", rich_help_panel=ROUTING)
    ] = None,
    vote_at: Annotated[
        str | None,
        typer.Option(envvar="ENS_VOTE_AT", help="expert, or joint: whole chains are weighed.", rich_help_panel=ROUTING),
    ] = None,
    answers: Annotated[Path | None, typer.Option(help="ImageID,ans of the predicted photos.")] = None,
    people: Annotated[
        Path | None,
        typer.Option(help="ImageID,person; default people.csv beside the answers. Of a shift: of the new photos."),
    ] = None,
    reference: Annotated[
        Path | None,
        typer.Option(help="Of a shift: labelled predictions (with --answers) or a run; default the run's own."),
    ] = None,
    fitted: Annotated[
        list[Path] | None,
        typer.Option(
            help="What ens combine will be given besides: temperatures, a stacked vote.", rich_help_panel=ROUTING
        ),
    ] = None,
    name: Annotated[str, typer.Option(help="Which prediction set of a run, with --answers or --data.")] = "eval",
    data: OtherData = None,
    recipe: RecipeName = DEFAULT_RECIPE,
    seed: Annotated[int, typer.Option(min=0, help="Of folds, bags and intervals.", rich_help_panel=FITTING)] = 0,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Default results/KIND.json inside the run.")] = None,
    json: Json = False,
) -> None:
    """Fit what ens combine --fitted applies, on labelled photos, and say whether it helps.

    A run is fitted on its held-out training photos, or, with --answers or --data, on predicted photos with answers. A
    shift compares the held-out ones with the predicted ones, which need no answers.
    """
    from ensemble_kit.cli.printed import show
    from ensemble_kit.errors import UsageError
    from ensemble_kit.fitted import load_fitted
    from ensemble_kit.recipe.fit import FitOptions, find_fitter
    from ensemble_kit.recipe.fit import fit as fit_kind
    from ensemble_kit.recipe.labelled import read_compared, read_labelled
    from ensemble_kit.recipe.load import load_recipe

    find_fitter(kind)
    if reference is not None and kind != "shift":
        raise UsageError(f"--reference is of shift; {kind} has no use for it")
    named = sources or [default_run()]
    settings = given({"route": route, "vote": vote, "vote_at": vote_at})
    earlier = tuple(item for path in fitted or () for item in load_fitted(path))
    where = {"recipe": load_recipe(recipe), "answers": answers, "people": people, "data": data, "name": name}
    if kind == "shift":
        labelled = read_compared(named, reference=reference, settings=settings, **where)  # type: ignore[arg-type]
    else:
        labelled = read_labelled(named, settings=settings, **where)  # type: ignore[arg-type]
    options = FitOptions(tuple(on or ()), metric, rounds, None, bags, folds, seed, earlier)
    file = out or named[0] / "results" / f"{kind}.json"
    report = fit_kind(kind, labelled, options, file, named, settings, fitted or ())
    show(report, json)


def add_to(app: typer.Typer) -> None:
    app.command("fit")(fit)
