"""How often an expert's map peaks on what was drawn for it: rightly answered generated photos, counted.

python tests/benchmarks/explain.py QUICKSTART [PHOTOS]

QUICKSTART is a folder of `ens quickstart`. For each expert: how many of its rightly answered evaluation photos have the
map's highest pixel on the drawn cue (`data.drawing.regions`), how many within half a cell of it, what share of the photo
the cue takes (what a map that knows nothing would get), and the same for Grad-CAM of each stage alone.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

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
            rows.setdefault("within 2 pixels", []).append(peak_is_on(looked.heat, around))
            rows.setdefault("by chance", []).append(float(region.mean()))
            for stage, heat in looked.stages.items():
                rows.setdefault(f"Grad-CAM {stage}", []).append(peak_is_on(heat, region))
        shares = {name: float(np.mean(values)) for name, values in rows.items()}
        found[expert.describe()] = {"photos": len(chosen), "right": float(np.mean(is_right))} | shares
    return found


if __name__ == "__main__":
    for name, row in count(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 10_000).items():
        numbers = ", ".join(f"{what} {value:.0%}" for what, value in row.items() if what != "photos")
        print(f"{name}: {row['photos']:.0f} photos; {numbers}", flush=True)
