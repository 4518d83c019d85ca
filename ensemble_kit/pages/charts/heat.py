"""Confusion: a table with tinted cells for as many classes as can be read, a picture for more."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from ensemble_kit.arrays import IntArray
from ensemble_kit.pages.charts.frame import SMALL, WIDTH, cut, line, sheet, words
from ensemble_kit.pages.markup import element, joined
from ensemble_kit.pages.numbers import percent

MOST_TABLE = 20
"""Classes up to which a table can be read; above, draw the picture."""

MOST_NAMED = 24
"""Classes whose names stand at the picture's rows; more have numbers."""

NAME_ROOM = 140.0
TINTS = 9


def tint(share: float) -> str:
    """The class of a share's tint, t0 to t9; every share above 0 is seen.

    Examples:
        >>> tint(0), tint(0.001), tint(0.5), tint(1)
        ('t0', 't1', 't5', 't9')
    """
    return "t0" if share <= 0 else f"t{min(TINTS, 1 + int(share * TINTS))}"


def draw_confusion(counts: IntArray, names: Sequence[str], caption: str) -> Markup:
    """A table of true class by predicted class, tinted by its share of the true class.

    Args:
        counts: `(n_classes, n_classes)`, or with one further column for the abstained, shown when it counts any.
    """
    table = np.asarray(counts, dtype=np.int64)
    columns = list(names) + (["abstained"] if table.shape[1] > len(names) and table[:, -1].any() else [])
    totals = table.sum(axis=1)
    head = [element("th", "true ↓ predicted →", scope="col"), *(element("th", name, scope="col") for name in columns)]
    rows = [
        element("tr", element("th", name, scope="row"), *(_cell(table, totals, i, j) for j in range(len(columns))))
        for i, name in enumerate(names)
    ]
    inside = element(
        "table",
        element("caption", caption),
        element("thead", element("tr", *head)),
        element("tbody", *rows),
        class_="heat",
    )
    return element("div", inside, class_="scroll", tabindex=0, role="group", aria_label=caption)


def _cell(table: IntArray, totals: IntArray, row: int, column: int) -> Markup:
    n, total = int(table[row, column]), int(totals[row])
    share = n / total if total else 0.0
    kind = "good" if row == column else "bad"
    if not n:
        return element("td", "0", class_="out")
    told = "<1 %" if share < 0.005 else percent(share, 0)
    return element("td", f"{n:,}", element("span", told, class_="share"), class_=f"{kind} {tint(share)}")


def draw_confusion_picture(counts: IntArray, names: Sequence[str], title: str, about: str) -> Markup:
    """The same as squares without words, for many classes: a cell's strength is its share of the true class."""
    table = np.asarray(counts, dtype=np.int64)[:, : len(names)]
    totals = np.asarray(counts).sum(axis=1)
    n = len(names)
    is_named = n <= MOST_NAMED
    left, top = 36.0 + (NAME_ROOM if is_named else 0), 34.0
    size = max(5.0, min(20.0, ((WIDTH if is_named else 600.0) - left - 6) / n))
    side = size * n
    parts: list[Markup] = [
        element("rect", x=left, y=top, width=side, height=side, class_="track"),
        words(left, 14, "predicted class, by number →", "start", "soft small"),
        words(left + side, top + side + 16, "true class, downwards", "end", "soft small"),
    ]
    for number in range(0, n, 1 if is_named else max(1, round(n / 10))):
        middle = (number + 0.5) * size
        if number % max(1, round(n / 10)) == 0:
            parts.append(words(left + middle, top - 5, str(number), "middle", "soft small"))
        name = f"{cut(names[number], NAME_ROOM, SMALL)} {number}" if is_named else str(number)
        whole = element("title", names[number])
        parts.append(element("g", whole, words(left - 5, top + middle + 4, name, "end", "soft small")))
    rows, columns = np.nonzero(table)
    for i, j in zip(rows.tolist(), columns.tolist(), strict=True):
        share = table[i, j] / totals[i]
        told = (
            f"{names[i]} called {names[j]}: {table[i, j]:,} of {totals[i]:,}"
            if i != j
            else f"{names[i]}: {table[i, j]:,} of {totals[i]:,} right"
        )
        parts.append(
            element(
                "rect",
                element("title", told),
                x=left + j * size,
                y=top + i * size,
                width=size,
                height=size,
                class_=f"cell {'good' if i == j else 'bad'}",
                fill_opacity=0.15 + 0.85 * float(share),
            )
        )
    parts.append(line(left, top, left + side, top + side, "grid"))
    return sheet(left + side + 6, top + side + 24, title, about, joined(parts))
