"""Numbers as words of a sentence. Minus is the typographic one; a rounded 0 has no sign."""

from __future__ import annotations

import math
from collections.abc import Sequence

Interval = tuple[float, float]


def score(value: float | None, digits: int = 3) -> str:
    """
    Examples:
        >>> score(0.72949), score(None)
        ('0.729', 'none')
    """
    return "none" if value is None or not math.isfinite(value) else _signless(f"{value:.{digits}f}")


def signed(value: float, digits: int = 3) -> str:
    """
    Examples:
        >>> signed(0.03), signed(-0.0302), signed(-0.0001)
        ('+0.030', '−0.030', '0.000')
    """
    text = f"{value:+.{digits}f}"
    return _signless(text) if float(text) else text[1:]


def _signless(text: str) -> str:
    return text.replace("-", "−") if float(text) else text.replace("-", "")


def span(interval: Interval | None, digits: int = 3) -> str:
    """An interval in brackets; "" where there is none.

    Examples:
        >>> span((-0.1, 0.2), 2), span(None)
        ('[−0.10, 0.20]', '')
    """
    return "" if interval is None else f"[{score(interval[0], digits)}, {score(interval[1], digits)}]"


def estimate(value: float | None, interval: Interval | None = None, digits: int = 3) -> str:
    """A score with its interval.

    Examples:
        >>> estimate(0.5, (0.4, 0.6)), estimate(0.5)
        ('0.500 [0.400, 0.600]', '0.500')
    """
    return " ".join(part for part in (score(value, digits), span(interval, digits)) if part)


def difference(value: float, interval: Interval | None = None, digits: int = 3) -> str:
    """A difference with its sign and its interval.

    Examples:
        >>> difference(-0.024, (-0.054, 0.007))
        '−0.024 [−0.054, +0.007]'
    """
    if interval is None:
        return signed(value, digits)
    return f"{signed(value, digits)} [{signed(interval[0], digits)}, {signed(interval[1], digits)}]"


def percent(share: float, digits: int = 1) -> str:
    """
    Examples:
        >>> percent(0.1234), percent(1, 0), percent(0.0004), percent(0)
        ('12.3 %', '100 %', 'under 0.1 %', '0.0 %')
    """
    smallest = 10.0**-digits
    if 0 < share * 100 < smallest / 2:
        return f"under {smallest:.{digits}f} %"
    return f"{share * 100:.{digits}f} %"


def count(n: int, one: str, many: str | None = None) -> str:
    """
    Examples:
        >>> count(1, "photo"), count(2700, "photo"), count(0, "person", "people")
        ('1 photo', '2,700 photos', 'no people')
    """
    words = one if n == 1 else many or f"{one}s"
    return f"{n:,} {words}" if n else f"no {words}"


def listing(names: Sequence[str], last: str = "and", most: int | None = None) -> str:
    """Names in one phrase, of a long row the first ones.

    Examples:
        >>> listing(["a"]), listing(["a", "b", "c"]), listing(["a", "b", "c", "d"], most=2)
        ('a', 'a, b and c', 'a, b and 2 more')
    """
    shown = list(names)
    if most is not None and len(shown) > most:
        shown = [*shown[:most], f"{len(names) - most} more"]
        last = "and"
    return f"{', '.join(shown[:-1])} {last} {shown[-1]}" if len(shown) > 1 else "".join(shown)


def side_of(interval: Interval | None) -> int:
    """1 = the whole interval lies above 0, -1 = below, 0 = a difference is not shown (or no interval is known).

    Examples:
        >>> side_of((0.1, 0.2)), side_of((-0.2, -0.1)), side_of((0.0, 0.3)), side_of(None)
        (1, -1, 0, 0)
    """
    if interval is None:
        return 0
    return 1 if interval[0] > 0 else -1 if interval[1] < 0 else 0
