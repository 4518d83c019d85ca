"""The filters and orders of a gallery, and the line under each photo."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ensemble_kit.arrays import BoolArray, FloatArray, IntArray
from ensemble_kit.gallery.board import Board, Facet, Line, Order, Span
from ensemble_kit.gallery.causes import Asked, close_calls, disagreement, voting_signs, why_wrong
from ensemble_kit.gallery.facts import GalleryFacts
from ensemble_kit.schema import NEAR_BORDER, Schema, near_border

LEGEND = "Under each photo: the probability of the joint class answered; the wrong answer, struck out, and the truth."
UNSURE = 0.9
"""A route whose belief is below this is called unsure."""


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
