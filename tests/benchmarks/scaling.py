"""Photos a second against the number of experts there are, up to 100, on a generated taxonomy.

python tests/benchmarks/scaling.py [--photos 512] [--rounds 5] [--json FILE]

A router tells kinds apart, one expert a kind its two sorts; all with a tiny network at 32 pixels. Under hard routing a
photo takes two passes a fold, however many experts there are.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from shared import Report, options, over, seconds, turn_about
from torch import nn

import ensemble_kit as ek
from ensemble_kit.answering import Answerer
from ensemble_kit.card import Card
from ensemble_kit.data.decode import Preprocess
from ensemble_kit.data.generated import generate_faces
from ensemble_kit.data.samples import SampleTable
from ensemble_kit.models.checkpoint import save_checkpoint
from ensemble_kit.models.heads import block_head, build_network

GRAPH = ek.Graph({"kind": [], "sort": ["kind"]})
SIZE = 32


def tiny() -> tuple[nn.Module, int]:
    layers = [nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU()]
    return nn.Sequential(*layers), 32


def taxonomy(n_experts: int) -> ek.Schema:
    paths = [(f"kind{i}", f"sort{i}{side}") for i in range(n_experts) for side in "ab"]
    return ek.Schema.from_rows(["kind", "sort"], paths)


def write_checkpoints(folder: Path, schema: ek.Schema, n_folds: int) -> list[Path]:
    experts: list[tuple[str, dict[str, tuple[str, ...]]]] = [("kind", {})]
    experts += [("sort", {"kind": (name,)}) for name in schema["kind"].classes]
    folder.mkdir()
    written = []
    for number, (name, condition) in enumerate(experts):
        for fold in range(n_folds):
            head = block_head(schema, [name])
            network = build_network(tiny, "none", len(head.classes), (number, fold))
            train: dict[str, Any] = {"seed": 0, "fold": fold, "n_folds": n_folds, "epoch": 1}
            train |= dict.fromkeys(("samples_sha256", "train_groups_sha256", "held_out_groups_sha256"), "")
            backbone = {"name": "tiny", "init": "none", "head": "linear"}
            card = Card(schema, condition, (head,), backbone, Preprocess((SIZE, SIZE)).to_json(), train)
            written.append(folder / f"{number}-{fold}.safetensors")
            save_checkpoint(written[-1], network, card)
    return written


def main(argv: Sequence[str] | None = None) -> int:
    parser = options(__doc__, 5)
    parser.add_argument("--photos", type=int, default=512)
    given = parser.parse_args(argv)
    report = Report(__file__, given)
    counts = (2, 10) if given.quick else (2, 10, 30, 100)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        generate_faces(folder / "photos", people=1, eval_people=4, size=(64, 48))
        files = sorted((folder / "photos" / "eval" / "images").iterdir())
        n_photos = 64 if given.quick else given.photos
        calls = {}
        for n_experts in counts:
            schema = taxonomy(n_experts)
            columns: dict[str, Any] = {
                "sample_id": [str(i) for i in range(n_photos)],
                "path": [str(files[i % len(files)]) for i in range(n_photos)],
                "group_id": [str(i) for i in range(n_photos)],
                "kind": ["kind0"] * n_photos,
                "sort": ["sort0a"] * n_photos,
            }
            table = SampleTable.from_columns(columns, folder, schema)
            paths = write_checkpoints(folder / str(n_experts), schema, 2)
            own = Answerer(paths, schema, GRAPH, device="cpu", precision="fp32", backbones={"tiny": tiny})
            first = own.answer(table, route="hard", threads=given.threads)
            assert first.counts.forwards == 2 * 2 * n_photos, first.counts
            used = sum(n > 0 for name, n in first.counts.photos.items() if name.startswith("sort"))
            report.tell(f"{n_experts} experts of sorts, {used} used: {first.counts.forwards} passes, {n_photos} photos")
            calls[n_experts] = partial(own.answer, table, route="hard", threads=given.threads)
        found = turn_about({str(n): partial(seconds, call) for n, call in calls.items()}, report.rounds)
    for n_experts in counts:
        report.add(f"photos a second, {n_experts} experts", [n_photos / one for one in found[str(n_experts)]])
    for n_experts in counts[1:]:
        ratios = over(found[str(n_experts)], found[str(counts[0])])
        report.add(f"seconds with {n_experts} experts against {counts[0]}", ratios)
    return report.end()


if __name__ == "__main__":
    sys.exit(main())
