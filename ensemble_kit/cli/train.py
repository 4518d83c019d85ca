"""`ens train ATTRIBUTE`, and the short forms `ens train-mask`, `ens train-gender` and `ens train-age`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from ensemble_kit.cli.options import DEFAULT_RECIPE, Data, Device, RecipeName, RunFolder, given

Given = Annotated[
    list[str] | None,
    typer.Option(
        "--given", help="Train for these classes of a parent only, as in mask=worn or mask=incorrect,not_worn."
    ),
]
MaskState = Annotated[
    str | None,
    typer.Option(
        "--mask-state", help="Short for --given mask=STATE: a state, several with commas, or any for the pooled expert."
    ),
]
Folds = Annotated[int | None, typer.Option(envvar="ENS_FOLDS", help="Number of folds, people kept together.")]
Fold = Annotated[
    list[int] | None, typer.Option("--fold", help="Train only this fold (0 is the first); may be repeated.")
]
ValRatio = Annotated[
    float | None, typer.Option(envvar="ENS_VAL_RATIO", help="One validation share in place of folds, such as 0.1.")
]
Weights = Annotated[
    str | None, typer.Option(envvar="ENS_WEIGHTS", help="imagenet, none, or a checkpoint to start from.")
]
Backbone = Annotated[str | None, typer.Option(envvar="ENS_BACKBONE", help="Feature network, such as resnet18.")]
Epochs = Annotated[int | None, typer.Option(envvar="ENS_EPOCHS", help="Passes over the training photos.")]
MinSteps = Annotated[
    int | None, typer.Option(envvar="ENS_MIN_STEPS", help="More epochs where few photos would make fewer steps.")
]
BatchSize = Annotated[int | None, typer.Option(envvar="ENS_BATCH_SIZE", help="Photos a step.")]
Size = Annotated[str | None, typer.Option(envvar="ENS_SIZE", help="Photo size in pixels: one number, or height,width.")]
Crop = Annotated[
    str | None,
    typer.Option(envvar="ENS_CROP", help="Centre crop as a share of the photo: one number, or height,width."),
]
HeadLr = Annotated[float | None, typer.Option(envvar="ENS_HEAD_LR", help="Learning rate of the head.")]
BackboneLr = Annotated[float | None, typer.Option(envvar="ENS_BACKBONE_LR", help="Learning rate of the backbone.")]
Smoothing = Annotated[float | None, typer.Option(envvar="ENS_LABEL_SMOOTHING", help="Label smoothing.")]
Sampler = Annotated[str | None, typer.Option(envvar="ENS_SAMPLER", help="natural, or balanced over the classes.")]
Keep = Annotated[
    str | None,
    typer.Option(envvar="ENS_KEEP", help='Checkpoint kept: best (by validation macro F1), last or "every N".'),
]
Precision = Annotated[str | None, typer.Option(envvar="ENS_PRECISION", help="auto, fp32 or bf16.")]
Workers = Annotated[int | None, typer.Option(envvar="ENS_WORKERS", help="Processes that augment photos.")]
Threads = Annotated[int | None, typer.Option(envvar="ENS_THREADS", help="CPU threads.")]
Seed = Annotated[int | None, typer.Option(envvar="ENS_SEED", help="Seed of weights, order and augmentation.")]
Borders = Annotated[
    str | None, typer.Option(envvar="ENS_BORDERS", help="Class borders used for training only, such as 30,58.")
]
LeaveOut = Annotated[
    str | None, typer.Option(envvar="ENS_LEAVE_OUT", help="Values left out of training, such as 57-59 or 27-29,57-59.")
]
Restart = Annotated[bool, typer.Option("--restart", help="Train anew what this run already holds.")]

MASK_TASK = ("mask", "gender", "age")


def train(
    attribute: Annotated[str, typer.Argument(help='What the expert predicts; a block is written "gender,age".')],
    given_classes: Given = None,
    data: Data = None,
    recipe: RecipeName = DEFAULT_RECIPE,
    run: RunFolder = None,
    folds: Folds = None,
    fold: Fold = None,
    val_ratio: ValRatio = None,
    backbone: Backbone = None,
    weights: Weights = None,
    size: Size = None,
    crop: Crop = None,
    epochs: Epochs = None,
    min_steps: MinSteps = None,
    batch_size: BatchSize = None,
    head_lr: HeadLr = None,
    backbone_lr: BackboneLr = None,
    label_smoothing: Smoothing = None,
    sampler: Sampler = None,
    keep: Keep = None,
    borders: Borders = None,
    leave_out: LeaveOut = None,
    precision: Precision = None,
    device: Device = None,
    workers: Workers = None,
    threads: Threads = None,
    seed: Seed = None,
    restart: Restart = False,
) -> None:
    """Train one expert: an attribute or a block of them, pooled or for some classes of its parents."""
    flags = {name: value for name, value in locals().items() if name in TRAIN_FLAGS}
    _train(
        attribute,
        given_classes or [],
        data,
        recipe,
        run,
        {"folds": folds, "val_ratio": val_ratio},
        fold,
        flags,
        restart,
    )


TRAIN_FLAGS = (
    "backbone", "weights", "size", "crop", "epochs", "min_steps", "batch_size", "head_lr", "backbone_lr",
    "label_smoothing", "sampler", "keep", "borders", "leave_out", "precision", "device", "workers", "threads", "seed",
)  # fmt: skip


def _train(
    attribute: str,
    given_classes: list[str],
    data: Path | None,
    recipe_name: str,
    run: Path | None,
    division: dict[str, Any],
    folds: list[int] | None,
    flags: dict[str, Any],
    restart: bool,
) -> None:
    from ensemble_kit.cli.progress import TerminalWatcher
    from ensemble_kit.graph import check_condition, describe_expert
    from ensemble_kit.recipe.load import ExpertSpec, load_recipe
    from ensemble_kit.recipe.run import data_root, open_run, train_experts

    chosen = load_recipe(recipe_name).with_data(given(division))
    names = chosen.schema.block([part.strip() for part in attribute.split(",")]).names
    spec = ExpertSpec(names, check_condition(parse_given(given_classes), chosen.schema))
    chosen = chosen.with_train(given(flags))
    settings = chosen.settings_for(names)
    with TerminalWatcher() as watcher:
        opened = open_run(chosen, data_root(chosen, data), run or Path("runs") / chosen.name, watcher)
        watcher.say(f"{describe_expert(names, spec.condition)} -> {opened.expert_folder(names, spec.condition)}")
        watcher.say(_kept(settings.keep))
        results = train_experts(opened, chosen, [spec], watcher, folds=folds, restart=restart)
        scores = [result.metrics["macro_f1"] for result in results]
        watcher.say(f"{len(results)} of {opened.n_folds} folds: macro F1 {', '.join(f'{s:.3f}' for s in scores)}")


def _kept(keep: str) -> str:
    if keep == "best":
        return "keeps the best epoch by validation macro F1: out-of-fold scores are a little optimistic"
    kept = "the last epoch" if keep == "last" else f"{keep} epochs, and the last"
    return f"keeps {kept} (no choice made on held-out photos)"


def parse_given(texts: list[str]) -> dict[str, tuple[str, ...]]:
    """`["mask=incorrect,not_worn"]` -> `{"mask": ("incorrect", "not_worn")}`."""
    from ensemble_kit.errors import UsageError

    condition: dict[str, tuple[str, ...]] = {}
    for text in texts:
        name, equals, classes = text.partition("=")
        if not equals or not classes or name.strip() in condition:
            raise UsageError(f'--given: expected ATTRIBUTE=CLASS[,CLASS], once an attribute; found "{text}"')
        condition[name.strip()] = tuple(part.strip() for part in classes.split(","))
    return condition


def short_form(attribute: str) -> Callable[..., None]:
    """`train` with its attribute fixed, and `--mask-state` for an attribute that the mask may condition."""
    signature = inspect.signature(train, eval_str=True)
    parameters = [p for name, p in signature.parameters.items() if name != "attribute"]
    if attribute != "mask":
        state = inspect.Parameter("mask_state", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=MaskState)
        parameters = [state, *(p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in parameters)]

    def command(**options: Any) -> None:
        state = options.pop("mask_state", None)
        if state is not None and state != "any":
            options["given_classes"] = [*(options["given_classes"] or []), f"mask={state}"]
        train(attribute, **options)

    command.__name__ = f"train_{attribute}"
    command.__doc__ = f"Train the {attribute} expert; short for `ens train {attribute}`."
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    return command


def add_to(app: typer.Typer) -> None:
    app.command("train")(train)
    for attribute in MASK_TASK:
        app.command(f"train-{attribute}")(short_form(attribute))
