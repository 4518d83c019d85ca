"""A sheet measured in pixels to draw on, and the small PNG it becomes. Object API only: pyplot keeps global state."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, Literal

import cv2
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyBboxPatch, PathPatch, Polygon, Rectangle
from matplotlib.path import Path as Curve
from PIL import Image

from ensemble_kit.arrays import ByteArray
from ensemble_kit.shown import in_order

DPI = 100
INK, SOFT, PALE, PAPER, WRONG = "#22303c", "#6b7883", "#e6eaed", "#ffffff", "#c8321f"
STATE_COLOURS = ("#1f7a8c", "#c98612", "#5f5aa2", "#4f8a3c", "#a8487e", "#7a6a4f")

OTHER_LETTERS = (
    "Noto Sans CJK KR", "Noto Sans CJK JP", "Noto Sans CJK SC", "NanumGothic", "Malgun Gothic", "Apple SD Gothic Neo",
    "Hiragino Sans", "PingFang SC", "Microsoft YaHei", "Noto Sans", "Noto Sans Arabic", "Noto Sans Devanagari",
    "Noto Sans Thai", "Noto Emoji", "Symbola", "Arial Unicode MS",
)  # fmt: skip

PALETTES = [
    *((colours, Image.Dither.FLOYDSTEINBERG) for colours in (256, 192, 128)),
    *((colours, Image.Dither.NONE) for colours in (256, 128, 64, 32, 16, 8, 4)),
]
"""Tried in this order until a picture is small enough: dithered photos look smoother and weigh more."""


def state_colour(number: int) -> str:
    return STATE_COLOURS[number % len(STATE_COLOURS)]


@cache
def fonts() -> list[str]:
    """The font that matplotlib brings, then those installed here that have the letters it lacks."""
    from matplotlib.font_manager import fontManager

    there = {font.name for font in fontManager.ttflist}
    return ["DejaVu Sans", *(name for name in OTHER_LETTERS if name in there)]


@contextmanager
def without_glyph_warnings() -> Iterator[None]:
    """A letter that no font here has is drawn as a box; a warning for each would bury what a command prints."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        yield


