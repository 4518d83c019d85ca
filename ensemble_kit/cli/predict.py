"""`ens predict`, `ens combine`, `ens evaluate` and `ens card`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ensemble_kit.cli.options import DEFAULT_RECIPE, Data, Device, Json, RecipeName, given

if TYPE_CHECKING:
    from ensemble_kit.recipe.run import Watcher
    from ensemble_kit.runs import Run

Part = Annotated[str, typer.Option("--part", help="eval or train: which photos of the data set.")]
Name = Annotated[str | None, typer.Option("--name", help="Name of the prediction set; default the part's.")]
BatchSize = Annotated[int, typer.Option(envvar="ENS_PREDICT_BATCH_SIZE", min=1, help="Photos a step.")]
Precision = Annotated[str, typer.Option(envvar="ENS_PRECISION", help="auto, fp32 or bf16.")]


def predict(
    run: Annotated[Path | None, typer.Argument(envvar="ENS_RUN", help="The run; default the last one.")] = None,
    data: Data = None,
    part: Part = "eval",
    name: Name = None,
    device: Device = None,
    batch_size: BatchSize = 64,
    precision: Precision = "auto",
) -> None:
    """Write the probabilities of every expert and checkpoint of a run on the evaluation photos."""
    from ensemble_kit.cli.progress import TerminalWatcher
    from ensemble_kit.runs import Run, latest_run

    opened = Run.open(run or latest_run())
    with TerminalWatcher() as watcher:
        folder = _predict(opened, data, part, name or part, watcher, device, batch_size, precision)
        watcher.say(f"predictions: {folder}")
        watcher.say(f"next: ens combine {opened.folder}")


def _predict(
    run: Run,
    data: Path | None,
    part: str,
    name: str,
    watcher: Watcher,
    device: str | None = None,
    batch_size: int = 64,
    precision: str = "auto",
) -> Path:
    from ensemble_kit.data.samples import read_samples
    from ensemble_kit.errors import UsageError, nearest
    from ensemble_kit.recipe.run import predict_run

    if part not in ("eval", "train"):
        raise UsageError(f'--part "{part}"{nearest(part, ("eval", "train"))}')
    table = read_samples(data or run.data, run.schema, part=part, layout=run.info["layout"])  # type: ignore[arg-type]
    return predict_run(run, table, name, watcher, device=device or "auto", batch_size=batch_size, precision=precision)


def combine(
    sources: Annotated[
        list[Path] | None, typer.Argument(help="Runs or saved predictions; default the last run.")
    ] = None,
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
    data: Data = None,
    template: Annotated[
        Path | None, typer.Option(help="A table whose ImageIDs, in their order, the submission repeats.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Default results/ inside the run.")] = None,
    recipe: RecipeName = DEFAULT_RECIPE,
    json: Json = False,
) -> None:
    """Combine the experts' predictions into joint classes, and write the submission.

    Combining runs no model. Only when a run's predictions are missing or older than its checkpoints are they made.
    """
    from json import dumps

    from ensemble_kit.cli.progress import TerminalWatcher
    from ensemble_kit.recipe.combine import combine_sets, prediction_sets
    from ensemble_kit.recipe.load import load_recipe
    from ensemble_kit.recipe.run import template_of
    from ensemble_kit.runs import Run, latest_run

    flags = given({"route": route, "vote": vote, "vote_at": vote_at, "fallback": fallback})
    chosen = load_recipe(recipe).with_combine(flags)
    named = sources or [latest_run()]
    first = Run.open(named[0]) if (named[0] / "run.json").is_file() else None
    with TerminalWatcher(stderr=json) as watcher:
        folders = prediction_sets(named, name, lambda run: _predict(run, data, "eval", name, watcher))
        report = combine_sets(
            folders,
            first.graph if first else chosen.graph,
            chosen.combine,
            out or (first.folder if first else named[0]) / "results",
            structure=structure,
            template=template or (template_of(data or first.data) if first else None),
            announce=watcher.say,
        )
    print(dumps(report.to_json(), indent=2) if json else report.text())


def evaluate(
    target: Annotated[
        Path | None, typer.Argument(help="A submission, a joint/ folder, or a run; default the last run.")
    ] = None,
    answers: Annotated[Path | None, typer.Option(help="ImageID,ans; default the data set's eval/answers.csv.")] = None,
    people: Annotated[
        Path | None, typer.Option(help="ImageID,person, for intervals over people; default beside the answers.")
    ] = None,
    data: Data = None,
    recipe: RecipeName = DEFAULT_RECIPE,
    json: Json = False,
) -> None:
    """Score joint classes against answers: macro F1 over all joint classes and accuracy, joint and per attribute.

    For a run: every structure its experts allow, from its saved predictions, with the bound given by perfect parents.
    """
    from json import dumps

    from ensemble_kit.recipe.evaluate import evaluate_target
    from ensemble_kit.recipe.load import load_recipe
    from ensemble_kit.runs import latest_run

    report = evaluate_target(
        target or latest_run(), load_recipe(recipe).schema, answers=answers, people=people, data=data
    )
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
