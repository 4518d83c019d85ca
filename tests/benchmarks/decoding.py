"""Files to normalised batches: as `ens answer` and `ens predict` make them against PIL + albumentations.

python tests/benchmarks/decoding.py [--photos 147] [--rounds 7] [--size 224] [--threads N] [--json FILE]

Generated photos, 512 x 384. The other side is the DataLoader of `naive.py` in this process, and where there are more
threads than one, with as many workers too. Both sides' pixels have to be the same. With one thread this process stays
on one core: reading, decoding, resizing and normalising then take their turns. Beside it, what OpenCV's JPEG decoder and
its area resizing take alone, with nothing read, checked or normalised.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import albumentations as A
import cv2
import numpy as np
import torch
from naive import SCHEMA, NaivePhotos
from numpy.typing import NDArray
from PIL import Image
from shared import Report, options, over, seconds, turn_about
from torch.utils.data import DataLoader

from ensemble_kit.data.decode import Preprocess
from ensemble_kit.data.generated import generate_faces
from ensemble_kit.data.samples import read_samples
from ensemble_kit.loading.decoding import decode_windows
from ensemble_kit.models.compute import choose_compute

LEAST = 1.5
DRAWN = 49
"""Photos that are drawn; more are the same ones again."""


def by_albumentations(paths: Sequence[Path], size: int, workers: int = 0) -> None:
    for _ in DataLoader(NaivePhotos(paths, size), batch_size=32, num_workers=workers):
        pass


def own(paths: Sequence[Path], size: int, threads: int) -> None:
    preprocess, compute = Preprocess((size, size)), choose_compute("cpu", "fp32", channels_last=True)
    batch = compute.fitting_batch(preprocess.seen)
    for _, (photos,), _ in decode_windows(paths, [preprocess], 64, threads=threads):
        for start in range(0, len(photos), batch):
            compute.inputs(torch.from_numpy(photos[start : start + batch]), preprocess)


def opencv_alone(files: Sequence[NDArray[np.uint8]], size: int) -> None:
    for data in files:
        photo = cv2.imdecode(data, cv2.IMREAD_COLOR)
        assert photo is not None
        cv2.resize(photo, (size, size), interpolation=cv2.INTER_AREA)


def share_of_equal_photos(paths: Sequence[Path], size: int) -> float:
    """Pixels before they are normalised."""
    ((_, (found,), _),) = decode_windows(paths, [Preprocess((size, size))], len(paths))
    resize = A.Resize(size, size, interpolation=3)
    expected = [resize(image=np.array(Image.open(path).convert("RGB")))["image"] for path in paths]
    return float(np.mean([np.array_equal(a, b) for a, b in zip(found, expected, strict=True)]))


def main(argv: Sequence[str] | None = None) -> int:
    parser = options(__doc__, 7)
    parser.add_argument("--photos", type=int)
    parser.add_argument("--size", type=int)
    given = parser.parse_args(argv)
    n_photos, size = given.photos or (7 if given.quick else 147), given.size or (32 if given.quick else 224)
    threads = given.threads = given.threads or torch.get_num_threads()
    torch.set_num_threads(threads)
    cv2.setNumThreads(1)  # OpenCV's own threads slow the DataLoader down
    if threads == 1 and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    report = Report(__file__, given)
    with tempfile.TemporaryDirectory() as folder:
        generate_faces(Path(folder), people=1, eval_people=min(DRAWN, n_photos) // 7)
        drawn = read_samples(Path(folder), SCHEMA, part="eval").paths
        paths = [drawn[i % len(drawn)] for i in range(n_photos)]
        files: list[Any] = [np.fromfile(path, dtype=np.uint8) for path in paths]
        calls: dict[str, Callable[[], None]] = {
            "own": lambda: own(paths, size, threads),
            "PIL": lambda: by_albumentations(paths, size),
            "OpenCV": lambda: opencv_alone(files, size),
        }
        if threads > 1:
            calls["workers"] = lambda: by_albumentations(paths, size, threads)
        for call in calls.values():
            call()
        took = turn_about({name: partial(seconds, call) for name, call in calls.items()}, report.rounds)
        report.add("photos whose pixels are the same, share", [share_of_equal_photos(drawn, size)], least=1)
    note = f"{np.median(took['own']) / n_photos * 1e3:.2f} ms a photo"
    report.add("files to batches against PIL + albumentations", over(took["PIL"], took["own"]), least=LEAST, note=note)
    if threads > 1:
        report.add(f"the same with {threads} workers", over(took["workers"], took["own"]))
    alone = over(took["PIL"], took["OpenCV"])
    report.add("OpenCV's decoder and resizing alone, one thread, against PIL + albumentations", alone)
    return report.end()


if __name__ == "__main__":
    sys.exit(main())
