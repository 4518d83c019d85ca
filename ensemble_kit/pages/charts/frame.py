"""What all pictures share: the sheet, axes, legends and the width of words. Colours are classes, so that one drawing
serves light, dark and print; numbers are plain, so that the same facts give the same text."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache

from markupsafe import Markup

from ensemble_kit.pages.markup import element, joined

TONES = 8
"""Colours `f0`/`s0` to `f7`/`s7` of the style sheet: fill and stroke."""

WIDTHS = (
    (4.1, "ijlI|'.,:;"),
    (5.2, " frt()[]/\\-!"),
    (7.2, 'ckszxvyJ_?*"`'),
    (10.1, "w<>=+~#^×÷±¬−OQGDHNU&"),
    (12.0, "mMW%@…ÆæŒœŴ"),
)
"""Pixels of characters drawn 12 high, as wide as the widest of the usual fonts (DejaVu Sans) has them."""

CAPITAL, OTHER, FOREIGN, FULL = 8.6, 7.7, 11.0, 12.0
"""Of other capitals, of other characters, of those outside of Latin letters, and of full-width ones."""

LATIN = "\u024f"

WIDTH_OF = {character: wide for wide, characters in WIDTHS for character in characters}

NARROW = 380
"""Pictures less wide than this are drawn smaller, so that words are of one size everywhere."""

SMALL = 11
"""Pixels of small words."""

JOIN = " / "
"""Between the classes of a joint class."""

WIDTH = 410
"""Of a picture that fits a phone when it is made as narrow as one."""


def tone(kind: str, number: int) -> str:
    """The class of a colour: kind "f" fills, "s" strokes; colours repeat after `TONES`."""
    return f"{kind}{number % TONES}"


def sheet(width: float, height: float, title: str, about: str, *parts: object, wide: bool = False) -> Markup:
    """An SVG picture that screen readers announce by its title and describe by `about`."""
    return element(
        "svg",
        element("title", title),
        element("desc", about),
        *parts,
        class_="chart wide" if wide else "chart narrow" if width < NARROW else "chart",
        viewBox=f"0 0 {width:g} {height:g}",
        role="img",
        aria_label=title,
        xmlns="http://www.w3.org/2000/svg",
    )


def words(x: float, y: float, text: str, align: str = "start", class_: str | None = None) -> Markup:
    """Text whose baseline lies at `y`; align: start, middle or end."""
    return element("text", text, x=x, y=y, text_anchor=None if align == "start" else align, class_=class_)


def name_in(
    x: float, y: float, text: str, room: float, align: str = "start", class_: str | None = None, size: float = 12
) -> Markup:
    """A name in the room it has: one that has to be cut is told whole on pointing."""
    shown = cut(text, room, size)
    told = None if shown == text else element("title", text)
    return element("text", told, shown, x=x, y=y, text_anchor=None if align == "start" else align, class_=class_)


def path(points: Iterable[tuple[float, float]], class_: str, closed: bool = False) -> Markup:
    steps = " L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    return element("path", d=f"M{steps}{'Z' if closed else ''}", class_=class_)


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def width_of(text: str, size: float = 12) -> float:
    """How wide a text is drawn, in pixels: at least as wide as any of the usual fonts draws it.

    Examples:
        >>> width_of("ill") < width_of("abc") < width_of("MMM") <= width_of("漢字漢")
        True
    """
    return sum(map(_wide, text)) * size / 12


@cache
def _wide(character: str) -> float:
    if character in WIDTH_OF:
        return WIDTH_OF[character]
    if unicodedata.east_asian_width(character) in "WF":
        return FULL
    if unicodedata.combining(character):
        return 0.0
    if character > LATIN:
        return FULL if character.isupper() else FOREIGN
    return CAPITAL if character.isupper() else OTHER


def cut(text: str, width: float, size: float = 12) -> str:
    """A text cut to a width, with an ellipsis; what is cut off belongs into a `<title>`.

    Of a joint class the longest parts are cut, so that every attribute still has some letters.

    Examples:
        >>> cut("not_worn", 100), cut("a very long name of a class", 80)
        ('not_worn', 'a very lon…')
        >>> cut("incorrect / female / >=60", 150)
        'inco… / female / >=60'
    """
    if width_of(text, size) <= width:
        return text
    if JOIN in text:
        return _cut_parts(text.split(JOIN), width, size)
    return _cut_end(text, width, size)


def _cut_parts(parts: Sequence[str], width: float, size: float) -> str:
    lengths = [len(part) for part in parts]

    def shown() -> str:
        pairs = zip(parts, lengths, strict=True)
        return JOIN.join(part if len(part) <= n else part[: n - 1] + "…" for part, n in pairs)

    while width_of(shown(), size) > width and max(lengths) > 2:
        longest = max(range(len(lengths)), key=lambda k: lengths[k])
        lengths[longest] -= 1
    return shown() if width_of(shown(), size) <= width else _cut_end(JOIN.join(parts), width, size)


def _cut_end(text: str, width: float, size: float) -> str:
    kept = text
    while kept and width_of(kept + "…", size) > width:
        kept = kept[:-1]
    return kept.rstrip() + "…"


def legend(
    names: Sequence[str], x: float, y: float, width: float, tones: Sequence[int] | None = None
) -> tuple[Markup, float]:
    """Coloured squares with names, in as many lines as they need; returns them and the height they take."""
    parts: list[Markup] = []
    left, top = x, y
    for number, name in enumerate(names):
        needed = 20 + width_of(cut(name, width - 20)) + 10
        if left > x and left + needed > x + width + 10:
            left, top = x, top + 18
        parts.append(
            element(
                "rect", x=left, y=top, width=12, height=12, rx=2, class_=tone("f", (tones or range(len(names)))[number])
            )
        )
        parts.append(name_in(left + 17, top + 10, name, width - 20))
        left += needed
    return joined(parts), top - y + 18


@dataclass(frozen=True)
class Axes:
    """A plotting area and the scales that lead into it.

    Args:
        left, top, right, bottom: of the area, in pixels.
        x, y: lowest and highest value of each axis.
    """

    left: float
    top: float
    right: float
    bottom: float
    x: tuple[float, float]
    y: tuple[float, float]

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Pixels of a point; what lies outside is drawn at the border."""
        return self.across(x), self.down(y)

    def across(self, x: float) -> float:
        return self.left + (self.right - self.left) * _share(x, self.x)

    def down(self, y: float) -> float:
        return self.bottom - (self.bottom - self.top) * _share(y, self.y)

    def drawn(
        self,
        x_name: str,
        y_name: str,
        x_ticks: Sequence[float],
        y_ticks: Sequence[float],
        write: Callable[[float], str] = lambda value: f"{value:g}",
    ) -> Markup:
        """Grid, numbers and names: the vertical axis' name stands above it, where nothing has to be turned."""
        parts: list[Markup] = []
        for value in y_ticks:
            y = self.down(value)
            parts += [
                line(self.left, y, self.right, y, "grid"),
                words(self.left - 6, y + 4, write(value), "end", "soft small"),
            ]
        for value in x_ticks:
            x = self.across(value)
            parts += [
                line(x, self.bottom, x, self.bottom + 4, "axis"),
                words(x, self.bottom + 17, write(value), "middle", "soft small"),
            ]
        parts.append(line(self.left, self.bottom, self.right, self.bottom, "axis"))
        room = self.right - self.left + 30
        parts.append(name_in(self.right, self.bottom + 32, x_name, room, "end", "soft small", SMALL))
        parts.append(name_in(self.left - 30, self.top - 10, y_name, room, "start", "soft small", SMALL))
        return joined(parts)


