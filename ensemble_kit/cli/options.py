"""Options that several commands share: one name, one help text, one environment variable each."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from ensemble_kit.cli.help import MACHINE, ROUTING, TRUTH

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
Fixes = Annotated[
    str | None,
    typer.Option("--fixes", envvar="ENS_FIXES", help="A label fix list in place of the recipe's; none = no fixes."),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Device = Annotated[
    str | None, typer.Option("--device", envvar="ENS_DEVICE", help="auto, cpu or cuda.", rich_help_panel=MACHINE)
]

Route = Annotated[
    str | None,
    typer.Option(
        envvar="ENS_ROUTE",
        help='hard, soft, threshold=0.9, top_k=2 or sparse=0.01; "coarse:hard; fine:soft" for each node.',
        rich_help_panel=ROUTING,
    ),
]
Vote = Annotated[
    str | None,
    typer.Option(
        envvar="ENS_VOTE", help="Across checkpoints: soft, hard, geometric, rank or median.", rich_help_panel=ROUTING
    ),
]
VoteAt = Annotated[
    str | None,
    typer.Option(
        envvar="ENS_VOTE_AT", help="expert: vote, then route; joint: route, then vote.", rich_help_panel=ROUTING
    ),
]
Fallback = Annotated[
    str | None,
    typer.Option(envvar="ENS_FALLBACK", help="For a missing expert: refuse or pooled.", rich_help_panel=ROUTING),
]
Decide = Annotated[
    str | None,
    typer.Option(
        envvar="ENS_DECIDE", help="joint, attribute or top_down: how classes are chosen.", rich_help_panel=ROUTING
    ),
]
Borders = Annotated[
    list[str] | None,
    typer.Option(
        envvar="ENS_COMBINE_BORDERS",
        help="age=30,58: other borders, for experts with finer columns.",
        rich_help_panel=ROUTING,
    ),
]
"""ENS_BORDERS are the training's, of one attribute."""
FittedFiles = Annotated[
    list[Path] | None,
    typer.Option(
        help="What ens fit wrote: weights, temperatures, stackings, shifts, borders.", rich_help_panel=ROUTING
    ),
]
Structure = Annotated[
    str,
    typer.Option(
        help="conditional (the graph), independent, or flat: how the same experts are read.", rich_help_panel=ROUTING
    ),
]
Template = Annotated[Path | None, typer.Option(help="A table whose ImageIDs, in their order, the submission repeats.")]
MissingAnswer = Annotated[
    int | None, typer.Option(min=0, help="Joint class answered for photos without a prediction or answer.")
]

DEFAULT_RECIPE = "face-mask"


def as_named(file: str | None) -> str | None:
    """A file that was typed is relative to here, a recipe's own to the recipe; "none" stays a word."""
    return file if file in (None, "none") else str(Path(str(file)).resolve())


def given(values: dict[str, Any]) -> dict[str, Any]:
    """Those options that were set by a flag or by the environment; the rest is the recipe's to say."""
    return {name: value for name, value in values.items() if value is not None}


def refuse_twice(ctx: typer.Context, edits: Sequence[str], flags: Mapping[str, Mapping[str, Any]]) -> None:
    """One value a setting: `--epochs 5 --set train.epochs=6` cannot both hold. What the environment says gives way.

    Args:
        flags: section -> its options that were given. An edit inside a value of `[combine]` is about that value too;
            inside `[train]` it is about one expert, whose settings may differ from all others'.
    """
    from ensemble_kit.errors import UsageError
    from ensemble_kit.recipe.edits import parse_edit

    for edit in map(parse_edit, edits):
        section, key = edit.path[:2]
        typed = key in flags.get(section, {}) and getattr(ctx.get_parameter_source(key), "name", "") == "COMMANDLINE"
        if typed and (len(edit.path) == 2 or section == "combine"):
            raise UsageError(f"--{key.replace('_', '-')} and --set {edit.dotted} set the same; leave one out")


def default_run() -> Path:
    """The run that a command means when it names none: `ENS_RUN`, else the one last worked on."""
    from ensemble_kit.runs import latest_run

    named = os.environ.get("ENS_RUN")
    return Path(named) if named else latest_run()


Truth = Annotated[
    Path | None,
    typer.Option(
        "--answers", help="ImageID,ans; default the labels of the data set's evaluation photos.", rich_help_panel=TRUTH
    ),
]
People = Annotated[
    Path | None,
    typer.Option("--people", help="ImageID,person; default people.csv beside the answers.", rich_help_panel=TRUTH),
]
PeopleAndColumns = Annotated[
    Path | None,
    typer.Option(
        "--people", help="ImageID,person and columns for --subgroup; default beside the answers.", rich_help_panel=TRUTH
    ),
]
Subgroups = Annotated[
    list[str] | None,
    typer.Option(
        "--subgroup", help="A column whose values are subgroups; may be given several times.", rich_help_panel=TRUTH
    ),
]
