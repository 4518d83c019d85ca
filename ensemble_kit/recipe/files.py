"""Where recipes lie, and what is written in them."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ensemble_kit.errors import DataError, UsageError, nearest


def recipe_folder() -> Path:
    """Where the shipped recipes lie: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    packed = package / "_recipes"
    return packed if packed.is_dir() else package.parent / "recipes"


def recipe_names() -> list[str]:
    return sorted(path.stem for path in recipe_folder().glob("*.toml"))


def find_recipe(name: str) -> Path:
    """A recipe's file: `name` is a path, or a shipped recipe's name with or without `.toml`."""
    path = Path(name)
    if path.suffix == ".toml" and path.is_file():
        return path
    stem = (path.stem if path.suffix == ".toml" else name).replace("-", "_")
    if stem in recipe_names() and path.name == name:  # a folder was named: then that very file was meant
        return recipe_folder() / f"{stem}.toml"
    raise UsageError(f'no recipe "{name}": expected a .toml file or a shipped recipe{nearest(name, recipe_names())}')


def read_sections(name: str | Path) -> tuple[Path, dict[str, Any]]:
    """A recipe's file, and what is written in it; nothing is checked yet.

    Raises:
        UsageError: an unknown name.
        DataError: the file is not TOML.
    """
    path = find_recipe(str(name))
    try:
        return path, tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not readable as TOML ({error})") from None


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Errors raised inside say which file they are about."""
    try:
        yield
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None
    except DataError as error:  # the paths file names itself
        raise DataError(f"{path}: {error}") from None
