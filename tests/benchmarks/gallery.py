"""How long a filter of the gallery takes in a browser, with 5,000 photos in the page, in milliseconds.

python tests/benchmarks/gallery.py
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from shared import Report, options

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the drawn gallery of the tests

N_PHOTOS = 5000
MOST = 100.0
CHOICES = {
    "all 5,000 shown": "show=all",
    "one box of one group": "true_age=%3E%3D60",
    "boxes of four groups": "answer=wrong&true_age=30-59&said_mask=worn&wrong=age",
    "from one age to another": "show=all&value_age=25..40",
}


def main(argv: Sequence[str] | None = None) -> int:
    from browsing import MISSING, QUIET, chromium

    report = Report(__file__, options(__doc__, 7).parse_args(argv))
    path = chromium()
    if path is None:
        for name in CHOICES:
            report.skip(f"{name}, ms", MISSING, most=MOST)
        return report.end()
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as folder, sync_playwright() as play:
        page = _page(Path(folder))
        report.tell(f"{N_PHOTOS:,} photos: {page.stat().st_size / 1e6:.1f} MB")
        browser = play.chromium.launch(executable_path=path, args=QUIET)
        tab = browser.new_page(viewport={"width": 1280, "height": 900})
        tab.goto(page.as_uri())
        for name, text in CHOICES.items():
            report.add(f"{name}, ms", [_took(tab, text) for _ in range(report.rounds + 1)][1:], most=MOST)
        browser.close()
    return report.end()


def _page(folder: Path) -> Path:
    from gallery_cases import draw_places, face_case

    from ensemble_kit.gallery import write_gallery

    places = draw_places(folder / "photos", 100)
    facts = face_case(seed=1, n_photos=N_PHOTOS).facts
    path = folder / "gallery.html"
    write_gallery(path, facts, [places[n % 100] for n in range(N_PHOTOS)], title="x", scored_on="the photos")
    return path


def _took(tab: Any, text: str) -> float:
    """From the new address to the drawn photos: filtering, counts, tiles."""
    return float(
        tab.evaluate(
            """async (text) => {
              const wait = () => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)));
              location.hash = 'find=nothing-at-all';
              await wait();
              location.hash = text;
              await wait();
              return Number(document.getElementById('board').dataset.took);
            }""",
            text,
        )
    )


if __name__ == "__main__":
    sys.exit(main())
