"""The sample table and the one function that reads it from any layout."""

from __future__ import annotations

from ensemble_kit.data.table import Problem, SampleTable

__all__ = ["Problem", "SampleTable"]
