"""Experts' probabilities on photos: the type, and the folder it is kept in."""

from ensemble_kit.predictions.array import Decision, Predictions
from ensemble_kit.predictions.checks import SUM_TOLERANCE, are_all_one, check_probs
from ensemble_kit.predictions.folder import (
    load_predictions,
    read_prediction_json,
    read_prediction_schema,
    read_problems,
    save_predictions,
)

__all__ = [
    "SUM_TOLERANCE",
    "Decision",
    "Predictions",
    "are_all_one",
    "check_probs",
    "load_predictions",
    "read_prediction_json",
    "read_prediction_schema",
    "read_problems",
    "save_predictions",
]
