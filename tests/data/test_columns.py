"""Edges of finer columns, from the data's range, of a fixed number, or one's own."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ensemble_kit.data.columns import check_columns, column_edges
from ensemble_kit.errors import DataError, UsageError
from ensemble_kit.predictions.fine import Fine
from ensemble_kit.schema import Attribute

AGE = Attribute("age", ["<30", "30-59", ">=60"], borders=[30, 60])
AGES = np.array([18.0, 22, 45, 60, np.nan])


def test_years_are_one_column_a_whole_number_of_the_range() -> None:
    edges = column_edges("years", AGES, [30, 60], "age")
    assert edges == tuple(float(year) for year in range(19, 61))  # 43 columns: 18, 19, ..., 60


def test_sixty_one_years_are_0_to_59_and_60_and_above() -> None:
    edges = column_edges("years=61", AGES, [30, 60], "age")
    assert edges == tuple(float(year) for year in range(1, 61))


@given(
    st.lists(st.integers(1, 90), min_size=5, max_size=40).filter(lambda ages: max(ages) - min(ages) > 40),
    st.integers(5, 15),
)
def test_bins_hold_the_borders_and_are_about_equally_wide(ages: list[int], number: int) -> None:
    edges = column_edges(f"bins={number}", np.array(ages, dtype=float), [30, 60], "age")
    assert edges is not None
    assert len(edges) == number - 1
    assert {30.0, 60.0} <= set(edges)
    assert (np.diff(edges) > 0).all()
    Fine(edges=edges).classes_of(AGE, "age")


def test_classes_have_no_edges_and_ones_own_stay() -> None:
    assert column_edges("classes", AGES, [30, 60], "age") is None
    assert column_edges((20.0, 30.0, 60.0), AGES, [30, 60], "age") == (20.0, 30.0, 60.0)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ("year", 'expected classes, years, years=61, bins=11 or edges .* found "year"'),
        ("bins", 'found "bins"'),
        ("bins=1", 'found "bins=1"'),
        ("years=99999", 'found "years=99999"'),
        ((30.0, 20.0), "edges must increase, found 30, 20"),
        ((20.0, 60.0), "expected the border 30 among the edges; add it"),
        ("bins=2", "2 bins are fewer than its 3 classes"),
        ("bins=90", "90 bins are too many for numbers from 18 to 60"),
    ],
)
def test_what_cannot_be_laid_out(columns: str | tuple[float, ...], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        column_edges(columns, AGES, [30, 60], "age")
    if "border" not in message and "bins are" not in message:
        with pytest.raises(UsageError, match=message):
            check_columns(columns)


def test_columns_need_a_measured_number() -> None:
    with pytest.raises(DataError, match='expected measured numbers to lay "years" over, found none'):
        column_edges("years", np.array([np.nan]), [30], "age")
