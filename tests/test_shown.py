"""Names that others chose act on no terminal and turn no sentence round; JSON stays the same JSON."""

from __future__ import annotations

import io
import json
import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ensemble_kit.cli.printed import Plain, as_json, plain_streams
from ensemble_kit.pages import element, environment, script_json
from ensemble_kit.shown import in_order, shown

ACTING = ["\x1b[31mred\x1b[0m", "\x1b]0;title\x07", "a\rb", "\x9b31m", "gnp\u202e.exe", "\u2066a", "a\u2028b", "\udc80"]


@given(st.text())
def test_nothing_that_acts_is_left(text: str) -> None:
    left = shown(text)
    assert not [one for one in left if unicodedata.category(one) in ("Cc", "Cs", "Zl", "Zp") and one not in "\n\t"]
    assert not [one for one in left if unicodedata.bidirectional(one) in ("LRO", "RLO", "LRE", "RLE", "PDF", "RLI")]
    assert shown(left) == left
    assert json.loads(shown(json.dumps(text, ensure_ascii=False))) == text


def test_ordinary_names_stay() -> None:
    for name in ("<30 / not_worn", "é漢字 한국어", "👩🏽", "a\tb\nc", "שלום"):
        assert shown(name) == name


def test_a_word_from_right_to_left_leaves_the_numbers_after_it() -> None:
    assert in_order("שלום 0.5 / שלום עולם [0, 1]") == "שלום\u200e 0.5 / שלום עולם\u200e [0, 1]"
    assert in_order("a 0.5") == "a 0.5"


@pytest.mark.parametrize("name", ACTING)
def test_what_is_printed_acts_on_no_terminal(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    out, err = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    with plain_streams():
        assert isinstance(sys.stdout, Plain)
        print(f"photo {name}")
        print(as_json({"photo": name}))
        print(f"error: {name}", file=sys.stderr)
    after: object = sys.stdout
    assert after is out
    assert shown(out.getvalue()) == out.getvalue()
    assert shown(err.getvalue()) == err.getvalue() == f"error: {shown(name)}\n"
    assert json.loads(out.getvalue().split("\n", 1)[1]) == {"photo": name}


@pytest.mark.parametrize("name", ACTING)
def test_a_page_writes_out_what_cannot_be_seen(name: str) -> None:
    drawn = str(element("text", name))
    filled = environment().from_string("<p>{{ name }}</p>").render(name=name)
    data = str(script_json({"name": name}))
    for text in (drawn, filled, data):
        assert shown(text) == text
    assert json.loads(data) == {"name": name}
