"""A small gallery of drawn photos, and what a loop over its photos says of each one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from core_oracles import FACE_GRAPH, face_experts, face_schema

from ensemble_kit.arrays import IntArray
from ensemble_kit.ensemble import ConditionalEnsemble
from ensemble_kit.gallery import GalleryFacts, Place, gallery_facts
from ensemble_kit.predictions import Predictions

VOTERS = ("fold0", "fold1", "fold2")


@dataclass(frozen=True)
class Case:
    experts: list[Predictions]
    facts: GalleryFacts
    truth: IntArray


def face_case(seed: int = 0, n_photos: int = 60, voters: tuple[str, ...] = VOTERS, **options: Any) -> Case:
    """Random experts, a random truth, ages behind the classes, two people a photo."""
    random, schema = np.random.default_rng(seed), face_schema()
    experts = face_experts(seed, n_photos, voters, pooled=True)
    truth = random.integers(0, schema.n_joint, n_photos)
    low = np.array([18, 30, 60])[schema.decode(truth)["age"]]
    ages = (low + random.integers(0, 12, n_photos)).astype(np.float64)
    told: dict[str, Any] = {
        "truth": truth,
        "people": np.array([f"person {number // 2}" for number in range(n_photos)]),
        "measured": {"age": ages},
        "route": "hard",
    }
    facts = gallery_facts(ConditionalEnsemble(schema, FACE_GRAPH, experts), **{**told, **options})
    return Case(experts, facts, truth)


def means_of(case: Case) -> dict[str, Any]:
    """Each expert's mean over its voters, by its name, worked out voter by voter."""
    return {
        expert.describe(): np.mean([np.asarray(layer, dtype=np.float64) for layer in expert.layers], axis=0)
        for expert in case.experts
    }


def draw_places(folder: Path, n_photos: int, missing: int | None = None, damaged: int | None = None) -> list[Place]:
    """Photos of 24 x 32 pixels, each of a colour of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    places = []
    for number in range(n_photos):
        path = folder / f"photo-{number}.jpg"
        photo = np.full((32, 24, 3), (number * 37 % 256, number * 91 % 256, 90), dtype=np.uint8)
        if number != missing:
            cv2.imwrite(str(path), photo)
        if number == damaged:
            path.write_bytes(path.read_bytes()[:200])
        places.append(Place(path))
    return places
