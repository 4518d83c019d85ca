"""What a back end is: it makes a form of a checkpoint, which answers photos."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from torch import Tensor, nn

from ensemble_kit.models.compute import Compute
from ensemble_kit.models.families import Size

Forward = Callable[[Tensor], Tensor]
"""Normalised photos `(n, 3, height, width)` float32, on the device, any n -> logits `(n, n_columns)`."""


@dataclass(frozen=True)
class Source:
    """What a back end makes a form of: one checkpoint.

    Attributes:
        name: what messages call it.
        network: gives the network, in eval mode, float32, on the CPU; it may be changed.
        size: (height, width) of what it sees; None where its card does not say.
        compute: where it runs; float32.
        photos: gives batches of normalised training photos of its own expert, to calibrate with.
        say: told what takes its time.
    """

    name: str
    network: Callable[[], nn.Module]
    size: Size | None
    compute: Compute
    photos: Callable[[], Iterator[Tensor]]
    say: Callable[[str], None] = lambda _line: None


class Backend(Protocol):
    """One way to run checkpoints.

    Attributes:
        name: in `BACKENDS`, in prediction sets and on the command line.
        least_equal: the share of labels equal to torch's in float32, on training photos, below which a form is refused;
            None = it is torch in float32.
        devices: where it can run.
    """

    @property
    def name(self) -> str: ...
    @property
    def least_equal(self) -> float | None: ...
    @property
    def devices(self) -> tuple[str, ...]: ...

    def versions(self) -> Mapping[str, str]:
        """Of everything that decides what a form answers. UsageError where something is not installed."""

    def note(self, compute: Compute, /) -> str | None:
        """What somebody who wants speed should know of it on this machine."""

    def convert(self, source: Source, folder: Path, /) -> None:
        """Writes what `load` needs into an empty folder; what needs nothing writes nothing."""

    def load(self, source: Source, folder: Path, /) -> Forward:
        """The form, from what `convert` wrote."""
