"""`ens report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ensemble_kit.cli.options import Json, OtherData, PeopleAndColumns, Subgroups, Truth, default_run


def report(
    run: Annotated[Path | None, typer.Argument(help="The run folder; default the last run.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The page to write; default report.html in the run's results.")
    ] = None,
    answers: Truth = None,
    people: PeopleAndColumns = None,
    data: OtherData = None,
    subgroup: Subgroups = None,
    photos: Annotated[
        bool, typer.Option("--photos", help="Put the surest wrong answers into the page, as small photos.")
    ] = False,
    n_boot: Annotated[int, typer.Option("--draws", min=1, help="Draws of people for the intervals.")] = 1000,
    json: Json = False,
) -> None:
    """Write one page with all that a run can tell: data, learning, answers, routes, votes, what to do first.

    One HTML file that fetches nothing, without photos unless --photos is given. What a run lacks is said in a line.
    """
    from typing import Any

    from ensemble_kit.cli.printed import as_json
    from ensemble_kit.columns import on_or_below, wrap_command
    from ensemble_kit.recipe.report import gather_report, report_run
    from ensemble_kit.run_report import in_short

    named = run or default_run()
    options: dict[str, Any] = {"answers": answers, "people": people, "data": data, "n_boot": n_boot}
    options |= {"subgroups": subgroup or [], "photos": photos}
    page = out or named / "results" / "report.html"
    only_facts = json and out is None
    found = gather_report(named, **options) if only_facts else report_run(named, page, **options)
    if json:
        print(as_json(found.to_json()))
        return
    print("\n".join(in_short(found)))
    print(on_or_below(f"report: {page}", "" if photos else "(no photos in it; --photos adds the surest wrong answers)"))
    if found.gallery:
        print(wrap_command(f"next: {found.gallery}"))


def add_to(app: typer.Typer) -> None:
    app.command()(report)
