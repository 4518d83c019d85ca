"""Names for the array types, so that signatures say what a number is. Shapes stand in the docstrings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

FloatArray: TypeAlias = NDArray[np.floating[Any]]
IntArray: TypeAlias = NDArray[np.int64]
BoolArray: TypeAlias = NDArray[np.bool_]
ByteArray: TypeAlias = NDArray[np.uint8]
IdArray: TypeAlias = NDArray[np.str_]

Condition: TypeAlias = Mapping[str, tuple[str, ...]]
"""The parents' classes an expert is for: `{"mask": ("incorrect", "not_worn")}`; empty = pooled."""
