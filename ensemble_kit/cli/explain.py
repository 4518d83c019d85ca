"""`ens explain`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ensemble_kit.cli.combine import borders_of
from ensemble_kit.cli.options import (
    Borders,
    Decide,
    Device,
    Edits,
    Fallback,
    FittedFiles,
    Json,
    Route,
    Structure,
    Vote,
    VoteAt,
    given,
    refuse_twice,
)
from ensemble_kit.cli.predict import Precision, Threads, Tta, views_of


def explain(
    ctx: typer.Context,
    run: Annotated[Path, typer.Argument(help="The run.")],
    photos: Annotated[list[str], typer.Argument(help="Photos: files anywhere, or ids of the run's own photos.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Default explained/ inside the run.")] = None,
    fold: Annotated[list[int] | None, typer.Option(help="Only the checkpoints of this fold; may be repeated.")] = None,
    attribute: Annotated[
        list[str] | None, typer.Option(help="Draw the experts of this attribute alone; may be repeated.")
    ] = None,
    of: Annotated[
        list[str] | None, typer.Option("--for", help='Maps for another class than the answer: "age=>=60".')
    ] = None,
    pictures: Annotated[
        bool, typer.Option("--pictures/--no-pictures", help="Draw a sheet for each photo (needs captum), or only tell.")
    ] = True,
    route: Route = None,
    vote: Vote = None,
    vote_at: VoteAt = None,
    fallback: Fallback = None,
    decide: Decide = None,
    borders: Borders = None,
    fitted: FittedFiles = None,
    structure: Structure = "conditional",
    device: Device = None,
    precision: Precision = None,
    threads: Threads = None,
    tta: Tta = None,
    edits: Edits = None,
    json: Json = False,
) -> None:
    """Tell how photos got their answers, and draw where the experts looked (Grad-CAM).

    Each sheet has a row for every expert that answered: the photo, what speaks for its class, and Grad-CAM of the
    backbone's last stages side by side.
    """
    from ensemble_kit.cli.printed import show
    from ensemble_kit.cli.progress import TerminalWatcher
    from ensemble_kit.errors import DataError, UsageError
    from ensemble_kit.recipe.edits import combining, edited_keys
    from ensemble_kit.recipe.explain import explain_photos
    from ensemble_kit.recipe.load import combine_of
    from ensemble_kit.runs import Run

    opened = Run.open(run)
    wanted = {}
    for text in of or ():
        name, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f'--for: expected ATTRIBUTE=CLASS, found "{text}"')
        wanted[name] = value
    flags = {"route": route, "vote": vote, "vote_at": vote_at, "fallback": fallback, "decide": decide}
    laid = given({**flags, "borders": borders_of(borders)})
    refuse_twice(ctx, edits or (), {"combine": laid})
    laid = {key: value for key, value in laid.items() if key not in edited_keys(edits or (), "combine")}
    views = {} if tta is None else {"tta": views_of(tta)}
    with TerminalWatcher(stderr=True) as watcher:
        report = explain_photos(
            opened,
            photos,
            {**combining(combine_of(opened), edits or ()), **laid},
            out or opened.folder / "explained",
            watcher,
            folds=fold or (),
            wanted=wanted,
            attributes=attribute or (),
            structure=structure,
            fitted=fitted or (),
            draw=pictures,
            options={**given({"device": device, "precision": precision, "threads": threads}), **views},
        )
    show(report, json)
    if not report.n_explained:
        raise DataError(f"none of {len(photos)} photos could be explained; each line above says why")


def add_to(app: typer.Typer) -> None:
    app.command()(explain)
