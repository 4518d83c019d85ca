"""Photos flowing from one stage to the next, as bands as wide as they are many."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from markupsafe import Markup

from ensemble_kit.arrays import IntArray
from ensemble_kit.errors import UsageError
from ensemble_kit.pages.charts.frame import name_in, sheet, tone, words
from ensemble_kit.pages.markup import element
from ensemble_kit.pages.numbers import count

WIDTH, NODE, GAP, TOP, SIDE = 760, 14, 14, 30, 170


def draw_flow(
    stages: Sequence[tuple[str, Sequence[str]]],
    counts: Sequence[IntArray],
    title: str,
    about: str,
    *,
    tones: Sequence[Sequence[int]] | None = None,
) -> Markup:
    """Stages from left to right; the band from a node to one of the next stage is as wide as its count.

    Args:
        stages: (name, names of its nodes) each, at least two.
        counts: of photos between neighbouring stages, `(n_nodes, n_nodes_of_the_next)`.
        tones: of each stage its nodes' colours, default their numbers; a band has the colour of where it comes from.

    Raises:
        UsageError: tables that do not fit the stages.
    """
    tables = [np.asarray(table, dtype=np.int64) for table in counts]
    sizes = [len(names) for _, names in stages]
    if [table.shape for table in tables] != list(pairwise(sizes)) or not tables:
        raise UsageError(f"flow: expected tables between stages of {sizes} nodes, found {[t.shape for t in tables]}")
    colours = tones or [range(size) for size in sizes]
    totals = [tables[0].sum(axis=1), *(table.sum(axis=0) for table in tables)]
    height = max(180.0, 44.0 * max(sizes))
    scale = (height - GAP * (max(sizes) - 1)) / max(1, *(int(total.sum()) for total in totals))
    lefts = np.linspace(SIDE, WIDTH - SIDE - NODE, len(stages)).tolist()
    tops = [_tops(total, scale) for total in totals]
    parts: list[Markup] = []
    for i, table in enumerate(tables):
        names = stages[i][1], stages[i + 1][1]
        parts += _bands(table, scale, (lefts[i] + NODE, lefts[i + 1]), (tops[i], tops[i + 1]), colours[i], names)
    for i, (name, nodes) in enumerate(stages):
        place = "end" if i == 0 else "start"
        x = lefts[i] - 8 if i == 0 else lefts[i] + NODE + 8
        # what stands beside a stage ends at the border or at the next stage
        room = (SIDE if i in (0, len(stages) - 1) else lefts[i + 1] - lefts[i] - NODE) - 12
        parts.append(name_in(x, 14, name, room, place, "soft"))
        for j, node in enumerate(nodes):
            parts.append(
                _node(node, int(totals[i][j]), scale, lefts[i], tops[i][j], tone("f", colours[i][j]), (x, place, room))
            )
    return sheet(WIDTH, TOP + height + 22, title, about, *parts, wide=True)


def _tops(total: IntArray, scale: float) -> list[float]:
    """Where each node begins; every node takes room for its words."""
    tops, at = [], float(TOP)
    for n in total.tolist():
        tops.append(at)
        at += max(n * scale, 18.0) + GAP
    return tops


def _node(
    name: str, n: int, scale: float, left: float, top: float, colour: str, at: tuple[float, str, float]
) -> Markup:
    x, align, room = at
    thick = max(n * scale, 2.0)
    middle = top + max(thick, 18) / 2
    return element(
        "g",
        element("title", f"{name}: {count(n, 'photo')}"),
        element("rect", x=left, y=top, width=NODE, height=thick, rx=2, class_=colour),
        name_in(x, middle - 1, name, room, align, "halo"),
        words(x, middle + 12, f"{n:,}", align, "soft small halo"),
    )


def _bands(
    table: IntArray,
    scale: float,
    lefts: tuple[float, float],
    tops: tuple[Sequence[float], Sequence[float]],
    colours: Sequence[int],
    names: tuple[Sequence[str], Sequence[str]],
) -> list[Markup]:
    start, stop = lefts
    middle = (start + stop) / 2
    leave, arrive = list(tops[0]), list(tops[1])
    bands = []
    for i, j in zip(*(found.tolist() for found in np.nonzero(table)), strict=True):
        thick = float(table[i, j]) * scale
        a, b = leave[i], arrive[j]
        shape = (
            f"M{start:.1f} {a:.1f}C{middle:.1f} {a:.1f} {middle:.1f} {b:.1f} {stop:.1f} {b:.1f}V{b + thick:.1f}"
            f"C{middle:.1f} {b + thick:.1f} {middle:.1f} {a + thick:.1f} {start:.1f} {a + thick:.1f}Z"
        )
        told = f"{names[0][i]} → {names[1][j]}: {count(int(table[i, j]), 'photo')}"
        bands.append(element("path", element("title", told), d=shape, class_=f"band {tone('f', colours[i])}"))
        leave[i] += thick
        arrive[j] += thick
    return bands
