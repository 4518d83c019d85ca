"""How another process gets the same photos: a file that is mapped is opened there again, and only what else is sent."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ensemble_kit.files import read_array
from ensemble_kit.loading.room import mark_used

Getting = tuple[Callable[..., Any], tuple[Any, ...]]
"""A function of a module, and its arguments: few bytes where an array is a whole file."""


def getting(array: Any) -> Getting:
    """What gives an array in another process; used in `__reduce__`, which numpy's own maps lack."""
    if isinstance(array, np.memmap) and not isinstance(array.base, np.ndarray):  # else a part of a file
        return mapped, (str(array.filename),)
    return _sent, (np.asarray(array) if isinstance(array, np.ndarray) else array,)


def mapped(path: str) -> np.ndarray[Any, Any]:
    """Opens the file, and marks it as used."""
    array = read_array(Path(path), memory_map=True)
    mark_used(array, Path(path))
    return array


def _sent(array: Any) -> Any:
    return array
