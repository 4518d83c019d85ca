"""Losses by name, sums of them with weights, class weights, and the targets that they take. Needs torch."""

from ensemble_kit.training.losses.class_weights import CLASS_WEIGHTS, check_class_weights, class_weights
from ensemble_kit.training.losses.formulas import cross_entropy, focal, macro_f1, soft_margin
from ensemble_kit.training.losses.table import LOSSES, Loss, LossFamily, find_loss, loss_name, needs_scores
from ensemble_kit.training.losses.targets import SMOOTHINGS, check_smoothing, one_hot, smooth

__all__ = [
    "CLASS_WEIGHTS",
    "LOSSES",
    "SMOOTHINGS",
    "Loss",
    "LossFamily",
    "check_class_weights",
    "check_smoothing",
    "class_weights",
    "cross_entropy",
    "find_loss",
    "focal",
    "loss_name",
    "macro_f1",
    "needs_scores",
    "one_hot",
    "smooth",
    "soft_margin",
]
