"""Shares of a whole, stacked, a row each; and how many there are of each number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from ensemble_kit.pages.charts.frame import WIDTH, Axes, legend, line, name_in, sheet, ticks, tone, width_of, words
from ensemble_kit.pages.markup import element, joined
from ensemble_kit.pages.numbers import percent

ROW, THICK = 26, 16


def draw_shares(
    rows: Sequence[tuple[str, Sequence[float]]],
    names: Sequence[str],
    title: str,
    about: str,
    *,
    tones: Sequence[int] | None = None,
) -> Markup:
    """A stacked bar a row, all of one length: how a total is shared among `names`, with a legend above.

    Args:
        rows: (name of the row, amounts in the order of `names`) each; amounts are counts or shares, 0 or more.
    """
    above, taken = legend(names, 4, 2, WIDTH - 8, tones)
    colours = tones or range(len(names))
    left = min(150.0, max([20.0, *(width_of(name) for name, _ in rows)]) + 12)
    top = taken + 8
    parts: list[Markup] = [above]
    for number, (name, amounts) in enumerate(rows):
        y = top + ROW * number
        parts.append(name_in(left - 8, y + 12, name, left - 10, "end"))
        parts.append(_stack(name, amounts, names, colours, left, y))
    return sheet(WIDTH, top + ROW * len(rows) + 2, title, about, *parts)


def _stack(
    row: str, amounts: Sequence[float], names: Sequence[str], colours: Sequence[int], left: float, y: float
) -> Markup:
    total = sum(amounts)
    at, parts = left, []
    for amount, name, colour in zip(amounts, names, colours, strict=True):
        wide = (WIDTH - 4 - left) * amount / total if total else 0.0
        if not wide:
            continue
        told = f"{row}, {name}: {percent(amount / total)}"
        box = element("rect", x=at, y=y, width=wide, height=THICK, class_=f"gap {tone('f', colour)}")
        parts.append(element("g", element("title", told), box))
        at += wide
    return joined(parts)


def draw_columns(
    counts: Mapping[float, int],
    title: str,
    about: str,
    *,
    x_name: str,
    y_name: str,
    borders: Sequence[float] = (),
    step: float = 1.0,
) -> Markup:
    """A column a number (an age, a size), with dashed lines where borders lie: it is the lowest of the class above.

    Args:
        counts: of each number.
        borders: classes change colour there.
        step: the width of a column, in the numbers' unit.
    """
    numbers = sorted(counts)
    low, high = (numbers[0], numbers[-1] + step) if numbers else (0.0, 1.0)
    most = max([1, *counts.values()])
    axes = Axes(48, 30, WIDTH - 12, 210, (low, high), (0, most * 1.05))
    parts: list[Markup] = [axes.drawn(x_name, y_name, ticks(low, high, 9), ticks(0, most, 5))]
    for number in numbers:
        x, wide = axes.across(number), axes.across(number + step) - axes.across(number)
        y = axes.down(counts[number])
        colour = tone("f", sum(number >= border for border in borders))
        told = element("title", f"{number:g}: {counts[number]:,}")
        parts.append(element("rect", told, x=x, y=y, width=wide, height=axes.bottom - y, class_=f"gap {colour}"))
    for border in borders:
        x = axes.across(border)
        parts.append(line(x, axes.top - 4, x, axes.bottom, "ideal"))
        parts.append(words(x, axes.top - 8, f"{border:g}", "middle", "small"))
    return sheet(WIDTH, 248, title, about, *parts)
