"""What a diagnosis finds: plain data, one class a table."""

from __future__ import annotations

from dataclasses import dataclass

from ensemble_kit.structure_report import Gain, Interval, Score

MIN_PEOPLE = 10
"""Fewer people than this say nothing: no verdict on a state, no place among the worst subgroups."""

MIN_PHOTOS = 30
"""The same where nobody knows who is on the photos."""

PAYS, COSTS, NO_DIFFERENCE = "pays", "costs", "no difference shown"
TOO_FEW, NOT_TESTED = "too few people to tell", "not tested (no people to draw)"


@dataclass(frozen=True)
class StructureScore:
    """A structure's scores: conditional, independent, flat, or told the true parents."""

    structure: str
    joint: Score
    attributes: dict[str, Score]


@dataclass(frozen=True)
class Gap:
    """`structure` minus `against`, of the joint class."""

    structure: str
    against: str
    accuracy: Gain
    macro_f1: Gain


@dataclass(frozen=True)
class ChildScore:
    """A conditioned node, answered by the expert of the predicted state and by that of the true one."""

    node: str
    parents: tuple[str, ...]
    predicted_state: Score
    true_state: Score
    accuracy_cost: Gain
    """Of wrong routes: the true state's minus the predicted state's."""
    macro_f1_cost: Gain


@dataclass(frozen=True)
class ErrorSplit:
    """Photos of one true state (state "" = all) by whether the route and the true state's expert were right.

    `n_samples = right + wrong_route + wrong_expert + both`. `lucky`, of `wrong_route + both`: the child came out right
    by the wrong state's expert; the joint class is wrong all the same.
    """

    node: str
    state: str
    n_samples: int
    right: int
    wrong_route: int
    wrong_expert: int
    both: int
    lucky: int

    @property
    def n_errors(self) -> int:
        return self.wrong_route + self.wrong_expert + self.both

    @property
    def shares(self) -> dict[str, float]:
        """Of the errors: wrong_route, wrong_expert and both, which sum to 1, and lucky; 0 without errors."""
        total = max(1, self.n_errors)
        kinds = ("wrong_route", "wrong_expert", "both", "lucky")
        return {kind: getattr(self, kind) / total for kind in kinds}


@dataclass(frozen=True)
class CrossCell:
    """One expert on the photos of one true state; no score where no photo is computed or no class of it is known."""

    node: str
    expert: str
    state: str
    is_pooled: bool
    answers_state: bool
    """This expert is the one that the graph asks in this state."""
    n_samples: int
    n_missing: int
    """Photos without a prediction, not counted in n_samples."""
    accuracy: float | None
    macro_f1: float | None


@dataclass(frozen=True)
class Specialising:
    """Specialised experts, routed, against the pooled one, on the photos of one true state (state "" = all).

    `accuracy`, `macro_f1` = routed minus pooled. `told_*` = the same if every route were right. Intervals are 95 % for
    all photos and all the states of the node together.
    """

    node: str
    state: str
    n_samples: int
    n_people: int | None
    pooled: Score
    routed: Score
    told: Score
    accuracy: Gain
    macro_f1: Gain
    told_accuracy: Gain
    told_macro_f1: Gain
    metric: str
    verdict: str

    @property
    def gain(self) -> Gain:
        return self.macro_f1 if self.metric == "macro_f1" else self.accuracy

    @property
    def told_gain(self) -> Gain:
        return self.told_macro_f1 if self.metric == "macro_f1" else self.told_accuracy


@dataclass(frozen=True)
class RouterReport:
    """Which states there are and which the hard route takes.

    Attributes:
        true_share, predicted_share: of the photos, by state; what is missing to 1 of the latter was abstained.
        confusion: true state, then routed state and, last, abstained.
        mean_confidence: the belief in the state taken; None where no photo was routed.
        confidence_right, confidence_wrong: the same over right and over wrong routes.
    """

    node: str
    parents: tuple[str, ...]
    states: tuple[str, ...]
    true_share: tuple[float, ...]
    predicted_share: tuple[float, ...]
    confusion: tuple[tuple[int, ...], ...]
    accuracy: float
    mean_confidence: float | None
    confidence_right: float | None
    confidence_wrong: float | None


@dataclass(frozen=True)
class Subgroup:
    """Joint accuracy on the photos of one class, state, joint class or value of a given column.

    `gap` = this accuracy minus that of all photos; its interval is 95 % for all the subgroups together, so that the
    worst of many is not called worse for being the lowest.
    """

    kind: str
    name: str
    n_samples: int
    n_people: int | None
    accuracy: float
    accuracy_interval: Interval | None
    gap: Gain


@dataclass(frozen=True)
class VoterPair:
    """How two voters err (Kuncheva and Whitaker 2003).

    Attributes:
        disagreement: share of photos that one of them alone has right.
        q_statistic: Yule's Q, 1 = they err on the same photos, 0 = independently; None where it is 0/0.
        double_fault: share of photos that both have wrong.
    """

    voters: tuple[str, str]
    disagreement: float
    q_statistic: float | None
    double_fault: float


@dataclass(frozen=True)
class Diversity:
    """The voters of one expert, on the photos of its condition that all of them have computed.

    `any_right` = share of photos that at least one voter has right, which no rule that picks a voter can exceed.
    `accuracy`, `macro_f1` = the vote minus the voters' mean score. Pairs' figures are means over the pairs.
    """

    expert: str
    n_samples: int
    voters: dict[str, Score]
    vote: Score
    any_right: float
    accuracy: Gain
    macro_f1: Gain
    disagreement: float
    q_statistic: float | None
    double_fault: float
    pairs: tuple[VoterPair, ...]
