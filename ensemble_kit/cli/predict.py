"""`ens predict`, `ens combine`, `ens evaluate` and `ens card`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ensemble_kit.cli.options import DEFAULT_RECIPE, Device, Json, OtherData, RecipeName, default_run, given

if TYPE_CHECKING:
    from ensemble_kit.runs import Run

Sources = Annotated[list[Path] | None, typer.Argument(help="Runs or saved predictions; default the last run.")]
Batch = Annotated[int, typer.Option(envvar="ENS_PREDICT_BATCH_SIZE", min=1, help="Photos a step.")]
Precision = Annotated[str | None, typer.Option(envvar="ENS_PRECISION", help="auto, fp32 or bf16; default as trained.")]
Threads = Annotated[int | None, typer.Option(envvar="ENS_THREADS", min=1, help="CPU threads; default as trained.")]
RecipeOrRun = Annotated[
    str | None,
    typer.Option("--recipe", envvar="ENS_RECIPE", help="A recipe file or name; default the run's, else face-mask."),
]


def predict(
    run: Annotated[Path | None, typer.Argument(envvar="ENS_RUN", help="The run; default the last one.")] = None,
    data: OtherData = None,
    part: Annotated[str, typer.Option(help="eval or train: which photos of the data set.")] = "eval",
    name: Annotated[str | None, typer.Option(help="Name of the prediction set; default the part's.")] = None,
    device: Device = None,
    batch_size: Batch = 32,
    precision: Precision = None,
    threads: Threads = None,
) -> None:
    """Write the probabilities of every expert and checkpoint of a run on the evaluation photos."""
    from ensemble_kit.cli.progress import TerminalWatcher
    from ensemble_kit.recipe.predict import predict_run, read_part_of
    from ensemble_kit.runs import Run

    opened = Run.open(run or default_run())
    options = {"device": device, "precision": precision, "threads": threads, "batch_size": batch_size}
    with TerminalWatcher() as watcher:
        folder = predict_run(opened, read_part_of(opened, data, part), name or part, watcher, given(options))
        watcher.say(f"predictions: {folder}")
        watcher.say(f"next: ens combine {opened.folder}" + (f" --name {name}" if name else ""))


def combine(
    sources: Sources = None,
    route: Annotated[str | None, typer.Option(envvar="ENS_ROUTE", help="hard or soft.")] = None,
    vote: Annotated[str | None, typer.Option(envvar="ENS_VOTE", help="soft or hard, across checkpoints.")] = None,
    vote_at: Annotated[
        str | None, typer.Option(envvar="ENS_VOTE_AT", help="expert: vote, then route; joint: route, then vote.")
    ] = None,
    fallback: Annotated[
        str | None, typer.Option(envvar="ENS_FALLBACK", help="For a missing expert: refuse or pooled.")
    ] = None,
    structure: Annotated[
        str, typer.Option(help="conditional (the graph), independent, or flat: how the same experts are read.")
    ] = "conditional",
    name: Annotated[str, typer.Option(help="Which prediction set of a run.")] = "eval",
    data: OtherData = None,
    template: Annotated[
        Path | None, typer.Option(help="A table whose ImageIDs, in their order, the submission repeats.")
    ] = None,
    missing: Annotated[
        int | None, typer.Option(min=0, help="Joint class answered for photos that could not be predicted.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Default results/ inside the run.")] = None,
    recipe: RecipeOrRun = None,
    json: Json = False,
) -> None:
    """Combine the experts' predictions into joint classes, and write the submission.

    Combining runs no model. Only what is missing of a run's predictions, or out of date, is made first.
    """
    from json import dumps

    from ensemble_kit.cli.progress import TerminalWatcher
    from ensemble_kit.recipe.combine import combine_sets, prediction_sets
    from ensemble_kit.recipe.load import load_recipe
    from ensemble_kit.recipe.predict import current_predictions
    from ensemble_kit.runs import Run

    named = sources or [default_run()]
    first = Run.open(named[0]) if (named[0] / "run.json").is_file() else None
    if first and not recipe:
        graph, settings = first.graph, dict(first.combine)
    else:
        chosen = load_recipe(recipe or DEFAULT_RECIPE)
        graph, settings = chosen.graph, chosen.combine.model_dump()
    settings |= given({"route": route, "vote": vote, "vote_at": vote_at, "fallback": fallback})
    with TerminalWatcher(stderr=json) as watcher:
        report = combine_sets(
            prediction_sets(named, lambda run: current_predictions(run, data, name, watcher)),
            graph,
            settings,
            out or (first.folder if first else named[0]) / "results",
            structure=structure,
            template=template or _template(first, data, name),
            missing=missing,
            announce=watcher.say,
        )
    print(dumps(report.to_json(), indent=2) if json else report.text())


def _template(run: Run | None, data: Path | None, name: str) -> Path | None:
    """The evaluation table that the submission repeats, where the run's data set has one."""
    from ensemble_kit.data.samples import template_of

    if run is None or name == "train":
        return None
    return template_of(data or run.data, run.schema, run.info["layout"])


def evaluate(
    target: Annotated[
        Path | None, typer.Argument(help="A submission, a joint/ folder, or a run; default the last run.")
    ] = None,
    answers: Annotated[
        Path | None, typer.Option(help="ImageID,ans; default the labels of the data set's evaluation photos.")
    ] = None,
    people: Annotated[
        Path | None, typer.Option(help="ImageID,person, for intervals over people; default beside the answers.")
    ] = None,
    data: OtherData = None,
    recipe: RecipeName = DEFAULT_RECIPE,
    json: Json = False,
) -> None:
    """Score joint classes against answers: macro F1 over all joint classes and accuracy, joint and per attribute.

    For a run: every structure its experts allow, from its saved predictions, with the bound given by perfect parents.
    """
    from json import dumps

    from ensemble_kit.recipe.evaluate import evaluate_target
    from ensemble_kit.recipe.load import load_recipe

    chosen, named = load_recipe(recipe), target or default_run()
    if data is None and not (named / "run.json").is_file() and "ENS_DATA" in os.environ:
        data = Path(os.environ["ENS_DATA"])  # a run knows its own data, a submission does not
    report = evaluate_target(named, chosen, answers=answers, people=people, data=data)
    print(dumps(report.to_json(), indent=2) if json else report.text())


def card(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint (.safetensors).")],
) -> None:
    """Print the card of a checkpoint: what it predicts, for whom, from which photos, how trained."""
    from json import dumps

    from ensemble_kit.card import read_card

    print(dumps(read_card(checkpoint).to_json(), indent=2))


def add_to(app: typer.Typer) -> None:
    for command in (predict, combine, evaluate, card):
        app.command()(command)
