"""Lines over a number: learning curves, risk against coverage."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

from ensemble_kit.pages.charts.frame import WIDTH, Axes, legend, path, sheet, ticks, tone
from ensemble_kit.pages.markup import element, joined
from ensemble_kit.pages.numbers import score


@dataclass(frozen=True)
class Line:
    """A line through points; NaN breaks it. `number` chooses the colour; `marked` are points with a dot and words.

    `band`: lowest and highest y at each x, drawn as a pale area.
    """

    name: str
    xs: Sequence[float]
    ys: Sequence[float]
    number: int = 0
    dashed: bool = False
    marked: Sequence[tuple[float, float, str]] = ()
    band: tuple[Sequence[float], Sequence[float]] | None = field(default=None)


def draw_lines(
    lines: Sequence[Line],
    title: str,
    about: str,
    *,
    x_name: str,
    y_name: str,
    x_limits: tuple[float, float] | None = None,
    y_limits: tuple[float, float] | None = None,
    height: int = 250,
) -> Markup:
    """Lines with a legend above, where one name stands once; axes from the points where no limits are given."""
    xs = [x for one in lines for x in one.xs if math.isfinite(x)]
    ys = [y for one in lines for y in one.ys if math.isfinite(y)]
    named: dict[str, int] = {}
    for one in lines:
        named.setdefault(one.name, one.number)
    above, taken = legend(list(named), 8, 2, WIDTH - 16, list(named.values()))
    axes = Axes(
        48, taken + 30, WIDTH - 12, taken + height - 20, x_limits or _around(xs, 0), y_limits or _around(ys, 0.06)
    )
    parts = [above, axes.drawn(x_name, y_name, _x_ticks(axes, xs), ticks(*axes.y, most=6))]
    parts += [_line(one, axes) for one in lines]
    return sheet(WIDTH, axes.bottom + 38, title, about, *parts)


def _x_ticks(axes: Axes, xs: Sequence[float]) -> list[float]:
    found = ticks(*axes.x, most=7)
    return [value for value in found if value == int(value)] if all(x == int(x) for x in xs) else found


def _around(values: Sequence[float], share: float) -> tuple[float, float]:
    if not values:
        return 0.0, 1.0
    low, high = min(values), max(values)
    room = (high - low) * share or (0.5 if share == 0 else max(abs(high) * 0.1, 0.05))
    return (low, high) if share == 0 and high > low else (low - room, high + room)


def _line(one: Line, axes: Axes) -> Markup:
    colour = tone("s", one.number)
    parts: list[Markup] = [element("title", one.name)]
    if one.band is not None:
        low, high = one.band
        around = [axes.at(x, y) for x, y in zip(one.xs, high, strict=True)]
        around += [axes.at(x, y) for x, y in zip(reversed(one.xs), reversed(low), strict=True)]
        parts.append(path(around, f"area {tone('f', one.number)}", closed=True))
    for run in _unbroken(one):
        if len(run) == 1:
            x, y = axes.at(*run[0])
            parts.append(element("circle", cx=x, cy=y, r=3, class_=tone("f", one.number)))
        else:
            parts.append(path((axes.at(*point) for point in run), f"line {colour}{' dashed' if one.dashed else ''}"))
    for x, y, told in one.marked:
        across, down = axes.at(x, y)
        dot = element(
            "circle", element("title", f"{told}: {score(y)}"), cx=across, cy=down, r=4.5, class_=tone("f", one.number)
        )
        parts.append(dot)
    return element("g", joined(parts))


def _unbroken(one: Line) -> list[list[tuple[float, float]]]:
    runs: list[list[tuple[float, float]]] = [[]]
    for x, y in zip(one.xs, one.ys, strict=True):
        if math.isfinite(x) and math.isfinite(y):
            runs[-1].append((float(x), float(y)))
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]
