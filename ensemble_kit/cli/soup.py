"""`ens soup`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from ensemble_kit.cli.options import Device, Json, given


def soup(
    sources: Annotated[
        list[Path], typer.Argument(help="A run trained with --keep 'every 1', or checkpoints of one expert and fold.")
    ],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Of checkpoints: the averaged one, OUT.safetensors.")
    ] = None,
    expert: Annotated[
        str | None, typer.Option(help="Of a run: which attribute, or block: age, or gender,age. Default: all.")
    ] = None,
    condition: Annotated[
        list[str] | None, typer.Option("--given", help="Of a run: the expert's condition, as in mask=worn.")
    ] = None,
    fold: Annotated[list[int] | None, typer.Option(min=0, help="Of a run: only these folds.")] = None,
    kind: Annotated[
        str, typer.Option(help="greedy (from the best down, what does not lower the score) or uniform (all).")
    ] = "greedy",
    run: Annotated[
        Path | None, typer.Option(help="Of checkpoints: the run whose photos score the average; default theirs.")
    ] = None,
    device: Device = None,
    threads: Annotated[int | None, typer.Option(envvar="ENS_THREADS", min=1, help="CPU threads.")] = None,
    json: Json = False,
) -> None:
    """Average the weights of several checkpoints into one, with fresh batch-norm statistics.

    It is kept only when its macro F1 on the held-out photos is not below the best single checkpoint's. Of a run, the
    average then becomes the fold's checkpoint; the trained one stays beside it as trained.safetensors.
    """
    from ensemble_kit.cli.printed import as_json
    from ensemble_kit.cli.progress import TerminalWatcher
    from ensemble_kit.cli.train import parse_given
    from ensemble_kit.errors import UsageError
    from ensemble_kit.graph import check_condition
    from ensemble_kit.recipe.soup import soup_files, soup_run
    from ensemble_kit.runs import Run

    machine = given({"device": device, "threads": threads})
    is_run = len(sources) == 1 and not (sources[0].is_file() or sources[0].suffix == ".safetensors")
    if is_run and (out or run):
        raise UsageError("--out and --run are for checkpoints; the averages of a run stay in it")
    if not is_run and out is None:
        raise UsageError("name the file to write: -o OUT.safetensors (or one run, to average inside it)")
    if not is_run and (expert or condition or fold):
        raise UsageError("--expert, --given and --fold are for a run; checkpoints say themselves what they are")
    with TerminalWatcher(stderr=json) as watcher:
        if is_run:
            opened = Run.open(sources[0])
            soups = soup_run(
                opened,
                watcher,
                attributes=None if expert is None else opened.schema.in_order(expert.split(",")),
                condition=check_condition(parse_given(condition), opened.schema) if condition else None,
                folds=fold or None,
                kind=kind,
                machine=machine,
            )
            watcher.say(f"next: ens combine {opened.folder}")
        else:
            assert out is not None
            chosen = None if run is None else Run.open(run)
            soups = [soup_files(sources, out, watcher, run=chosen, kind=kind, machine=machine)]
    if json:
        print(as_json({"soups": [asdict(one) for one in soups]}))


def add_to(app: typer.Typer) -> None:
    app.command("soup")(soup)
