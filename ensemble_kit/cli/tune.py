"""`ens tune RECIPE`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from ensemble_kit.cli.options import Json
from ensemble_kit.cli.training_options import training_command

Trials = Annotated[
    int | None, typer.Option("--trials", min=2, envvar="ENS_TRIALS", help="Trials in all; the first is the recipe.")
]
Objective = Annotated[
    str | None, typer.Option("--objective", help="Whose out-of-fold macro F1 is raised: joint, or an attribute.")
]
Prune = Annotated[str | None, typer.Option("--prune", help="After a fold: median, or none.")]
Batch = Annotated[
    int | None, typer.Option("--batch", min=1, help="Trials asked for together; default as many as run at a time.")
]
SearchFolder = Annotated[
    Path | None, typer.Option("--run", envvar="ENS_TUNE", help="The search's folder; default runs/tune_RECIPE.")
]


@training_command
def tune(
    recipe: Annotated[str, typer.Argument(help="A recipe file with [tune.space], or the name of a shipped recipe.")],
    trials: Trials = None,
    objective: Objective = None,
    prune: Prune = None,
    batch: Batch = None,
    variant: Annotated[str | None, typer.Option("--variant", help="One of the recipe's variants.")] = None,
    json: Json = False,
    *,
    data: Path | None,
    run: SearchFolder,
    edits: Sequence[str],
    division: Mapping[str, Any],
    flags: Mapping[str, Any],
) -> None:
    """Search the recipe's [tune.space]: each trial trains, and is scored out of fold; ends with the best one's recipe.

    The same command goes on where it was broken off, and --trials 40 after 20 adds 20. --jobs runs so many trials at a
    time. What is tried next depends on the finished trials of the batches before alone, so the outcome is the same
    however many run at a time and however often it is killed, with the same --batch and --threads.
    """
    from ensemble_kit.cli.options import given
    from ensemble_kit.cli.printed import show
    from ensemble_kit.cli.progress import TerminalWatcher
    from ensemble_kit.recipe.load import load_recipe
    from ensemble_kit.tuning.tune import Request, tune_recipe

    name = load_recipe(recipe, edits, variant).name
    at_once = flags.get("jobs") or None  # 0: nothing is known of the trials' memory, so the recipe's own
    request = Request(
        recipe=recipe,
        data=data,
        folder=run or Path("runs") / f"tune_{name}",
        edits=tuple(edits),
        variant=variant,
        division=division,
        flags={key: value for key, value in flags.items() if key != "jobs" or value == 1},
        tune=given({"trials": trials, "objective": objective, "prune": prune, "batch": batch}),
        at_once=at_once,
    )
    with TerminalWatcher(stderr=json) as watcher:
        report = tune_recipe(request, watcher)
        watcher.end()
    if not json:
        print()
    show(report, json)


def add_to(app: typer.Typer) -> None:
    app.command("tune")(tune)
