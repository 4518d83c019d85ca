"""A name, a name with a number ("step=0.1"), or a function of one's own: how tables of parts are read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ensemble_kit.errors import UsageError, nearest


@dataclass(frozen=True)
class Numbered:
    """Rows of a table that differ by one number.

    Attributes:
        make: number -> the row; raises UsageError for a number out of range.
        default: for the name alone; its type is the number's.
        wants: what the number is, for messages.
    """

    make: Callable[[Any], Any]
    default: float
    wants: str = "a number"


def find_named(kind: str, name: str, table: Mapping[str, Any]) -> Any:
    """The row of a name, made with its number where it takes one.

    Args:
        kind: what the table holds, for messages.

    Raises:
        UsageError: an unknown name, a number for a row that takes none, or a number that it cannot take.

    Examples:
        >>> table = {"plain": len, "power": Numbered(lambda n: f"to the {n:g}", 2.0)}
        >>> find_named("rule", "power=3", table), find_named("rule", "power", table)
        ('to the 3', 'to the 2')
    """
    word, equals, number = (part.strip() for part in name.partition("="))
    row = table.get(word.replace("-", "_"))
    if row is None:
        raise UsageError(f'no {kind} "{word}"{nearest(word, table)}')
    if not isinstance(row, Numbered):
        if equals:
            raise UsageError(f'{kind} "{word}" takes no number, found "{name}"; write "{word}"')
        return row
    try:
        value = type(row.default)(number) if equals else row.default
    except ValueError:
        raise UsageError(
            f'{kind} "{word}": expected {row.wants}, found "{number}"; write "{word}={row.default:g}"'
        ) from None
    return row.make(value)


def name_of(part: Any) -> str:
    """What a card calls a part: the name it was given by, or a function's own name."""
    return part if isinstance(part, str) else str(getattr(part, "__qualname__", type(part).__name__))
