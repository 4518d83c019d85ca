"""Ten epochs of a frozen ResNet18: on cached features, computed in that time, against photos passed in every epoch.

python tests/benchmarks/frozen.py [--people 32] [--size 64] [--rounds 5] [--threads N] [--json FILE]

People train a head on a frozen backbone where they have hundreds of photos, and so has this: 32 people of seven photos.
What a training does beside the passes (building, scoring at the end, writing) counts on both sides; with 28 photos it
is most of the time and the gain is about 1.7, with 112 it is 2.8.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from shared import Report, options, over, seconds, turn_about

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tiny_training import SCHEMA, make_job, make_phase

from ensemble_kit.data.generated import generate_faces
from ensemble_kit.data.samples import read_samples
from ensemble_kit.loading.cache import PhotoCache
from ensemble_kit.training import ExpertJob, train_fold

EPOCHS = 10
LEAST = 2.0


def main(argv: Sequence[str] | None = None) -> int:
    parser = options(__doc__, 5)
    parser.add_argument("--people", type=int, help="of seven photos each; default 32")
    parser.add_argument("--size", type=int, help="default 64")
    parser.add_argument("--device", default="auto")
    given = parser.parse_args(argv)
    given.threads = given.threads or torch.get_num_threads()
    people, size = given.people or (2 if given.quick else 32), given.size or (32 if given.quick else 64)
    report = Report(__file__, given)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        generate_faces(folder / "photos", people=people + 1, eval_people=1)
        table = read_samples(folder / "photos", SCHEMA, part="train")
        made: dict[str, Any] = {
            "backbone": "resnet18",
            "size": (size, size),
            "augment": (),
            "phases": (make_phase(epochs=EPOCHS, batch_size=14, freeze=("backbone",)),),
            "keep": "last",
            "score_every": 0,
            "threads": given.threads,
            "device": given.device,
            "precision": "auto",
        }
        whole, cached = make_job(**made), make_job(**made, feature_views=0)
        # one person is held out, so that scoring takes little
        folds = np.where(table.groups == table.groups[0], 0, -1)
        photos = PhotoCache.build(table, whole.preprocess, folder / "cache")

        def trained(job: ExpertJob, name: str) -> None:
            for file in (folder / "cache").glob("features-*"):
                file.unlink()
            how: dict[str, Any] = {"table": table, "folds": folds, "photos": photos, "folder": folder / name}
            train_fold(job, **how, restart=True, on_notice=lambda text: None)

        calls = {"photos": partial(trained, whole, "whole"), "features": partial(trained, cached, "cached")}
        took = turn_about({name: partial(seconds, call) for name, call in calls.items()}, report.rounds)
    name = f"{EPOCHS} epochs of {7 * people} photos of {size} px: photos / cached features, times as fast"
    note = f"{np.median(took['features']):.1f} s against {np.median(took['photos']):.1f} s"
    report.add(name, over(took["photos"], took["features"]), least=LEAST, note=note)
    return report.end()


if __name__ == "__main__":
    sys.exit(main())