class Canvas:
    """`width` x `height` pixels, (0, 0) at the top left, y downwards."""

    def __init__(self, width: int, height: int):
        self.width, self.height = width, height
        self.figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor=PAPER)
        self._agg: Any = FigureCanvasAgg(self.figure)  # its methods carry no types
        self.axes = self.figure.add_axes((0, 0, 1, 1))
        self.axes.set_xlim(0, width)
        self.axes.set_ylim(height, 0)
        self.axes.set_axis_off()

    def text(
        self,
        x: float,
        y: float,
        words: str,
        *,
        size: float = 9,
        colour: str = INK,
        weight: Literal["normal", "bold"] = "normal",
        align: Literal["left", "center", "right"] = "left",
        width: float | None = None,
        style: Literal["normal", "italic"] = "normal",
    ) -> float:
        """Writes one line, vertically centred on `y`; smaller, at last cut short, when it is wider than `width`.

        Returns:
            The width it took, in pixels.
        """
        artist = self.axes.text(
            x, y, in_order(words), fontsize=size, color=colour, fontweight=weight, fontstyle=style, family=fonts(),
            ha=align, va="center_baseline", parse_math=False,
        )  # fmt: skip
        taken = self._width(artist)
        while width is not None and taken > width and (size > 6.5 or len(words) > 2):
            if size > 6.5:
                size -= 0.25
                artist.set_fontsize(size)
            else:
                words = words.removesuffix("…")[:-1] + "…"
                artist.set_text(in_order(words))
            taken = self._width(artist)
        return taken

    def _width(self, artist: Any) -> float:
        with without_glyph_warnings():
            return float(artist.get_window_extent(self._agg.get_renderer()).width)

    def box(
        self, x: float, y: float, width: float, height: float, *, fill: str, edge: str | None = None, radius: float = 6
    ) -> None:
        """A rectangle with round corners."""
        shape = FancyBboxPatch(
            (x + radius, y + radius), width - 2 * radius, height - 2 * radius, facecolor=fill,
            boxstyle=f"round,pad={radius},rounding_size={radius}", edgecolor=edge or fill, linewidth=1.0,
        )  # fmt: skip
        self.axes.add_patch(shape)

    def bar(self, x: float, y: float, width: float, height: float, *, fill: str, alpha: float = 1.0) -> None:
        self.axes.add_patch(Rectangle((x, y), width, height, facecolor=fill, edgecolor="none", alpha=alpha))

    def frame(self, x: float, y: float, width: float, height: float, *, edge: str, line: float) -> None:
        self.axes.add_patch(Rectangle((x, y), width, height, facecolor="none", edgecolor=edge, linewidth=line))

    def line(self, x: list[float], y: list[float], *, colour: str, width: float = 1.0) -> None:
        self.axes.plot(x, y, color=colour, linewidth=width, solid_capstyle="butt")

    def dot(self, x: float, y: float, radius: float, *, fill: str) -> None:
        self.axes.add_patch(Circle((x, y), radius, facecolor=fill, edgecolor=PAPER, linewidth=1.0))

    def ring(self, x: float, y: float, radius: float) -> None:
        """An open circle that shows on dark and on light."""
        for colour, width in ((INK, 3.2), (PAPER, 1.6)):
            self.axes.add_patch(Circle((x, y), radius, facecolor="none", edgecolor=colour, linewidth=width))

    def arrow(self, start: tuple[float, float], end: tuple[float, float], *, colour: str, width: float = 1.6) -> None:
        """An arrow that leaves and arrives level, with a step between."""
        turn = start[0] + (end[0] - 9 - start[0]) * 0.55
        bend = min(10.0, abs(end[1] - start[1]) / 2)
        down = bend if end[1] > start[1] else -bend
        points = [
            start, (turn - bend, start[1]), (turn, start[1]), (turn, start[1] + down),
            (turn, end[1] - down), (turn, end[1]), (turn + bend, end[1]), (end[0] - 6, end[1]),
        ]  # fmt: skip
        one, two = Curve.LINETO, Curve.CURVE3
        path = Curve(points, [Curve.MOVETO, one, two, two, one, two, two, one])
        self.axes.add_patch(PathPatch(path, facecolor="none", edgecolor=colour, linewidth=width))
        head = [end, (end[0] - 8, end[1] - 4.5), (end[0] - 8, end[1] + 4.5)]
        self.axes.add_patch(Polygon(head, facecolor=colour, edgecolor="none"))

    def photo(self, x: int, y: int, width: int, height: int, photo: ByteArray) -> None:
        """The photo's largest middle part of that shape, one photo pixel a canvas pixel."""
        pixels = _fill(photo, width, height)
        self.axes.imshow(pixels, extent=(x, x + width, y + height, y), interpolation="nearest", aspect="auto")
        self.axes.set_xlim(0, self.width)
        self.axes.set_ylim(self.height, 0)

    def pixels(self) -> ByteArray:
        """`(height, width, 3)` as it stands."""
        with without_glyph_warnings():
            self._agg.draw()
        return np.array(np.asarray(self._agg.buffer_rgba())[..., :3], dtype=np.uint8)

    def png(self, max_bytes: int) -> bytes:
        """PNG bytes with a palette; as smooth and in as many colours as fit into `max_bytes`."""
        pixels = self.pixels()
        data = b""
        for colours, dither in PALETTES:
            data = _with_palette(pixels, colours, dither)
            if len(data) <= max_bytes:
                break
        return data


def _with_palette(pixels: ByteArray, colours: int, dither: Image.Dither) -> bytes:
    """The palette comes from every fourth pixel: as good as all of them and ten times faster."""
    few = Image.fromarray(np.ascontiguousarray(pixels[::4, ::4]))
    palette = few.quantize(colours, method=Image.Quantize.MAXCOVERAGE, kmeans=2)
    _keep_white(palette)
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).quantize(palette=palette, dither=dither).save(
        stream, "PNG", optimize=True
    )
    return stream.getvalue()


def _keep_white(palette: Image.Image) -> None:
    """What is nearly white becomes white, and the lightest colour in any case: the paper should not be tinted.

    More than the lightest, because Pillow looks colours up in steps of 4 and may take a neighbour for white.
    """
    values = np.array(palette.getpalette() or [255] * 3).reshape(-1, 3)
    values[values.min(axis=1) >= 246] = 255
    values[values.sum(axis=1).argmax()] = 255
    palette.putpalette(values.ravel().tolist())


def _fill(photo: ByteArray, width: int, height: int) -> ByteArray:
    rows, columns = photo.shape[:2]
    scale = max(width / columns, height / rows)
    used_h, used_w = min(rows, max(1, round(height / scale))), min(columns, max(1, round(width / scale)))
    top, left = (rows - used_h) // 2, (columns - used_w) // 2
    part = np.ascontiguousarray(photo[top : top + used_h, left : left + used_w])
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(part, (width, height), interpolation=how), dtype=np.uint8)
