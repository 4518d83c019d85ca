"""Experts' probabilities on photos: the type, and the folder it is kept in."""

from ensemble_kit.predictions.array import Predictions, check_probs
from ensemble_kit.predictions.folder import (
    load_predictions,
    read_prediction_json,
    read_prediction_schema,
    save_predictions,
)
from ensemble_kit.predictions.ids import check_unique, ids_sha256, match_ids

__all__ = [
    "Predictions",
    "check_probs",
    "check_unique",
    "ids_sha256",
    "load_predictions",
    "match_ids",
    "read_prediction_json",
    "read_prediction_schema",
    "save_predictions",
]
