"""The gallery as one self-contained page, and the board inside it for pages of others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ensemble_kit.arrays import IntArray
from ensemble_kit.columns import on_or_below, wrap
from ensemble_kit.errors import UsageError
from ensemble_kit.gallery.board import Board
from ensemble_kit.gallery.details import gallery_details
from ensemble_kit.gallery.facts import GalleryFacts
from ensemble_kit.gallery.heat import Heat, HeatRequest, heat_requests
from ensemble_kit.gallery.pictures import Picture, Place, heat_picture, take_pictures
from ensemble_kit.gallery.sorting import gallery_board
from ensemble_kit.gallery.text import gallery_sentences, photos_sentence, shown_sentence
from ensemble_kit.pages import write_page
from ensemble_kit.pages.numbers import count

PER_BLOCK = 200
"""Photos in one piece of the page's data: a browser reads a piece when a photo of it is first looked at."""
LARGE_PHOTOS = 48
LIMIT = 5000
STYLE, SCRIPT = "gallery/gallery.css", "gallery/gallery.js"
TEMPLATE = "gallery/templates/gallery.html"

Blocks = list[tuple[str, Any]]
"""(id, value) of each piece of JSON that a board's template writes."""


@dataclass(frozen=True)
class PageReport:
    """What was written.

    Attributes:
        n_photos: in the page, of `n_all`.
        n_wrong: of all, None where no truth is known.
        problems: (id, reason) of photos that could not be shown.
        has_photos: whether photos were asked for.
        n_heat: photos with a map of where the expert looked.
    """

    path: Path
    n_photos: int
    n_all: int
    n_wrong: int | None
    problems: list[tuple[str, str]]
    has_photos: bool
    n_heat: int = 0

    def to_json(self) -> dict[str, Any]:
        problems = [{"id": name, "problem": problem} for name, problem in self.problems]
        return {
            "page": str(self.path), "n_photos": self.n_photos, "n_all": self.n_all, "n_wrong": self.n_wrong,
            "has_photos": self.has_photos, "n_heat": self.n_heat, "bytes": self.path.stat().st_size,
            "unread": problems,
        }  # fmt: skip

    def text(self) -> str:
        size = self.path.stat().st_size / 1e6
        told = f"({self.n_photos} of {self.n_all} photos, {size:.1f} MB)"
        lines = [on_or_below(f"gallery: {self.path}", told)]
        if self.n_wrong is not None:
            lines.insert(0, f"{self.n_wrong} of {self.n_all} photos are answered wrongly")
        if not self.has_photos:
            lines.append("no photos are in it; put them in with --photos")
        if self.n_heat:
            lines.append(f"where the experts that decided looked: on the first {count(self.n_heat, 'photo')}")
        if self.problems:
            name, problem = self.problems[0]
            lines.append(
                wrap(f"{count(len(self.problems), 'photo')} could not be shown, the first is {name}: {problem}")
            )
        return "\n".join(lines)


def board_blocks(
    board: Board,
    details: Mapping[str, Any],
    pictures: Sequence[Picture] | None,
    heat: Mapping[int, Sequence[Mapping[str, str]]] | None = None,
) -> Blocks:
    """The pieces of JSON that `gallery/templates/board.html` writes and `gallery.js` reads.

    Args:
        details: what `gallery_details` gives for the same rows; {} = a click shows the answers alone.
        pictures: one a photo; None = the page holds no photos.
        heat: row -> its maps, each with `title` and `picture`.
    """
    blocks: Blocks = [("board-data", {**board.to_json(), "per_block": PER_BLOCK, "has_photos": pictures is not None})]
    blocks.append(("board-details", dict(details)))
    if pictures is not None:
        for number, start in enumerate(range(0, len(pictures), PER_BLOCK)):
            some = pictures[start : start + PER_BLOCK]
            blocks.append((f"board-photos-{number}", [one.small or {"problem": one.problem} for one in some]))
        large = {str(row): one.large for row, one in enumerate(pictures) if one.large}
        blocks.append(("board-large", large))
    blocks.append(("board-heat", {str(row): [dict(one) for one in maps] for row, maps in (heat or {}).items()}))
    return blocks


