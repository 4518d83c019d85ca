"""Photos decoded in threads, a window at a time, the next window while this one is used."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ensemble_kit.arrays import ByteArray
from ensemble_kit.data.decode import PhotoError, Preprocess, decode_photo, prepare
from ensemble_kit.errors import DataError
from ensemble_kit.threads import available_cores

WINDOW = 256
"""Photos of a window; two are held at a time, whatever the number of photos."""

MOST_THREADS = 16
"""Above this Python's own work on headers and files, one thread at a time, is the limit."""

TASK = 4
"""Photos that a thread takes at a time."""

Decoded = tuple[int, list[ByteArray], list[tuple[int, str]]]
"""First row of the window; one array `(n_window, height, width, 3)` a preprocessing, zero where unreadable; the
(row, problem) of each unreadable photo."""

NewArray = Callable[[tuple[int, ...]], ByteArray]


def decode_windows(
    paths: Sequence[Path],
    preprocesses: Sequence[Preprocess],
    window: int = WINDOW,
    *,
    first: int | None = None,
    threads: int | None = None,
    new: NewArray | None = None,
) -> Generator[Decoded, None, None]:
    """Decodes photos once each and prepares them in several ways, a window at a time and one window ahead.

    Args:
        window: photos of a window.
        first: photos of the first window; each next one is four times as large, up to `window`.
        threads: that decode; as many as there are cores when left out.
        new: makes the uint8 array of a shape, in memory of some other kind.
    """
    spans = deque(window_spans(len(paths), window, first))
    pool = ThreadPoolExecutor(threads or min(MOST_THREADS, available_cores()))
    begun: deque[_Window] = deque()
    try:
        with _one_opencv_thread():
            while spans or begun:
                while spans and len(begun) < 2:
                    begun.append(_begin(pool, spans.popleft(), paths, preprocesses, new or _zeros))
                yield begun.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def window_spans(n_photos: int, window: int, first: int | None = None) -> Iterator[tuple[int, int]]:
    """(first row, the one after the last) of each window; see `decode_windows`.

    >>> list(window_spans(30, 16, first=2))
    [(0, 2), (2, 10), (10, 26), (26, 30)]
    """
    start, size = 0, min(first or window, window)
    while start < n_photos:
        yield start, min(start + size, n_photos)
        start, size = start + size, min(4 * size, window)


@dataclass(frozen=True)
class _Window:
    start: int
    arrays: list[ByteArray]
    found: list[Future[list[tuple[int, str]]]]

    def result(self) -> Decoded:
        return self.start, self.arrays, [problem for part in self.found for problem in part.result()]


def _begin(
    pool: ThreadPoolExecutor,
    span: tuple[int, int],
    paths: Sequence[Path],
    preprocesses: Sequence[Preprocess],
    new: NewArray,
) -> _Window:
    start, stop = span
    arrays = [new((stop - start, *preprocess.size, 3)) for preprocess in preprocesses]
    tasks = [
        pool.submit(_fill_rows, paths[row : min(row + TASK, stop)], row, start, preprocesses, arrays)
        for row in range(start, stop, TASK)
    ]
    return _Window(start, arrays, tasks)


def _fill_rows(
    paths: Sequence[Path], first: int, start: int, preprocesses: Sequence[Preprocess], arrays: Sequence[ByteArray]
) -> list[tuple[int, str]]:
    """Prepares the photos of some rows, from row `first` on; what is wrong with those that stay zero."""
    problems = []
    for row, path in enumerate(paths, first):
        problem = _fill_row(path, preprocesses, [array[row - start] for array in arrays])
        if problem is not None:
            problems.append((row, problem))
    return problems


def _fill_row(path: Path, preprocesses: Sequence[Preprocess], out: Sequence[ByteArray]) -> str | None:
    try:
        photo = decode_photo(path)
    except PhotoError as error:
        for row in out:
            row[:] = 0
        return str(error).removeprefix(f"{path}: ")
    try:
        for preprocess, row in zip(preprocesses, out, strict=True):
            prepare(photo, preprocess, row)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    return None


def _zeros(shape: tuple[int, ...]) -> ByteArray:
    return np.zeros(shape, dtype=np.uint8)


@contextmanager
def _one_opencv_thread() -> Iterator[None]:
    """Whole photos are shared out among threads; OpenCV's own, for parts of a photo, would only get in their way."""
    import cv2

    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)
