"""A window's photos on a GPU: copied there once for all networks, while the first one is at work already.

Photos are decoded into pinned memory, from which a GPU copies by itself. They go in pieces on a stream of their own;
who uses rows waits, on the GPU, for the piece that holds the last of them. A network's photos are gathered on the GPU.
"""

from __future__ import annotations

from functools import cache, partial

import torch
from torch import Tensor

from ensemble_kit.arrays import ByteArray, IntArray
from ensemble_kit.models.memory import tried

PIECE = 128
"""Photos copied at a time."""


class Uploaded:
    """Photos `(n, height, width, 3)` uint8 on a GPU.

    Args:
        photos: pinned, so that the copies overlap with whatever else goes on; others are copied too, one after the
            other.
    """

    def __init__(self, photos: ByteArray, device: torch.device):
        self.device, self.copied = device, list[torch.cuda.Event]()
        self.host = torch.from_numpy(photos)
        self.there = torch.empty(self.host.shape, dtype=torch.uint8, device=device)
        stream = _copying(device)
        stream.wait_stream(torch.cuda.current_stream(device))  # its memory was another tensor's
        with torch.cuda.stream(stream):
            for first in range(0, len(photos), PIECE):
                piece = slice(first, first + PIECE)
                self.there[piece].copy_(self.host[piece], non_blocking=True)
                self.copied.append(stream.record_event())
        self.there.record_stream(stream)  # nor is it another one's before the copies are done

    def __len__(self) -> int:
        return len(self.there)

    def __del__(self) -> None:
        if self.copied:
            self.copied[-1].synchronize()  # the next window may be decoded into this memory once nobody holds it

    def rows(self, rows: IntArray) -> Tensor:
        """`(len(rows), height, width, 3)` on the GPU, of at least one row."""
        torch.cuda.current_stream(self.device).wait_event(self.copied[int(rows.max()) // PIECE])
        chosen = torch.from_numpy(rows).pin_memory().to(self.device, non_blocking=True)
        return self.there.index_select(0, chosen)


def on_device(photos: ByteArray, device: torch.device) -> ByteArray | Uploaded:
    """The photos on a GPU; as they are where the device is none, or where its memory has no room for them."""
    if device.type != "cuda" or not len(photos):
        return photos
    uploaded = tried(partial(Uploaded, photos, device))
    return photos if uploaded is None else uploaded


def pinned(shape: tuple[int, ...]) -> ByteArray:
    """A uint8 array in memory that a GPU can copy from by itself."""
    found: ByteArray = torch.empty(shape, dtype=torch.uint8, pin_memory=True).numpy()
    return found


@cache
def _copying(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
