"""The errors a user can meet, each with the exit code the command line ends with."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class EnsembleKitError(Exception):
    """Base of every error raised on purpose. One line: what was expected, what was found, what to do."""

    exit_code = 1


class UsageError(EnsembleKitError):
    """The call does not make sense, whatever the data: an unknown name, options that contradict each other."""

    exit_code = 2


class BusyError(UsageError):
    """Another process works on the same files."""


class DataError(EnsembleKitError):
    """A file or a value is not what it has to be."""

    exit_code = 3


class DivergedError(EnsembleKitError):
    """A training's loss or weights stopped being finite."""

    exit_code = 4


class StoppedError(EnsembleKitError):
    """Stopped from outside before the end; the same command goes on from there."""

    exit_code = 75


MALFORMED = (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError, RecursionError)
"""What taking a stored value apart raises when it is of another shape than it was written in."""


def nearest(name: str, options: Iterable[str]) -> str:
    """Returns `'; did you mean "x"?'` or the full list of options, ready to end an error message."""
    known = [str(option) for option in options]
    close = difflib.get_close_matches(str(name), known, n=1)
    if close:
        return f'; did you mean "{close[0]}"? (known: {", ".join(known)})'
    return f" (known: {', '.join(known) or 'none'})"
