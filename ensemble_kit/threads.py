"""Blocks worked on side by side: numpy lets other threads run while it works on an array."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

What = TypeVar("What")
Found = TypeVar("Found")

MOST = 4
"""More threads than this only wait for the memory."""


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def thread_count() -> int:
    """Cores this process may use, at most MOST; `OMP_NUM_THREADS` limits it as it limits other libraries."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return max(1, min(available_cores(), MOST, int(asked) if asked.isdigit() else MOST))


def side_by_side(work: Callable[[What], Found], items: Iterable[What], n_threads: int = 0) -> Iterator[Found]:
    """`work` of every item, in the items' order; the first error is raised.

    Args:
        n_threads: 1 = one after the other; 0 = as many as `thread_count` says.
    """
    listed = list(items)
    n_threads = min(n_threads or thread_count(), len(listed))
    if n_threads <= 1:
        yield from map(work, listed)
        return
    with ThreadPoolExecutor(n_threads) as pool:
        yield from pool.map(work, listed)
