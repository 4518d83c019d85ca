"""What a page is laid out from: sections of figures, each a sentence with a picture and the numbers behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from ensemble_kit.run_report.facts import Missing

Column = str | tuple[str, str]


@dataclass(frozen=True)
class Numbers:
    """A table: a heading, columns (a name, or (name, "number")), and rows the first cell of which names the row."""

    summary: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[object]]


@dataclass(frozen=True)
class Figure:
    """A picture, the sentence that says what it shows, and the numbers behind it, folded away."""

    title: str
    sentence: str
    picture: Markup | None
    numbers: Numbers | None = None
    is_wide: bool = False


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        id: for links; `short` for the navigation.
        says: paragraphs above the figures.
        figures: side by side where there is room.
        folded: further ones, under `more`.
        tables: shown open, below.
        missing: why the section, or a part of it, is not there.
    """

    id: str
    short: str
    title: str
    says: Sequence[str] = ()
    figures: Sequence[Figure] = ()
    more: str = ""
    folded: Sequence[Figure] = ()
    tables: Sequence[Numbers] = ()
    points: Sequence[str] = ()
    missing: Sequence[Missing] = ()
