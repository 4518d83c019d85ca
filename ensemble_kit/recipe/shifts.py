"""`ens fit shift`: how the classes' shares differ between labelled photos and those that are to be answered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ensemble_kit.arrays import IdArray, IntArray
from ensemble_kit.errors import DataError, UsageError, nearest
from ensemble_kit.fitted import JOINT, Fitted, as_combine_arguments
from ensemble_kit.graph import Node
from ensemble_kit.predictions import Predictions
from ensemble_kit.recipe.chains import Chains
from ensemble_kit.recipe.fitters import FitOptions
from ensemble_kit.recipe.labelled import Labelled
from ensemble_kit.selection import true_columns
from ensemble_kit.shift import PriorShift, class_prior, fit_shift_for

ATTRIBUTES, EXPERTS = "attributes", "experts"
"""Every node of the graph, its experts taken together; and every expert by itself."""


@dataclass(frozen=True)
class Place:
    """Where one shift is estimated.

    Attributes:
        name: for messages.
        node: None = the joint.
        only: the one expert that is meant; None = all of the node.
        where: the experts that the correction is given to, or "joint".
    """

    name: str
    node: Node | None
    only: str | None
    where: tuple[str, ...]


def fit_shifts(labelled: Labelled, options: FitOptions) -> tuple[list[Fitted], list[str]]:
    """Prior shifts between the labelled and the unlabelled photos, corrected where that is expected to help.

    Voter by voter, as `fit_shift_for` says. A node's experts are taken together: each photo stands with the answer of
    the expert whom its predicted classes ask, in both sets, and the correction is given to all of them. That is right
    where the shares of an attribute shift while each of its classes looks as ever and has as much of each condition.

    Raises:
        UsageError: nothing to compare with, a place that is none, a shift that was fitted before.
        DataError: no place with photos on both sides, experts without a voter in common.
    """
    other = labelled.unlabelled
    if other is None:
        raise UsageError("shift: expected unlabelled photos beside the labelled ones, found none; see read_compared")
    if any(item.kind == "shift" for item in options.fitted):
        raise UsageError("--fitted holds a shift already; two would correct twice, so leave one out")
    notes = _notes(labelled, options)
    adjust = as_combine_arguments(item for item in options.fitted if item.kind == "temperature").get("adjust", {})
    how = (labelled.schema, labelled.graph, labelled.combine, adjust)
    known, new = Chains.of(labelled.experts, *how), Chains.of(other.experts, *how)
    places, more = _places(known, options.on or (ATTRIBUTES,))
    notes += more
    both = labelled.groups is not None and other.groups is not None
    people = (labelled.groups, other.groups) if both else (None, None)
    items: list[Fitted] = []
    for place in places:
        shift = _fit(place, known, new, labelled, people, options)
        if shift is None:
            notes.append(f"{place.name}: no photo is predicted to ask it in one of the two sets, so no shift")
            continue
        items += [Fitted("shift", where, shift) for where in place.where]
    if not items:
        raise DataError(f"shift: nothing to estimate; {notes[-1] if notes else 'no attribute has several classes'}")
    if not any(item.value.applied for item in items):
        notes.append("no correction is applied, so the fitted file changes nothing")
    return items, notes


def _notes(labelled: Labelled, options: FitOptions) -> list[str]:
    notes = []
    others = sorted({item.kind for item in options.fitted if item.kind != "temperature"})
    if others:
        notes.append(f"voters are compared one by one, so {' and '.join(others)} of --fitted took no part")
    assert labelled.unlabelled is not None
    sides = {"labelled": labelled.groups, "unlabelled": labelled.unlabelled.groups}
    unknown = [side for side, groups in sides.items() if groups is None]
    if unknown:
        notes.append(
            f"the people on the {' and the '.join(unknown)} photos are not known, so each photo counts as one and the "
            "intervals are too narrow where people have several"
            + ("; pass --people FILE (ImageID,person)" if "unlabelled" in unknown else "")
        )
    return notes


def _places(chains: Chains, on: Sequence[str]) -> tuple[list[Place], list[str]]:
    """What `--on` means.

    Raises:
        UsageError: no place, the joint beside parts of it, a node whose experts have other classes each.
    """
    if JOINT in on:
        if len(on) > 1:
            raise UsageError(f"--on {' --on '.join(on)}: the joint has its parts' shift already; fit one or the other")
        return [Place(JOINT, None, None, (JOINT,))], []
    nodes = {node.name: node for node in chains.graph.nodes if chains.experts_of(node)}
    owner = {expert.describe(): node for node in nodes.values() for expert in chains.experts_of(node)}
    found: dict[str, Place] = {}
    notes = []
    for word in on:
        if word == EXPERTS:
            found |= {name: Place(name, node, name, (name,)) for name, node in owner.items()}
        elif word == ATTRIBUTES:
            for name, node in nodes.items():
                if _have_other_classes(chains, node):
                    notes.append(f'{name}: its experts have other classes each; "--on experts" fits them one by one')
                else:
                    found[name] = _of_node(chains, node)
        elif word in nodes:
            if _have_other_classes(chains, nodes[word]):
                raise UsageError(f'--on "{word}": its experts have other classes each; fit them with --on experts')
            found[word] = _of_node(chains, nodes[word])
        elif word in owner:
            found[word] = Place(word, owner[word], word, (word,))
        else:
            known = [JOINT, ATTRIBUTES, EXPERTS, *nodes, *owner]
            raise UsageError(f'--on "{word}" is no node and no expert{nearest(word, known)}')
    return list(found.values()), notes


def _of_node(chains: Chains, node: Node) -> Place:
    return Place(node.name, node, None, tuple(expert.describe() for expert in chains.experts_of(node)))


def _have_other_classes(chains: Chains, node: Node) -> bool:
    return len({expert.classes for expert in chains.experts_of(node)}) > 1


def _fit(
    place: Place,
    known: Chains,
    new: Chains,
    labelled: Labelled,
    people: tuple[IdArray | None, IdArray | None],
    options: FitOptions,
) -> PriorShift | None:
    """None where one side has no photo."""
    if place.node is None:
        beside, asked = (side.joint(labelled.combine["route"]) for side in (known, new))
    else:
        beside, asked = (side.at(place.node, place.only) for side in (known, new))
    true = true_columns(beside, labelled.schema, labelled.true_joint)
    told, n_known, n_new = _prior_rows(beside, true), _n_photos(beside), _n_photos(asked)
    if not len(told) or not n_new:
        return None
    shift = fit_shift_for(
        asked,
        beside,
        true,
        groups=people[1],
        oof_groups=people[0],
        training_prior=class_prior(told, len(beside.classes)),
        **options.given("metric"),
    )
    return replace(shift, n_photos=n_new, n_reference_photos=n_known)


def _prior_rows(predictions: Predictions, true: IntArray) -> IntArray:
    """The true class of every row that a voter was asked about, voter after voter."""
    return np.concatenate([true[np.isfinite(layer[:, 0]) & (true >= 0)] for layer in predictions.layers])


def _n_photos(predictions: Predictions) -> int:
    asked = np.zeros(predictions.n_samples, dtype=np.bool_)
    for layer in predictions.layers:
        asked |= np.isfinite(layer[:, 0])
    return int(asked.sum())
