"""What a gallery tells of each photo: from an ensemble's votes and routes, and the truth where it is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ensemble_kit.arrays import BoolArray, FloatArray, IdArray, IntArray
from ensemble_kit.combined import Combined
from ensemble_kit.coverage import rows_of
from ensemble_kit.decisions import Decide
from ensemble_kit.ensemble import ConditionalEnsemble
from ensemble_kit.gallery.causes import Asked, questions
from ensemble_kit.ids import match_ids
from ensemble_kit.predictions import Predictions
from ensemble_kit.schema import Schema


@dataclass(frozen=True, eq=False)
class Voice:
    """One expert: what each of its checkpoints says of each photo, and what they say together.

    Attributes:
        number: the expert's, in the ensemble.
        node: the question that it answers; "" = none of this structure.
        attributes: what it predicts.
        probs: one `(n_photos, n_classes)` a checkpoint.
        voted: `(n_photos, n_classes)`; of an expert that is not used the mean.
        asked: `(n_photos,)` whether the route asked it.
    """

    number: int
    name: str
    node: str
    attributes: tuple[str, ...]
    classes: tuple[str, ...]
    voters: tuple[str, ...]
    probs: tuple[FloatArray, ...]
    voted: FloatArray
    asked: BoolArray


@dataclass(frozen=True, eq=False)
class Way:
    """The route of one node: the belief over its states, and what the gate kept of it; `(n_photos, n_states)`."""

    node: str
    states: tuple[str, ...]
    experts: tuple[str, ...]
    belief: FloatArray
    gate: FloatArray


@dataclass(frozen=True, eq=False)
class GalleryFacts:
    """Everything that is known of the photos of a gallery.

    Attributes:
        schema: the attributes.
        said: `(n_photos,)` joint class answered, -1 = none.
        truth: `(n_photos,)` joint class, -1 = not known; None where no truth is.
        joint: `(n_photos, n_joint)` probabilities.
        reasons: `(n_photos,)` as `Combined.to_frame()` has them.
        asked: the nodes.
        measured: attribute -> `(n_photos,)` the number that its class was made from, NaN = not known.
        folds: `(n_photos,)` the fold that held each photo out; None where none did.
    """

    schema: Schema
    ids: IdArray
    said: IntArray
    truth: IntArray | None
    joint: FloatArray
    reasons: tuple[str, ...]
    asked: tuple[Asked, ...]
    voices: tuple[Voice, ...]
    ways: tuple[Way, ...]
    experts: Mapping[int, Predictions]
    voted: Mapping[int, FloatArray]
    people: IdArray | None = None
    measured: Mapping[str, FloatArray] = field(default_factory=dict)
    folds: IntArray | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def wrong(self) -> BoolArray:
        """`(n_photos,)`: answered, and not the truth. Nothing where no truth is known."""
        if self.truth is None:
            return np.zeros(len(self), dtype=np.bool_)
        return np.asarray((self.said >= 0) & (self.truth >= 0) & (self.said != self.truth))

    @property
    def sure(self) -> FloatArray:
        """`(n_photos,)` probability of the joint class answered; NaN where nothing is."""
        rows = np.arange(len(self))
        return np.where(self.said < 0, np.nan, self.joint[rows, np.maximum(self.said, 0)].astype(np.float64))


def gallery_facts(
    ensemble: ConditionalEnsemble,
    *,
    truth: IntArray | None = None,
    people: IdArray | None = None,
    measured: Mapping[str, FloatArray] | None = None,
    folds: IntArray | None = None,
    decide: Decide = "joint",
    **options: Any,
) -> GalleryFacts:
    """Combines, and gathers what is known of each photo.

    Args:
        truth: `(n_photos,)` joint classes in the order of `ensemble.ids`, -1 = not known.
        people: `(n_photos,)`.
        measured: attribute with borders -> `(n_photos,)` the numbers behind its classes; left out where these are no
            finer than the classes.
        folds: `(n_photos,)`.
        decide: as `Combined.labels` takes it.
        options: route, vote, vote_at, weights, adjust, as `ConditionalEnsemble.combine` takes them.

    Raises:
        UsageError, DataError: as `combine`; a photo without a prediction has no answer.
    """
    schema, route = ensemble.schema, options.pop("route", "soft")
    combined = ensemble.combine(route=route, missing="abstain", **options)
    soft = combined if route == "soft" else ensemble.combine(route="soft", missing="abstain", **options)
    at_joint = options.get("vote_at", "expert") == "joint"
    votes: dict[str, Any] = {key: options[key] for key in ("vote", "voters", "weights", "adjust") if key in options}
    voted = ensemble.voted(**({"voters": options.get("voters")} if at_joint else votes))
    experts = {number: _in_order(ensemble.experts[number], ensemble.ids) for number in ensemble.plan.used}
    said = combined.labels(decide)
    asked = tuple(questions(schema, ensemble.plan.steps, said, truth))
    return GalleryFacts(
        schema=schema,
        ids=ensemble.ids,
        said=said,
        truth=truth,
        joint=np.asarray(combined.joint.layers[0]),
        reasons=tuple(combined.trace.reasons().tolist()),
        asked=asked,
        voices=(*_voices(combined, asked, experts, voted), *_others(ensemble)),
        ways=tuple(_ways(combined, np.asarray(soft.joint.layers[0]), asked, experts)),
        experts=experts,
        voted=voted,
        people=people,
        measured={name: values for name, values in (measured or {}).items() if is_finer(values, schema, name)},
        folds=folds,
    )


def is_finer(values: FloatArray, schema: Schema, attribute: str) -> bool:
    """Whether numbers say more than the classes made from them do."""
    known = np.asarray(values)[np.isfinite(values)]
    return schema[attribute].borders is not None and len(np.unique(known)) > len(schema[attribute].classes)


def _in_order(expert: Predictions, ids: IdArray) -> Predictions:
    rows = match_ids(expert.ids, ids, expert.describe())
    return expert if rows is None else expert.select(rows)


def _voices(
    combined: Combined, asked: Sequence[Asked], experts: Mapping[int, Predictions], voted: Mapping[int, FloatArray]
) -> list[Voice]:
    numbers, rows = list(combined.trace.experts), combined.trace.asked()
    return [
        _voice(who, experts[who], one.node.name, voted[who], rows[:, numbers.index(who)])
        for one in asked
        for who in dict.fromkeys(one.expert_of_state[one.expert_of_state >= 0].tolist())
    ]


def _others(ensemble: ConditionalEnsemble) -> list[Voice]:
    """The experts that this structure does not use, where they have seen the same photos: the pooled one, say."""
    found = []
    for who in ensemble.plan.unused:
        expert = ensemble.experts[who]
        if set(expert.ids.tolist()) == set(ensemble.ids.tolist()):
            own = _in_order(expert, ensemble.ids)
            layers = [np.asarray(layer, dtype=np.float64) for layer in own.layers]
            mean = sum(layers[1:], layers[0]) / len(layers)
            found.append(_voice(who, own, "", mean, np.zeros(len(ensemble.ids), dtype=np.bool_)))
    return found


def _voice(number: int, expert: Predictions, node: str, voted: FloatArray, asked: BoolArray) -> Voice:
    return Voice(
        number=number,
        name=expert.describe(),
        node=node,
        attributes=expert.names,
        classes=tuple(" / ".join(row) for row in expert.classes),
        voters=expert.voters,
        probs=tuple(np.asarray(layer) for layer in expert.layers),
        voted=voted,
        asked=asked,
    )


def _ways(
    combined: Combined, soft: FloatArray, asked: Sequence[Asked], experts: Mapping[int, Predictions]
) -> list[Way]:
    """The belief is that of the soft chain: the joint added up over the joint classes of each state."""
    found = []
    for one in asked:
        if one.node.parents:
            of_joint = rows_of(combined.schema, one.node.parents)[1]
            belief = np.zeros((len(soft), len(one.states)))
            for column, state in enumerate(of_joint.tolist()):
                belief[:, state] += soft[:, column]
            names = tuple("" if n < 0 else experts[n].describe() for n in one.expert_of_state.tolist())
            found.append(Way(one.node.name, one.states, names, belief, combined.gates[one.node]))
    return found
