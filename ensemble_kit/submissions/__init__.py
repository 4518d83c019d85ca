"""Answer files as first-class things: voted on, compared, checked, and their scores estimated."""

from ensemble_kit.submissions.check import CheckReport, check_submission
from ensemble_kit.submissions.compare import CompareReport, compare_labels, write_rows
from ensemble_kit.submissions.counts import training_counts
from ensemble_kit.submissions.estimate import Estimate, estimate_accuracy, estimate_text
from ensemble_kit.submissions.table import Submissions, read_submissions, refuse_overwriting
from ensemble_kit.submissions.vote import VoteReport, vote_files, vote_submissions

__all__ = [
    "CheckReport",
    "CompareReport",
    "Estimate",
    "Submissions",
    "VoteReport",
    "check_submission",
    "compare_labels",
    "estimate_accuracy",
    "estimate_text",
    "read_submissions",
    "refuse_overwriting",
    "training_counts",
    "vote_files",
    "vote_submissions",
    "write_rows",
]
