"""Training of one expert on one fold. Needs torch."""

from ensemble_kit.training.job import EpochLine, ExpertJob, FoldResult, check_job_names
from ensemble_kit.training.loop import train_fold

__all__ = ["EpochLine", "ExpertJob", "FoldResult", "check_job_names", "train_fold"]
