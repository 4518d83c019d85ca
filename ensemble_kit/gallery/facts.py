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
from ensemble_kit.gallery.board import Board, Facet, Line, Order, Span, packed, packed_probs
from ensemble_kit.gallery.causes import (
    Asked,
    close_calls,
    columns_of,
    disagreement,
    questions,
    voting_signs,
    why_wrong,
)
from ensemble_kit.ids import match_ids
from ensemble_kit.predictions import Predictions
from ensemble_kit.schema import NEAR_BORDER, Schema, near_border

SHOWN_CLASSES = 12
"""Classes of an expert that a photo's details show: the most probable ones, the answer and the truth among them."""
SHOWN_JOINT = 5
MANY_EXPERTS = 12
"""Where there are more experts, a photo's details hold those alone that had a say in it."""
LEAST_SAY = 0.01
"""The least share of a gate that counts as a say."""
LEGEND = "Under each photo: the probability of the joint class answered; the wrong answer, struck out, and the truth."
UNSURE = 0.9
"""A route whose belief is below this is called unsure."""


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


def gallery_board(facts: GalleryFacts) -> Board:
    """The filters and orders of a gallery: what is wrong first, the most confident of it on top.

    Without a truth: the least confident answers first.
    """
    schema, has_truth = facts.schema, facts.truth is not None
    said = schema.decode(facts.said)
    true = None if facts.truth is None else schema.decode(facts.truth)
    facets: list[Facet] = [_verdict(facts)]
    if true is not None:
        facets.append(_what_is_wrong(schema, said, true))
    facets += _tag_facets(facts)
    for attribute in schema.attributes:
        name, classes = attribute.name, attribute.classes
        if true is not None:
            facets.append(Facet(f"true_{name}", f"{name}: true", classes, true[name]))
        facets.append(Facet(f"said_{name}", f"{name}: answered" if has_truth else name, classes, said[name]))
    facets += _route_facets(facts)
    spans = [
        Span(f"value_{name}", name, values, about=f"The number behind the class of {name}.")
        for name, values in facts.measured.items()
    ]
    spans.append(Span("sure", "Confidence", facts.sure, 0.01, "The probability of the joint class answered."))
    columns = ("truth", "answer") if has_truth else ("answer",)
    return Board(
        ids=facts.ids,
        facets=tuple(facets),
        spans=tuple(spans),
        orders=tuple(_orders(facts)),
        columns=columns,
        lines=tuple(_lines(facts, said, true)),
        start={"answer": ("wrong",)} if facts.wrong.any() else {},
        people=facts.people,
        sure=facts.sure,
        probs_are="Beside each class: its probability by the expert that decided the attribute, after the vote.",
        legend=LEGEND if has_truth else "Under each photo: the probability of the joint class answered; the answer.",
    )


def _verdict(facts: GalleryFacts) -> Facet:
    if facts.truth is None:
        return Facet("answer", "Answer", ("answered", "abstained"), np.where(facts.said < 0, 1, 0).astype(np.int64))
    known = np.where(facts.said == facts.truth, 1, 0)
    numbers = np.where(facts.said < 0, 2, np.where(facts.truth < 0, 3, known))
    return Facet("answer", "Answer", ("wrong", "right", "abstained", "truth not known"), numbers.astype(np.int64))


def _what_is_wrong(schema: Schema, said: Mapping[str, IntArray], true: Mapping[str, IntArray]) -> Facet:
    names = schema.names
    wrong = np.stack([(said[n] != true[n]) & (said[n] >= 0) & (true[n] >= 0) for n in names], axis=1)
    only = np.stack([wrong[:, i] & (wrong.sum(axis=1) == 1) for i in range(len(names))], axis=1)
    titles = tuple(f"only {name}" for name in names)
    about = "The attributes that are wrong; a photo may have several."
    if len(names) < 3:
        return Facet("wrong", "What is wrong", names, wrong, about)
    return Facet("wrong", "What is wrong", (*names, *titles), np.hstack([wrong, only]), about)


