"""Progress in the terminal: a bar with the time left where there is a terminal, plain lines where there is none."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any

from ensemble_kit.cli.printed import Plain
from ensemble_kit.shown import shown

NARROWEST = 20
"""Columns below which lines are not broken any further."""


class TerminalWatcher:
    """Prints lines, and keeps one bar below them on a terminal. Used as a context manager.

    Lines go to stderr when the command's result goes to stdout as JSON.
    """

    def __init__(self, *, stderr: bool = False):
        from rich.console import Console

        stream = sys.stderr if stderr else sys.stdout
        bare = stream.stream if isinstance(stream, Plain) else None
        self._console = Console(stderr=stderr, file=bare, highlight=False, markup=False, soft_wrap=True)
        self._progress: Any = None
        self._task: Any = None

    def __enter__(self) -> TerminalWatcher:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.end()

    def say(self, line: str) -> None:
        from ensemble_kit.columns import folded

        if self._console.is_terminal:
            self._console.print(folded(shown(line), max(self._console.width, NARROWEST)))
        else:  # a log keeps what was said in one line, to be searched
            print(line, file=sys.stderr if self._console.stderr else sys.stdout, flush=True)

    def begin(self, title: str, total: float) -> None:
        """Starts a bar of `total` steps; only a terminal shows it."""
        self.end()
        if not self._console.is_terminal:
            return
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"))
        self._progress = Progress(*columns, TimeRemainingColumn(), console=self._console, transient=True)
        self._task = self._progress.add_task(shown(title), total=total)
        self._progress.start()

    def advance(self, done: float, title: str | None = None) -> None:
        """Sets the bar to `done` of its total, and its title when one is given."""
        if self._progress is not None:
            self._progress.update(
                self._task, completed=done, **({} if title is None else {"description": shown(title)})
            )

    def end(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
