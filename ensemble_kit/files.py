"""Writing that cannot lose a file, hashes, and JSON without surprises."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ensemble_kit.errors import MALFORMED, DataError, UsageError
from ensemble_kit.leftovers import owner


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`; when the block ends well, it is synced and takes the name `path`.

    The temporary name is in the same folder because `os.replace` is atomic only within one file system. When the
    block raises, the old file stays as it was and the temporary one is removed.

    Raises:
        OSError: it cannot be written; `filename` is `path`, also where a library did not say so.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{owner()}.tmp")
    try:
        yield temporary
        with open(temporary, "rb+") as handle:
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:
        found = _not_written(error, temporary, path)
        if found is None:
            raise
        raise found from error
    finally:
        temporary.unlink(missing_ok=True)


def _not_written(error: BaseException, temporary: Path, path: Path) -> OSError | None:
    """What failed, under the name that was asked for; None when it was not the writing of this file."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, OSError):
        cause = cause.__context__  # torch.save hides what the file said behind an error of its own
    if cause is None or cause.filename not in (None, temporary, str(temporary)):
        return None
    told = cause.strerror or f"not all of it could be written ({cause})"
    return OSError(cause.errno or errno.EIO, told, str(path))


def write_bytes(path: Path, data: bytes) -> None:
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    write_bytes(path, text.encode("utf-8"))


def write_csv(path: Path, rows: Iterable[Sequence[str]]) -> None:
    """Writes lines of text cells, quoted where they have to be, otherwise as they are.

    A cell that begins with = + - or @ stays as it is: ids and class names are what other files are joined by. A
    spreadsheet would take it for a formula; `ens data check` names such data sets.
    """
    write_text(path, "".join(",".join(map(_cell, row)) + "\n" for row in rows))


def _cell(text: str) -> str:
    """One CSV cell. Neither pandas nor Python 3.11 quotes a lone carriage return, which readers take for a line end."""
    return '"' + text.replace('"', '""') + '"' if set(text) & set(',"\r\n') else text


def write_json(path: Path, value: Any) -> None:
    """Writes JSON, indented, without NaN (which no other reader accepts)."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def write_array(path: Path, array: np.ndarray[Any, Any]) -> None:
    """Writes a `.npy` file; never an object array, which would be a pickle."""
    with replacing(path) as temporary, open(temporary, "wb") as handle:
        np.lib.format.write_array(handle, np.ascontiguousarray(array), allow_pickle=False)


KINDS = {stat.S_IFREG: "file", stat.S_IFDIR: "folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}


def kind_of(path: Path) -> str:
    """ "file", "folder", or in words what else it is, links followed.

    Raises:
        OSError: there is nothing, or it cannot be looked at.
    """
    return KINDS.get(stat.S_IFMT(Path(path).stat().st_mode), "a device")


def refuse_special(path: Path) -> None:
    """Refuses pipes, sockets and devices, which would be waited for without end. What is not there is let through.

    Raises:
        DataError: naming the file.
    """
    try:
        kind = kind_of(path)
    except (OSError, ValueError):
        return
    if kind not in ("file", "folder"):
        raise DataError(f"{path}: expected a file, found {kind}")


def new_array(path: Path, dtype: Any, shape: tuple[int, ...]) -> np.memmap[Any, Any]:
    """A new `.npy` file, mapped into memory to be filled.

    The disk's room is taken at once: where it is full that is an OSError here, and no signal (SIGBUS) later.
    """
    array: np.memmap[Any, Any] = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
    if hasattr(os, "posix_fallocate"):
        with open(path, "rb+") as handle:
            os.posix_fallocate(handle.fileno(), 0, max(1, path.stat().st_size))
    return array


def read_json(path: Path) -> Any:
    """Reads a JSON file.

    Raises:
        DataError: the file is missing or is not JSON.
    """
    refuse_special(path)
    try:
        return json.loads(Path(path).read_text("utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path}: expected a JSON file, found none") from None
    except RecursionError:
        raise DataError(f"{path}: not readable as JSON (nested too deeply)") from None
    except (OSError, ValueError) as error:  # ValueError: not UTF-8, not JSON, a number of thousands of digits
        raise DataError(f"{path}: not readable as JSON ({error})") from None


@contextmanager
def taking_apart(path: Path) -> Iterator[None]:
    """What a stored value of another shape makes the block raise becomes one line that names the file.

    Raises:
        DataError: in place of `UsageError`, `KeyError` and the like.
    """
    try:
        yield
    except UsageError as error:
        raise DataError(f"{path}: {error}") from None
    except MALFORMED as error:
        reason = f"{type(error).__name__}: {error}"
        raise DataError(f"{path}: not what was written there ({reason}); restore the file, or make it again") from None


def read_array(path: Path, *, memory_map: bool = False) -> np.ndarray[Any, Any]:
    """Reads a `.npy` file without unpickling anything.

    Raises:
        DataError: the file is missing, cut short, or not a plain array.
    """
    refuse_special(path)
    try:
        found = np.load(path, mmap_mode="r" if memory_map else None, allow_pickle=False)
        if not isinstance(found, np.ndarray):
            found.close()
            raise ValueError("an archive of arrays")
    except FileNotFoundError:
        raise DataError(f"{path}: expected an array file (.npy), found none") from None
    except Exception as error:  # numpy reads the header as Python text: whatever its tokens make it raise
        raise DataError(f"{path}: not readable as an array ({' '.join(str(error).split())})") from None
    return found


def sha256_bytes(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def sha256_of_state(path: Path) -> str:
    """`sha256_file`, computed once in a process while the file is not touched."""
    state = Path(path).stat()
    return _sha256_of(path, (state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns))


@lru_cache(maxsize=4096)
def _sha256_of(path: Path, _state: tuple[int, ...]) -> str:
    return sha256_file(path)


def sha256_json(value: Any) -> str:
    """Hash of the canonical JSON of `value`: equal values give equal hashes, whatever the order of their keys."""
    return sha256_bytes(json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode())


def slug(text: str) -> str:
    """A folder name for `text`. Only ever written, never parsed back."""
    return re.sub(r"[^a-z0-9_]+", "-", text.lower()).strip("-") or "x"