def _tag_facets(facts: GalleryFacts) -> list[Facet]:
    """Why answers are wrong, and the signs of doubt; tags that no photo has are left out."""
    causes: dict[str, BoolArray] = {}
    signs: dict[str, BoolArray] = {}
    for one in facts.asked:
        if one.true is not None:
            causes |= dict(why_wrong(one, facts.experts, facts.voted))
        signs |= dict(voting_signs(one, facts.experts))
    for way in facts.ways:
        sure = way.belief.max(axis=1)
        signs[f"{way.node}: route unsure (below {UNSURE:g})"] = (sure < UNSURE) & (facts.said >= 0)
    signs["two answers within 0.1"] = close_calls(facts.joint) & (facts.said >= 0)
    for name, values in facts.measured.items():
        borders = facts.schema[name].borders
        assert borders is not None
        signs[f"{name}: another class if off by {NEAR_BORDER}"] = near_border(values, borders)
    about = "Where a wrong answer came from: a photo may have several reasons, one a question."
    found = [_tags("reason", "Reason", causes, about), _tags("sign", "Signs of doubt", signs, "")]
    return [facet for facet in found if facet.names]


def _tags(key: str, title: str, tags: Mapping[str, BoolArray], about: str) -> Facet:
    kept = {name: has for name, has in tags.items() if has.any()}
    values = np.stack(list(kept.values()), axis=1) if kept else np.zeros((0, 0), dtype=np.bool_)
    return Facet(key, title, tuple(kept), values, about)


def _route_facets(facts: GalleryFacts) -> list[Facet]:
    """The expert that decided each conditioned node, how the route went in words, and the fold that held it out."""
    found = []
    for one in facts.asked:
        if one.node.parents:
            numbers = list(dict.fromkeys(one.expert_of_state[one.expert_of_state >= 0].tolist()))
            place = {who: i for i, who in enumerate(numbers)}
            values = np.array([place.get(who, -1) for who in one.expert.tolist()], dtype=np.int64)
            names = tuple(facts.experts[who].describe() for who in numbers)
            about = "The expert whose state the answer is in."
            found.append(Facet(f"route_{one.node.name}", f"Route of {one.node.name}", names, values, about))
    texts = tuple(dict.fromkeys(facts.reasons))
    number = {text: i for i, text in enumerate(texts)}
    values = np.array([number[text] for text in facts.reasons], dtype=np.int64)
    found.append(Facet("routing", "How it was routed", texts, values))
    if facts.folds is not None:
        known = np.unique(facts.folds[facts.folds >= 0])
        names = tuple(f"fold {number}" for number in known.tolist())
        values = np.where(facts.folds < 0, -1, np.searchsorted(known, facts.folds)).astype(np.int64)
        found.append(Facet("fold", "Held out by", names, values))
    return found


def _orders(facts: GalleryFacts) -> list[Order]:
    sure = facts.sure
    most = Order.by("sure", "most confident first", sure, falling=True)
    least = Order.by("unsure", "least confident first", sure)
    apart = np.max([disagreement(one, facts.experts) for one in facts.asked], axis=0)
    split = Order.by("split", "checkpoints disagree most first", apart, falling=True)
    by_id = Order("id", "by name", np.argsort(facts.ids, kind="stable").astype(np.int64))
    several = [split] if any(len(voice.voters) > 1 for voice in facts.voices) else []
    if facts.truth is None:
        return [least, *several, most, by_id]
    rows = np.arange(len(facts))
    of_truth = np.where(facts.truth < 0, np.nan, facts.joint[rows, np.maximum(facts.truth, 0)].astype(np.float64))
    return [most, least, Order.by("truth", "truth least probable first", of_truth), *several, by_id]


def _lines(facts: GalleryFacts, said: Mapping[str, IntArray], true: Mapping[str, IntArray] | None) -> list[Line]:
    """The classes of each attribute, with what the expert that decided it gives them."""
    by_name = {}
    for one in facts.asked:
        for name in one.node.attributes:
            by_name[name] = _attribute_probs(facts, one, name, said[name])
    found = []
    for attribute in facts.schema.attributes:
        name = attribute.name
        own = _picked(by_name[name], said[name])
        if true is None:
            found.append(Line(name, (f"said_{name}",), (own,)))
        else:
            found.append(Line(name, (f"true_{name}", f"said_{name}"), (_picked(by_name[name], true[name]), own)))
    return found


def _attribute_probs(facts: GalleryFacts, one: Asked, name: str, said: IntArray) -> FloatArray:
    """`(n_photos, n_classes)` of one attribute by the expert that decided; where none was needed, the one class."""
    attribute = facts.schema[name]
    probs = np.zeros((len(facts), len(attribute.classes)))
    alone = np.flatnonzero((one.expert < 0) & (said >= 0))
    probs[alone, said[alone]] = 1
    for who in np.unique(one.expert[one.expert >= 0]).tolist():
        rows, expert = np.flatnonzero(one.expert == who), facts.experts[who]
        place = expert.names.index(name)
        for column, classes in enumerate(expert.classes):
            probs[rows, attribute.index(classes[place])] += facts.voted[who][rows, column]
    return probs


