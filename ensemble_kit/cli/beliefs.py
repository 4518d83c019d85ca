"""`ens beliefs`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ensemble_kit.cli.options import Data, Device, DryRun, Edits, Json, given


def beliefs(
    file: Annotated[str, typer.Argument(help="A file of beliefs, or the name of a shipped one.")] = "beliefs",
    data: Data = None,
    run: Annotated[Path | None, typer.Option("--run", help="Where the arms' runs go; default runs/NAME.")] = None,
    only: Annotated[list[str] | None, typer.Option("--only", help="One belief by its name; may be repeated.")] = None,
    edits: Edits = None,
    report: Annotated[bool, typer.Option("--report", help="Train nothing: test what is trained.")] = False,
    dry_run: DryRun = False,
    n_boot: Annotated[int, typer.Option("--draws", min=100, help="Draws of people for the intervals.")] = 2000,
    jobs: Annotated[int | None, typer.Option(envvar="ENS_JOBS", min=1, help="Trainings at a time on a CPU.")] = None,
    threads: Annotated[int | None, typer.Option(envvar="ENS_THREADS", min=1, help="CPU threads.")] = None,
    device: Device = None,
    json: Json = False,
) -> None:
    """Test what people say: which beliefs hold, are contradicted, or are not resolved.

    Every arm is trained once, on the same folds and seeds; what is done is skipped, and a broken-off call goes on.
    --set changes what the arms share; --set variants.ARM.KEY=VALUE one arm alone.
    """
    from ensemble_kit.cli.printed import as_json, show, tell
    from ensemble_kit.cli.progress import TerminalWatcher
    from ensemble_kit.recipe.belief_file import chosen_beliefs, load_beliefs
    from ensemble_kit.recipe.belief_report import save_report
    from ensemble_kit.recipe.beliefs import plan_beliefs, train_arms, weigh_beliefs

    machine = given({"jobs": jobs, "threads": threads, "device": device})
    loaded = load_beliefs(file, edits or (), machine)
    chosen = chosen_beliefs(loaded, only)
    root = run or Path("runs") / loaded.path.stem
    with TerminalWatcher(stderr=json) as watcher:
        if dry_run:
            plan = plan_beliefs(loaded, chosen, data, root, watcher)
            if json:
                print(as_json({"plan": plan.splitlines()}))
            else:
                tell(plan)
            return
        if not report:
            train_arms(loaded, chosen, data, root, watcher)
        found = weigh_beliefs(loaded, chosen, root, watcher, n_boot=n_boot)
    saved = save_report(root, found)
    show(found, json)
    if not json:
        print(f"\nwritten: {saved[0]}, .csv, .md, .txt")


def add_to(app: typer.Typer) -> None:
    app.command("beliefs")(beliefs)
