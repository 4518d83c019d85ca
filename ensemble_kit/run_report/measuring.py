"""From arrays to facts: labels beside folds, answers beside the truth, votes without one of their voters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ensemble_kit.arrays import FloatArray, IdArray, IntArray
from ensemble_kit.calibration import reliability, risk_coverage
from ensemble_kit.metrics import Tally, View, confusion, interval
from ensemble_kit.predictions import SUM_TOLERANCE, Predictions
from ensemble_kit.run_report.facts import (
    JOINT,
    AnswerFacts,
    ClassCount,
    ClassScore,
    LabelFacts,
    NumberFacts,
    VoteFacts,
    VoterGain,
)
from ensemble_kit.schema import NEAR_BORDER, Schema, near_border
from ensemble_kit.structure_report import Gain
from ensemble_kit.structures.photos import computed_rows
from ensemble_kit.structures.scorer import Measured, Scorer
from ensemble_kit.voting import Vote, ask_vote

BINS = 10
MOST_POINTS = 200
"""Of a curve: more could not be seen."""

MOST_COLUMNS = 90
"""Different numbers up to which each has a column of its own."""


def known_people(groups: IdArray | None) -> int | None:
    """How many people are on photos `(n_samples,)`; None = not known, as where each photo is its own person."""
    n = 0 if groups is None else len(np.unique(groups))
    return None if groups is None or n == len(groups) else n


def label_facts(what: str, names: Sequence[str], numbers: IntArray, people: IdArray, folds: IntArray) -> LabelFacts:
    """Photos and people of each class, in all and held out by each fold.

    Args:
        numbers: `(n_samples,)` class numbers, -1 = unlabelled.
        people: `(n_samples,)`.
        folds: `(n_samples,)`, -1 = training only.
    """
    person = np.unique(people, return_inverse=True)[1]
    n_folds = int(folds.max(initial=-1)) + 1
    counts = []
    for number, name in enumerate(names):
        inside = numbers == number
        held = np.bincount(folds[inside & (folds >= 0)], minlength=n_folds)
        n_people = len(np.unique(person[inside]))
        counts.append(ClassCount(name, int(inside.sum()), n_people, tuple(int(n) for n in held)))
    return LabelFacts(what, tuple(counts), int((numbers < 0).sum()))


def number_facts(attribute: str, borders: Sequence[float], values: ArrayLike) -> NumberFacts | None:
    """How often each number occurs, and how many lie near a border; None without a number.

    Args:
        values: `(n_samples,)`, NaN = unlabelled.
    """
    known = np.asarray(values, dtype=np.float64)
    known = known[np.isfinite(known)]
    if not len(known):
        return None
    low, high = float(np.floor(known.min())), float(known.max())
    step = max(1.0, float(np.ceil((high - low + 1) / MOST_COLUMNS)))
    starts, n = np.unique(low + np.floor((known - low) / step) * step, return_counts=True)
    near = tuple((float(border), int(near_border(known, [border]).sum())) for border in borders)
    return NumberFacts(
        attribute=attribute,
        borders=tuple(float(border) for border in borders),
        photos=tuple((float(start), int(count)) for start, count in zip(starts, n, strict=True)),
        step=step,
        near=near,
        reach=NEAR_BORDER,
        highest=(high, int((known == high).sum())),
    )


def answer_facts(
    joint: Predictions,
    soft: Predictions,
    labels: IntArray,
    truth: IntArray,
    schema: Schema,
    groups: IdArray | None,
    scorer: Scorer,
) -> list[AnswerFacts]:
    """The joint class and each attribute: scores, confusion, every class, how far the probabilities can be believed.

    Args:
        joint: one voter, columns = the schema's joint classes.
        soft: the same without a route, whose sums are the attributes' probabilities: a hard route leaves its parents
            one class only, so that they would look certain.
        labels: `(n_samples,)` the joint class answered, -1 = abstained.
        truth: `(n_samples,)` the true one.
        groups: `(n_samples,)` people, None = not known.
        scorer: of these photos.
    """
    said, true = schema.decode(labels), schema.decode(truth)
    every = schema.decode(np.arange(schema.n_joint))
    parts: list[tuple[str, Sequence[str], IntArray, IntArray, IntArray]] = [
        (JOINT, schema.joint_names(), np.arange(schema.n_joint), truth, labels)
    ]
    if len(schema.names) > 1:
        parts += [(a.name, a.classes, every[a.name], true[a.name], said[a.name]) for a in schema.attributes]
    views = {what: [View(number, len(names)), *_classes(number, len(names))] for what, names, number, _, _ in parts}
    whose = None if known_people(groups) is None else groups
    flat = [view for own in views.values() for view in own]
    measured = iter(scorer.measure({"": [Tally(truth, labels, flat)]})[""])
    found = []
    for what, names, _, own_true, own_said in parts:
        own = [next(measured) for _ in views[what]]
        probs = joint.layers[0] if what == JOINT else _in_order(soft.marginal(what), names)
        found.append(_answer(what, names, own, own_true, own_said, np.asarray(probs, dtype=np.float64), whose))
    return found


def _classes(number: IntArray, n_classes: int) -> list[View]:
    """For each class the view that knows it alone: its macro F1 is the class's F1."""
    return [View(np.where(number == k, 0, -1).astype(np.int64), 1) for k in range(n_classes)]


