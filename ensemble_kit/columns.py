"""What is printed, in lines of 80 columns: sentences, commands, paths, and tables in which names wrap."""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Sequence
from itertools import zip_longest

LABEL = 30
"""Characters of what a path is called, which stays before it on one line."""

WIDTH = 80
"""Columns of a terminal."""

NARROWEST = 18
"""Characters that the names of a row keep, where they need them, before anything else gives way."""


def fitted(head: Sequence[str], rows: Sequence[Sequence[str]], width: int, names: int = 1) -> str:
    r"""Aligned columns two spaces apart: the first `names` ones to the left and wrapped, the others to the right.

    A cell may have several lines (a newline in it); a head of empty names is left out. Where the columns do not fit
    beside the names, intervals go under their values; where they still do not, the table ends early and goes on
    below, the names again.

    Examples:
        >>> print(fitted(["", "accuracy", "macro\nF1"], [["the expert", "0.500 [0.400, 0.600]", "0.450"]], 36))
                                    macro
                          accuracy     F1
        the expert           0.500  0.450
                    [0.400, 0.600]
    """
    natural = [max(1, *(_wide(row[i]) for row in [head, *rows])) for i in range(names)]
    needed = min(sum(natural), NARROWEST * names) + 2 * (names - 1)
    if _numbers_width(head, rows, names) + needed > width:
        rows = [[*row[:names], *(cell.replace(" [", "\n[") for cell in row[names:])] for row in rows]
    parts: list[str] = []
    start = names
    while start < len(head) or not parts:
        stop = len(head)
        while stop > start + 1 and _numbers_width(head, rows, start, stop) + needed > width:
            stop -= 1
        taken = [[*row[:names], *row[start:stop]] for row in [head, *rows]]
        parts.append(_aligned(taken[0], taken[1:], width, names, natural))
        start = stop
    return "\n\n".join(parts)


def wrap(text: str, width: int = WIDTH) -> str:
    """`text` in lines of at most `width`, the further ones indented."""
    return textwrap.fill(text, width, subsequent_indent="  ", break_long_words=True, break_on_hyphens=False)


def folded(text: str, width: int = WIDTH) -> str:
    """Every line of a text in `width` columns: longer ones go on indented. Paths and a "next: ..." are left
    whole.

    Examples:
        >>> print(folded("short\\n  note: the words of a sentence", 20))
        short
          note: the words of
            a sentence
    """
    return "\n".join(line if len(line) <= width else _folded(line, width) for line in text.split("\n"))


def _folded(line: str, width: int) -> str:
    if line.startswith("next: "):  # to be pasted
        return line
    indent = line[: len(line) - len(line.lstrip())]
    *before, last = line.split()
    if "/" in last and len(" ".join(before)) <= LABEL:
        return line
    has_long_path = any("/" in word and len(indent) + 2 + len(word) > width for word in line.split())
    return textwrap.fill(
        line.strip(),
        width,
        initial_indent=indent,
        subsequent_indent=indent + "  ",
        break_long_words=not has_long_path,
        break_on_hyphens=False,
    )


def on_or_below(first: str, more: str, width: int = WIDTH) -> str:
    """A line that ends in a path, never cut, and what is said of it: behind it where it fits, else below, indented.

    Examples:
        >>> print(on_or_below("report: a/b.html", "(no photos in it)", width=24))
        report: a/b.html
          (no photos in it)
    """
    if not more or len(first) + 1 + len(more) <= width:
        return f"{first} {more}".rstrip()
    return f"{first}\n" + "\n".join("  " + line for line in wrap(more, width - 2).splitlines())


def wrap_command(command: str, indent: str = "", width: int = WIDTH) -> str:
    """A command in lines of at most `width` where its words allow it, which can be pasted as they are.

    Examples:
        >>> print(wrap_command("ens train age --given 'mask=not worn' --run runs/a", "  ", 40))
          ens train age --given \\
            'mask=not worn' --run runs/a
    """
    lines = [""]
    for word in map(shlex.quote, shlex.split(command)):
        longer = f"{lines[-1]} {word}".strip()
        own = indent if len(lines) == 1 else f"{indent}  "
        if lines[-1] and len(own) + len(longer) > width - 2:  # room for " \\"
            lines.append(word)
        else:
            lines[-1] = longer
    return " \\\n".join(f"{indent}{'  ' if number else ''}{line}" for number, line in enumerate(lines))


def name_head(name: str, widest: int = 14) -> str:
    """A class name as the head of a column: wrapped, and cut short after three lines."""
    lines = textwrap.wrap(name, widest, break_on_hyphens=False) or [""]
    return "\n".join(lines if len(lines) <= 3 else [*lines[:2], lines[2][: widest - 1] + "…"])


def _aligned(head: Sequence[str], rows: Sequence[Sequence[str]], width: int, names: int, natural: Sequence[int]) -> str:
    room = width - _numbers_width(head, rows, names) - 2 * (names - 1)
    widths = _shared(natural, room)
    lines = []
    for number, row in enumerate([head, *rows]):
        if not any(row):
            continue
        cells = [_wrapped(cell, wide) for cell, wide in zip(row, widths, strict=False)]
        cells += [cell.split("\n") for cell in row[names:]]
        if number == 0:  # heads stand on the line of their numbers
            tall = max(map(len, cells))
            cells = [[""] * (tall - len(cell)) + cell for cell in cells]
        columns = [*widths, *(max(_wide(one[i]) for one in [head, *rows]) for i in range(names, len(head)))]
        for line in zip_longest(*cells, fillvalue=""):
            filled = [
                text.ljust(wide) if i < names else text.rjust(wide)
                for i, (text, wide) in enumerate(zip(line, columns, strict=True))
            ]
            lines.append("  ".join(filled).rstrip())
    return "\n".join(lines)


def _numbers_width(head: Sequence[str], rows: Sequence[Sequence[str]], start: int, stop: int | None = None) -> int:
    """Characters of the columns `start` to `stop` with the two spaces before each."""
    return sum(2 + max(_wide(row[i]) for row in [head, *rows]) for i in range(start, stop or len(head)))


def _shared(natural: Sequence[int], room: int) -> list[int]:
    """What each column of names gets: what it needs, or an equal share of what is left."""
    widths = [0] * len(natural)
    for left, i in zip(range(len(natural), 0, -1), sorted(range(len(natural)), key=natural.__getitem__), strict=True):
        widths[i] = max(1, min(natural[i], room // left))
        room -= widths[i]
    return widths


def _wrapped(text: str, width: int) -> list[str]:
    indent = "  " if width > 4 else ""
    return textwrap.wrap(text, width, subsequent_indent=indent, break_on_hyphens=False) or [""]


def _wide(cell: str) -> int:
    return max(map(len, cell.split("\n")))
