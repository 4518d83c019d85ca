"""`ens predict`, `ens evaluate` and `ens card`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from ensemble_kit.cli.help import MACHINE
from ensemble_kit.cli.options import DEFAULT_RECIPE, Device, Json, OtherData, RecipeName, Truth, default_run, given

Batch = Annotated[
    int | None,
    typer.Option(
        envvar="ENS_PREDICT_BATCH_SIZE",
        min=1,
        help="Photos a step; default what suits device and photos.",
        rich_help_panel=MACHINE,
    ),
]
Precision = Annotated[
    str | None,
    typer.Option(
        envvar="ENS_PRECISION",
        help="In place of a back end: fp32, bf16, auto (bf16 if it pays).",
        rich_help_panel=MACHINE,
    ),
]
Backend = Annotated[
    str | None,
    typer.Option(
        envvar="ENS_BACKEND",
        help="What runs the networks: torch, torch-bf16, openvino, openvino-bf16, openvino-int8; default the recipe's.",
        rich_help_panel=MACHINE,
    ),
]
AcceptDisagreement = Annotated[
    bool,
    typer.Option(
        "--accept-disagreement",
        help="Take a back end that too often gives other labels than torch.",
        rich_help_panel=MACHINE,
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(envvar="ENS_THREADS", min=1, help="CPU threads; default as trained.", rich_help_panel=MACHINE),
]
Compile = Annotated[
    str | None,
    typer.Option(
        "--compile",
        envvar="ENS_COMPILE",
        help="torch.compile: off, default, or reduce-overhead (CUDA graphs); pays for many photos. Default off.",
        rich_help_panel=MACHINE,
    ),
]
Tta = Annotated[
    str | None,
    typer.Option(
        envvar="ENS_TTA",
        help="Views averaged besides: flip, or flip,zoom; bright, dark; none. Default the recipe's.",
    ),
]


def predict(
    run: Annotated[Path | None, typer.Argument(envvar="ENS_RUN", help="The run; default the last one.")] = None,
    data: OtherData = None,
    part: Annotated[str, typer.Option(help="eval or train: which photos of the data set.")] = "eval",
    name: Annotated[str | None, typer.Option(help="Name of the prediction set; default the part's.")] = None,
    device: Device = None,
    batch_size: Batch = None,
    precision: Precision = None,
    backend: Backend = None,
    compiling: Compile = None,
    accept_disagreement: AcceptDisagreement = False,
    threads: Threads = None,
    tta: Tta = None,
    kept: Annotated[
        bool, typer.Option("--kept", help='With --name: the epochs that keep = "every N" left are voters too.')
    ] = False,
    json: Json = False,
) -> None:
    """Write the probabilities of every expert and checkpoint of a run on the evaluation photos."""
    from ensemble_kit.cli.printed import as_json
    from ensemble_kit.cli.progress import TerminalWatcher
    from ensemble_kit.recipe.predict import predict_run, read_part_of
    from ensemble_kit.runs import Run

    opened = Run.open(run or default_run())
    options = {"device": device, "precision": precision, "backend": backend, "threads": threads}
    options |= {"batch_size": batch_size, "accept_disagreement": accept_disagreement, "compiling": compiling}
    views = opened.tta if tta is None else views_of(tta)
    with TerminalWatcher(stderr=json) as watcher:
        table = read_part_of(opened, data, part)
        folder = predict_run(opened, table, name or part, watcher, {**given(options), "tta": views}, kept=kept)
        watcher.say(f"predictions: {folder}")
        source = folder if kept else opened.folder  # a set of other checkpoints than the run answers with
        watcher.say(f"next: ens combine {source}" + (f" --name {name}" if name and not kept else ""))
    if json:
        print(as_json({"predictions": folder, "photos": len(table)}))


def views_of(text: str) -> list[str]:
    """`flip,zoom` -> the views; "none" is none."""
    typed = [name.strip() for name in text.split(",")]
    return [name for name in typed if name not in ("", "none")]


def evaluate(
    target: Annotated[
        Path | None, typer.Argument(help="A submission, a joint/ folder, or a run; default the last run.")
    ] = None,
    answers: Truth = None,
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
    from ensemble_kit.cli.printed import show
    from ensemble_kit.recipe.evaluate import evaluate_target
    from ensemble_kit.recipe.load import load_recipe

    chosen, named = load_recipe(recipe), target or default_run()
    if data is None and not (named / "run.json").is_file() and "ENS_DATA" in os.environ:
        data = Path(os.environ["ENS_DATA"])  # a run knows its own data, a submission does not
    report = evaluate_target(named, chosen, answers=answers, people=people, data=data)
    show(report, json)


def card(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint (.safetensors).")],
) -> None:
    """Print the card of a checkpoint: what it predicts, for whom, from which photos, how trained."""
    from ensemble_kit.card import read_card
    from ensemble_kit.cli.printed import as_json

    print(as_json(read_card(checkpoint).to_json()))


def add_to(app: typer.Typer) -> None:
    for command in (predict, evaluate, card):
        app.command()(command)