def _in_order(alone: Predictions, names: Sequence[str]) -> FloatArray:
    """`(n_samples, n_classes)` in the order of the attribute's classes."""
    column = {name: i for i, (name,) in enumerate(alone.classes)}
    values = np.asarray(alone.layers[0])
    return np.stack([values[:, column[name]] if name in column else np.zeros(len(values)) for name in names], axis=1)


def _answer(
    what: str,
    names: Sequence[str],
    measured: Sequence[Measured],
    true: IntArray,
    said: IntArray,
    probs: FloatArray,
    groups: IdArray | None,
) -> AnswerFacts:
    n = len(names)
    table = confusion(true, said, n)
    known = np.isfinite(probs).all(axis=1)
    bins, curve = reliability(probs[known], true[known], BINS), risk_coverage(probs[known], true[known])
    return AnswerFacts(
        what=what,
        names=tuple(names),
        score=measured[0].score(),
        confusion=tuple(tuple(int(cell) for cell in row) for row in table),
        classes=tuple(_class(name, k, table, measured[1 + k], true, groups) for k, name in enumerate(names)),
        reliability=tuple(
            (float(c), float(a), int(m)) for c, a, m in zip(bins.confidence, bins.accuracy, bins.count, strict=True)
        ),
        ece=bins.ece,
        coverage=_thinned(curve.coverage, curve.risk),
        aurc=curve.aurc,
    )


def _class(
    name: str, number: int, table: IntArray, measured: Measured, true: IntArray, groups: IdArray | None
) -> ClassScore:
    right, labelled = int(table[number, number]), int(table[:, number].sum())
    n_photos = int(table[number].sum())
    people = None if groups is None else len(np.unique(groups[true == number]))
    score = measured.score()
    return ClassScore(
        name,
        n_photos,
        people,
        right / labelled if labelled else 0.0,
        right / n_photos if n_photos else 0.0,
        score.macro_f1,
        score.macro_f1_interval,
    )


def _thinned(xs: FloatArray, ys: FloatArray) -> tuple[tuple[float, float], ...]:
    rows = np.unique(np.linspace(0, len(xs) - 1, min(len(xs), MOST_POINTS)).round().astype(np.int64))
    return tuple((float(xs[row]), float(ys[row])) for row in rows)


def vote_facts(
    expert: Predictions,
    truth: IntArray,
    existing: IntArray,
    groups: IdArray | None,
    rule: Vote,
    metric: str,
    n_boot: int,
    seed: int,
) -> VoteFacts | None:
    """Each voter of an expert left out once; None where there is one voter, or no photo that all have computed.

    Args:
        expert: with its voters.
        truth: `(n_samples,)` the expert's true column, -1 = left out.
        existing: its columns that exist under its condition: a mean over classes is over these.
        rule: how its voters vote.
        metric: a name in METRICS.
    """
    rows = np.flatnonzero((truth >= 0) & computed_rows(expert))
    names = sorted(expert.voters)
    if len(names) < 2 or not len(rows):
        return None
    kept, true = expert.select(rows), truth[rows]
    views = [View.some(existing, len(expert.classes))]
    asked: dict[tuple[str, str], list[Tally]] = {("all", ""): [Tally(true, _vote(kept, names, rule), views)]}
    for name in names:
        others = [other for other in names if other != name]
        asked["without", name] = [Tally(true, _vote(kept, others, rule), views)]
        asked["alone", name] = [Tally(true, kept.select_voters([name]).labels(), views)]
    measured = Scorer(None if groups is None else groups[rows], n_boot, seed).measure(asked)
    everyone = measured["all", ""][0]
    gains = []
    for name in names:
        without = measured["without", name][0]
        draws = everyone.gain_over(without, metric)
        gain = Gain(everyone.values[metric] - without.values[metric], None if draws is None else interval(draws))
        gains.append(VoterGain(name, measured["alone", name][0].score(), gain))
    return VoteFacts(expert.describe(), metric, len(rows), everyone.score(), tuple(gains))


def _vote(expert: Predictions, names: Sequence[str], rule: Vote) -> IntArray:
    some = expert.select_voters(names)
    probs = ask_vote(rule, some.probs, np.ones(len(names)), SUM_TOLERANCE * len(expert.attributes))
    return Predictions(expert.attributes, probs, expert.ids, expert.condition, expert.classes, ["vote"]).labels()


def shared_settings(own: Mapping[str, Mapping[str, Any]]) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Settings that all experts have alike, and for each expert those that it has otherwise."""
    keys = list(dict.fromkeys(key for settings in own.values() for key in settings))
    missing = object()
    alike = {
        key: values[0]
        for key in keys
        if (values := [settings.get(key, missing) for settings in own.values()])
        and all(value == values[0] for value in values)
    }
    return alike, {name: {k: v for k, v in settings.items() if k not in alike} for name, settings in own.items()}
