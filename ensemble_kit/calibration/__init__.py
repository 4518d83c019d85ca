"""How far probabilities can be believed: temperature scaling, and measures of calibration.

probs: `(n_samples, n_classes)`; one expert's, a vote's, or the joint. A row of zeros abstained.
truth: `(n_samples,)` the true column of each photo.

An abstained row counts as the uniform distribution in `nll` and `brier` (it says nothing), is left out of
`reliability` and `ece` (it has no confidence to hold against), and is a wrong answer of confidence 0 in
`risk_coverage` (it is answered last). Rows that were not computed (NaN) and photos without a label are refused.
"""

from ensemble_kit.calibration.measures import (
    PHOTO_LOSSES,
    Reliability,
    RiskCoverage,
    brier,
    ece,
    nll,
    reliability,
    risk_coverage,
)
from ensemble_kit.calibration.temperature import Temperature, apply_temperature, fit_temperature

__all__ = [
    "PHOTO_LOSSES",
    "Reliability",
    "RiskCoverage",
    "Temperature",
    "apply_temperature",
    "brier",
    "ece",
    "fit_temperature",
    "nll",
    "reliability",
    "risk_coverage",
]
