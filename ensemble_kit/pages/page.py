"""One page, one file: a template filled with facts, its styles and scripts inside, nothing to be fetched."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Sequence
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from ensemble_kit.errors import UsageError
from ensemble_kit.files import write_text
from ensemble_kit.pages import numbers
from ensemble_kit.pages.markup import script_json, trusted
from ensemble_kit.shown import in_order

PACKAGE = Path(__file__).parent.parent
KIT_STYLE, KIT_SCRIPT = "pages/kit.css", "pages/kit.js"

START = "<!doctype html>"
"""How every page begins; a file that begins otherwise is not replaced by one."""


@cache
def environment() -> Environment:
    """The one environment: everything is escaped that is no `Markup`, a name that is not there is an error."""
    found = Environment(
        loader=FileSystemLoader(PACKAGE),
        autoescape=True,
        finalize=lambda value: in_order(value) if type(value) is str else value,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.globals["script_json"] = script_json
    for name in ("score", "signed", "span", "estimate", "difference", "percent", "count", "listing"):
        found.filters[name] = getattr(numbers, name)
    return found


def render(template: str, *, styles: Sequence[str] = (), scripts: Sequence[str] = (), **facts: Any) -> str:
    """The text of a page.

    Args:
        template: a file of the package, as "gallery/templates/gallery.html"; it extends "pages/templates/base.html".
        styles, scripts: further files of the package that are put inside, after the kit's own.
        facts: what the template names; text is escaped, `Markup` is not.

    Returns:
        HTML whose policy (`Content-Security-Policy`) allows these styles, these scripts and pictures in the page,
        known by their hashes, and nothing else: no request, no `style=`, no `onclick=`, no script from a class name.
    """
    inside = [_inside(names) for names in ((KIT_STYLE, *styles), (KIT_SCRIPT, *scripts))]
    allowed = [
        " ".join([kind, *(f"'sha256-{_hash(text)}'" for text in texts)])
        for kind, texts in zip(("style-src", "script-src"), inside, strict=True)
    ]
    rules = ["default-src 'none'", "img-src data:", *allowed, "base-uri 'none'", "form-action 'none'"]
    filled = environment().get_template(template)
    return filled.render(policy="; ".join(rules), styles=inside[0], scripts=inside[1], **facts)


def write_page(
    path: str | Path,
    template: str,
    *,
    inputs: Iterable[str | Path | None] = (),
    styles: Sequence[str] = (),
    scripts: Sequence[str] = (),
    **facts: Any,
) -> Path:
    """Renders a page and puts it in place in one step: a page that is there stays until the new one is whole.

    Args:
        path: the file; one that is there is replaced only where it is a page.
        inputs: files and folders it was made from, none of which it may replace.
        template, styles, scripts, facts: as `render` takes them.

    Raises:
        UsageError: `path` is an input, a folder, or a file that is no page.
    """
    refuse_path(path, inputs)
    text = render(template, styles=styles, scripts=scripts, **facts)
    write_text(Path(path), text)
    return Path(path)


def refuse_path(path: str | Path, inputs: Iterable[str | Path | None] = ()) -> None:
    """Refuses a path that `write_page` would refuse; call it before hours of work.

    Raises:
        UsageError: as `write_page`.
    """
    target = Path(path)
    if any(target.resolve() == Path(one).resolve() for one in inputs if one is not None):
        raise UsageError(f"{path}: is read for this page and would be overwritten by it; name another file")
    if target.is_dir():
        raise UsageError(
            f"{path}: expected the name of a page, found a folder; name a file in it, as {target.name}.html"
        )
    if target.exists() and not _is_page(target):
        raise UsageError(f"{path}: is there and is no page; name another file, or remove it")


def _is_page(path: Path) -> bool:
    if not path.is_file():
        return False
    with open(path, "rb") as handle:
        return handle.read(len(START)).lower() == START.encode()


def _inside(names: Sequence[str]) -> list[Markup]:
    """The texts of files of ours, as they stand in the page."""
    return [trusted((PACKAGE / name).read_text("utf-8")) for name in names]


def _hash(text: str) -> str:
    return b64encode(sha256(text.encode()).digest()).decode()
