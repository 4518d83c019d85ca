"""What a run's trainings left for its report: their curves, their setup, and the folds that are not trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ensemble_kit.card import read_card
from ensemble_kit.coverage import train_command
from ensemble_kit.errors import DataError
from ensemble_kit.files import read_json, taking_apart
from ensemble_kit.graph import describe_expert
from ensemble_kit.recipe.compare_runs import history
from ensemble_kit.recipe.load import combine_of
from ensemble_kit.run_report.facts import Curve, ExpertFacts, Missing, SetupFacts
from ensemble_kit.run_report.measuring import shared_settings
from ensemble_kit.runs import FinishedFold, Run, voter_names


def curves_of(run: Run) -> list[Curve]:
    found = []
    for fold in run.finished():
        lines = history(fold.folder)
        if not lines:
            continue
        with taking_apart(fold.folder / "metrics.jsonl"):
            found.append(
                Curve(
                    expert=describe_expert(fold.attributes, fold.condition),
                    fold=fold.fold,
                    seed=fold.seed,
                    epochs=tuple(int(line["epoch"]) for line in lines),
                    train_loss=tuple(_finite(line.get("train_loss")) for line in lines),
                    val_loss=tuple(_finite(line.get("val_loss")) for line in lines),
                    macro_f1=tuple(_finite(line.get("macro_f1")) for line in lines),
                    seconds=float(sum(line.get("seconds", 0.0) for line in lines)),
                    kept_epoch=_kept_epoch(fold),
                )
            )
    return found


def _finite(value: Any) -> float | None:
    return None if value is None or not np.isfinite(value) else float(value)


def _kept_epoch(fold: FinishedFold) -> int | None:
    try:
        return int(read_card(fold.trained).train["epoch"])
    except (DataError, KeyError):
        return None  # checkpoints may have been moved away; the curve stays


def setup_of(run: Run) -> SetupFacts:
    by_expert: dict[str, list[FinishedFold]] = {}
    for fold in run.finished():
        by_expert.setdefault(describe_expert(fold.attributes, fold.condition), []).append(fold)
    settings = {name: _settings(folds[0]) for name, folds in by_expert.items()}
    shared, own = shared_settings(settings)
    cards = [card for folds in by_expert.values() for fold in folds if (card := _card(fold)) is not None]
    machines = dict.fromkeys(str(card.train["where"]) for card in cards if "where" in card.train)
    file = run.folder / "recipe.toml"
    return SetupFacts(
        experts=tuple(
            ExpertFacts(
                name,
                tuple(voter_names(folds)),
                tuple(fold.checkpoint_sha256 for fold in folds),
                tuple(epoch for fold in folds if (epoch := _kept_epoch(fold)) is not None),
                float(sum(line.get("seconds", 0.0) for fold in folds for line in history(fold.folder))),
                own[name],
            )
            for name, folds in by_expert.items()
        ),
        shared=shared,
        combine=combine_of(run),
        recipe=file.read_text("utf-8", errors="replace") if file.is_file() else "",
        identity={
            "samples": str(run.info["samples_sha256"]),
            "folds": str(run.n_folds),
            "seed of the folds": str(run.info["fold_seed"]),
        },
        versions=_versions(run, [card.versions for card in cards]),
        machines=tuple(machines),
    )


def _settings(fold: FinishedFold) -> dict[str, Any]:
    done = read_json(fold.folder / "DONE")
    with taking_apart(fold.folder / "DONE"):
        settings = dict(done.get("identity", {}).get("settings", {}))
        phases = settings.pop("phases", [])
        for number, phase in enumerate(phases, 1):
            prefix = "" if len(phases) == 1 else f"phase {number}: "
            settings |= {f"{prefix}{key}": value for key, value in dict(phase).items()}
    return {key: value for key, value in settings.items() if key not in ("attributes", "condition", "fold")}


def _card(fold: FinishedFold) -> Any:
    try:
        return read_card(fold.trained)
    except DataError:
        return None


def _versions(run: Run, of_cards: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Of each package every version that took part."""
    found: dict[str, list[str]] = {}
    for versions in [run.info["versions"], *of_cards]:
        for name, version in dict(versions).items():
            if str(version) not in found.setdefault(str(name), []):
                found[str(name)].append(str(version))
    return {name: ", ".join(own) for name, own in found.items()}


def untrained(run: Run) -> list[Missing]:
    """Folds of experts that are not finished."""
    found = []
    finished = run.finished()
    for names, condition, _ in run.described():
        done = {fold.fold for fold in finished if fold.attributes == names and dict(fold.condition) == dict(condition)}
        lacking = [str(fold) for fold in range(run.n_folds) if fold not in done]
        if lacking:
            reason = f"{describe_expert(names, condition)}: fold {', '.join(lacking)} of {run.n_folds} not trained"
            found.append(Missing("folds", reason, f"{train_command(names, condition)} --run {run.folder}"))
    return found