def _share(value: float, limits: tuple[float, float]) -> float:
    low, high = limits
    return min(1.0, max(0.0, (value - low) / (high - low))) if high > low else 0.5


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers from low to high, both inside.

    Examples:
        >>> ticks(0, 1), ticks(1, 12), ticks(0.13, 0.38)
        ([0.0, 0.2, 0.4, 0.6, 0.8, 1.0], [2.0, 4.0, 6.0, 8.0, 10.0, 12.0], [0.15, 0.2, 0.25, 0.3, 0.35])
    """
    if not high > low:
        return [low]
    exponent = math.floor(math.log10((high - low) / most)) - 1
    sizes = (factor * 10.0**power for power in range(exponent, exponent + 4) for factor in (1, 2, 5))
    size = next(size for size in sizes if (high - low) / size <= most - 0.5)
    first, last = math.ceil(low / size - 1e-9), math.floor(high / size + 1e-9)
    return [round(number * size, 12) for number in range(first, last + 1)]


def ticks_around(reach: float) -> list[float]:
    """Round numbers from -reach to reach: 0, and one or two at each side of it.

    Examples:
        >>> ticks_around(0.477), ticks_around(0.05), ticks_around(1.9)
        ([-0.4, -0.2, 0.0, 0.2, 0.4], [-0.05, 0.0, 0.05], [-1.0, 0.0, 1.0])
    """
    power = 10.0 ** math.floor(math.log10(reach) + 1e-9)
    size = max(factor * power for factor in (1, 2, 5) if factor * power <= reach * (1 + 1e-9))
    n = math.floor(reach / size + 1e-9)
    return [round(number * size, 12) for number in range(-n, n + 1)]
