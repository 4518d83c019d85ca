"""Which voters to trust how much: greedy selection, scored on people that took no part in it."""

from ensemble_kit.selection.inputs import existing_columns, true_columns
from ensemble_kit.selection.result import Gap, Selection
from ensemble_kit.selection.run import Search, select_for_experts, select_for_joint, select_voters

__all__ = [
    "Gap",
    "Search",
    "Selection",
    "existing_columns",
    "select_for_experts",
    "select_for_joint",
    "select_voters",
    "true_columns",
]
