"""Training of one expert on one fold. Needs torch."""

from ensemble_kit.training.job import EpochLine, ExpertJob, FoldResult, check_job_names
from ensemble_kit.training.loop import train_fold
from ensemble_kit.training.phases import Phase

__all__ = ["EpochLine", "ExpertJob", "FoldResult", "Phase", "check_job_names", "train_fold"]
