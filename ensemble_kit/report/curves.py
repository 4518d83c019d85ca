"""Learning curves of several runs, one over the other: a panel an expert."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ensemble_kit.errors import UsageError
from ensemble_kit.files import replacing
from ensemble_kit.report.canvas import DPI, INK, PALE, PAPER, SOFT, STATE_COLOURS

COLUMNS = 2
PANEL = (4.2, 2.6)
"""Width and height of one panel, in inches."""
DASHES = ("-", "--", ":", "-.")
"""More runs than colours repeat these in other strokes."""


@dataclass(frozen=True)
class Line:
    """One run's values by epoch in a panel; None = not known there."""

    run: str
    epochs: Sequence[int]
    values: Sequence[float | None]


def draw_curves(out: Path, panels: Mapping[str, Sequence[Line]], title: str = "") -> Path:
    """Draws each panel's lines into one PNG; a run has one colour throughout.

    Raises:
        UsageError: nothing to draw.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    runs = list(dict.fromkeys(line.run for lines in panels.values() for line in lines))
    if not runs:
        raise UsageError("curves: expected at least one run with a history, found none")
    columns = min(COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    legend = 0.25 * (1 + len(runs))
    figure = Figure(figsize=(PANEL[0] * columns, PANEL[1] * rows + legend + 0.4), dpi=DPI, facecolor=PAPER)
    FigureCanvasAgg(figure)
    top = 1 - (legend + 0.3) / figure.get_figheight()
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis, (name, lines) in zip(axes, panels.items(), strict=False):
        _panel(axis, name, lines, runs)
    for axis in axes[len(panels) :]:
        axis.set_axis_off()
    handles = [_stroke(axes[0], run, runs) for run in runs]
    figure.legend(handles, runs, loc="upper left", frameon=False, fontsize=9, labelcolor=INK, title=title or None)
    figure.subplots_adjust(
        left=0.16 / columns, right=1 - 0.05 / columns, top=top, bottom=0.2 / rows, hspace=0.5, wspace=0.28
    )
    with replacing(Path(out)) as temporary:
        figure.savefig(temporary, format="png")
    return Path(out)


def _stroke(axis: Any, run: str, runs: Sequence[str]) -> Any:
    number = runs.index(run)
    colour, dash = STATE_COLOURS[number % len(STATE_COLOURS)], DASHES[number // len(STATE_COLOURS) % len(DASHES)]
    (line,) = axis.plot([], [], color=colour, linestyle=dash, linewidth=1.8, marker="o", markersize=3)
    return line


def _panel(axis: Any, name: str, lines: Sequence[Line], runs: Sequence[str]) -> None:
    for line in lines:
        known = [(epoch, value) for epoch, value in zip(line.epochs, line.values, strict=True) if value is not None]
        _stroke(axis, line.run, runs).set_data([epoch for epoch, _ in known], [value for _, value in known])
    axis.relim()
    axis.autoscale_view()
    axis.set_xlim(0.5, max(epoch for line in lines for epoch in line.epochs) + 0.5)
    axis.set_title(name, fontsize=9.5, color=INK, loc="left", parse_math=False)
    axis.set_xlabel("epoch", fontsize=8, color=SOFT)
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.tick_params(labelsize=8, colors=SOFT)
    axis.grid(color=PALE)
    axis.set_axisbelow(True)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
