"""`ens combine`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ensemble_kit.cli.help import ROUTING
from ensemble_kit.cli.options import (
    DEFAULT_RECIPE,
    Borders,
    Decide,
    Edits,
    Fallback,
    FittedFiles,
    Json,
    MissingAnswer,
    OtherData,
    Route,
    Structure,
    Template,
    Vote,
    VoteAt,
    default_run,
    given,
    refuse_twice,
)
from ensemble_kit.errors import UsageError

if TYPE_CHECKING:
    from ensemble_kit.runs import Run

Sources = Annotated[list[Path] | None, typer.Argument(help="Runs or saved predictions; default the last run.")]
RecipeOrRun = Annotated[
    str | None,
    typer.Option("--recipe", envvar="ENS_RECIPE", help="A recipe file or name; default the run's, else face-mask."),
]


def combine(
    ctx: typer.Context,
    sources: Sources = None,
    route: Route = None,
    vote: Vote = None,
    vote_at: VoteAt = None,
    fallback: Fallback = None,
    decide: Decide = None,
    borders: Borders = None,
    known: Annotated[
        list[str] | None,
        typer.Option(
            help="mask=worn for all photos, or a CSV with ImageID and mask: facts at hand.", rich_help_panel=ROUTING
        ),
    ] = None,
    fitted: FittedFiles = None,
    structure: Structure = "conditional",
    cascade: Annotated[
        str | None,
        typer.Option(
            help='"hard:0.9; soft:0.6; independent:0": the first stage that is this sure answers.',
            rich_help_panel=ROUTING,
        ),
    ] = None,
    name: Annotated[str, typer.Option(help="Which prediction set of a run.")] = "eval",
    data: OtherData = None,
    template: Template = None,
    missing: MissingAnswer = None,
    rows: Annotated[
        bool, typer.Option("--rows", help="Write rows.csv: each photo's route, confidence, reason.")
    ] = False,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Default results/ inside the run.")] = None,
    recipe: RecipeOrRun = None,
    edits: Edits = None,
    json: Json = False,
) -> None:
    """Combine the experts' predictions into joint classes, and write the submission.

    Combining runs no model. Only what is missing of a run's predictions, or out of date, is made first.
    """
    from ensemble_kit.cli.printed import show
    from ensemble_kit.cli.progress import TerminalWatcher
    from ensemble_kit.recipe.combine import combine_sets
    from ensemble_kit.recipe.edits import combining, edited_keys
    from ensemble_kit.recipe.load import combine_of, load_recipe
    from ensemble_kit.recipe.predict import current_predictions
    from ensemble_kit.recipe.sets import prediction_sets
    from ensemble_kit.runs import Run

    flags = {"route": route, "vote": vote, "vote_at": vote_at, "fallback": fallback, "decide": decide}
    laid = given({**flags, "borders": borders_of(borders)})
    refuse_twice(ctx, edits or (), {"combine": laid})
    if cascade and route:
        raise UsageError(f"--cascade names its own routes, found --route {route} too; leave one out")
    named = sources or [default_run()]
    first = Run.open(named[0]) if (named[0] / "run.json").is_file() else None
    if first and not recipe:
        graph, settings = first.graph, combining(combine_of(first), edits or ())
    else:
        chosen = load_recipe(recipe or DEFAULT_RECIPE, edits or ())
        graph, settings = chosen.graph, chosen.combine.model_dump()
    settings |= {key: value for key, value in laid.items() if key not in edited_keys(edits or (), "combine")}
    with TerminalWatcher(stderr=json) as watcher:
        report = combine_sets(
            prediction_sets(named, lambda run: current_predictions(run, data, name, watcher)),
            graph,
            settings,
            out or (first.folder if first else named[0]) / "results",
            structure=structure,
            cascade=cascade,
            template=template or template_of_run(first, data, name),
            missing=missing,
            known=known or (),
            fitted=fitted or (),
            rows=rows,
            announce=watcher.say,
        )
    show(report, json)


def template_of_run(run: Run | None, data: Path | None, name: str) -> Path | None:
    """The evaluation table that the submission repeats, where the run's data set has one."""
    from ensemble_kit.data.samples import template_of

    if run is None or name == "train":
        return None
    return template_of(data or run.data, run.schema, run.layout)


def borders_of(texts: list[str] | None) -> dict[str, list[float]] | None:
    """`age=30,58` -> {"age": [30, 58]}."""
    if not texts:
        return None
    found = {}
    for text in texts:
        name, _, numbers = text.partition("=")
        try:
            found[name.strip()] = [float(number) for number in numbers.split(",")]
        except ValueError:
            raise UsageError(f'--borders "{text}": expected an attribute and its borders, as in age=30,58') from None
    return found


def add_to(app: typer.Typer) -> None:
    app.command()(combine)
