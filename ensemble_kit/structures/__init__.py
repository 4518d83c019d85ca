"""Comparing structures: flat, independent and conditional on the same saved predictions."""

from ensemble_kit.structure_report import StructureReport
from ensemble_kit.structures.score import score_structures

__all__ = ["StructureReport", "score_structures"]
