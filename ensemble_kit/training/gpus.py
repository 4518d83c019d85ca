"""One training on a GPU at a time, over all processes of a machine: two would share its memory, and both be slow."""

from __future__ import annotations

import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from ensemble_kit.files import slug
from ensemble_kit.leftovers import spoken
from ensemble_kit.locks import let_go, try_hold

FOLDER: Path | None = None
"""Where the lock files are; None = where every process of the machine finds them."""

LOOK_EVERY = 1.0
"""Seconds between two looks at a GPU that is waited for."""

TELL_EVERY = 600.0
"""Seconds after which it is told again that a GPU is waited for."""

_ours: set[Path] = set()


def gpu_of(device: torch.device) -> tuple[str, str] | None:
    """What is the same for a GPU in every process, and what to call it; None for another device."""
    if device.type != "cuda":
        return None
    found = torch.cuda.get_device_properties(device)
    return str(found.uuid), f"{found.name}, GPU {torch.cuda.current_device() if device.index is None else device.index}"


def lock_file(unique: str) -> Path:
    """Jobs may have temporary folders of their own, in which they would not find each other's files."""
    shared = Path("/tmp")  # noqa: S108  # nothing is trusted that stands in the file
    folder = FOLDER or (shared if os.access(shared, os.W_OK) else Path(tempfile.gettempdir()))
    return folder / f"ensemble_kit-{slug(unique)}.lock"


@contextmanager
def alone_on(
    device: torch.device,
    what: Path,
    *,
    shares: bool = False,
    say: Callable[[str], None] | None = None,
    heed: Callable[[], None] = lambda: None,
) -> Iterator[None]:
    """Holds a GPU for the block; waits while another process trains on it. Does nothing on a CPU.

    The system lets go of a GPU when a process dies, however it dies. Within a block of the same process on the same
    GPU it does nothing either. Processes find each other's lock in the machine's temporary folder: those of containers
    that do not share it do not see each other, and neither do users where the administrator gives each a /tmp of their
    own; two trainings in such containers have to be kept apart by who starts them.

    Args:
        what: is trained, for who waits to be told.
        shares: do not ask who else trains there.
        say: told in words what is waited for; logged as a warning when left out.
        heed: called while it waits; what it raises ends the waiting.
    """
    gpu = None if shares else gpu_of(device)
    file = None if gpu is None else lock_file(gpu[0])
    if gpu is None or file is None or file in _ours:
        yield
        return
    handle = _waited_for(file, gpu[1], what, say or logging.getLogger("ensemble_kit").warning, heed)
    _ours.add(file)
    try:
        yield
    finally:
        _ours.discard(file)
        let_go(file, handle)


def _waited_for(file: Path, name: str, what: Path, say: Callable[[str], None], heed: Callable[[], None]) -> int:
    began, told = time.monotonic(), -TELL_EVERY
    while True:
        found = try_hold(file, f"{spoken()}, which trains {what}")
        waited = time.monotonic() - began
        if isinstance(found, int):
            if told >= 0:
                say(f"{name} is free after {waited / 60:.0f} min")
            return found
        if waited - told >= TELL_EVERY:
            say(
                f"{name} is trained on by {found}; waiting for it to end (Ctrl-C gives up, --share-gpu trains beside "
                "it, where the memory is enough for both)"
            )
            told = waited
        heed()
        time.sleep(LOOK_EVERY)
