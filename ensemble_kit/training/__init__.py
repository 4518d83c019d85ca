"""Training of one expert on one fold. Needs torch."""

from ensemble_kit.training.job import EpochLine, ExpertJob, FoldResult, check_balance, check_job_names, check_objective
from ensemble_kit.training.loop import train_fold
from ensemble_kit.training.phases import Phase, check_together

__all__ = [
    "EpochLine",
    "ExpertJob",
    "FoldResult",
    "Phase",
    "check_balance",
    "check_job_names",
    "check_objective",
    "check_together",
    "train_fold",
]
