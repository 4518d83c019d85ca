"""Tables of plain features with a structure planted in them, or none.

Every attribute has four features of its own, two pairs that show its class as a direction: class k of K points at
angle 2 pi k / K. Where a structure is planted, the second pair's directions are turned by 2 pi g / G in the g-th of the
G groups of the parent's classes, so that what these two features say of the child depends on the parent's group, and on
nothing else. Given the group the classes are Gaussians of one spread: logistic regression is the right model there, and
a wrong one across groups. The samples of one person share an offset of the features.

An attribute that nothing conditions and that conditions others is seen more clearly, as a mask is: of a parent that is
in doubt the children's features say something too, which no expert of the parent alone can use, and the flat structure
is truly better. And what shows a child whatever its parent is weak: where it is strong, turning the edge round gives a
structure that is as good (P(m) P(a | m) = P(a) P(m | a)), and no score can tell which one was planted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensemble_kit.schema import Attribute, Schema

Grouping = tuple[tuple[str, ...], ...]
CLASSES: Mapping[str, tuple[str, ...]] = {
    "mask": ("worn", "incorrect", "not_worn"),
    "gender": ("male", "female"),
    "age": ("<30", "30-59", ">=60"),
}
GROUPINGS: Mapping[str, tuple[Grouping, ...]] = {
    "mask": (
        (("worn",), ("incorrect", "not_worn")),
        (("worn", "incorrect"), ("not_worn",)),
        (("worn", "not_worn"), ("incorrect",)),
        (("worn",), ("incorrect",), ("not_worn",)),
    ),
    "gender": ((("male",), ("female",)),),
    "age": (
        (("<30",), ("30-59", ">=60")),
        (("<30", "30-59"), (">=60",)),
        (("<30", ">=60"), ("30-59",)),
        (("<30",), ("30-59",), (">=60",)),
    ),
}

SCHEMA = Schema(*(Attribute(name, classes) for name, classes in CLASSES.items()))
N_PEOPLE, N_EACH = 150, 4
PLAIN, PARENT, TURNED, OFFSET = 0.5, 2.0, 2.0, 0.5
"""Distance of a class from the middle, in spreads of the noise: by the first pair, by that of a root, and by the
second pair; spread of the people's offsets."""


@dataclass(frozen=True)
class Table:
    """`planted`: child -> (parent, grouping)."""

    features: NDArray[np.float64]
    numbers: Mapping[str, NDArray[np.int64]]
    people: NDArray[np.int64]
    planted: Mapping[str, tuple[str, Grouping]]

    @property
    def structure(self) -> dict[str, set[tuple[str, frozenset[str]]]]:
        """Child -> its parent and the classes of each of its experts."""
        return {
            child: {(parent, frozenset(group)) for group in grouping}
            for child, (parent, grouping) in self.planted.items()
        }


def structure_of(conditions: Mapping[str, Sequence[Mapping[str, Sequence[str]]]]) -> dict[str, set[Any]]:
    """The same of what was found: nodes with conditions alone, each condition's parents and classes."""
    return {
        node: {(" and ".join(c), *(frozenset(classes) for classes in c.values())) for c in own}
        for node, own in conditions.items()
        if any(own)
    }


def random_plant(random: np.random.Generator) -> dict[str, tuple[str, Grouping]]:
    """One edge, a fork, two edges that meet nowhere else, or a chain: each child with one parent, grouped at random."""
    names = list(CLASSES)
    order = [names[i] for i in random.permutation(len(names))]
    parents = {order[1]: order[0]}
    if random.random() < 0.5:
        parents[order[2]] = order[int(random.integers(2))]
    return {
        child: (parent, GROUPINGS[parent][int(random.integers(len(GROUPINGS[parent])))])
        for child, parent in parents.items()
    }


def make_table(seed: int, planted: Mapping[str, tuple[str, Grouping]] | None = None) -> Table:
    """A table with something planted at random, or with what is given ({} = nothing)."""
    random = np.random.default_rng(seed)
    plant = random_plant(random) if planted is None else dict(planted)
    people = np.repeat(np.arange(N_PEOPLE), N_EACH)
    numbers = {name: random.integers(len(classes), size=len(people)) for name, classes in CLASSES.items()}
    parts = []
    for name, classes in CLASSES.items():
        angle = 2 * np.pi * numbers[name] / len(classes)
        is_root = name not in plant and any(name == parent for parent, _ in plant.values())
        plain = PARENT if is_root else PLAIN
        parts.append(plain * np.stack([np.cos(angle), np.sin(angle)], axis=1))
        if name in plant:
            parent, grouping = plant[name]
            group = [next(g for g, own in enumerate(grouping) if c in own) for c in CLASSES[parent]]
            angle = angle + 2 * np.pi * np.array(group)[numbers[parent]] / len(grouping)
        parts.append(TURNED * np.stack([np.cos(angle), np.sin(angle)], axis=1))
    means = np.concatenate(parts, axis=1)
    offsets = OFFSET * random.normal(size=(N_PEOPLE, means.shape[1]))[people]
    return Table(means + offsets + random.normal(size=means.shape), numbers, people, plant)
