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
from ensemble_kit.recipe.predict import current_predictions, read_part_of
from ensemble_kit.recipe.resolved import save_resolved
from ensemble_kit.recipe.run import Watcher, check_experts, open_run
from ensemble_kit.recipe.train import train_experts
from ensemble_kit.recipe.truth import truth_of_table
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
    check_experts(recipe, data, recipe.experts)
    run = open_run(recipe, data, folder, watcher)
    (folder / "DONE").unlink(missing_ok=True)
    saved = save_resolved(folder, recipe)
    names = [describe_expert(spec.attributes, spec.condition) for spec in recipe.experts]
    watcher.say(f"{recipe.name} -> {folder}: {len(names)} experts x {run.n_folds} folds on {len(run.table)} photos")
    for name in names:
        watcher.say(f"  {name}")
    watcher.say(f"every setting: {saved}")
    train_experts(run, recipe, recipe.experts, watcher, restart=restart)
    metrics = {**_out_of_fold(run, watcher), **_evaluation(run, watcher)}
    write_json(folder / "results" / "metrics.json", metrics)
    write_json(folder / "DONE", {"recipe": recipe.name, "samples_sha256": run.info["samples_sha256"]})
    return metrics


def _out_of_fold(run: Run, watcher: Watcher) -> dict[str, Any]:
    report = out_of_fold_report(run)
    watcher.say(f"\n{report.text()}")
    return {"out_of_fold": report.to_json()}


def _evaluation(run: Run, watcher: Watcher) -> dict[str, Any]:
    """Predictions, submission and scores on the evaluation photos, as far as there are photos and answers."""
    from ensemble_kit.data.samples import has_part, template_of

    if not has_part(run.data, "eval", run.layout):
        watcher.say(f"{run.data}: no evaluation photos, so nothing more to predict")
        return {}
    report = combine_sets(
        [current_predictions(run, None, "eval", watcher)],
        run.graph,
        run.combine,
        run.folder / "results",
        template=template_of(run.data, run.schema, run.layout),
        announce=watcher.say,
    )
    watcher.say(report.text())
    if truth_of_table(read_part_of(run, None, "eval")) is None:
        return {}
    evaluated = evaluate_run(run)
    watcher.say(f"\n{evaluated.text()}")
    return evaluated.to_json()
