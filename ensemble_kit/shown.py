"""Names that others chose, where people read them: on a terminal, in a page, in a picture."""

from __future__ import annotations

import re

HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""What acts in place of being seen: colours and moves a terminal's text, ends lines, turns letters round."""

LEFTWARDS = "\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc"
LEFTWARD_WORDS = re.compile(f"[{LEFTWARDS}](?:[^A-Za-z0-9]*[{LEFTWARDS}])*")
MARK = "\u200e"


def shown(text: str) -> str:
    r"""The text with what cannot be seen written out, as JSON would write it: JSON stays the same JSON.

    Examples:
        >>> print(shown("a\x1b[31mb"), shown("<30 / 漢字\n"), end="")
        a\u001b[31mb <30 / 漢字
    """
    return HIDDEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def in_order(text: str) -> str:
    """`shown`, and words written from right to left do not draw the numbers after them along.

    Examples:
        >>> in_order("female 0.5"), len(in_order("\u05e9 0.5"))
        ('female 0.5', 6)
    """
    return LEFTWARD_WORDS.sub(lambda found: found[0] + MARK, shown(text))
