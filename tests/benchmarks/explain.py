"""How often an expert's map peaks on what was drawn for it: rightly answered generated photos, counted.

python tests/benchmarks/explain.py [--quickstart FOLDER] [--photos N] [--json FILE]

FOLDER is one of `ens quickstart`, which is run first where none is given (minutes). For each expert: how many of its
rightly answered evaluation photos have the map's highest pixel on the drawn cue (`data.drawing.regions`), how many within
half a cell of it (a map cannot tell where in a cell), what share of the photo that is (what a map that knows nothing would
get), and Grad-CAM of each stage alone. Last, all experts together, each counting by its rightly answered photos.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from shared import Report, options

from ensemble_kit.arrays import BoolArray, FloatArray
from ensemble_kit.data.drawing.population import GENDERS, STATES, Person, draw_people
from ensemble_kit.data.drawing.regions import cue_region
from ensemble_kit.explaining.looking import Looker, Wanted
from ensemble_kit.predictions import load_predictions
from ensemble_kit.runs import Run

AGES = ("<30", "30-59", ">=60")
STEMS = [*((f"mask{n}", "worn") for n in range(1, 6)), ("incorrect_mask", "incorrect"), ("normal", "not_worn")]
NEAR = 2
"""Pixels: half a cell of a ResNet's layer1."""
NEARBY = f"within {NEAR} pixels"
TOGETHER = "all together"


@dataclass(frozen=True)
class Drawn:
    """One photo and what was drawn on it."""

    name: str
    person: Person
    state: str
    number: int

    def truth(self, attribute: str) -> str:
        if attribute == "mask":
            return self.state
        if attribute == "gender":
            return GENDERS[self.person.gender]
        return AGES[(self.person.age >= 30) + (self.person.age >= 60)]


def drawn_photos(note: dict[str, int]) -> Iterator[Drawn]:
    """The evaluation photos of a quickstart, from what it was drawn with."""
    for number, person in enumerate(draw_people(note["eval_people"], "training", (note["seed"], 1))):
        for shot, (stem, state) in enumerate(STEMS):
            text = f"{note['seed']}/{note['people'] + number + 1:06d}/{stem}"
            yield Drawn(hashlib.sha256(text.encode()).hexdigest()[:40] + ".jpg", person, state, shot)


def peak_is_on(heat: FloatArray, region: BoolArray) -> bool:
    return bool(region[np.unravel_index(int(np.nanargmax(heat)), heat.shape)])


def count(folder: Path, most: int) -> dict[str, dict[str, float]]:
    """For each expert the number of photos and shares of them."""
    note = json.loads((folder / "photos.json").read_text())
    run = Run.open(folder / "run")
    looker = Looker(run.checkpoints(), run.schema, device="cpu", threads=1)
    near = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * NEAR + 1, 2 * NEAR + 1))
    found: dict[str, dict[str, float]] = {}
    for expert in load_predictions(run.predictions_folder("eval")):
        (attribute,) = expert.names
        state = expert.condition.get("mask", STATES)
        if attribute == "age" and not expert.condition:
            continue  # what tells the age differs by state
        probs = np.mean(expert.probs, axis=0)
        said = dict(zip(expert.ids.tolist(), probs.argmax(axis=1).tolist(), strict=True))
        photos = [one for one in drawn_photos(note) if one.state in state]
        is_right = [expert.classes[said[one.name]][0] == one.truth(attribute) for one in photos]
        right = [one for one, fits in zip(photos, is_right, strict=True) if fits]
        chosen = right[:: max(1, len(right) // most)][:most]
        wanted = [
            Wanted(folder / "photos/eval/images" / one.name, expert.describe(), (attribute,), (one.truth(attribute),))
            for one in chosen
        ]
        rows: dict[str, list[float]] = {}
        for one, looked in zip(chosen, looker.look(wanted, all_stages=True), strict=True):
            assert not isinstance(looked, str), looked
            sides = looked.heat.shape
            region = cue_region(attribute, one.person, one.state, one.number, (sides[0], sides[1]))
            around = cv2.dilate(region.astype(np.uint8), near) > 0
            rows.setdefault("peak on the cue", []).append(peak_is_on(looked.heat, region))
            rows.setdefault(NEARBY, []).append(peak_is_on(looked.heat, around))
            rows.setdefault("by chance", []).append(float(region.mean()))
            rows.setdefault(f"{NEARBY} by chance", []).append(float(around.mean()))
            for stage, heat in looked.stages.items():
                rows.setdefault(f"Grad-CAM {stage}", []).append(peak_is_on(heat, region))
        shares = {name: float(np.mean(values)) for name, values in rows.items()}
        counted = {"photos": len(chosen), "all right": len(right), "right": float(np.mean(is_right))}
        found[expert.describe()] = counted | shares
    return found | {TOGETHER: together(list(found.values()))}


def together(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    """Shares of all rightly answered photos, each expert standing for all of its own by those that were looked at."""
    weights = [row["all right"] for row in rows]
    sums = {name: float(sum(row[name] for row in rows)) for name in ("photos", "all right")}
    return sums | {
        name: float(np.average([row[name] for row in rows], weights=weights)) for name in rows[0] if name not in sums
    }


def main(argv: Sequence[str] | None = None) -> int:
    parser = options(__doc__, 1)
    parser.add_argument("--quickstart", type=Path, help="a folder of ens quickstart")
    parser.add_argument("--photos", type=int, help="of each expert at most; all when left out")
    given = parser.parse_args(argv)
    report = Report(__file__, given)
    with tempfile.TemporaryDirectory() as scratch:
        folder = given.quickstart or Path(scratch) / "quickstart"
        if given.quickstart is None:
            words = ["--people", "30", "--epochs", "1"] if given.quick else []
            command = [sys.executable, "-m", "ensemble_kit", "quickstart", "--out", str(folder), *words]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        found = count(folder, given.photos or (2 if given.quick else 10_000))
    for name, row in found.items():
        shares = ", ".join(
            f"{what} {value:.0%}" for what, value in row.items() if what not in ("photos", "all right", NEARBY)
        )
        note = f"{row['photos']:.0f} photos; {shares}"
        report.add(f"{name}: peaks {NEARBY} of the cue, share", [row[NEARBY]], note=note)
    return report.end()


if __name__ == "__main__":
    sys.exit(main())
