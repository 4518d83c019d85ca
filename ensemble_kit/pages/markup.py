"""HTML and SVG text that cannot be broken by what it shows: everything that is no `Markup` is escaped."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import cache
from typing import Any

from markupsafe import Markup, escape

from ensemble_kit.shown import in_order, shown

JSON_ESCAPES = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"}


def element(name: str, *children: object, **attributes: object) -> Markup:
    """An HTML or SVG element; children and attribute values are escaped unless they are `Markup`.

    Args:
        children: text or elements; None is left out.
        attributes: their names with `_` for `-`, and `class_` for class; None is left out, numbers are written short.

    Examples:
        >>> element("text", "<30", x=1.25, text_anchor="end")
        Markup('<text x="1.25" text-anchor="end">&lt;30</text>')
        >>> element("rect", width=10.0, class_=None)
        Markup('<rect width="10"></rect>')
    """
    words = "".join(f' {_key(key)}="{escape(short(value))}"' for key, value in attributes.items() if value is not None)
    inside = "".join(
        [escape(in_order(child) if type(child) is str else child) for child in children if child is not None]
    )
    return trusted(f"<{escape(name)}{words}>{inside}</{escape(name)}>")  # every part of it is escaped here


@cache
def _key(name: str) -> str:
    return str(escape(name.rstrip("_").replace("_", "-")))


def joined(parts: Iterable[object]) -> Markup:
    """One piece after the other, each escaped unless it is `Markup`."""
    return Markup("").join(parts)  # type: ignore[arg-type]


def short(value: object) -> str:
    """An attribute's text; numbers with two digits after the point at most.

    Examples:
        >>> short(1.0), short(0.333333), short("a"), short(-0.001)
        ('1', '0.33', 'a', '0')
    """
    if isinstance(value, float):
        text = f"{value:.2f}".rstrip("0").rstrip(".")
        return "0" if text == "-0" else text
    return value if isinstance(value, Markup) else str(value)


def script_json(value: Any) -> Markup:
    r"""JSON for a `<script type="application/json">`: nothing in it can end the script or start another.

    Raises:
        ValueError: NaN or an infinite number.

    Examples:
        >>> script_json({"a": "</script>&"})
        Markup('{"a":"\\u003c/script\\u003e\\u0026"}')
    """
    text = shown(json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")))
    for character, escaped in JSON_ESCAPES.items():
        text = text.replace(character, escaped)
    return trusted(text)


class _Trusted:
    """Text that says of itself that it is HTML already."""

    def __init__(self, text: str):
        self.text = text

    def __html__(self) -> str:
        return self.text


def trusted(text: str) -> Markup:
    """Text of our own that goes into a page as it is: never anything that a user wrote."""
    return escape(_Trusted(text))
