"""A list of SHA-256 hashes of a data set's photos and tables, kept to find out later which of them have changed.

The file is what `sha256sum` writes and `sha256sum --check` reads: a hash, two blanks, the path below the data set's
folder. A path with a backslash or a line end is escaped as there.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ensemble_kit.data.layouts import PARTS, find_layout, has_part
from ensemble_kit.data.listing import visible
from ensemble_kit.data.samples import read_samples
from ensemble_kit.data.table import Problem, SampleTable, check_inside
from ensemble_kit.errors import DataError
from ensemble_kit.files import kind_of, refuse_special, sha256_file, write_text
from ensemble_kit.schema import Schema

LINE = re.compile(r"(\\?)([0-9a-f]{64}) [ *](.+)")
LISTS = (".csv", ".parquet")
ESCAPES = {"\\": r"\\", "\n": r"\n", "\r": r"\r"}


def write_manifest(path: Path, data: Path, schema: Schema, *, layout: str = "auto") -> int:
    """Writes the hashes of every photo of both parts, and of the tables beside them.

    Args:
        path: the file to write.
        data, schema, layout: as for `read_samples`.

    Returns:
        How many files it lists.

    Raises:
        DataError: the data set cannot be read, or one of its files is missing or no file; mend that first.
    """
    data = Path(data)
    files = _files(_folder(data), _tables(data, schema, layout), Path(path))
    hashes = _hashes(_folder(data), files)
    for name, found in hashes.items():
        if not re.fullmatch("[0-9a-f]{64}", found):
            raise DataError(f"{_folder(data) / name}: expected a file for the manifest, found {found}; mend that first")
    write_text(Path(path), "".join(_line(name, found) for name, found in hashes.items()))
    return len(hashes)


def check_manifest(path: Path, data: Path, tables: Sequence[SampleTable]) -> list[Problem]:
    """Every file of a data set that is not as it was when the manifest was written: changed, missing, or new.

    Args:
        path: what `write_manifest` or `sha256sum` wrote.
        data: the data set.
        tables: its samples.

    Raises:
        DataError: the manifest cannot be read, or a line of it is none.
    """
    known = read_manifest(path)
    now = _files(_folder(Path(data)), tables, Path(path))
    found = _hashes(_folder(Path(data)), [*known, *(name for name in now if name not in known)])
    return [Problem(name, text) for name, text in _differences(known, found)]


def read_manifest(path: Path) -> dict[str, str]:
    """Path below the data set's folder -> SHA-256.

    Raises:
        DataError: no such file, a line that is none, a path twice or outside the folder.
    """
    refuse_special(path)
    try:
        lines = Path(path).read_text("utf-8").split("\n")
    except FileNotFoundError:
        raise DataError(
            f'{path}: expected a manifest, found no such file; write one with "ens data manifest"'
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not readable as a manifest ({error})") from None
    known: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        found = LINE.fullmatch(line.removesuffix("\r"))
        if not line.strip():
            continue
        if found is None:
            raise DataError(f'{path} line {number}: expected "HASH  PATH" as sha256sum writes it, found {line[:60]!r}')
        name = _unescaped(found[3]) if found[1] else found[3]
        check_inside(name, f"{path} line {number}")
        if name in known:
            raise DataError(f"{path} line {number}: {name} is there already; write the manifest again")
        known[name] = found[2]
    if not known:
        raise DataError(f'{path}: expected a manifest, found no line; write one with "ens data manifest"')
    return known


def _differences(known: dict[str, str], found: dict[str, str]) -> Iterator[tuple[str, str]]:
    for name, text in found.items():
        if name not in known:
            yield name, "not in the manifest"
        elif text != known[name]:
            is_hash = re.fullmatch("[0-9a-f]{64}", text)
            yield (
                name,
                "changed since the manifest was written (SHA-256 differs)" if is_hash else f"in the manifest: {text}",
            )


def _tables(data: Path, schema: Schema, layout: str) -> list[SampleTable]:
    name = find_layout(data, layout)
    parts = [part for part in PARTS if part == "train" or has_part(data, part, name)]
    return [read_samples(data, schema, part=part, layout=name) for part in parts]  # type: ignore[arg-type]


def _folder(data: Path) -> Path:
    return data if data.is_dir() else data.parent


def _files(folder: Path, tables: Iterable[SampleTable], manifest: Path) -> list[str]:
    """Paths below the folder: the tables beside the photos, then the photos; sorted, each once."""
    tables = list(tables)
    places = {folder, *(table.root for table in tables)}
    lists = [place / entry.name for place in places for entry in visible(place) if entry.name.lower().endswith(LISTS)]
    photos = [path for table in tables for path in table.paths]
    own = manifest.absolute()
    names = {Path(os.path.relpath(path, folder)).as_posix() for path in [*lists, *photos] if path.absolute() != own}
    return sorted(names)


def _hashes(folder: Path, names: Sequence[str]) -> dict[str, str]:
    """Name -> SHA-256, or in words why there is none."""
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:  # hashing lets go of the interpreter
        return dict(zip(names, pool.map(lambda name: _hash(folder / name), names), strict=True))


def _hash(path: Path) -> str:
    try:
        kind = kind_of(path)
        return sha256_file(path) if kind == "file" else f"a file, found {kind}"
    except FileNotFoundError:
        return "missing now"
    except OSError as error:
        return f"not readable ({error.strerror})"


def _line(name: str, sha256: str) -> str:
    escaped = "".join(ESCAPES.get(letter, letter) for letter in name)
    return f"{'' if escaped == name else chr(92)}{sha256}  {escaped}\n"


def _unescaped(text: str) -> str:
    letters = {code[1]: letter for letter, code in ESCAPES.items()}
    return re.sub(r"\\([\\nr])", lambda found: letters[found[1]], text)