def _picked(probs: FloatArray, numbers: IntArray) -> FloatArray:
    rows = np.arange(len(probs))
    return np.where(numbers < 0, np.nan, probs[rows, np.maximum(numbers, 0)])


def gallery_details(facts: GalleryFacts, rows: IntArray) -> dict[str, Any]:
    """What a click on a photo shows, of some of the photos: every expert, every checkpoint, the belief, the joint."""
    names = facts.schema.joint_names()
    shown = min(SHOWN_JOINT, len(names))
    joint = facts.joint[rows]
    top = np.argsort(-joint, axis=1, kind="stable")[:, :shown]
    used = sorted(set(top.ravel().tolist()))
    place = np.full(len(names), 0, dtype=np.int64)
    place[used] = np.arange(len(used))
    return {
        "experts": [_voice_json(facts, voice, rows, few=len(facts.voices) > MANY_EXPERTS) for voice in facts.voices],
        "ways": [
            {
                "node": way.node,
                "states": list(way.states),
                "experts": list(way.experts),
                "belief": packed_probs(way.belief[rows]),
                "gate": packed_probs(way.gate[rows]),
            }
            for way in facts.ways
        ],
        "joint": [
            {
                "title": "",
                "names": [names[number] for number in used],
                "shown": shown,
                "top": packed(place[top], np.uint32),
                "probs": packed_probs(np.take_along_axis(joint, top, axis=1)),
            }
        ],
    }


def _voice_json(facts: GalleryFacts, voice: Voice, all_rows: IntArray, *, few: bool) -> dict[str, Any]:
    places = np.flatnonzero(_told(facts, voice)[all_rows]) if few else np.arange(len(all_rows))
    rows = all_rows[places]
    one = next((asked for asked in facts.asked if asked.node.name == voice.node), None)
    kept = _kept_columns(voice, one, None if one is None else facts.experts[voice.number], rows)

    def shown(values: FloatArray) -> str:
        return packed_probs(values[rows] if kept is None else np.take_along_axis(values[rows], kept, axis=1))

    decided = np.zeros(len(rows)) if one is None else one.expert[rows] == voice.number
    return {
        "name": voice.name,
        "attributes": list(voice.attributes),
        "used": one is not None,
        "places": packed(places, np.uint32) if few else None,
        "classes": list(voice.classes),
        "voters": list(voice.voters),
        "shown": len(voice.classes) if kept is None else int(kept.shape[1]),
        "kept": None if kept is None else packed(kept, np.uint32),
        "probs": [shown(layer) for layer in voice.probs],
        "voted": shown(voice.voted),
        "asked": packed(voice.asked[rows], np.uint8),
        "decided": packed(decided, np.uint8),
    }


def _told(facts: GalleryFacts, voice: Voice) -> BoolArray:
    """`(n_photos,)`: whether an expert was asked and had a say in it: it decided, or its states kept `LEAST_SAY`."""
    way = next((way for way in facts.ways if way.node == voice.node), None)
    if way is None:
        return voice.asked
    one = next(asked for asked in facts.asked if asked.node.name == voice.node)
    own = np.flatnonzero(one.expert_of_state == voice.number)
    say = np.asarray(way.gate[:, own].sum(axis=1) >= LEAST_SAY)
    return np.asarray(voice.asked & (say | (one.expert == voice.number)))


def _kept_columns(voice: Voice, one: Asked | None, expert: Predictions | None, rows: IntArray) -> IntArray | None:
    """`(n_rows, SHOWN_CLASSES)` columns to show: the most probable, the answer and the truth with them; None = all."""
    voted = np.nan_to_num(voice.voted[rows], nan=-1.0)
    if voted.shape[1] <= SHOWN_CLASSES:
        return None
    first = voted.copy()
    for place, wanted in enumerate(() if one is None else (one.said, one.true)):
        if wanted is not None and one is not None and expert is not None:
            column = np.where(wanted[rows] < 0, -1, columns_of(one, expert)[np.maximum(wanted[rows], 0)])
            known = np.flatnonzero(column >= 0)
            first[known, column[known]] = 3 - place
    chosen = np.argsort(-first, axis=1, kind="stable")[:, :SHOWN_CLASSES]
    by_prob = np.argsort(-np.take_along_axis(voted, chosen, axis=1), axis=1, kind="stable")
    return np.take_along_axis(chosen, by_prob, axis=1).astype(np.int64)
