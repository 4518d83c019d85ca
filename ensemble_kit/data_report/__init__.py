"""A data set looked at before training: facts, what they say, and a page of them.

`gather_facts` (facts) -> `sentences` (pure functions of the numbers) -> `write_report` (one HTML file). The data
set and the run are brought together in `recipe.data_report.report_data`.
"""

from ensemble_kit.data_report.facts import DataFacts, gather_facts
from ensemble_kit.data_report.looks import Looks
from ensemble_kit.data_report.page import write_report
from ensemble_kit.data_report.suspects import CUTS

__all__ = ["CUTS", "DataFacts", "Looks", "gather_facts", "write_report"]
