"""What a report of a run says, as plain data: every sentence and every picture is made from these numbers alone."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from ensemble_kit.diagnosis import Diagnosis
from ensemble_kit.structure_report import Gain, Interval, Score

JOINT = "joint class"


@dataclass(frozen=True)
class Missing:
    """A part that cannot be told: why, with the command that would give it where there is one."""

    what: str
    reason: str
    command: str = ""


@dataclass(frozen=True)
class ClassCount:
    """One class: photos, people, and the photos of it that each fold holds out."""

    name: str
    n_photos: int
    n_people: int
    held_out: tuple[int, ...]


@dataclass(frozen=True)
class LabelFacts:
    """How the training photos are spread over the classes of an attribute, or over the joint classes.

    `n_unlabelled`: photos without this label.
    """

    what: str
    classes: tuple[ClassCount, ...]
    n_unlabelled: int


@dataclass(frozen=True)
class NumberFacts:
    """An attribute that is a number cut at borders.

    Attributes:
        photos: (number, photos), ascending; where there are many different numbers, `step` wide columns by their start.
        near: border -> photos whose number would be on its other side if it were off by `reach`.
        highest: the largest number and its photos: a cap shows as a tower.
    """

    attribute: str
    borders: tuple[float, ...]
    photos: tuple[tuple[float, int], ...]
    step: float
    near: tuple[tuple[float, int], ...]
    reach: float
    highest: tuple[float, int]

    @property
    def n_photos(self) -> int:
        return sum(n for _, n in self.photos)


@dataclass(frozen=True)
class DataFacts:
    """What was trained on, and on whom.

    Attributes:
        n_held_out, n_held_out_people: of each fold.
        n_training_only: photos that no fold holds out.
        labels: each attribute, then the joint class.
    """

    data: str
    layout: str
    n_photos: int
    n_people: int
    n_held_out: tuple[int, ...]
    n_held_out_people: tuple[int, ...]
    n_training_only: int
    labels: tuple[LabelFacts, ...]
    numbers: tuple[NumberFacts, ...]


@dataclass(frozen=True)
class Curve:
    """The epochs of one training; None = not measured in that epoch."""

    expert: str
    fold: int
    seed: int
    epochs: tuple[int, ...]
    train_loss: tuple[float | None, ...]
    val_loss: tuple[float | None, ...]
    macro_f1: tuple[float | None, ...]
    seconds: float
    kept_epoch: int | None


@dataclass(frozen=True)
class ClassScore:
    """How well one class is found."""

    name: str
    n_photos: int
    n_people: int | None
    precision: float
    recall: float
    f1: float
    f1_interval: Interval | None


@dataclass(frozen=True)
class AnswerFacts:
    """The answers to one attribute, or to the joint class.

    Attributes:
        confusion: `n_classes` rows by true class, `n_classes + 1` columns by answer, the last one abstained.
        reliability: (confidence, share right, photos) of each bin of the answer's probability.
        ece: expected calibration error.
        coverage: (share answered, share wrong of these), the surest first; at most 200 points of the curve.
        aurc: area under it.
    """

    what: str
    names: tuple[str, ...]
    score: Score
    confusion: tuple[tuple[int, ...], ...]
    classes: tuple[ClassScore, ...]
    reliability: tuple[tuple[float, float, int], ...]
    ece: float
    coverage: tuple[tuple[float, float], ...]
    aurc: float

    @property
    def n_photos(self) -> int:
        return sum(sum(row) for row in self.confusion)


@dataclass(frozen=True)
class VoterGain:
    """One checkpoint: its own score, and the vote of all minus the vote of the others."""

    name: str
    alone: Score
    given: Gain


@dataclass(frozen=True)
class VoteFacts:
    """What the checkpoints of one expert give to its vote, by `metric`, on the photos of its condition."""

    expert: str
    metric: str
    n_photos: int
    vote: Score
    voters: tuple[VoterGain, ...]


@dataclass(frozen=True)
class ShiftFacts:
    """How the classes' shares in the photos to be answered differ from those in training, as `ens fit shift` found."""

    where: str
    names: tuple[str, ...]
    training: tuple[float, ...]
    estimated: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    level: float
    applied: bool
    refused: str
    reason: str


@dataclass(frozen=True)
class ExpertFacts:
    """One expert: who it is for, its trainings, and the settings that differ from the other experts'."""

    name: str
    folds: tuple[str, ...]
    checkpoints: tuple[str, ...]
    epochs: tuple[int, ...]
    seconds: float
    settings: dict[str, Any]


@dataclass(frozen=True)
class SetupFacts:
    """Recipe and environment.

    Attributes:
        experts: each with its own settings; `shared` are those that all have alike.
        recipe: the text of recipe.toml; "" where the run has none.
        identity: what of the run is known by its hash or number.
        versions: of what it was trained with.
        machines: where, in the checkpoints' words.
    """

    experts: tuple[ExpertFacts, ...]
    shared: dict[str, Any]
    combine: dict[str, Any]
    recipe: str
    identity: dict[str, str]
    versions: dict[str, str]
    machines: tuple[str, ...]


@dataclass(frozen=True)
class ShownPhoto:
    """A wrong answer: the photo's file, the classes in words, and how sure the answer was."""

    id: str
    path: str
    said: str
    true: str
    confidence: float


@dataclass(frozen=True)
class RunReport:
    """Everything that a report of a run says.

    Attributes:
        name: of the run's folder.
        read_as: how its answers come about, in words.
        scored_on: which photos the answers are scored on; "" = none.
        answers: the joint class first, then each attribute.
        diagnosis: structures, routes, specialising, subgroups, voters; None = see `missing`.
        shown: wrong answers, the surest first; only filled where photos were asked for.
        missing: what could not be told.
        gallery: the command that shows every photo with its answers; "" where none has any.
    """

    name: str
    task: str
    graph: str
    read_as: str
    scored_on: str
    n_scored: int
    n_scored_people: int | None
    n_boot: int
    data: DataFacts
    curves: tuple[Curve, ...]
    answers: tuple[AnswerFacts, ...]
    diagnosis: Diagnosis | None
    votes: tuple[VoteFacts, ...]
    shifts: tuple[ShiftFacts, ...]
    setup: SetupFacts
    missing: tuple[Missing, ...]
    shown: tuple[ShownPhoto, ...] = field(default=())
    gallery: str = ""

    def lacks(self, what: str) -> Missing | None:
        return next((one for one in self.missing if one.what == what), None)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON without NaN; photos are not in it."""
        content = asdict(self)
        del content["shown"]
        content["diagnosis"] = None if self.diagnosis is None else self.diagnosis.to_json()
        return content
