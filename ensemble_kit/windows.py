"""Windows of photos to be answered: as many as fit, from caches or files, on the device that the networks run on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from ensemble_kit.arrays import ByteArray
from ensemble_kit.data.decode import Preprocess
from ensemble_kit.data.samples import SampleTable
from ensemble_kit.loading.cache import PhotoCache
from ensemble_kit.loading.decoding import decode_windows, window_spans
from ensemble_kit.loading.wanted import Geometry, geometry
from ensemble_kit.models.uploaded import Uploaded, on_device, pinned

WINDOW_BYTES = 128 * 2**20
"""Prepared photos of a window, of which two are held at a time: large, so that rare routes fill their batches."""
WINDOW_PHOTOS = 4096

FIRST = 128
"""Photos of the first window, so that networks need not wait for a large one."""

CPU = torch.device("cpu")

Photos = ByteArray | Uploaded
Window = tuple[int, dict[Geometry, Photos], list[tuple[int, str]], int]
"""First row, prepared photos, (row, problem) of the unreadable ones, and how many files were decoded for it."""


def fitting_window(preprocesses: Sequence[Preprocess]) -> int:
    """Photos of a window: as many as fit, prepared in each of these ways.

    Examples:
        >>> small, large = Preprocess(size=(64, 64)), Preprocess(size=(512, 384))
        >>> fitting_window([small, small]), fitting_window([small, large])
        (4096, 222)
    """
    distinct = {geometry(one): one for one in preprocesses}.values()
    photo = sum(3 * one.size[0] * one.size[1] for one in distinct)
    return max(1, min(WINDOW_PHOTOS, WINDOW_BYTES // photo))


def photo_windows(
    table: SampleTable,
    preprocesses: Sequence[Preprocess],
    cache: Path | None,
    size: int | None = None,
    threads: int | None = None,
    device: torch.device = CPU,
) -> Iterator[Window]:
    """Windows of prepared photos, one array per distinct geometry: from caches when all are there, else decoded.

    The next window is decoded while one is used. The first ones are smaller than `size`.

    Args:
        size: photos of a window; as many as fit (`fitting_window`) when left out.
        device: where they are looked at: to a GPU they are copied, while it begins with the first of them.
    """
    size = size or fitting_window(preprocesses)
    distinct = {geometry(p): p for p in preprocesses}
    caches = {g: PhotoCache.open(table, p, cache) for g, p in distinct.items()} if cache is not None else {}
    opened = {g: found for g, found in caches.items() if found is not None}
    if len(opened) == len(distinct):
        unreadable = _unreadable(next(iter(opened.values())), table)
        for start, stop in window_spans(len(table), size):
            found = [(row, text) for row, text in unreadable if start <= row < stop]
            yield start, {g: on_device(cached.photos[start:stop], device) for g, cached in opened.items()}, found, 0
        return
    new = pinned if device.type == "cuda" else None
    for start, arrays, found in decode_windows(
        table.paths, list(distinct.values()), size, first=FIRST, threads=threads, new=new
    ):
        photos = {g: on_device(array, device) for g, array in zip(distinct, arrays, strict=True)}
        yield start, photos, found, len(arrays[0])


def _unreadable(cache: PhotoCache, table: SampleTable) -> list[tuple[int, str]]:
    text = {problem.path: problem.problem for problem in cache.problems}
    paths = table.frame["path"].tolist()
    return [(int(row), text[paths[row]]) for row in np.flatnonzero(~cache.readable)]
