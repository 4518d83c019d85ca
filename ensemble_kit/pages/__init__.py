"""The kit for pages: one self-contained HTML file each, light and dark, on paper, on a phone, by keyboard.

A page is made of facts in four steps, each a pure function of the one before:

1. facts: plain dataclasses of numbers and names, gathered by the caller;
2. sentences: what a picture shows, said with `numbers` (`estimate`, `difference`, `percent`, `count`, `listing`,
   `side_of`), from the same facts as the picture;
3. pictures: `charts.draw_*`, numbers -> `Markup`;
4. `write_page(path, "gallery/templates/gallery.html", inputs=[...], title=..., kind=..., version=..., sections=[...],
   **facts)`.

A template lies in the package, extends "pages/templates/base.html" and fills its blocks `lead`, `main`, `foot`, `data`;
it needs `title`, `kind` (what sort of page), `version`, and may have `sections`, a list of (id, name) for the
navigation: each is `<section id=... aria-labelledby=...>` with an `<h2>`. The macros of "pages/templates/kit.html":
`figure(title, sentence, picture, level=3, wide, id)`, `table(caption, columns, rows, sortable)`, `numbers(summary,
columns, rows)` (a table folded away), `facts(pairs)`, `missing(text, command)`, `data(id, value)` (JSON for scripts).
Folded parts (`<details>`) are printed where they are marked `data-print`.
`<div class="figures">` sets figures side by side where there is room. The filters `score`, `signed`, `estimate`,
`difference`, `percent`, `count`, `listing` are those of `numbers`.

Escaping is always on: what is no `Markup` is text, in attributes too, so never build HTML with f-strings; use
`element`, `charts` or a template. The page's policy allows only the kit's styles and scripts and those named in
`styles` and `scripts` (files of the package), by their hashes: no `style=` attribute, no `onclick=`, no further
`<script>` but `type="application/json"`. Tints are the classes `good`/`bad` with `t0` to `t9`; sizes set by a script
go through `element.style`. Photos go in as `<img src="{{ thumbnail }}">` with width, height, alt and loading="lazy",
made by `thumbnail(path, side)`, and only where the user asked for them.
"""

from ensemble_kit.pages.markup import element, joined, script_json
from ensemble_kit.pages.page import environment, refuse_path, render, write_page
from ensemble_kit.pages.thumbs import thumbnail, thumbnail_of

__all__ = [
    "element",
    "environment",
    "joined",
    "refuse_path",
    "render",
    "script_json",
    "thumbnail",
    "thumbnail_of",
    "write_page",
]
