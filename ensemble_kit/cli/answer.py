"""`ens answer`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ensemble_kit.cli.combine import borders_of, template_of_run
from ensemble_kit.cli.help import MACHINE
from ensemble_kit.cli.options import (
    Borders,
    Decide,
    Device,
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
from ensemble_kit.cli.predict import AcceptDisagreement, Backend, Batch, Compile, Precision, Threads, Tta, views_of


def answer(
    ctx: typer.Context,
    run: Annotated[Path | None, typer.Argument(envvar="ENS_RUN", help="The run; default the last one.")] = None,
    data: OtherData = None,
    part: Annotated[str, typer.Option(help="eval or train: which photos of the data set.")] = "eval",
    route: Route = None,
    vote: Vote = None,
    vote_at: VoteAt = None,
    fallback: Fallback = None,
    decide: Decide = None,
    borders: Borders = None,
    fitted: FittedFiles = None,
    structure: Structure = "conditional",
    template: Template = None,
    missing: MissingAnswer = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Default answers/ inside the run.")] = None,
    device: Device = None,
    batch_size: Batch = None,
    window: Annotated[
        int | None,
        typer.Option(
            min=1, help="Photos prepared at a time; default as many as fit in 128 MB.", rich_help_panel=MACHINE
        ),
    ] = None,
    precision: Precision = None,
    backend: Backend = None,
    compiling: Compile = None,
    accept_disagreement: AcceptDisagreement = False,
    threads: Threads = None,
    tta: Tta = None,
    edits: Edits = None,
    json: Json = False,
) -> None:
    """Answer photos straight: each is decoded once, and only the experts that its route asks for run.

    Answers as ens predict and ens combine together, but keeps no expert's predictions, so nothing can be voted or
    routed otherwise afterwards.
    """
    from ensemble_kit.cli.printed import show
    from ensemble_kit.cli.progress import TerminalWatcher
    from ensemble_kit.recipe.answer import answer_run
    from ensemble_kit.recipe.edits import combining, edited_keys
    from ensemble_kit.recipe.load import combine_of
    from ensemble_kit.recipe.predict import read_part_of
    from ensemble_kit.runs import Run

    opened = Run.open(run or default_run())
    flags = {"route": route, "vote": vote, "vote_at": vote_at, "fallback": fallback, "decide": decide}
    laid = given({**flags, "borders": borders_of(borders)})
    refuse_twice(ctx, edits or (), {"combine": laid})
    laid = {key: value for key, value in laid.items() if key not in edited_keys(edits or (), "combine")}
    machine = {"device": device, "precision": precision, "backend": backend, "threads": threads, "window": window}
    machine |= {"accept_disagreement": accept_disagreement, "batch_size": batch_size, "compiling": compiling}
    views = {} if tta is None else {"tta": views_of(tta)}
    with TerminalWatcher(stderr=json) as watcher:
        report = answer_run(
            opened,
            read_part_of(opened, data, part),
            {**combining(combine_of(opened), edits or ()), **laid},
            out or opened.folder / "answers",
            watcher,
            structure=structure,
            template=template or template_of_run(opened, data, part),
            missing=missing,
            fitted=fitted or (),
            options={**given(machine), **views},
        )
    show(report, json)


def add_to(app: typer.Typer) -> None:
    app.command()(answer)
