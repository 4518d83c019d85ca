"""`ens train ATTRIBUTE`, and the short forms `ens train-mask`, `ens train-gender` and `ens train-age`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ensemble_kit.cli.options import DEFAULT_RECIPE, DryRun, Json, RecipeName
from ensemble_kit.cli.training_options import run_folder, training_command

if TYPE_CHECKING:
    from ensemble_kit.training import FoldResult

Attribute = Annotated[str, typer.Argument(help='What the expert predicts; a block is written "gender,age".')]
Given = Annotated[
    list[str] | None,
    typer.Option("--given", help="Only for these classes of a parent: mask=worn, or mask=incorrect,not_worn."),
]
MaskState = Annotated[
    str | None,
    typer.Option(
        "--mask-state", help="Short for --given mask=STATE: a state, several with commas, or any for the pooled expert."
    ),
]
Fold = Annotated[list[int] | None, typer.Option("--fold", help="Train only this fold (0 is first); may be repeated.")]
Restart = Annotated[bool, typer.Option("--restart", help="Train anew what this run already holds.")]
Resume = Annotated[
    bool, typer.Option("--resume", help="There must be something to go on with; without it one begins or goes on.")
]

MASK_TASK = ("mask", "gender", "age")


@training_command
def train(
    attribute: Attribute,
    given_classes: Given = None,
    fold: Fold = None,
    recipe: RecipeName = DEFAULT_RECIPE,
    restart: Restart = False,
    resume: Resume = False,
    dry_run: DryRun = False,
    json: Json = False,
    *,
    data: Path | None,
    run: Path | None,
    edits: Sequence[str],
    division: Mapping[str, Any],
    flags: Mapping[str, Any],
) -> None:
    """Train one expert: an attribute or a block of them, pooled or for some classes of its parents."""
    from dataclasses import replace

    from ensemble_kit.cli.printed import as_json, tell
    from ensemble_kit.cli.progress import TerminalWatcher
    from ensemble_kit.errors import UsageError
    from ensemble_kit.graph import check_condition, describe_expert
    from ensemble_kit.recipe.experts import has_borders
    from ensemble_kit.recipe.load import ExpertSpec, load_recipe
    from ensemble_kit.recipe.resolved import save_resolved
    from ensemble_kit.recipe.run import check_experts, check_resume, open_run
    from ensemble_kit.recipe.settings import MEASURED
    from ensemble_kit.recipe.train import train_experts
    from ensemble_kit.runs import expert_slug

    chosen = load_recipe(recipe, edits).with_data(division)
    names = chosen.names_of(attribute.split(","))
    condition = check_condition(parse_given(given_classes or []), chosen.schema)
    # every class of a parent is no condition at all: that expert is the pooled one
    some = {name: classes for name, classes in condition.items() if classes != chosen.schema[name].classes}
    spec = ExpertSpec(names, some)
    chosen = chosen.with_train(flags)
    measured = [f"--{name.replace('_', '-')}" for name in MEASURED if name in flags]
    if measured and not has_borders(chosen.schema, names):
        raise UsageError(f"{' and '.join(measured)}: about a measured attribute; {attribute} is none")
    check_experts(chosen, data, [spec])
    place = run_folder(run, chosen.name) / "experts" / expert_slug(names, spec.condition)
    check_resume(resume, restart, [place])
    with TerminalWatcher(stderr=json) as watcher:
        node = chosen.graph.node_of(names)
        if node and not set(some) <= set(node.parents):
            watcher.say(f"note: the recipe's graph lets only {list(node.parents)} condition {node.name}; see [graph]")
        adopt = not {"folds", "val_ratio", "fold_seed"} & {*division, *chosen.edited_keys("data")}
        if dry_run:
            from ensemble_kit.recipe.planning import plan_run

            where = run_folder(run, chosen.name)
            plan = plan_run(chosen, data, where, [spec], watcher, folds=fold, restart=restart, adopt=adopt).text()
            if json:
                print(as_json({"plan": plan.splitlines()}))
            else:
                tell(plan)
            return
        opened = open_run(chosen, data, run_folder(run, chosen.name), watcher, adopt=adopt)
        watcher.say(f"{describe_expert(names, spec.condition)} -> {opened.expert_folder(names, spec.condition)}")
        settings = chosen.settings_for(names, condition=spec.condition)
        watcher.say(_kept(settings.keep, settings.soup))
        save_resolved(opened.expert_folder(names, spec.condition), replace(chosen, experts=(spec,)))
        results = train_experts(opened, chosen, [spec], watcher, folds=fold, restart=restart)
        scores = ", ".join(f"{result.metrics['macro_f1']:.3f}" for result in results)
        n_seeds = len(settings.by_seed())
        watcher.say(f"{len(results)} of {opened.n_folds * n_seeds} folds: macro F1 {scores}")
    if json:
        print(as_json({"expert": describe_expert(names, spec.condition), "folds": [_told(one) for one in results]}))


def _told(result: FoldResult) -> dict[str, Any]:
    about = {"checkpoint": result.checkpoint, "epoch": result.epoch, "skipped": result.skipped}
    return {**about, "metrics": dict(result.metrics), "notices": list(result.notices)}


def _kept(keep: str, soup: str) -> str:
    if soup != "none":
        return f"averages its checkpoints by validation macro F1 ({soup}): out-of-fold scores are a little optimistic"
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
    parameters = [p for name, p in inspect.signature(train).parameters.items() if name != "attribute"]
    if attribute != "mask":
        state = inspect.Parameter("mask_state", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=MaskState)
        parameters.insert(0, state)

    def command(**options: Any) -> None:
        state = options.pop("mask_state", None)
        if state not in (None, "any"):
            options["given_classes"] = [*(options["given_classes"] or []), f"mask={state}"]
        train(attribute=attribute, **options)

    command.__name__ = f"train_{attribute}"
    command.__doc__ = f"Train the {attribute} expert; short for `ens train {attribute}`."
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    return command


def add_to(app: typer.Typer) -> None:
    app.command("train")(train)
    for attribute in MASK_TASK:
        app.command(f"train-{attribute}")(short_form(attribute))
