"""`ens vote`, `ens compare`, `ens check-submission` and `ens estimate`: answer files as things of their own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ensemble_kit.cli.options import DEFAULT_RECIPE, Json, OtherData, People, RecipeName
from ensemble_kit.errors import DataError, UsageError, nearest

if TYPE_CHECKING:
    from ensemble_kit.arrays import IntArray
    from ensemble_kit.cli.progress import TerminalWatcher
    from ensemble_kit.gallery import ComparisonFacts, ComparisonPage
    from ensemble_kit.recipe.load import Recipe

Answers = Annotated[Path, typer.Argument(help="A submission: ImageID,ans.")]
Template = Annotated[Path | None, typer.Option(help="A table whose ImageIDs, in their order, a submission repeats.")]
TIES = ("counts", "index")


def vote(
    files: Annotated[list[Path], typer.Argument(help="Submissions of the same photos, rows in any order.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The submission to write.")],
    weights: Annotated[str | None, typer.Option(help="One a file, as in 2,1,1.")] = None,
    by: Annotated[str, typer.Option(help="joint, or attribute: each voted on apart.")] = "joint",
    ties: Annotated[
        str | None, typer.Option(help="counts: the class of more training photos; index: the lower number.")
    ] = None,
    counts_from: Annotated[
        Path | None, typer.Option(help="For ties: a data set, its train.csv, or answers (ImageID,ans).")
    ] = None,
    template: Template = None,
    recipe: RecipeName = DEFAULT_RECIPE,
    json: Json = False,
) -> None:
    """Hard vote of submissions: the class most of them give. No model and no probabilities are needed.

    Ties fall to the class of more training photos where --counts-from tells them, then to the lower class number.
    """
    from ensemble_kit.cli.printed import as_json, tell
    from ensemble_kit.recipe.load import load_recipe
    from ensemble_kit.submissions.table import refuse_overwriting
    from ensemble_kit.submissions.vote import vote_files

    if ties is not None and ties not in TIES:
        raise UsageError(f'--ties "{ties}"{nearest(ties, TIES)}')
    if (ties == "counts") != (counts_from is not None) and ties is not None:
        raise UsageError(
            "--ties counts needs --counts-from DATA (a data set, or answers of training photos)"
            if ties == "counts"
            else "--ties index does not look at training photos; leave --counts-from out, or write --ties counts"
        )
    chosen = load_recipe(recipe)
    refuse_overwriting(out, [counts_from])
    counts = None if counts_from is None else _counts(counts_from, chosen)
    numbers = None if weights is None else _numbers(weights)
    report = vote_files(files, out, chosen.schema, numbers, by=by, counts=counts, template=template)  # type: ignore[arg-type]
    if json:
        print(as_json({**report.to_json(), "submission": str(out)}))
    else:
        tell(f"{report.text()}\nsubmission: {out}")


def compare(
    a: Annotated[Path, typer.Argument(help="A submission (ImageID,ans), or a run.")],
    b: Annotated[Path, typer.Argument(help="The other one.")],
    answers: Annotated[
        Path | None, typer.Option(help="The truth, ImageID,ans: who is right where they differ.")
    ] = None,
    people: People = None,
    rows: Annotated[Path | None, typer.Option(help="Write all rows that differ to this CSV file.")] = None,
    html: Annotated[Path | None, typer.Option("--html", help="Write a page of the photos that differ.")] = None,
    photos: Annotated[
        Path | None, typer.Option("--photos", help="Put the photos of this folder in the page, made small.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Photos in the page.")] = 5000,
    recipe: RecipeName = DEFAULT_RECIPE,
    json: Json = False,
) -> None:
    """Compare two submissions or runs: agreement, joint, per attribute and class, what changed into what, which rows.

    Of runs the answers in results/ are taken, and who is right where their evaluation photos are labelled.
    """
    from ensemble_kit.cli.printed import as_json, tell
    from ensemble_kit.cli.progress import TerminalWatcher
    from ensemble_kit.recipe.compare_answers import compare_answers
    from ensemble_kit.recipe.load import load_recipe
    from ensemble_kit.submissions.compare import write_rows
    from ensemble_kit.submissions.table import refuse_overwriting

    if people is not None and answers is None:
        raise UsageError("--people is for intervals of scores; pass --answers as well, or leave it out")
    if photos is not None and html is None:
        raise UsageError("--photos is for the page; pass --html FILE as well, or leave it out")
    if rows is not None:
        refuse_overwriting(rows, [a, b, answers, people])
    with TerminalWatcher(stderr=True) as watcher:
        found = compare_answers(
            a, b, lambda: load_recipe(recipe).schema, answers=answers, people=people, announce=watcher.say
        )
        page = None if html is None else _page_of(found, html, photos, limit, [a, b, answers, people, rows], watcher)
    report = found.report
    if rows is not None:
        write_rows(rows, report)
    if json:
        more = {} if page is None else {"html": page.to_json()}
        print(as_json({**report.to_json(), **more}))
    else:
        tell("\n".join([report.text(), *([] if page is None else [page.text()])]))


def _page_of(
    found: ComparisonFacts,
    html: Path,
    photos: Path | None,
    limit: int,
    inputs: list[Path | None],
    watcher: TerminalWatcher,
) -> ComparisonPage:
    from ensemble_kit.gallery import write_comparison
    from ensemble_kit.pages import refuse_path
    from ensemble_kit.recipe.compare_answers import find_photos

    refuse_path(html, inputs)
    places = None if photos is None else find_photos(photos, found.report.ids)
    return write_comparison(
        html, found, places, limit=limit, inputs=inputs, begin=watcher.begin, advance=watcher.advance
    )


def check_submission(
    file: Annotated[Path, typer.Argument(help="The file to check.")],
    template: Template = None,
    data: OtherData = None,
    run: Annotated[Path | None, typer.Option(help="A run: its schema, training photos and data set.")] = None,
    recipe: RecipeName = DEFAULT_RECIPE,
    json: Json = False,
) -> None:
    """List all that keeps a file from being a submission, with likely causes; exit 3 if there is anything.

    With --data (or ENS_DATA) or --run the ids are checked against the evaluation table, and the class shares stand
    beside the training photos'. Shares that differ are told, but are no problem of the file.
    """
    from ensemble_kit.cli.printed import show
    from ensemble_kit.submission import read_template
    from ensemble_kit.submissions.check import check_submission as check

    expected = _expected(template, data, run, recipe)
    wanted = None if expected["template"] is None else read_template(expected["template"])
    report = check(file, expected["schema"], template=wanted, counts=expected["counts"])
    show(report, json)
    if report.problems:
        raise typer.Exit(DataError.exit_code)


def estimate(
    target: Annotated[Path, typer.Argument(help="The submission whose score is wanted.")],
    known: Annotated[
        list[str] | None, typer.Option(help="FILE=SCORE, at least twice: submissions of known score.")
    ] = None,
    metric: Annotated[str, typer.Option(help="accuracy is the one that agreement tells about.")] = "accuracy",
    scored_on: Annotated[
        int | None, typer.Option(min=2, help="How many of the photos the scores were measured on; default all.")
    ] = None,
    recipe: RecipeName = DEFAULT_RECIPE,
    json: Json = False,
) -> None:
    """Estimate a submission's accuracy from its agreement with others of known accuracy, with a 90 % interval."""
    from ensemble_kit.cli.printed import as_json, tell
    from ensemble_kit.recipe.load import load_recipe
    from ensemble_kit.submissions.estimate import estimate_accuracy, estimate_text
    from ensemble_kit.submissions.table import read_submissions

    if metric != "accuracy":
        raise UsageError(
            f'--metric "{metric}": only accuracy follows from how often submissions agree; give accuracies, or score '
            "against answers with ens evaluate"
        )
    scores = [_known(text) for text in known or []]
    schema = load_recipe(recipe).schema
    found = read_submissions([target, *(path for path, _ in scores)], schema)
    own = [score for _, score in scores]
    result = estimate_accuracy(found.labels[0], found.labels[1:], own, schema.n_joint, scored_on=scored_on)
    if json:
        named = [{"file": str(path), "score": score} for path, score in scores]
        print(as_json({"target": str(target), "known": named, **result.to_json()}))
    else:
        tell(estimate_text(dict(zip(found.names[1:], own, strict=True)), str(target), result))


