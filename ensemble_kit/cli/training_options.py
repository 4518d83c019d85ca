"""The options that every training command has: one row each, laid over the recipe when given."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from ensemble_kit.cli.help import MACHINE
from ensemble_kit.cli.options import Data, Edits, RunFolder, given, refuse_twice

SHARED = ("data", "run", "edits", "division", "flags")

DATA_OPTIONS: dict[str, tuple[type, str]] = {
    "folds": (int, "Number of folds, people kept together."),
    "val_ratio": (float, "One validation share in place of folds, such as 0.1."),
    "fold_seed": (int, "Seed of the folds."),
    "layout": (str, "How the data set is laid out: auto, competition, table or folders."),
    "fixes": (str, "A label fix list, or none."),
    "extra": (str, "A second data set, whose photos are trained on and never held out."),
    "extra_where": (str, "Classes whose extra photos are taken, such as age=>=60."),
    "cache_gb": (float, "GB that decoded photos may take; what has no room is decoded each time."),
}

TRAIN_OPTIONS: dict[str, tuple[type, str]] = {
    "backbone": (str, "Feature network, such as resnet18."),
    "weights": (str, "imagenet, none, a checkpoint, run:EXPERT or runs/other/EXPERT to start from."),
    "head": (str, "linear, deep=256 or conv=128."),
    "heads": (str, "joint, or separate: a head an attribute of a block, on one backbone."),
    "output": (str, "classes, ordinal or regression."),
    "columns": (str, "classes, years, years=61, bins=11, or edges such as 20,30,45,60."),
    "size": (str, "Photo size in pixels: one number, or height,width."),
    "window": (str, "What is seen of size: a window anywhere in training, else its middle; none = all."),
    "crop": (str, "Crop in shares of the photo or in pixels: one number, or height,width."),
    "crop_at": (str, "center, boxes (the mean place of the training photos' boxes), or shares down,across."),
    "prepare": (str, "Steps on every photo, such as grayscale,clahe=2."),
    "normalise": (str, "imagenet, or photos: mean and std of the training photos."),
    "mean": (str, "Mean per channel, subtracted from photos in 0 to 1."),
    "std": (str, "Deviation per channel, divided by."),
    "augment": (str, "Augmentations in order, such as flip=0.5,rotate=0.3:15."),
    "augment_share": (float, "One probability for all augmentations at once."),
    "epochs": (int, "Passes over the training photos."),
    "min_steps": (int, "More epochs where few photos would make fewer steps."),
    "batch_size": (int, "Photos a batch."),
    "accumulate": (int, "Batches a step, as one large batch."),
    "optimizer": (str, "adamw, adam, sgd, sgd=0.95, nesterov, or one of timm's."),
    "head_lr": (float, "Learning rate of the head."),
    "backbone_lr": (float, "Learning rate of the backbone."),
    "weight_decay": (float, "Decay of weights, not of biases and norms."),
    "clip": (float, "Largest norm of a step's gradient; 0 = unlimited."),
    "schedule": (str, "cosine, constant, step=0.1, plateau=0.1 or one_cycle."),
    "ema": (float, "Decay of the weights' moving average, such as 0.999; 0 = none."),
    "swa_epochs": (int, "Mean of the last so many epochs' weights; 0 = none."),
    "patience": (int, "Scored epochs without a better one that end a phase; 0 = never."),
    "loss": (str, "cross_entropy, focal=2, macro_f1, soft_margin, or a sum: cross_entropy+0.5*macro_f1."),
    "class_weights": (str, "none, balanced, effective=0.999, or one number a class."),
    "feature_views": (int, "With --freeze backbone: augmented views whose features are computed once; 0 = plain."),
    "smote": (int, "With --feature-views: neighbours of made-up samples; 0 = none."),
    "label_smoothing": (float, "Share of the target taken from the true class."),
    "smoothing": (str, "Where it goes: all classes, or the others."),
    "mix": (str, "Photos mixed with each other: mixup=0.2, cutmix=1, half_cutmix, or none."),
    "mix_share": (float, "Share of the batches that are mixed."),
    "warmup_epochs": (float, "Linear warm-up before the schedule."),
    "step_epochs": (int, "Epochs between steps, or that plateau waits."),
    "freeze": (str, "Layers that do not train, such as layer1,layer2 or backbone."),
    "sampler": (str, "natural, balanced, weighted, oversample, undersample, or two: natural->balanced."),
    "balance_by": (str, "Attributes that the sampler balances, or joint; default the expert's own classes."),
    "keep": (str, 'Checkpoint kept: best (by validation macro F1), last or "every N".'),
    "soup": (str, 'With --keep "every N": greedy or uniform, to average those checkpoints; none.'),
    "score_every": (int, "Epochs between two looks at the held-out photos; 0 = only after the last."),
    "save_every": (int, "Epochs between two states that a broken-off training goes on from."),
    "seeds": (str, "Several seeds, such as 0,1,2: each trains every fold, and votes."),
    "borders": (str, "Class borders used for training only, such as 30,58."),
    "leave_out": (str, "Values left out of training, such as 57-59 or 27-29,57-59."),
    "people_share": (float, "Share of the training people that are trained on."),
    "precision": (str, "auto, fp32 or bf16."),
    "channels_last": (bool, "Memory layout; default where it pays."),
    "device": (str, "auto, cpu or cuda."),
    "share_gpu": (bool, "Train beside another training on the same GPU, in place of waiting for it."),
    "workers": (int, "Processes that augment photos."),
    "threads": (int, "CPU threads."),
    "jobs": (int, "Trainings at a time on a CPU, each in a process of its own; 0 = what cores and memory allow."),
    "tensorboard": (bool, "Write each epoch's scalars and pictures for TensorBoard too."),
    "seed": (int, "Seed of weights, order and augmentation."),
}


PANELS = {
    "Data and folds": tuple(DATA_OPTIONS),
    "Network": ("backbone", "weights", "head", "heads", "output", "columns", "freeze"),
    "Photos": (
        *("size", "window", "crop", "crop_at", "prepare", "normalise", "mean", "std", "augment", "augment_share"),
        *("mix", "mix_share", "feature_views", "smote"),
    ),
    "Which photos count how much": (
        *("loss", "class_weights", "label_smoothing", "smoothing", "sampler", "balance_by", "borders", "leave_out"),
        "people_share",
    ),
    "Steps": (
        *("epochs", "min_steps", "batch_size", "accumulate", "optimizer", "head_lr", "backbone_lr", "weight_decay"),
        *("clip", "schedule", "warmup_epochs", "step_epochs", "patience"),
    ),
    "What is kept": ("keep", "soup", "ema", "swa_epochs", "score_every", "save_every", "tensorboard"),
    MACHINE: ("device", "share_gpu", "precision", "channels_last", "workers", "threads", "jobs", "seed", "seeds"),
}
"""The headings in `--help`; each option stands under one."""

PANEL_OF = {name: title for title, names in PANELS.items() for name in names}


def training_command(function: Callable[..., None]) -> Callable[..., None]:
    """Gives a command the options above.

    `function` takes its own parameters, then `data`, `run`, `edits`, `division` and `flags`: `edits` are those of
    `--set`, the last two hold what was given of `DATA_OPTIONS` and `TRAIN_OPTIONS`.
    """
    signature = inspect.signature(function, eval_str=True)
    own = [p for name, p in signature.parameters.items() if name not in SHARED]
    context = inspect.Parameter("ctx", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
    own_run = signature.parameters["run"].annotation
    run = own_run if hasattr(own_run, "__metadata__") else RunFolder  # a command may say what its folder is
    shared = [context, _parameter("data", Data), _parameter("run", run), _parameter("edits", Edits)]
    shared += [_option(name, *row) for name, row in {**DATA_OPTIONS, **TRAIN_OPTIONS}.items()]

    def command(ctx: typer.Context, **values: Any) -> None:
        division = _one_way_to_divide(ctx, given({name: values.pop(name) for name in DATA_OPTIONS}))
        if division.get("fixes") not in (None, "none"):  # a recipe's own is relative to the recipe, a typed one to here
            division["fixes"] = str(Path(division["fixes"]).resolve())
        if division.get("extra", "none") != "none":
            division["extra"] = str(Path(division["extra"]).resolve())
        flags = given({name: values.pop(name) for name in TRAIN_OPTIONS})
        edits = values.pop("edits") or []
        refuse_twice(ctx, edits, {"data": division, "train": flags})
        function(**values, edits=edits, division=division, flags=flags)

    parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own] + shared
    command.__name__, command.__doc__ = function.__name__, function.__doc__
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    return command


def _one_way_to_divide(ctx: typer.Context, division: dict[str, Any]) -> dict[str, Any]:
    """Folds and a validation share rule each other out: a typed one beats one from the environment."""
    rivals = [name for name in ("folds", "val_ratio") if name in division]
    exported = [name for name in rivals if getattr(ctx.get_parameter_source(name), "name", "") == "ENVIRONMENT"]
    dropped = exported if len(rivals) == 2 and len(exported) == 1 else []
    return {name: value for name, value in division.items() if name not in dropped}


def _parameter(name: str, annotation: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _option(name: str, kind: type, text: str) -> inspect.Parameter:
    flag = f"--{name.replace('_', '-')}"
    names = f"{flag}/--no-{flag[2:]}" if kind is bool else flag
    option = typer.Option(names, envvar=f"ENS_{name.upper()}", help=text, rich_help_panel=PANEL_OF[name])
    return _parameter(name, Annotated[kind | None, option])


def run_folder(run: Path | None, recipe_name: str) -> Path:
    """`--run`, else `runs/` and the recipe's name."""
    return run or Path("runs") / recipe_name
