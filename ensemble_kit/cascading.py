"""A cascade over structures: each photo takes the answer of the first one that is sure enough, else none."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensemble_kit.arrays import FloatArray, IntArray
from ensemble_kit.ensemble import Combined
from ensemble_kit.errors import DataError, UsageError, nearest
from ensemble_kit.ids import match_ids
from ensemble_kit.predictions import SUM_TOLERANCE, Predictions

Confidence = Callable[[Combined], FloatArray]
"""What combining gave -> how sure each photo's answer is `(n_samples,)`, 0 to 1; a row looks at itself only."""


def answer_confidence(combined: Combined) -> FloatArray:
    """The answer's probability under the chain rule, whatever the route: what the route gives it, times the belief
    in the states that the route kept. So hard and soft stages are measured alike."""
    highest = highest_probability(combined.joint)
    lost = combined.distance
    return np.where(np.isnan(lost), highest, highest * (1 - lost))


def gate_confidence(combined: Combined) -> FloatArray:
    """The belief in the most probable state, of the node where it is lowest; 1 where nothing is conditioned."""
    lowest = np.ones(combined.joint.n_samples, dtype=np.float64)
    for own in combined.confidence.values():
        lowest = np.minimum(lowest, own)
    return lowest


CONFIDENCES: Mapping[str, Confidence] = {"answer": answer_confidence, "gate": gate_confidence}
"""A further measure is one function and one row here; `cascade` takes a function as well as a name."""


@dataclass(frozen=True)
class Stage:
    """One structure's answers, taken where they are at least this sure.

    Attributes:
        name: the reason recorded for the photos answered here.
        answer: what combining gave, or joint predictions of any origin (one voter).
        at_least: 0 to 1; 0 takes every photo that has an answer.
        confidence: a name in CONFIDENCES or a function; of plain predictions the highest probability counts.
    """

    name: str
    answer: Combined | Predictions
    at_least: float = 0.0
    confidence: str | Confidence = "answer"

    @property
    def joint(self) -> Predictions:
        return self.answer.joint if isinstance(self.answer, Combined) else self.answer

    def measure(self) -> FloatArray:
        """`(n_samples,)`, 0 for photos without an answer."""
        highest = highest_probability(self.joint)
        rule = self.confidence
        if not callable(rule):
            if rule not in CONFIDENCES:
                raise UsageError(f'unknown confidence "{rule}"{nearest(rule, CONFIDENCES)}')
            rule = CONFIDENCES[rule]
        if isinstance(self.answer, Predictions):
            if self.confidence != "answer":
                raise UsageError(f'cascade: stage "{self.name}" is plain predictions, whose confidence is "answer"')
            return highest
        found = np.asarray(rule(self.answer), dtype=np.float64)
        if found.shape != highest.shape or not ((found >= 0) & (found <= 1 + SUM_TOLERANCE)).all():
            raise UsageError(f'cascade: the confidence of "{self.name}" must be {len(highest)} numbers from 0 to 1')
        return np.where(highest > 0, found, 0)


@dataclass(frozen=True, eq=False)
class Cascaded:
    """What a cascade gives.

    Attributes:
        joint: joint predictions, one voter; rows that no stage took are zero (label -1).
        stage: `(n_samples,)` number of the stage that answered, -1 = none.
        confidence: `(n_samples,)` that stage's, or where none took the photo the last one's.
        names: of the stages.
    """

    joint: Predictions
    stage: IntArray
    confidence: FloatArray
    names: tuple[str, ...]

    @property
    def counts(self) -> dict[str, int]:
        """Photos per stage, and those left unanswered."""
        found = {name: int((self.stage == number).sum()) for number, name in enumerate(self.names)}
        return {**found, "abstained": int((self.stage < 0).sum())}

    def rows(self) -> dict[str, NDArray[Any]]:
        """Every row in words, as columns `(n_samples,)`: id, label, probability, confidence and reason."""
        return {
            "id": self.joint.ids,
            "label": self.joint.labels(),
            "probability": highest_probability(self.joint),
            "confidence": self.confidence,
            "reason": self.reasons(),
        }

    def reasons(self) -> NDArray[np.str_]:
        """`(n_samples,)`: the name of the stage that answered, or "abstained"."""
        return np.array([*self.names, "abstained"], dtype=np.str_)[self.stage]


def cascade(stages: Sequence[Stage | tuple[str, Combined | Predictions, float]]) -> Cascaded:
    """Every photo's answer from the first stage that is sure enough of it.

    Args:
        stages: in order, on the same photos; rows are joined by id.

    Raises:
        UsageError: no stages, a threshold outside 0 to 1, two stages of one name, a confidence that is none.
        DataError: stages on other photos, or with other columns.

    Examples:
        >>> from ensemble_kit.schema import Attribute
        >>> mask = Attribute("mask", ["worn", "not_worn"])
        >>> sharp = Predictions(mask, [[0.95, 0.05], [0.6, 0.4], [0.5, 0.5]], ["a", "b", "c"])
        >>> broad = Predictions(mask, [[0.5, 0.5], [0.3, 0.7], [0.5, 0.5]], ["a", "b", "c"])
        >>> result = cascade([("sharp", sharp, 0.9), ("broad", broad, 0.6)])
        >>> result.reasons().tolist(), result.joint.labels().tolist()
        (['sharp', 'broad', 'abstained'], [0, 1, -1])
    """
    checked = _check(stages)
    first = checked[0].joint
    taken = np.full(first.n_samples, -1, dtype=np.int64)
    confidence = np.zeros(first.n_samples, dtype=np.float64)
    joint = np.zeros(first.layers[0].shape, dtype=np.float32)
    for number, stage in enumerate(checked):
        own, sure = stage.joint, stage.measure()
        rows = match_ids(own.ids, first.ids, f'stage "{stage.name}"', "combine all stages on the same photos")
        probs = np.asarray(own.layers[0])
        if rows is not None:
            probs, sure = probs[rows], sure[rows]
        is_open = taken < 0
        confidence[is_open] = sure[is_open]
        takes = is_open & (sure >= stage.at_least) & (probs > 0).any(axis=1)
        joint[takes] = probs[takes]
        taken[takes] = number
    result = Predictions(first.attributes, joint, first.ids, classes=first.classes, voters=["cascade"])
    return Cascaded(result, taken, confidence, tuple(stage.name for stage in checked))


def highest_probability(joint: Predictions) -> FloatArray:
    """`(n_samples,)`, 0 where a photo has no answer."""
    probs = np.asarray(joint.layers[0], dtype=np.float64)
    return np.asarray(np.nan_to_num(probs.max(axis=1), nan=0.0))


def _check(stages: Sequence[Stage | tuple[str, Combined | Predictions, float]]) -> list[Stage]:
    checked = [stage if isinstance(stage, Stage) else Stage(*stage) for stage in stages]
    if not checked:
        raise UsageError("cascade: expected at least one stage, found none")
    names = [stage.name for stage in checked]
    for stage in checked:
        if not 0 <= stage.at_least <= 1:
            raise UsageError(f'cascade: stage "{stage.name}" must ask for 0 to 1, found {stage.at_least}')
        if names.count(stage.name) > 1:
            raise UsageError(f'cascade: two stages are called "{stage.name}"; name them apart')
        first = checked[0].joint
        if len(stage.joint.layers) != 1 or (stage.joint.names, stage.joint.classes) != (first.names, first.classes):
            raise DataError(
                f'cascade: stage "{stage.name}" is {stage.joint.describe()} with {len(stage.joint.layers)} voters; '
                f"expected one voter and the columns of {checked[0].joint.describe()}"
            )
    return checked
