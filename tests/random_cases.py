"""A property tried on a few random cases in the suite, and on many of them under `-m slow`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

SEEDS = st.integers(0, 2**32 - 1)


def tried_on(
    *strategies: st.SearchStrategy[Any], few: int, many: int = 2000
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Makes a test of a property of what the strategies draw; `@example` goes below."""

    def make(check: Callable[..., None]) -> Callable[..., None]:
        @pytest.mark.parametrize("n_cases", [few, pytest.param(many, marks=pytest.mark.slow)])
        def test(n_cases: int) -> None:
            settings(max_examples=n_cases, deadline=None)(given(*strategies)(check))()

        test.__name__ = test.__qualname__ = check.__name__
        test.__module__, test.__doc__ = check.__module__, check.__doc__
        return test

    return make
