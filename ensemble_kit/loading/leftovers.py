"""What processes that were killed left behind: temporary files and folders with the process's number in their name."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path


def remove_leftovers(folder: Path, pattern: str) -> None:
    """Removes the entries of `folder` that belong to processes of this machine that no longer run.

    Args:
        folder: may not exist.
        pattern: matches an entry's whole name; its first group is the number of the process.
    """
    for path in Path(folder).glob(".*"):
        found = re.fullmatch(pattern, path.name)
        if found is None or _runs(int(found[1])):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True  # another user's
    return True
