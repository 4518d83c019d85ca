"""`ens run RECIPE` and `ens quickstart`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from ensemble_kit.cli.options import DryRun, Json, given
from ensemble_kit.cli.train import Restart, Resume
from ensemble_kit.cli.training_options import run_folder, training_command
from ensemble_kit.errors import UsageError


@training_command
def run(
    recipe: Annotated[str, typer.Argument(help="A recipe file, or the name of a shipped recipe.")],
    restart: Restart = False,
    resume: Resume = False,
    dry_run: DryRun = False,
    variant: Annotated[str | None, typer.Option("--variant", help="One of the recipe's variants.")] = None,
    all_variants: Annotated[
        bool, typer.Option("--all-variants", help="Each of the recipe's variants, one run folder each.")
    ] = False,
    json: Json = False,
    *,
    data: Path | None,
    run: Path | None,
    edits: Sequence[str],
    division: Mapping[str, Any],
    flags: Mapping[str, Any],
) -> None:
    """Do the whole job: train every expert on every fold, predict, combine, evaluate. What is done is skipped.

    A recipe with a [vote] is the job of those that vote, unless one of its variants is named.
    """
    from ensemble_kit.cli.printed import as_json, tell
    from ensemble_kit.cli.progress import TerminalWatcher
    from ensemble_kit.recipe.load import load_recipe
    from ensemble_kit.recipe.planning import plan_run
    from ensemble_kit.recipe.run import check_resume
    from ensemble_kit.recipe.votes import members_of, vote_members
    from ensemble_kit.recipe.whole import run_recipe

    base = load_recipe(recipe, [edit for edit in edits if edit.strip().startswith("vote.")])
    if all_variants and (variant or not base.variants):
        found = "one is named with --variant" if variant else f"{base.name} has none"
        raise UsageError(f"--all-variants: expected a recipe with variants, and no choice among them; {found}")
    members = members_of(base, edits) if base.vote.of and variant is None else []
    names = base.variants if all_variants else () if members else (variant,)
    chosen = {
        _folder_of(one.name, run, name if all_variants else None): one
        for name in names
        for one in (load_recipe(recipe, edits, name),)
    }
    places = {one.name: one.place or _folder_of(one.told, run, one.short) for one in members}
    chosen |= {places[one.name]: one.recipe for one in members if one.recipe is not None}
    check_resume(resume, restart, list(chosen))
    told: dict[str, Any] = {}
    with TerminalWatcher(stderr=json) as watcher:
        for folder, one in chosen.items():
            laid = one.with_data(division).with_train(flags)
            if dry_run:
                plan = plan_run(laid, data, folder, laid.experts, watcher, restart=restart).text()
                told[str(folder)] = {"plan": plan.splitlines()}
                if not json:
                    tell(plan)
            else:
                told[str(folder)] = run_recipe(laid, data, folder, watcher, restart=restart)
        if members and not dry_run:
            voted = vote_members(base, places, data, run or _folder_of(base.name, None, None), watcher)
            told["vote"] = voted.to_json()
    if json:
        print(as_json({"runs": told}))
    elif len(chosen) > 1 and not dry_run:
        tell(f"\nside by side: ens compare-runs {' '.join(map(str, chosen))}")


def _folder_of(recipe: str, run: Path | None, variant: str | None) -> Path:
    """Each variant's run beside the others: `--run F` becomes `F-focal`."""
    return run_folder(run.with_name(f"{run.name}-{variant}") if run and variant else run, recipe)


def quickstart(
    out: Annotated[Path, typer.Option("--out", help="A folder for the photos, the run and the results.")],
    people: Annotated[
        int, typer.Option(envvar="ENS_PEOPLE", min=30, help="Training people drawn, seven photos each.")
    ] = 160,
    epochs: Annotated[int | None, typer.Option(envvar="ENS_EPOCHS", min=1, help="Default: the recipe's.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the photos, folds and weights.")] = 0,
    threads: Annotated[int | None, typer.Option(envvar="ENS_THREADS", min=1, help="CPU threads.")] = None,
    json: Json = False,
) -> None:
    """Draw faces, train mask, gender and age experts on two folds, combine them, and show what conditioning does.

    Nothing is downloaded. Run it again on the same folder and what is done is skipped.
    """
    from ensemble_kit.cli.printed import as_json
    from ensemble_kit.cli.progress import TerminalWatcher
    from ensemble_kit.recipe.quickstart import run_quickstart

    with TerminalWatcher(stderr=json) as watcher:
        report = run_quickstart(
            out, watcher, people=people, seed=seed, flags=given({"epochs": epochs, "threads": threads})
        )
    if json:
        print(as_json(report))


def add_to(app: typer.Typer) -> None:
    app.command("quickstart")(quickstart)
    app.command("run")(run)
