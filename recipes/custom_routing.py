"""A routing rule of your own, in plain Python.

    python recipes/custom_routing.py RUN/predictions/eval

Takes saved predictions (`ens predict`, `ens run` and `ens quickstart` write them), or without an argument four photos
made up below. No model is run, and torch is not needed.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

import ensemble_kit as ek


def sure_or_weighted(belief: ek.FloatArray) -> ek.FloatArray:
    """Sure of the mask (0.9 or more): one age expert answers. Else all do, weighted by the belief.

    `belief` is (n_samples, n_states): P(worn), P(incorrect), P(not_worn). A gate of the same shape comes back.
    """
    sure = belief.max(axis=1, keepdims=True) >= 0.9
    return np.where(sure, ek.route_hard(belief), belief)


def made_up() -> tuple[ek.Schema, list[ek.Predictions]]:
    """Four photos: two plainly worn, one plainly not, and one that hangs between worn and incorrect."""
    mask = ek.Attribute("mask", ["worn", "incorrect", "not_worn"])
    age = ek.Attribute("age", ["<30", "30-59", ">=60"], borders=[30, 60])
    ids = ["a", "b", "c", "d"]
    experts = [
        ek.Predictions(
            mask, np.array([[0.97, 0.02, 0.01], [0.95, 0.03, 0.02], [0.0, 0.05, 0.95], [0.5, 0.48, 0.02]]), ids
        )
    ]
    for state, row in [("worn", [0.7, 0.2, 0.1]), ("incorrect", [0.05, 0.15, 0.8]), ("not_worn", [0.2, 0.6, 0.2])]:
        experts.append(ek.Predictions(age, np.tile(row, (4, 1)), ids, condition={"mask": state}))
    return ek.Schema(mask, age), experts


def main() -> None:
    if len(sys.argv) > 1:
        folder = Path(sys.argv[1])
        schema, experts = ek.read_prediction_schema(folder), ek.load_predictions(folder)
    else:
        schema, experts = made_up()
    graph = ek.Graph({name: ["mask"] if name == "age" else [] for name in schema.names})
    ensemble = ek.ConditionalEnsemble(schema, graph, experts)
    print(ensemble.describe())
    hard = ensemble.combine(route="hard").joint.labels()
    soft = ensemble.combine(route="soft").joint.labels()
    own = ensemble.combine(route=sure_or_weighted)
    labels = own.joint.labels()
    print(f"photos: {len(labels)}")
    print(f"own rule against hard: {np.sum(labels != hard)} differ; against soft: {np.sum(labels != soft)} differ")
    for name, count in own.counts.items():
        print(f"{name}: {count} photos")


if __name__ == "__main__":
    try:
        main()
    except ek.EnsembleKitError as error:
        sys.exit(f"error: {error}")
