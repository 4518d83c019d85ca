"""Labels in doubt and labels that contradict each other, with the lines of a fix list that would settle them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ensemble_kit.arrays import FloatArray, IntArray
from ensemble_kit.data.fixes import Fix
from ensemble_kit.data.table import SampleTable
from ensemble_kit.data_report.answers import Answers
from ensemble_kit.data_report.duplicates import Pair
from ensemble_kit.data_report.photos import TRAIN, Photo, Photos, is_personal, label_text
from ensemble_kit.data_report.suspects import Cut, Suspect, find_suspects, units_of
from ensemble_kit.schema import Attribute

MOST_OFFERED = 12
"""Other classes offered for one label."""

MOST_PHOTOS = 3
"""Photos of a person that stand for all."""

WHERE = "suggested"
"""Stands where a row of a list has its file and line."""


@dataclass(frozen=True)
class Offer:
    """Another label, and what a fix list would say for it.

    Attributes:
        text: the label as a fix list writes it; of a taxonomy the whole path.
        name: its class, as people read it.
        prob: the mean probability that the run gives it; None = no run was asked.
        fixes: none where the photos cannot be named in a list (evaluation photos, a broken file).
    """

    text: str
    name: str
    prob: float | None
    fixes: tuple[Fix, ...]

    def to_json(self) -> dict[str, Any]:
        return {"label": self.text, "class": self.name, "prob": self.prob, "fixes": [list(f.cells) for f in self.fixes]}


@dataclass(frozen=True)
class Doubt:
    """One label that the run speaks against: of a photo, or of all photos of a person.

    Attributes:
        photos: at most `MOST_PHOTOS` of them, those first that speak against it most.
        n_photos: of the label in all.
        n_agree: of them each by itself gives the first offer's class.
        label, name: as it is, and its class.
        confidence: the mean probability of its class, 0 to 1.
        offers: other labels, most probable first.
        beside: of a measured label, how far it is from the first offer's class; None = it has no number.
    """

    photos: tuple[Photo, ...]
    n_photos: int
    n_agree: int
    label: str
    name: str
    confidence: float
    offers: tuple[Offer, ...]
    beside: float | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "person": self.photos[0].person,
            "photos": [photo.path for photo in self.photos],
            "n_photos": self.n_photos,
            "n_agree": self.n_agree,
            "label": self.label,
            "class": self.name,
            "confidence": self.confidence,
            "offers": [offer.to_json() for offer in self.offers],
            "beside": self.beside,
        }


@dataclass(frozen=True)
class LabelDoubts:
    """The doubts about one attribute, or about a taxonomy's paths.

    Attributes:
        name: the attribute, or the names of all levels.
        is_personal: labels belong to people, not to photos.
        is_measured: labels are numbers.
        n_units: people or photos that are labelled and predicted.
        n_right: of them the run answers as labelled.
        doubts: the least probable label first.
    """

    name: str
    is_personal: bool
    is_measured: bool
    n_units: int
    n_right: int
    doubts: tuple[Doubt, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "attribute": self.name,
            "of": "people" if self.is_personal else "photos",
            "labelled_and_predicted": self.n_units,
            "answered_as_labelled": self.n_right,
            "doubts": [doubt.to_json() for doubt in self.doubts],
        }


def find_doubts(photos: Photos, answers: Answers, cut: Cut, listed: Sequence[Fix]) -> tuple[LabelDoubts, ...]:
    """Ranked doubts about each attribute; about whole paths where the schema is a taxonomy.

    Args:
        photos: the training part is looked at.
        answers: out of fold; photos that the training part does not have are left out.
        listed: rows of the fix list in force, which are not put in doubt again.
    """
    table, schema = photos.train, photos.train.schema
    rows = np.array([answers.row_of.get(name, -1) for name in table.ids.tolist()], dtype=np.int64)
    if not schema.is_product:
        if answers.joint is None:
            return ()
        return (_of_paths(photos, _taken(answers.joint, rows), cut, listed),)
    return tuple(
        _of_attribute(photos, schema[name], _taken(probs, rows), cut, listed)
        for name, probs in answers.attributes.items()
        if table.has(name)
    )


def _taken(probs: FloatArray, rows: IntArray) -> FloatArray:
    """`probs` in the order of the table, NaN where it has no row."""
    return np.where(rows[:, None] >= 0, probs[np.maximum(rows, 0)], np.nan)


def _of_attribute(
    photos: Photos, attribute: Attribute, probs: FloatArray, cut: Cut, listed: Sequence[Fix]
) -> LabelDoubts:
    table = photos.train
    texts = [label_text(attribute, value) for value in table.frame[attribute.name].tolist()]
    labels = table.numbers(attribute.name)

    def offers(suspect: Suspect) -> list[Offer]:
        made = []
        for number, prob in zip(suspect.best[:MOST_OFFERED], suspect.probs, strict=False):
            text = attribute.classes[number]
            if attribute.borders is not None:
                text = _nearest_inside(attribute.borders, number, float(texts[suspect.unit[0]]))
            fixes = fixes_for(photos, suspect.unit, {attribute.name: (texts[suspect.unit[0]], text)}, listed)
            made.append(Offer(text, attribute.classes[number], prob, fixes))
        return made[:1] if attribute.borders is not None else made

    def doubt(suspect: Suspect) -> Doubt:
        offered = offers(suspect)
        text = texts[suspect.unit[0]]
        beside = None if attribute.borders is None else _beside(attribute.borders, suspect.best[0], float(text))
        return _doubt(photos, probs, suspect, text, attribute.classes[suspect.label], offered, beside)

    values = [text or None for text in texts]
    name, measured = attribute.name, attribute.borders is not None
    return _doubts(photos, name, measured, labels, probs, values, cut, listed, (attribute.name,), doubt)


def _of_paths(photos: Photos, probs: FloatArray, cut: Cut, listed: Sequence[Fix]) -> LabelDoubts:
    table, schema = photos.train, photos.train.schema
    labels = table.joint() if all(table.has(name) for name in schema.names) else np.full(len(table), -1)
    names, paths = schema.joint_names(), schema.class_rows()

    def doubt(suspect: Suspect) -> Doubt:
        old = paths[suspect.label]
        made = []
        for number, prob in zip(suspect.best[:MOST_OFFERED], suspect.probs, strict=False):
            changes = {
                level: (was, now)
                for level, was, now in zip(schema.names, old, paths[number], strict=True)
                if was != now and schema[level].borders is None
            }
            made.append(Offer(names[number], names[number], prob, fixes_for(photos, suspect.unit, changes, listed)))
        return _doubt(photos, probs, suspect, names[suspect.label], names[suspect.label], made, None)

    values = [None if label < 0 else int(label) for label in labels.tolist()]
    title = " / ".join(schema.names)
    return _doubts(photos, title, False, labels, probs, values, cut, listed, schema.names, doubt)


def _doubts(
    photos: Photos,
    name: str,
    measured: bool,
    labels: IntArray,
    probs: FloatArray,
    values: Sequence[Any],
    cut: Cut,
    listed: Sequence[Fix],
    attributes: Sequence[str],
    doubt: Any,
) -> LabelDoubts:
    groups = photos.train.groups.tolist()
    personal = is_personal(values, groups)
    settled = _settled(listed, attributes)
    is_open = np.array([_short(group) not in settled and group not in settled for group in groups], dtype=np.bool_)
    rows = np.flatnonzero((labels >= 0) & np.isfinite(probs[:, 0]) & is_open).astype(np.int64)
    units = units_of(values, groups, rows, personal)
    right = sum(int(probs[unit].mean(axis=0).argmax() == labels[unit[0]]) for unit in units)
    found = find_suspects(labels, probs, units, cut)
    return LabelDoubts(name, personal, measured, len(units), right, tuple(doubt(suspect) for suspect in found))


def _doubt(
    photos: Photos,
    probs: FloatArray,
    suspect: Suspect,
    text: str,
    name: str,
    offers: Sequence[Offer],
    beside: float | None,
) -> Doubt:
    unit = np.array(suspect.unit)
    first = unit[np.argsort(probs[unit, suspect.label], kind="stable")][:MOST_PHOTOS]
    shown = photos.photos(first)
    return Doubt(shown, len(unit), suspect.n_agree, text, name, suspect.confidence, tuple(offers), beside)


def _settled(listed: Sequence[Fix], attributes: Sequence[str]) -> set[str]:
    """Groups whose label of these attributes a list has set by hand."""
    return {fix.group for fix in listed if fix.attribute in attributes}


def _short(group: str) -> str:
    return group.partition("_")[0]


def _nearest_inside(borders: Sequence[float], number: int, value: float) -> str:
    """The number of a class that is nearest to `value`, whole where the border is.

    Examples:
        >>> [_nearest_inside([30, 60], c, v) for c, v in ((1, 29), (1, 75), (2, 41.5), (0, 30))]
        ['30', '59', '60', '29']
    """
    low = borders[number - 1] if number else -np.inf
    high = borders[number] if number < len(borders) else np.inf
    if value < low:
        return f"{low:g}"
    below = high - 1 if high == int(high) and high - 1 >= low else (max(low, high - 1) + high) / 2
    return f"{value:g}" if value < high else f"{below:g}"


def _beside(borders: Sequence[float], number: int, value: float) -> float:
    """How far a number lies from a class.

    Examples:
        >>> _beside([30, 60], 1, 29), _beside([30, 60], 0, 30), _beside([30, 60], 2, 50)
        (1.0, 1.0, 10.0)
    """
    return abs(float(_nearest_inside(borders, number, value)) - value)


def fixes_for(
    photos: Photos, rows: Sequence[int], changes: Mapping[str, tuple[str, str]], listed: Sequence[Fix] = ()
) -> tuple[Fix, ...]:
    """Rows of a fix list that change labels of photos of one person of the training part.

    One row for the whole person where these are all of their photos; else one a photo, found by its bytes.

    Args:
        rows: of the training part.
        changes: attribute -> (from, to).
        listed: rows of the list in force; labels that it has set are not changed again.

    Returns:
        Nothing where a list could not name the photos: a group with blanks around it, a file that was not read.
    """
    table = photos.train
    group = str(table.frame["group_id"].iloc[int(rows[0])])
    settled = _settled(listed, tuple(changes))
    if group != group.strip() or not group or group in settled or _short(group) in settled:
        return ()
    if len(rows) == photos.group_sizes[group]:
        return tuple(Fix(group, "", name, old, new, "", WHERE) for name, (old, new) in changes.items())
    found = []
    digests = dict.fromkeys((photos.looks.sha256[row], row) for row in map(int, rows))
    for digest, row in digests:
        if not digest:
            return ()
        file = str(table.frame["path"].iloc[row]).rpartition("/")[2]
        found += [Fix(group, file, name, old, new, digest, WHERE) for name, (old, new) in changes.items()]
    return tuple({(fix.attribute, fix.sha256): fix for fix in found}.values())


@dataclass(frozen=True)
class Contradiction:
    """Two people that share a photo and not a label, with what would settle it either way.

    Attributes:
        pair: the photos.
        attribute: whose labels differ.
        one_as_other, other_as_one: the fixes for either; none for photos that no list is about.
        likelier: the label that the run holds for likelier, None = it does not tell.
    """

    pair: Pair
    attribute: str
    one_as_other: tuple[Fix, ...]
    other_as_one: tuple[Fix, ...]
    likelier: str | None


def find_contradictions(
    photos: Photos, pairs: Sequence[Pair], answers: Answers | None, listed: Sequence[Fix]
) -> tuple[Contradiction, ...]:
    """Labels in which near-duplicates differ, with both ways to settle each."""
    table = photos.train
    found = []
    for pair in pairs:
        for name, (one, other) in pair.differing.items():
            ways = [
                _as(photos, table, photo, name, old, new, listed)
                for photo, old, new in ((pair.one, one, other), (pair.other, other, one))
            ]
            found.append(Contradiction(pair, name, ways[0], ways[1], _likelier(photos, pair, name, answers)))
    return tuple(found)


def _as(
    photos: Photos, table: SampleTable, photo: Photo, name: str, old: str, new: str, listed: Sequence[Fix]
) -> tuple[Fix, ...]:
    part, row = photos.looks.place(photo.at)
    if part != TRAIN or not table.schema.is_product:  # a single level of a path cannot change alone
        return ()
    attribute = table.schema[name]
    column = photos.column(name)
    rows = [row]
    if photos.is_personal[name]:
        rows = [at for at in photos.rows_of[photo.person] if label_text(attribute, column[at]) == old]
    return fixes_for(photos, rows, {name: (old, new)}, listed)


def _likelier(photos: Photos, pair: Pair, name: str, answers: Answers | None) -> str | None:
    """The label of the two whose class the run gives more, to the photos of both; of one class it cannot tell."""
    if answers is None or name not in answers.attributes:
        return None
    attribute = photos.train.schema[name]
    numbers = [_class_of(attribute, text) for text in pair.differing[name]]
    if numbers[0] == numbers[1]:
        return None
    rows = []
    for photo in (pair.one, pair.other):
        part, row = photos.looks.place(photo.at)
        at = answers.row_of.get(str(photos.train.frame["sample_id"].iloc[row])) if part == TRAIN else None
        rows += [] if at is None or not np.isfinite(answers.attributes[name][at, 0]) else [at]
    if not rows:
        return None
    given = answers.attributes[name][rows].mean(axis=0)
    return pair.differing[name][int(given[numbers[1]] > given[numbers[0]])]


def _class_of(attribute: Attribute, text: str) -> int:
    value: Any = float(text) if attribute.borders is not None else text
    return int(attribute.numbers([value])[0])


def suggested(doubts: Sequence[LabelDoubts], contradictions: Sequence[Contradiction]) -> list[Fix]:
    """Every first offer, then what the run holds for likelier of two photos that are one; each label once."""
    found = [fix for one in doubts for doubt in one.doubts if doubt.offers for fix in doubt.offers[0].fixes]
    for one in contradictions:
        if one.likelier is not None:
            first = one.pair.differing[one.attribute][0]
            found += one.other_as_one if one.likelier == first else one.one_as_other
    kept: list[Fix] = []
    taken: dict[tuple[str, str], list[str]] = {}
    for fix in found:
        digests = taken.setdefault((fix.group, fix.attribute), [])
        clashes = digests and (not fix.sha256 or "" in digests or fix.sha256 in digests)
        if not clashes:
            digests.append(fix.sha256)
            kept.append(fix)
    return kept
