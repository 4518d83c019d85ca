"""What the command tests share: how a command ended, and settings that keep a training tiny."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

TINY = "tiny"
SMALL = {
    "ENS_BACKBONE": TINY,
    "ENS_WEIGHTS": "none",
    "ENS_SIZE": "32",
    "ENS_EPOCHS": "1",
    "ENS_FOLDS": "2",
    "ENS_THREADS": "1",
    "ENS_JOBS": "1",
}


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str


Ens = Callable[..., Done]
