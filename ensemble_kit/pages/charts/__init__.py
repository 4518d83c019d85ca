"""Pictures: pure functions from numbers to inline SVG (`Markup`), each with a title and a description.

Every one takes `title` (its accessible name) and `about` (what it shows: pass the sentence). Colours are classes of the
style sheet, so that one drawing serves light, dark and print. Names are escaped and cut to their room; what is cut is
told on pointing. A picture is 440 wide unless it says otherwise and shrinks to a phone; the flow scrolls in its box.
"""

from ensemble_kit.pages.charts.bars import Bar, draw_bars, draw_differences
from ensemble_kit.pages.charts.flow import draw_flow
from ensemble_kit.pages.charts.frame import sheet
from ensemble_kit.pages.charts.heat import MOST_TABLE, draw_confusion, draw_confusion_picture, tint
from ensemble_kit.pages.charts.lines import Line, draw_lines
from ensemble_kit.pages.charts.reliability import Bin, draw_reliability
from ensemble_kit.pages.charts.shares import draw_columns, draw_shares

__all__ = [
    "MOST_TABLE",
    "Bar",
    "Bin",
    "Line",
    "draw_bars",
    "draw_columns",
    "draw_confusion",
    "draw_confusion_picture",
    "draw_differences",
    "draw_flow",
    "draw_lines",
    "draw_reliability",
    "draw_shares",
    "sheet",
    "tint",
]
