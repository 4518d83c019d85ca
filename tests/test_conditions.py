"""Which photos are under a condition, against a loop."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble_kit.conditions import under_condition
from ensemble_kit.errors import UsageError
from ensemble_kit.schema import Attribute, Schema

SCHEMA = Schema(Attribute("mask", ["worn", "incorrect", "not_worn"]), Attribute("gender", ["male", "female"]))
CLASSES = {"mask": ["worn", "incorrect", "not_worn"], "gender": ["male", "female"]}
CONDITIONS = st.fixed_dictionaries(
    {}, optional={name: st.lists(st.sampled_from(c), min_size=1, unique=True) for name, c in CLASSES.items()}
)


@settings(max_examples=80, deadline=None)
@given(CONDITIONS, st.lists(st.tuples(st.integers(-1, 2), st.integers(-1, 1)), max_size=12))
def test_a_photo_is_inside_when_each_of_its_classes_is_named(
    condition: dict[str, list[str]], photos: list[tuple[int, int]]
) -> None:
    numbers = {"mask": np.array([m for m, _ in photos], int), "gender": np.array([g for _, g in photos], int)}
    found = under_condition({name: tuple(c) for name, c in condition.items()}, SCHEMA, numbers)
    expected = []
    for photo in photos:
        own = {name: c[number] if number >= 0 else "" for (name, c), number in zip(CLASSES.items(), photo, strict=True)}
        expected.append(all(own[name] in chosen for name, chosen in condition.items()))
    assert found.tolist() == expected
    assert found.dtype == np.bool_


@pytest.mark.parametrize(
    ("condition", "numbers", "message"),
    [
        ({"maks": ("worn",)}, {"mask": np.array([0])}, 'no attribute "maks"; did you mean "mask"?'),
        ({"mask": ("wron",)}, {"mask": np.array([0])}, 'no class "wron"; did you mean "worn"?'),
        ({"gender": ("male",)}, {"mask": np.array([0])}, "no class numbers of gender were given"),
        ({}, {}, "no class numbers of any attribute were given"),
    ],
)
def test_bad_calls(
    condition: dict[str, tuple[str, ...]], numbers: dict[str, np.ndarray[tuple[int], np.dtype[np.int64]]], message: str
) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        under_condition(condition, SCHEMA, numbers)
