"""The whole job of a recipe, from photos to scored joint classes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ensemble_kit.files import write_json
from ensemble_kit.graph import describe_expert
from ensemble_kit.recipe.combine import combine_sets
from ensemble_kit.recipe.evaluate import evaluate_run, out_of_fold_report
from ensemble_kit.recipe.load import Recipe
from ensemble_kit.recipe.run import (
    Watcher,
    answers_of,
    data_root,
    open_run,
    predict_run,
    read_part,
    template_of,
    train_experts,
)
from ensemble_kit.runs import Run


def run_recipe(
    recipe: Recipe, data: Path | None, folder: Path, watcher: Watcher, *, restart: bool = False
) -> Mapping[str, Any]:
    """Trains every expert on every fold, predicts, combines, evaluates; what is done is skipped.

    Returns:
        What `results/metrics.json` holds.

    Raises:
        EnsembleKitError: with one line that says what to do; what is finished stays, and the same call goes on.
    """
    root = data_root(recipe, data)
    run = open_run(recipe, root, folder, watcher)
    names = [describe_expert(spec.attributes, spec.condition) for spec in recipe.experts]
    watcher.say(f"{recipe.name} -> {folder}: {len(names)} experts x {run.n_folds} folds on {len(run.table)} photos")
    for name in names:
        watcher.say(f"  {name}")
    train_experts(run, recipe, recipe.experts, watcher, restart=restart)
    metrics = _evaluation(recipe, run, root, watcher)
    write_json(folder / "results" / "metrics.json", metrics)
    write_json(folder / "DONE", {"recipe": recipe.name, "samples_sha256": run.info["samples_sha256"]})
    return metrics


def _evaluation(recipe: Recipe, run: Run, root: Path, watcher: Watcher) -> dict[str, Any]:
    held_out = out_of_fold_report(run)
    watcher.say("")
    watcher.say("out of fold (training people, each predicted by models that never saw them)")
    watcher.say(held_out.text())
    metrics = {"out_of_fold": held_out.to_json()}
    if template_of(root) is None and answers_of(root) is None:
        return metrics
    device = recipe.settings_for(recipe.experts[0].attributes).device
    if not run.predictions_are_current("eval"):
        predict_run(run, read_part(recipe, root, "eval"), "eval", watcher, device=device)
    report = combine_sets(
        [run.predictions_folder("eval")],
        run.graph,
        recipe.combine,
        run.folder / "results",
        template=template_of(root),
        announce=watcher.say,
    )
    watcher.say(report.text())
    if answers_of(root) is not None:
        evaluated = evaluate_run(run, data=root)
        watcher.say("")
        watcher.say("evaluation photos")
        watcher.say(evaluated.text())
        metrics |= evaluated.to_json()
    return metrics
