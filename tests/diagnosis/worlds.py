"""Generated predictions for the diagnosis: people with several photos, whose errors go together."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensemble_kit.arrays import FloatArray, IdArray, IntArray
from ensemble_kit.diagnosis import Diagnosis, diagnose
from ensemble_kit.graph import Graph
from ensemble_kit.predictions import Predictions
from ensemble_kit.schema import Attribute, Schema

MASK = Attribute("mask", ["worn", "incorrect", "not_worn"])
AGE = Attribute("age", ["<30", "30-59", ">=60"], borders=[30, 60])
SCHEMA = Schema(MASK, AGE)
GRAPH = Graph({"mask": [], "age": ["mask"]})


@dataclass
class World:
    """Everything that `diagnose` takes."""

    experts: list[Predictions]
    truth: IntArray
    ids: IdArray
    groups: IdArray | None
    schema: Schema = SCHEMA
    graph: Graph = GRAPH
    call: dict[str, Any] = field(default_factory=lambda: {"n_boot": 50, "seed": 1})

    def diagnose(self, **changes: Any) -> Diagnosis:
        wanted = {"groups": self.groups} | self.call | changes
        return diagnose(self.experts, self.schema, self.graph, self.truth, self.ids, **wanted)


def softmax(logits: NDArray[np.float64]) -> FloatArray:
    grown = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(grown / grown.sum(axis=-1, keepdims=True))


def answers(
    rng: np.random.Generator,
    true: IntArray,
    n_classes: int,
    strength: NDArray[np.float64] | float,
    person: IntArray,
    n_voters: int = 1,
) -> FloatArray:
    """`(n_voters, n_samples, n_classes)`: half of the noise is the person's own, the same on each photo."""
    noise = rng.normal(size=(n_voters, len(true), n_classes))
    own = rng.normal(size=(int(person.max()) + 1, n_classes))[person]
    push = np.broadcast_to(strength, (len(true),))[:, None] * np.eye(n_classes)[true]
    return softmax(push + noise + own)


def face_world(
    seed: int,
    *,
    n_people: int = 80,
    special: tuple[float, float, float] = (2.0, 2.0, 2.0),
    pooled: float = 1.0,
    router: float = 6.0,
    photos: tuple[int, int, int] = (3, 2, 2),
    n_voters: int = 1,
    elsewhere: float = 0.5,
) -> World:
    """Mask, specialised and pooled age experts; a strength is how far the true class stands out of noise of 1.4.

    Args:
        special: the specialised experts' strength on their own state; `elsewhere` that on the others.
        photos: of each person, by mask state; the age is the person's.
    """
    rng = np.random.default_rng(seed)
    mask = np.tile(np.repeat(np.arange(3), photos), n_people)
    person = np.repeat(np.arange(n_people), sum(photos))
    age = rng.choice(3, size=n_people, p=[0.45, 0.35, 0.2])[person]
    ids = np.array([f"{number:05d}.jpg" for number in range(len(mask))])
    voters = [f"fold{number}" for number in range(n_voters)]

    def expert(what: Attribute, true: IntArray, strength: Any, condition: dict[str, str] | None = None) -> Predictions:
        probs = answers(rng, true, 3, strength, person, n_voters)
        return Predictions(what, probs, ids, condition, voters=voters)

    experts = [expert(MASK, mask, router), expert(AGE, age, pooled)]
    for number, name in enumerate(MASK.classes):
        strength = np.where(mask == number, special[number], elsewhere)
        experts.append(expert(AGE, age, strength, {"mask": name}))
    truth = SCHEMA.encode({"mask": mask, "age": age})
    return World(experts, truth, ids, np.array([f"p{number}" for number in person]))
