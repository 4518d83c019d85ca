"""Prior shift: the classes' shares where the experts are used, told from unlabelled predictions, and put right.

`em` holds the formulas, `moments` the estimator and its draws, `estimate` the decision, `prior` what is stored and
applied, `fit` the call, `expert` the call on saved predictions.
"""

from ensemble_kit.shift.em import class_prior, em_prior, log_likelihood, reweigh
from ensemble_kit.shift.expert import fit_shift_for
from ensemble_kit.shift.fit import fit_shift
from ensemble_kit.shift.prior import PriorShift

__all__ = ["PriorShift", "class_prior", "em_prior", "fit_shift", "fit_shift_for", "log_likelihood", "reweigh"]