def rows_to_show(facts: GalleryFacts, limit: int) -> IntArray:
    """Which photos a page of at most `limit` holds, in the order of the data.

    The wrong ones, most confident first, then the least confident of the others.
    """
    import numpy as np

    if limit < 1:
        raise UsageError(f"--limit {limit}: expected at least 1 photo")
    sure = np.nan_to_num(facts.sure, nan=-1.0)
    rank = np.lexsort((np.where(facts.wrong, -sure, sure), ~facts.wrong))
    return np.sort(rank[:limit]).astype(np.int64)


def write_gallery(
    path: str | Path,
    facts: GalleryFacts,
    places: Sequence[Place] | None,
    *,
    title: str,
    scored_on: str,
    limit: int = LIMIT,
    heat: Heat | None = None,
    n_heat: int = 36,
    inputs: Iterable[str | Path | None] = (),
    threads: int = 2,
    begin: Callable[[str, int], None] | None = None,
    advance: Callable[[int], None] | None = None,
) -> PageReport:
    """Writes a gallery of errors: one file that holds everything.

    Args:
        path: the page.
        places: where each photo of `facts` lies; None = no photos in the page, which says so.
        title: the heading.
        scored_on: what the photos are, as "the evaluation photos".
        limit: photos in the page; see `rows_to_show`.
        heat: maps of where an expert looked, for the first `n_heat` photos of the page; needs photos.
        inputs: files that the page may not replace.
        begin, advance: told what is being read, and how far.

    Raises:
        UsageError: a limit below 1, or a path that is no place for a page.
    """
    rows = rows_to_show(facts, limit)
    whole = gallery_board(facts)
    board = whole.select(rows)
    first = board.shown() if len(board.shown()) else board.orders[0].rows
    pictures, maps = None, {}
    if places is not None:
        if begin is not None:
            begin("reading photos", len(rows))
        wanted = first[: max(LARGE_PHOTOS, n_heat if heat else 0)].tolist()
        pictures = take_pictures([places[row] for row in rows.tolist()], large=wanted, threads=threads, advance=advance)
        if heat is not None and n_heat > 0:
            if begin is not None:
                begin("finding where experts looked", min(n_heat, len(first)))
            maps = _maps(facts, rows, first[:n_heat].tolist(), places, pictures, heat)
    facets = {facet.key for facet in board.facets}
    assert set(board.start) <= facets, "what a page begins with is among its filters"
    write_page(
        path,
        TEMPLATE,
        inputs=inputs,
        styles=[STYLE],
        scripts=[SCRIPT],
        title=title,
        version=version("ensemble_kit"),
        kind="Gallery of errors" if facts.truth is not None else "Gallery of doubtful answers",
        sentences=gallery_sentences(facts, scored_on),
        small_print=[shown_sentence(facts, len(rows)), photos_sentence(pictures is not None, bool(maps))],
        blocks=board_blocks(board, gallery_details(facts, rows), pictures, maps),
    )
    problems = [(str(board.ids[row]), one.problem) for row, one in enumerate(pictures or ()) if one.problem]
    n_wrong = None if facts.truth is None else int(facts.wrong.sum())
    return PageReport(Path(path), len(rows), len(facts), n_wrong, problems, pictures is not None, len(maps))


def _maps(
    facts: GalleryFacts,
    rows: IntArray,
    wanted: Sequence[int],
    places: Sequence[Place],
    pictures: Sequence[Picture],
    heat: Heat,
) -> dict[int, list[dict[str, str]]]:
    """Row of the page -> its maps, of the photos that could be read."""
    asked: list[tuple[int, HeatRequest]] = []
    for row in wanted:
        path = places[int(rows[row])].path
        if path is not None and not pictures[row].problem:
            asked += [(row, request) for request in heat_requests(facts, int(rows[row]), path)]
    found: dict[int, list[dict[str, str]]] = {}
    for (row, request), one in zip(asked, heat([request for _, request in asked]), strict=True):
        if one is not None:
            said = " / ".join(request.classes)
            entry = {"title": f"{request.expert}: what spoke for {said}", "picture": heat_picture(one)}
            found.setdefault(row, []).append(entry)
    return found
