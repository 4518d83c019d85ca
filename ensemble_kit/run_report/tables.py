"""Tables with tinted cells."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from ensemble_kit.pages.charts import tint
from ensemble_kit.pages.markup import element
from ensemble_kit.pages.numbers import score


def tinted_scores(
    rows: Sequence[str],
    columns: Sequence[str],
    values: Sequence[Sequence[float | None]],
    strong: Sequence[Sequence[bool]],
    caption: str,
) -> Markup:
    """Scores by row and column, tinted from the column's lowest to its highest; None = there is none."""
    limits = []
    for j in range(len(columns)):
        known = [value for row in values if (value := row[j]) is not None]
        limits.append((min(known, default=0.0), max(known, default=0.0)))
    head = element("tr", element("th", "expert", scope="col"), *(element("th", one, scope="col") for one in columns))
    body = [
        element(
            "tr",
            element("th", name, scope="row"),
            *(_cell(value, limit, bold) for value, limit, bold in zip(own, limits, bolds, strict=True)),
        )
        for name, own, bolds in zip(rows, values, strong, strict=True)
    ]
    table = element(
        "table",
        element("caption", caption),
        element("thead", head),
        element("tbody", *body),
        class_="heat",
    )
    return element("div", table, class_="scroll", tabindex=0, role="group", aria_label=caption)


def _cell(value: float | None, limits: tuple[float, float], bold: bool) -> Markup:
    if value is None:
        return element("td", "none", class_="out")
    low, high = limits
    share = (value - low) / (high - low) if high > low else 0.5
    return element("td", element("strong", score(value)) if bold else score(value), class_=f"good {tint(share * 0.9)}")
