"""`ens gallery`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ensemble_kit.cli.options import (
    Decide,
    Device,
    Fallback,
    FittedFiles,
    Json,
    OtherData,
    People,
    Route,
    Structure,
    Truth,
    Vote,
    VoteAt,
    default_run,
    given,
)
from ensemble_kit.cli.predict import Threads
from ensemble_kit.errors import UsageError


def gallery(
    run: Annotated[Path | None, typer.Argument(help="The run; default the last one.")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The page; default gallery.html in the run.")] = None,
    photos: Annotated[bool, typer.Option("--photos", help="Put the photos in, made small.")] = False,
    part: Annotated[
        str | None,
        typer.Option(help="eval, or train (out of fold); default eval where its answers are known, else train."),
    ] = None,
    answers: Truth = None,
    people: People = None,
    data: OtherData = None,
    limit: Annotated[int, typer.Option(min=1, help="Photos in the page: wrong ones first.")] = 5000,
    heat: Annotated[
        int, typer.Option(min=0, help="For the first so many photos where the expert looked, by Grad-CAM (captum).")
    ] = 0,
    device: Device = None,
    threads: Threads = None,
    route: Route = None,
    vote: Vote = None,
    vote_at: VoteAt = None,
    fallback: Fallback = None,
    decide: Decide = None,
    structure: Structure = "conditional",
    fitted: FittedFiles = None,
    json: Json = False,
) -> None:
    """A page of the photos that are wrong, most confident first, with what every expert and checkpoint said.

    One file, for any browser. Filters by attribute, true and answered class, age, route and reason; the address of
    the page holds what is chosen.
    """
    from ensemble_kit.cli.printed import show
    from ensemble_kit.cli.progress import TerminalWatcher
    from ensemble_kit.gallery import write_gallery
    from ensemble_kit.pages import refuse_path
    from ensemble_kit.recipe.gallery import gallery_heat, gather_gallery
    from ensemble_kit.runs import Run

    if heat and not photos:
        raise UsageError("--heat lies over photos; pass --photos as well, or leave it out")
    opened = Run.open(run or default_run())
    page = out or opened.folder / "gallery.html"
    refuse_path(page, [answers, people, *(fitted or [])])
    settings = given({"route": route, "vote": vote, "vote_at": vote_at, "fallback": fallback, "decide": decide})
    found = gather_gallery(
        opened,
        part=part,
        answers=answers,
        people=people,
        data=data,
        photos=photos,
        structure=structure,
        fitted=fitted or (),
        settings=settings,
    )
    with TerminalWatcher(stderr=json) as watcher:
        report = write_gallery(
            page,
            found.facts,
            found.places,
            title=f"Photos of the run {opened.folder.resolve().name}",
            scored_on=found.scored_on,
            limit=limit,
            heat=gallery_heat(opened, found.facts.schema, device=device, threads=threads) if heat else None,
            n_heat=heat,
            inputs=[answers, people, *(fitted or [])],
            begin=watcher.begin,
            advance=watcher.advance,
        )
    show(report, json)


def add_to(app: typer.Typer) -> None:
    app.command()(gallery)
