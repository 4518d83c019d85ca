"""The fixture itself: it passes a quiet page, and fails one that complains, asks the network, or cannot be read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from browsing import Tab

pytestmark = pytest.mark.slow

GOOD = "<!doctype html><html lang=en><title>t</title><main><h1>A page</h1><p>with words</p></main>"
BAD = {
    "console": "<script>console.error('oh')</script>",
    "exception": "<script>throw new Error('oh')</script>",
    "request": "<script>fetch('http://127.0.0.1:9/x').catch(() => {})</script>",
    "picture": "<img alt='' src='missing.png'>",
}


def written(path: Path, more: str = "") -> Path:
    path.write_text(GOOD + more, encoding="utf-8")
    return path


def test_a_quiet_page_passes(browse: Any, tmp_path: Path) -> None:
    tab = browse(written(tmp_path / "page.html"), width=390, dark=True)
    assert tab.faults() == []
    assert not tab.is_wider_than_its_window()


@pytest.mark.parametrize("what", BAD)
def test_what_a_page_must_not_do_is_seen(browser: Any, tmp_path: Path, what: str) -> None:
    tab = Tab(browser.new_page(), written(tmp_path / "page.html", BAD[what]))
    tab.page.wait_for_timeout(200)
    assert tab.complaints or tab.requests
    tab.page.close()


def test_a_page_that_cannot_be_read_has_faults(browse: Any, tmp_path: Path) -> None:
    pale = "<p style='color: #ddd; background: #fff'>pale</p><img src='data:image/gif;base64,R0lGODlhAQABAAAAACw='>"
    tab = browse(written(tmp_path / "page.html", pale))
    found = " ".join(tab.faults())
    assert "color-contrast" in found
    assert "image-alt" in found
    wide = browse(written(tmp_path / "wide.html", "<div style='width: 3000px'>wide</div>"), width=390)
    assert wide.is_wider_than_its_window()
