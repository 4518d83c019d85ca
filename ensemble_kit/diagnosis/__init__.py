"""Diagnosis: where the errors of a conditional ensemble come from, and whether specialising pays."""

from ensemble_kit.diagnosis.build import diagnose
from ensemble_kit.diagnosis.report import Diagnosis

__all__ = ["Diagnosis", "diagnose"]
