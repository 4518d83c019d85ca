"""The report of a run: facts (`facts`, `measuring`) -> sentences (`sentences`) -> one page (`page`).

`recipe.report` gathers the facts from a run folder; nothing here reads one.
"""

from ensemble_kit.run_report.facts import RunReport
from ensemble_kit.run_report.page import write_report
from ensemble_kit.run_report.sentences import in_short

__all__ = ["RunReport", "in_short", "write_report"]
