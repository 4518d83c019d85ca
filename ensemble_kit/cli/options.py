"""Options that several commands share: one name, one help text, one environment variable each."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

Data = Annotated[
    Path | None,
    typer.Option("--data", envvar="ENS_DATA", help="The data set: competition tree, table or class folders."),
]
RecipeName = Annotated[
    str, typer.Option("--recipe", envvar="ENS_RECIPE", help="A recipe file, or the name of a shipped recipe.")
]
RunFolder = Annotated[
    Path | None,
    typer.Option("--run", envvar="ENS_RUN", help="The run folder; default runs/RECIPE to train, else the last run."),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Device = Annotated[str | None, typer.Option("--device", envvar="ENS_DEVICE", help="auto, cpu or cuda.")]

DEFAULT_RECIPE = "face-mask"


def given(values: dict[str, Any]) -> dict[str, Any]:
    """Those options that were set by a flag or by the environment; the rest is the recipe's to say."""
    return {name: value for name, value in values.items() if value is not None}
