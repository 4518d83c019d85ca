"""Looking into folders, with the droppings of operating systems and notebooks left out."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from ensemble_kit.data.decode import SUFFIXES
from ensemble_kit.errors import DataError
from ensemble_kit.schema import Attribute

DROPPINGS = frozenset({"__MACOSX", "Thumbs.db", "desktop.ini"})
"""Left by systems and archivers; names that start with a dot are left out as well."""


def visible(folder: Path | str) -> list[os.DirEntry[str]]:
    """The entries of a folder in name order, without hidden files and droppings.

    Raises:
        DataError: no such folder, not readable, or a name that is no UTF-8 text.
    """
    try:
        with os.scandir(folder) as found:
            entries = [entry for entry in found if not entry.name.startswith(".") and entry.name not in DROPPINGS]
    except OSError as error:
        raise DataError(f"{folder}: expected a folder, found none that can be read ({error.strerror})") from None
    for entry in entries:
        if (
            not entry.name.isprintable()
        ):  # undecodable bytes arrive as lone surrogates, which no file can be written with
            raise DataError(f"{folder}: the name {entry.name!r} holds characters that are no plain text; rename it")
    return sorted(entries, key=lambda entry: entry.name)


def refuse_links_out(entries: Iterable[os.DirEntry[str]], folder: Path, *others: Path) -> None:
    """Refuses links that lead out of the folder (and the others): photos elsewhere are no part of a data set.

    Raises:
        DataError: naming the first.
    """
    links = [entry for entry in entries if entry.is_symlink()]
    roots = [os.path.realpath(place) for place in (folder, *others)] if links else []
    for entry in links:
        if not any(is_inside(entry.path, root) for root in roots):
            raise DataError(
                f"{entry.path}: expected inside {folder}, found a link out of it; copy the photos in, or name the "
                "folder that they lie in"
            )


def is_inside(path: str, root: str) -> bool:
    """Whether a path lies below a folder, or is it, links followed.

    Args:
        root: as `os.path.realpath` gives it.
    """
    real = os.path.realpath(path)
    return real == root or real.startswith(root.rstrip(os.sep) + os.sep)


def is_photo_name(name: str) -> bool:
    return Path(name).suffix.lower() in SUFFIXES


def names_of(folder: Path, limit: int = 5) -> str:
    """`train, eval, ... and 3 more`, for the "found" half of a message."""
    names = [entry.name for entry in visible(folder)]
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return (", ".join(names[:limit]) + more) or "nothing"


def number_inside(attribute: Attribute, number: int) -> float:
    """A number of the given class, for sources that tell the class of a bordered attribute but not the number.

    The middle of the class; an open class at either end is taken as wide as its neighbour. It says the class only:
    with other borders than the schema's it means nothing.
    """
    borders = attribute.borders or ()
    if not borders:
        return 0.0
    half = (borders[1] - borders[0]) / 2 if len(borders) > 1 else 1.0
    if number == 0:
        return borders[0] - half
    if number == len(borders):
        return borders[-1] + (borders[-1] - borders[-2]) / 2 if len(borders) > 1 else borders[-1] + half
    return (borders[number - 1] + borders[number]) / 2
