"""`ens fit borders`: where the finer columns of a measured attribute are cut into its classes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ensemble_kit.arrays import FloatArray
from ensemble_kit.conditions import under_condition
from ensemble_kit.cutting import choose_borders
from ensemble_kit.errors import DataError, UsageError
from ensemble_kit.fitted import Fitted
from ensemble_kit.predictions import Predictions

if TYPE_CHECKING:
    from ensemble_kit.recipe.fitters import FitOptions
    from ensemble_kit.recipe.labelled import Labelled


def fit_borders(labelled: Labelled, options: FitOptions) -> tuple[list[Fitted], list[str]]:
    """Borders for each measured attribute whose experts have finer columns, or for those named in `on`.

    Each photo is answered by the expert of its true state, the soft vote of its voters, and scored by the attribute's
    classes.

    Raises:
        UsageError: an attribute without borders or finer columns, or none that has them.
        DataError: experts of one attribute with other columns, too few people.
    """
    measured = [a.name for a in labelled.schema.attributes if a.borders is not None]
    named = list(options.on) or [name for name in measured if _experts(labelled, name)]
    if not named:
        raise UsageError(
            'borders: no expert has columns finer than its classes; train with columns = "years" or "bins=11"'
        )
    items, notes = [], []
    for name in named:
        borders = labelled.schema[name].borders
        experts = _experts(labelled, name)
        if borders is None or not experts:
            raise UsageError(f"borders: no expert of {name} has columns finer than its classes, between numbers")
        probs, edges = _answers(labelled, experts)
        truth = labelled.schema.decode(labelled.true_joint)[name]
        truth = np.where(np.isfinite(probs).all(axis=1), truth, -1)
        chosen = options.given("metric", "n_folds")
        cut = choose_borders(probs, truth, edges, borders, groups=labelled.groups, where=name, **chosen)
        items.append(Fitted("borders", name, cut))
        without = int((truth < 0).sum())
        notes += [f"{name}: {without} photos are of a state without an expert"] if without else []
    return items, notes


def _experts(labelled: Labelled, name: str) -> list[Predictions]:
    """The experts of the attribute alone that have finer columns and that the graph asks: pooled ones come first."""
    node = labelled.graph.node_of((name,))
    asks_state = node is not None and bool(node.parents)
    found = [e for e in labelled.experts if e.names == (name,) and e.fine is not None and e.fine.edges is not None]
    return sorted((e for e in found if asks_state or not e.condition), key=lambda e: len(e.condition))


def _answers(labelled: Labelled, experts: list[Predictions]) -> tuple[FloatArray, tuple[float, ...]]:
    """`(n_samples, n_columns)`, NaN where no expert answers; and the edges between the columns."""
    fine = experts[0].fine
    assert fine is not None, "chosen by it"
    assert fine.edges is not None, "chosen by it"
    truth = labelled.schema.decode(labelled.true_joint)
    probs = np.full((len(labelled.true_joint), len(fine.edges) + 1), np.nan)
    for expert in experts:
        if expert.fine != fine:
            raise DataError(
                f"borders: {experts[0].describe()} and {expert.describe()} have other columns; train both alike"
            )
        inside = under_condition(expert.condition, labelled.schema, truth)
        layers = [np.asarray(layer, dtype=np.float64)[inside] for layer in expert.layers]
        probs[inside] = sum(layers[1:], layers[0]) / len(layers)
    return probs, fine.edges