def _expected(template: Path | None, data: Path | None, run: Path | None, recipe: str) -> dict[str, Any]:
    """The schema, the template and the training counts that a submission is checked against."""
    from ensemble_kit.data.samples import template_of

    if run is not None:
        from ensemble_kit.runs import Run

        opened = Run.open(run)
        joint = opened.table.joint()
        counts = [int((joint == number).sum()) for number in range(opened.schema.n_joint)]
        own = template or template_of(data or opened.data, opened.schema, opened.layout)
        return {"schema": opened.schema, "template": own, "counts": counts}
    from ensemble_kit.recipe.load import load_recipe

    chosen = load_recipe(recipe)
    if data is None and "ENS_DATA" in os.environ:
        data = Path(os.environ["ENS_DATA"])
    if data is None:
        return {"schema": chosen.schema, "template": template, "counts": None}
    own = template or template_of(data, chosen.schema, chosen.data.layout)
    return {"schema": chosen.schema, "template": own, "counts": _counts(data, chosen)}


def _counts(source: Path, recipe: Recipe) -> IntArray:
    from ensemble_kit.submissions.counts import training_counts

    return training_counts(source, recipe.schema, layout=recipe.data.layout, fixes=recipe.fixes_file())


def _numbers(text: str) -> list[float]:
    try:
        return [float(word) for word in text.split(",")]
    except ValueError:
        raise UsageError(f'--weights "{text}": expected numbers, one a file, as in 2,1,1') from None


def _known(text: str) -> tuple[Path, float]:
    path, separator, score = text.rpartition("=")
    try:
        number = float(score) if separator else None
    except ValueError:
        number = None
    if not path or number is None:
        raise UsageError(f'--known "{text}": expected a file and its accuracy, as in a.csv=0.78')
    return Path(path), number


def add_to(app: typer.Typer) -> None:
    for command in (vote, compare, check_submission, estimate):
        app.command()(command)
