"""Tables of a given width, whatever stands in them."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble_kit.columns import fitted, name_head

NAMES = st.text(st.sampled_from("ab_= "), max_size=70).map(lambda text: " ".join(text.split()))
NUMBERS = st.sampled_from(["0.5", "420", "-", "0.719 [0.657, 0.776]", "+0.172 [+0.059, +0.285]", "not shown"])


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_no_line_is_wider_and_nothing_is_lost(data: st.DataObject) -> None:
    names, columns = data.draw(st.integers(1, 2)), data.draw(st.integers(1, 9))
    head = [*data.draw(st.lists(NAMES, min_size=names, max_size=names)), *map(name_head, ["x" * 50] * columns)]
    row = st.tuples(*[NAMES] * names, *[NUMBERS] * columns)
    rows: list[tuple[str, ...]] = data.draw(st.lists(row, min_size=1, max_size=4))
    text = fitted(head, rows, 80, names)
    assert max(map(len, text.splitlines())) <= 80
    shown = "".join(text.split())
    letters = sum(len("".join(cell.split())) for one in [tuple(head), *rows] for cell in one)
    assert len(shown) >= letters


def test_intervals_give_way_before_a_table_is_split() -> None:
    rows = [["an expert with a long name", "420", "60", "0.622", "0.794", "+0.172 [+0.059, +0.285]", "not shown"]]
    head = ["mask", "photos", "people", "pooled", "routed", "gain", "pays?"]
    assert fitted(head, rows, 80).splitlines() == [
        "mask                 photos  people  pooled  routed              gain      pays?",
        "an expert with a        420      60   0.622   0.794            +0.172  not shown",
        "  long name                                          [+0.059, +0.285]",
    ]
