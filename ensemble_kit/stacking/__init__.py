"""A fitted vote: logistic regression on log-probabilities, scored on people that took no part in the fit."""

from ensemble_kit.stacking.fit import fit_stacking
from ensemble_kit.stacking.model import Stacking, StackingScore

__all__ = ["Stacking", "StackingScore", "fit_stacking"]
