"""One picture of what an ensemble answered: photos by the expert they were routed to, and the structures' scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ensemble_kit.arrays import ByteArray
from ensemble_kit.errors import UsageError
from ensemble_kit.files import write_bytes
from ensemble_kit.graph import Graph, Node
from ensemble_kit.report.bars import draw_scores, scores_height
from ensemble_kit.report.canvas import INK, PALE, PAPER, SOFT, WRONG, Canvas, state_colour
from ensemble_kit.schema import Schema
from ensemble_kit.structure_report import StructureReport

MAX_BYTES = 200_000
"""What a picture in a README may weigh; its colours are thinned until it fits."""

MARGIN, GAP, LINE = 26, 14, 17
PHOTO_WIDTH, COLUMNS = 124, 6
LONG = 20
"""Characters of a wrong and a true class that still fit on one line."""
BAND_WIDTH, SCORES_WIDTH = 222, 312
HEAD, FOOT = 88, 30


@dataclass(frozen=True)
class _Cell:
    """One photo with what stands under it."""

    photo: ByteArray
    predicted: tuple[str, ...]
    true: tuple[str, ...] | None
    confidence: float | None

    @property
    def is_wrong(self) -> bool:
        return self.true is not None and self.true != self.predicted

    def captions(self) -> list[tuple[str, str]]:
        """Lines with their colours: a class each; a wrong one with the truth, on a line of its own where it is long."""
        lines = []
        for name, truth in zip(self.predicted, self.true or self.predicted, strict=True):
            if name == truth:
                lines.append((_words(name), INK))
            elif len(name) + len(truth) <= LONG:
                lines.append((f"{_words(name)} (is {_words(truth)})", WRONG))
            else:
                lines += [(_words(name), WRONG), (f"(is {_words(truth)})", WRONG)]
        return lines


@dataclass(frozen=True)
class _Row:
    """Up to `COLUMNS` photos of one state; `state` holds its classes, () when nothing is routed."""

    state: tuple[str, ...]
    number: int
    is_first: bool
    cells: tuple[_Cell, ...]


def draw_predictions(
    out: str | Path,
    photos: Sequence[ByteArray],
    *,
    predicted: Sequence[Sequence[str]],
    schema: Schema,
    graph: Graph,
    true: Sequence[Sequence[str]] | None = None,
    confidence: Sequence[float] | None = None,
    report: StructureReport | None = None,
    title: str = "",
    notes: str = "",
) -> Path:
    """Draws photos in rows by the state that chose their expert, with their classes, and the structures' scores.

    Args:
        out: the `.png` to write.
        photos: each `(h, w, 3)` uint8 RGB; any number, sizes may differ.
        predicted: class names of each photo, one for each attribute of the schema.
        schema: the attributes in order.
        graph: its first conditioned node gives the rows and the routing drawn at the left.
        true: class names as in `predicted`; what differs is written in red with the truth.
        confidence: the probability of each photo's answer, 0 to 1.
        report: the structures' scores, drawn at the right.
        title: the headline.
        notes: one line at the foot, such as "generated photos".

    Returns:
        `out`; 200 kB at most, unless there are many photos of mere noise.

    Raises:
        UsageError: no photos, lengths that differ, a class that the schema does not have.
    """
    cells = _cells(photos, predicted, true, confidence, schema)
    node = next((node for node in graph.nodes if node.parents), None)
    rows = _rows(cells, schema, node)
    photo_height = round(PHOTO_WIDTH * _shape(photos))
    row_height = photo_height + 12 + LINE * max(len(cell.captions()) for cell in cells) + 2 * GAP
    grid_left = MARGIN + (BAND_WIDTH if node else 0)
    grid_right = grid_left + max(len(row.cells) for row in rows) * (PHOTO_WIDTH + GAP) - GAP
    body = max(len(rows) * row_height, scores_height(report) if report else 0)
    canvas = Canvas(grid_right + (2 * MARGIN + SCORES_WIDTH if report else 0) + MARGIN, HEAD + body + FOOT)
    _headline(canvas, title, schema, graph)
    tops = [HEAD + i * row_height for i in range(len(rows))]
    for row, top in zip(rows, tops, strict=True):
        for column, cell in enumerate(row.cells):
            _photo(canvas, grid_left + column * (PHOTO_WIDTH + GAP), top, photo_height, cell)
    if node:
        _routing(canvas, graph, node, rows, [top + photo_height / 2 for top in tops])
    if report:
        line = grid_right + MARGIN
        canvas.line([line, line], [HEAD, HEAD + body - GAP], colour=PALE)
        draw_scores(canvas, line + MARGIN, HEAD, SCORES_WIDTH, report)
    canvas.text(MARGIN, canvas.height - FOOT / 2 - 4, notes, size=8.5, colour=SOFT, width=canvas.width - 2 * MARGIN)
    write_bytes(Path(out), canvas.png(MAX_BYTES))
    return Path(out)


def _cells(
    photos: Sequence[ByteArray],
    predicted: Sequence[Sequence[str]],
    true: Sequence[Sequence[str]] | None,
    confidence: Sequence[float] | None,
    schema: Schema,
) -> list[_Cell]:
    lengths = {"photos": photos, "predicted": predicted, "true": true, "confidence": confidence}
    counts = {name: len(value) for name, value in lengths.items() if value is not None}
    if len(set(counts.values())) > 1 or not len(photos):
        raise UsageError(f"picture: expected photos and as many answers for them, found {counts}")
    for names in [*predicted, *(true or [])]:
        if len(names) != len(schema.names):
            raise UsageError(f"picture: expected a class for each of {list(schema.names)}, found {list(names)}")
        for attribute, name in zip(schema.attributes, names, strict=True):
            attribute.index(name)
    for photo in photos:
        if photo.dtype != np.uint8 or photo.ndim != 3 or photo.shape[2] != 3 or not photo.size:
            raise UsageError(f"picture: expected photos (h, w, 3) of uint8, found {photo.shape} of {photo.dtype}")
    return [
        _Cell(
            photo,
            tuple(predicted[i]),
            None if true is None else tuple(true[i]),
            None if confidence is None else float(confidence[i]),
        )
        for i, photo in enumerate(photos)
    ]


def _rows(cells: Sequence[_Cell], schema: Schema, node: Node | None) -> list[_Row]:
    """The cells by predicted state of the node's parents, in the order of the classes."""
    columns = [schema.names.index(name) for name in node.parents] if node else []
    by_state: dict[tuple[str, ...], list[_Cell]] = {}
    for cell in cells:
        by_state.setdefault(tuple(cell.predicted[c] for c in columns), []).append(cell)
    order = sorted(by_state, key=lambda s: [schema.attributes[c].index(n) for c, n in zip(columns, s, strict=True)])
    rows = []
    for number, state in enumerate(order):
        mine = by_state[state]
        n_lines = -(-len(mine) // COLUMNS)
        n_columns = -(-len(mine) // n_lines)  # 8 photos are 4 + 4, not 6 + 2
        for start in range(0, len(mine), n_columns):
            rows.append(_Row(state, number, start == 0, tuple(mine[start : start + n_columns])))
    return rows


def _shape(photos: Sequence[ByteArray]) -> float:
    """Height over width that suits most photos, neither a strip nor a tower."""
    return float(np.clip(np.median([photo.shape[0] / photo.shape[1] for photo in photos]), 0.75, 1.4))


def _words(name: str) -> str:
    return name.replace("_", " ")


def _headline(canvas: Canvas, title: str, schema: Schema, graph: Graph) -> None:
    width = canvas.width - 2 * MARGIN
    canvas.text(MARGIN, 30, title or "What the ensemble answered", size=16, weight="bold", width=width)
    factors = [
        _words(node.name) + (f" (its expert chosen by {', '.join(node.parents)})" if node.parents else "")
        for node in graph.nodes
    ]
    words = f"{'  ×  '.join(factors)}  =  {schema.n_joint} joint classes"
    canvas.text(MARGIN, 56, words, size=10, colour=SOFT, width=width)


def _photo(canvas: Canvas, x: int, y: int, height: int, cell: _Cell) -> None:
    """The photo, its confidence in a corner, one line an attribute below."""
    canvas.photo(x, y, PHOTO_WIDTH, height, cell.photo)
    if cell.is_wrong:
        canvas.frame(x, y, PHOTO_WIDTH, height, edge=WRONG, line=2.2)
    if cell.confidence is not None:
        canvas.box(x + PHOTO_WIDTH - 37, y + height - 20, 34, 17, fill="#22303ccc", radius=4)
        canvas.text(
            x + PHOTO_WIDTH - 20, y + height - 11, f"{cell.confidence:.2f}", size=8, colour=PAPER, align="center"
        )
    for i, (words, colour) in enumerate(cell.captions()):
        canvas.text(x, y + height + 14 + i * LINE, words, size=9, colour=colour, width=PHOTO_WIDTH + GAP - 2)


def _routing(canvas: Canvas, graph: Graph, node: Node, rows: Sequence[_Row], centres: Sequence[float]) -> None:
    """The parents' expert -> the expert of each state -> its photos; below it the experts that every photo asks."""
    firsts = [(row, centre) for row, centre in zip(rows, centres, strict=True) if row.is_first]
    middle = (firsts[0][1] + firsts[-1][1]) / 2
    left, wide = MARGIN, 68
    start, end = left + wide + 34, MARGIN + BAND_WIDTH - 20
    for row, centre in firsts:
        colour = state_colour(row.number)
        canvas.arrow((left + wide + 2, middle), (start, centre), colour=colour)
        _plate(canvas, start, centre, end - start, ", ".join(row.state), f"its {node.name} expert", fill=colour)
        canvas.arrow((end, centre), (end + 16, centre), colour=colour)
    _plate(canvas, left, middle, wide, ", ".join(node.parents), "expert", fill=INK)
    others = [n.name for n in graph.nodes if not n.parents and not set(n.attributes) & set(node.parents)]
    for i, name in enumerate(others):
        _plate(canvas, left, middle + 62 * (i + 1), wide, name, "expert", fill=PALE, ink=INK)


def _plate(
    canvas: Canvas, x: float, middle: float, width: float, words: str, below: str, *, fill: str, ink: str = PAPER
) -> None:
    """A coloured plate with a name and a line below it."""
    canvas.box(x, middle - 25, width, 50, fill=fill, radius=8)
    centre, inner = x + width / 2, width - 12
    canvas.text(centre, middle - 9, _words(words), size=9.5, weight="bold", colour=ink, align="center", width=inner)
    canvas.text(centre, middle + 9, _words(below), size=8.5, colour=ink, align="center", width=inner)
