"""Back ends on the same network: forward passes against torch in float32, answers against the home-made pipeline.

python tests/benchmarks/backends.py [--rounds 5] [--sizes 224,64] [--photos 21] [--batch 32] [--threads N] [--json FILE]

- forward: ResNet18 with random weights, batches of 32, each back end against torch's float32 with batch norms folded
  and channels last, which is what `torch` runs. OpenVINO's float32 says which float32 forward is the best one here.
- answers: the 25 checkpoints of `naive.py`, at the first size, against its pipeline: bf16 (limit 4) and openvino-int8
  (limit 6) where the CPU has the instructions; without them bf16 is not run and int8 has no limit. Of each expert one
  fold is converted and stands in for all five. (Of torch and OpenVINO in float32 `answer.py` tells the same.)

Turn about, medians of the ratios with quartiles; exit code 1 when a limit is missed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from answer import answerer
from naive import SCHEMA, naive, write_checkpoints
from shared import Report, options, over, seconds, turn_about
from torch import Tensor

from ensemble_kit.backends.cpu import bf16_note, int8_note
from ensemble_kit.backends.form import Backend, Source
from ensemble_kit.backends.table import BACKENDS, compute_of
from ensemble_kit.data.generated import generate_faces
from ensemble_kit.data.samples import read_samples
from ensemble_kit.errors import UsageError
from ensemble_kit.models.checkpoint import load_expert
from ensemble_kit.models.heads import build_network

LIMITS = {"torch-bf16": 4.0, "openvino-bf16": 4.0, "openvino-int8": 6.0}
"""Answers against the naive pipeline."""


def needs(backend: Backend) -> str:
    """Why a back end cannot show here what it can; "" where it can."""
    try:
        backend.versions()
    except UsageError as error:
        return str(error)
    if backend.name.endswith("bf16"):
        return bf16_note(torch.device("cpu")) or ""
    return (int8_note() or "") if backend.name.endswith("int8") else ""


def is_worth_running(backend: Backend) -> bool:
    """Short of the instructions, 8-bit numbers still gain something; bf16 gains nothing."""
    return not needs(backend) or (backend.name == "openvino-int8" and needs(backend) == int8_note())


def forward(backend: Backend, size: int, folder: Path, batch: int) -> Callable[[int], None]:
    """A call that passes so many photos."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(batch, 3, size, size, generator=generator).to(memory_format=torch.channels_last)

    def calibrating() -> Iterator[Tensor]:
        yield inputs[:8]

    def network() -> torch.nn.Module:
        return build_network("resnet18", "none", 3, (0, 0)).eval()

    source = Source("ResNet18", network, (size, size), compute_of(backend, "cpu"), calibrating)
    place = folder / f"{backend.name}-{size}"
    place.mkdir()
    backend.convert(source, place)
    form = backend.load(source, place)

    def call(n: int) -> None:
        with torch.inference_mode():
            for start in range(0, n, batch):
                form(inputs[: n - start])

    call(2 * batch)  # which compiles
    return call


def forwards(report: Report, given: argparse.Namespace, folder: Path) -> None:
    for size in given.sizes:
        n = given.batch * (1 if given.quick else max(2, 2 * 224 * 224 // (size * size) // 4))
        calls = {}
        for backend in BACKENDS.values():
            if is_worth_running(backend):
                calls[backend.name] = forward(backend, size, folder, given.batch)
        timed = {name: lambda call=call, n=n: seconds(lambda: call(n)) for name, call in calls.items()}
        took = turn_about(timed, report.rounds)
        plain = took["torch"]
        report.tell(f"torch, {size} px: {np.median(plain) / n * 1e3:.2f} ms a photo, {n} photos a turn")
        for name, backend in BACKENDS.items():
            what = f"{name} forward over torch's, {size} px"
            if name in calls and name != "torch":
                report.add(what, over(plain, took[name]), note=needs(backend))
            elif name != "torch":
                report.skip(what, needs(backend))


def answers(report: Report, given: argparse.Namespace, folder: Path) -> None:
    """End to end, as in `answer.py`."""
    size, names = given.sizes[0], []
    for name in LIMITS:
        if is_worth_running(BACKENDS[name]):
            names.append(name)
        else:
            report.skip(f"answers with {name} over naive, {size} px", needs(BACKENDS[name]), least=LIMITS[name])
    if not names:
        return
    generate_faces(folder / "photos", people=4, eval_people=-(-given.photos // 7))
    table = read_samples(folder / "photos", SCHEMA, part="eval")
    checkpoints = write_checkpoints(folder, size)
    networks = [load_expert(path)[0] for path in checkpoints]
    training = read_samples(folder / "photos", SCHEMA, part="train")
    timed: dict[str, Callable[[], float]] = {"naive": lambda: seconds(lambda: naive(table.paths, networks, size))}
    for name in names:
        own = answerer(name, checkpoints, training, folder)
        own.answer(table, route="hard")  # which compiles
        timed[name] = partial(seconds, partial(own.answer, table, route="hard"))
    took = turn_about(timed, report.rounds)
    for name in names:
        lacking = needs(BACKENDS[name])
        report.add(
            f"answers with {name} over naive, {size} px",
            over(took["naive"], took[name]),
            least=None if lacking else LIMITS[name],
            note=f"limit {LIMITS[name]:g} skipped: {lacking}" if lacking else "",
        )


def main(argv: Sequence[str] | None = None) -> int:
    parser = options(__doc__, 5)
    parser.add_argument("--photos", type=int)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--sizes", type=lambda text: [int(one) for one in text.split(",")])
    given = parser.parse_args(argv)
    given.photos = given.photos or (7 if given.quick else 21)
    given.sizes = given.sizes or ([32] if given.quick else [224, 64])
    given.threads = given.threads or torch.get_num_threads()
    torch.set_num_threads(given.threads)
    report = Report(__file__, given)
    with tempfile.TemporaryDirectory() as folder:
        forwards(report, given, Path(folder))
        answers(report, given, Path(folder))
    return report.end()


if __name__ == "__main__":
    sys.exit(main())
