"""Options that several commands share: one name, one help text, one environment variable each."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

Data = Annotated[
    Path | None,
    typer.Option("--data", envvar="ENS_DATA", help="The data set: competition tree, table or class folders."),
]
OtherData = Annotated[Path | None, typer.Option("--data", help="Another data set than the run's own.")]
RecipeName = Annotated[
    str, typer.Option("--recipe", envvar="ENS_RECIPE", help="A recipe file, or the name of a shipped recipe.")
]
RunFolder = Annotated[
    Path | None,
    typer.Option("--run", envvar="ENS_RUN", help="The run folder; default runs/RECIPE."),
]
Edits = Annotated[
    list[str] | None,
    typer.Option("--set", help="Any key of the recipe, as in train.age.epochs=5; may be repeated."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print what would be done, and touch nothing.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Device = Annotated[str | None, typer.Option("--device", envvar="ENS_DEVICE", help="auto, cpu or cuda.")]

DEFAULT_RECIPE = "face-mask"


def given(values: dict[str, Any]) -> dict[str, Any]:
    """Those options that were set by a flag or by the environment; the rest is the recipe's to say."""
    return {name: value for name, value in values.items() if value is not None}


def default_run() -> Path:
    """The run that a command means when it names none: `ENS_RUN`, else the one last worked on."""
    from ensemble_kit.runs import latest_run

    named = os.environ.get("ENS_RUN")
    return Path(named) if named else latest_run()
