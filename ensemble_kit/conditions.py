"""Which photos are under a condition."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ensemble_kit.arrays import BoolArray, Condition, IntArray
from ensemble_kit.errors import UsageError
from ensemble_kit.schema import Schema


def under_condition(condition: Condition, schema: Schema, numbers: Mapping[str, IntArray]) -> BoolArray:
    """`(n_samples,)`: whether a photo's classes fulfil the condition; where a parent is not labelled they do not.

    Args:
        condition: parent -> its classes; {} = every photo.
        schema: says the classes' numbers.
        numbers: attribute -> class numbers `(n_samples,)`, -1 = not labelled; the parents at least.

    Raises:
        UsageError: a parent or class that is unknown, or a parent without numbers.

    Examples:
        >>> from ensemble_kit.schema import Attribute
        >>> schema = Schema(Attribute("mask", ["worn", "incorrect", "not_worn"]))
        >>> under_condition({"mask": ("worn", "not_worn")}, schema, {"mask": np.array([0, 1, 2, -1])}).tolist()
        [True, False, True, False]
    """
    wanted = {name: [schema[name].index(c) for c in classes] for name, classes in condition.items()}
    absent = [name for name in wanted if name not in numbers]
    if absent or not numbers:
        raise UsageError(f"condition: no class numbers of {', '.join(absent) or 'any attribute'} were given; pass them")
    inside = np.ones(len(next(iter(numbers.values()))), dtype=np.bool_)
    for name, classes in wanted.items():
        inside &= np.isin(numbers[name], classes)
    return inside
