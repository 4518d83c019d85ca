"""Hierarchical conditional ensembles for multi-attribute image classification.

The public names are loaded on first use, so that `import ensemble_kit` costs nothing; what trains or predicts loads
torch only then.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ensemble_kit.arrays import FloatArray
    from ensemble_kit.calibration import fit_temperature
    from ensemble_kit.cascading import Stage, cascade
    from ensemble_kit.classifier import ConditionalClassifier
    from ensemble_kit.data.samples import SampleTable, read_samples
    from ensemble_kit.diagnosis import diagnose
    from ensemble_kit.ensemble import Combined, ConditionalEnsemble
    from ensemble_kit.errors import EnsembleKitError
    from ensemble_kit.graph import Graph
    from ensemble_kit.joint import with_known
    from ensemble_kit.predictions import Predictions, load_predictions, read_prediction_schema, save_predictions
    from ensemble_kit.recipe.load import load_recipe
    from ensemble_kit.recipe.report import report_run
    from ensemble_kit.recipe.whole import run_recipe
    from ensemble_kit.routing import route_hard, route_soft, route_sparse, route_threshold, route_top_k
    from ensemble_kit.runs import Run
    from ensemble_kit.schema import Attribute, Schema
    from ensemble_kit.selection import select_voters
    from ensemble_kit.shift import fit_shift
    from ensemble_kit.stacking import fit_stacking
    from ensemble_kit.structure_search import search_structures
    from ensemble_kit.structures import score_structures
    from ensemble_kit.submission import read_submission, write_submission
    from ensemble_kit.voters import vote_together

_HOME = {
    "Attribute": "schema",
    "Combined": "ensemble",
    "ConditionalClassifier": "classifier",
    "ConditionalEnsemble": "ensemble",
    "EnsembleKitError": "errors",
    "FloatArray": "arrays",
    "Graph": "graph",
    "Predictions": "predictions",
    "Run": "runs",
    "SampleTable": "data.samples",
    "Schema": "schema",
    "Stage": "cascading",
    "cascade": "cascading",
    "diagnose": "diagnosis",
    "fit_shift": "shift",
    "fit_stacking": "stacking",
    "fit_temperature": "calibration",
    "load_predictions": "predictions",
    "load_recipe": "recipe.load",
    "read_prediction_schema": "predictions",
    "read_samples": "data.samples",
    "read_submission": "submission",
    "report_run": "recipe.report",
    "route_hard": "routing",
    "route_soft": "routing",
    "route_sparse": "routing",
    "route_threshold": "routing",
    "route_top_k": "routing",
    "run_recipe": "recipe.whole",
    "save_predictions": "predictions",
    "score_structures": "structures",
    "search_structures": "structure_search",
    "select_voters": "selection",
    "vote_together": "voters",
    "with_known": "joint",
    "write_submission": "submission",
}

__all__ = [
    "Attribute",
    "Combined",
    "ConditionalClassifier",
    "ConditionalEnsemble",
    "EnsembleKitError",
    "FloatArray",
    "Graph",
    "Predictions",
    "Run",
    "SampleTable",
    "Schema",
    "Stage",
    "cascade",
    "diagnose",
    "fit_shift",
    "fit_stacking",
    "fit_temperature",
    "load_predictions",
    "load_recipe",
    "read_prediction_schema",
    "read_samples",
    "read_submission",
    "report_run",
    "route_hard",
    "route_soft",
    "route_sparse",
    "route_threshold",
    "route_top_k",
    "run_recipe",
    "save_predictions",
    "score_structures",
    "search_structures",
    "select_voters",
    "vote_together",
    "with_known",
    "write_submission",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'ensemble_kit' has no attribute {name!r}")
    value = getattr(import_module(f"ensemble_kit.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
