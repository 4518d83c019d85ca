"""`ens data report`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from ensemble_kit.cli.options import DEFAULT_RECIPE, Fixes, Json, RecipeName, as_named, given

PAGE = "data_report.html"


def report(
    data: Annotated[Path | None, typer.Argument(help="The data set; default ENS_DATA, with --run the run's.")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help=f"The page to write; default {PAGE}.")] = None,
    run: Annotated[Path | None, typer.Option(help="A run on these photos: its answers show labels in doubt.")] = None,
    photos: Annotated[bool, typer.Option("--photos", help="Put small photos into the page.")] = False,
    suspects: Annotated[
        str, typer.Option(help="How the list of doubts ends: cleanlab, or confidence (another class is likelier).")
    ] = "cleanlab",
    suggest_fixes: Annotated[
        Path | None, typer.Option(help="A new csv file: the fix list with every suggestion, to be edited.")
    ] = None,
    fixes: Fixes = None,
    recipe: RecipeName = DEFAULT_RECIPE,
    folds: Annotated[int | None, typer.Option(envvar="ENS_FOLDS", help="Number of folds.")] = None,
    val_ratio: Annotated[float | None, typer.Option(envvar="ENS_VAL_RATIO", help="One validation share.")] = None,
    json: Json = False,
) -> None:
    """Write a page about a data set: classes, folds, photos, duplicates, labels in doubt, problems.

    With --json the facts are printed, and the page is written only where -o names it.
    """
    from ensemble_kit.cli.printed import as_json, tell
    from ensemble_kit.cli.progress import TerminalWatcher
    from ensemble_kit.data.fixes import write_fixes
    from ensemble_kit.data_report import write_report
    from ensemble_kit.errors import UsageError
    from ensemble_kit.pages import refuse_path
    from ensemble_kit.recipe.data_report import report_data
    from ensemble_kit.recipe.load import load_recipe

    page = out or (None if json else Path(PAGE))
    if page is not None:
        refuse_path(page, [data, fixes, suggest_fixes])
    if suggest_fixes is not None and suggest_fixes.exists():
        raise UsageError(f"--suggest-fixes {suggest_fixes}: is there already; name a new file, or remove it")
    division = {"folds": folds, "val_ratio": val_ratio, "fixes": as_named(fixes)}
    chosen = load_recipe(recipe).with_data(given(division))
    if data is None and run is None and "ENS_DATA" in os.environ:
        data = Path(os.environ["ENS_DATA"])
    with TerminalWatcher(stderr=json) as watcher:
        watcher.begin("looking at photos", 1)
        facts = report_data(
            chosen, data, run=run, suspects=suspects, progress=lambda done, total: watcher.advance(done / total)
        )
        if page is not None:
            watcher.begin("writing the page", 1)
            write_report(page, facts, with_photos=photos)
    if suggest_fixes is not None:
        write_fixes(suggest_fixes, facts.suggested)
    if json:
        print(as_json(facts.to_json()))
        return
    from ensemble_kit.columns import WIDTH, on_or_below, wrap
    from ensemble_kit.data_report.sentences import said_first, said_holdings

    print(wrap(said_holdings(facts)))
    for _, line in said_first(facts):
        print("  " + wrap(line, WIDTH - 2).replace("\n", "\n  "))
    print(on_or_below(f"page: {page}", "(with photos)" if photos else ""))
    if suggest_fixes is not None:
        root = facts.check.data
        print(on_or_below(f"{suggest_fixes}:", f"{len(facts.suggested):,} fixes to be looked through"))
        tell(f"next: ens data check {root} --fixes {suggest_fixes}")
