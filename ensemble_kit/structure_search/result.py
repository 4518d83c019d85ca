"""What the search of structures found: plain data, as JSON and as text for 80 columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ensemble_kit.arrays import Condition
from ensemble_kit.graph import Graph
from ensemble_kit.schema import Schema
from ensemble_kit.structure_report import Interval
from ensemble_kit.structure_search.candidates import Candidate, Role


@dataclass(frozen=True)
class Gain:
    """A score, or a difference of two on the same people, with its 95 % interval over people."""

    value: float
    interval: Interval

    @property
    def sign(self) -> int:
        """1 or -1 where the interval does not hold 0."""
        low, high = self.interval
        return 1 if low > 0 else -1 if high < 0 else 0

    @property
    def plain(self) -> str:
        return "{:.3f} [{:.3f}, {:.3f}]".format(self.value, *self.interval)

    @property
    def signed(self) -> str:
        return "{:+.3f} [{:+.3f}, {:+.3f}]".format(self.value, *self.interval)

    def to_json(self) -> dict[str, Any]:
        return {"value": self.value, "low": self.interval[0], "high": self.interval[1]}


@dataclass(frozen=True)
class Scored:
    """One structure on all samples, each answered by experts that were not trained on it.

    `over_independent` is None where the independent structure has no score. Intervals are each structure's own: they
    know nothing of its having been picked.
    """

    candidate: Candidate
    score: Gain
    over_independent: Gain | None


@dataclass(frozen=True)
class Unscored:
    """A structure, and the experts it lacks."""

    candidate: Candidate
    missing: tuple[Role, ...]


@dataclass(frozen=True)
class StructureSearch:
    """Which attribute should condition which.

    Attributes:
        is_refitted: the choices without a fold were made by experts that never saw it; saved predictions cannot be.
        scored: in the order of simplicity.
        unscored: structures whose experts are not there.
        chosen: by the rule, on all samples.
        beaten_by: name of each simpler structure -> name of the one that beat it most clearly.
        picks: what the rule chose without each fold.
        nested: the score of the choosing: each fold answered by what was chosen without it.
        over_independent, over_flat: that score minus theirs, on the same people; None where they have no score.
        commands: what would train the experts that are missing, the structures with fewest missing first.
        source, notes: what was searched, and what is to be said of it.
    """

    schema: Schema
    metric: str
    n_samples: int
    n_people: int | None
    n_folds: int
    n_boot: int
    is_refitted: bool
    scored: tuple[Scored, ...]
    unscored: tuple[Unscored, ...]
    chosen: Candidate
    beaten_by: Mapping[str, str]
    picks: tuple[Candidate, ...]
    nested: Gain
    over_independent: Gain | None
    over_flat: Gain | None
    source: str = ""
    notes: tuple[str, ...] = ()
    commands: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def independent(self) -> Candidate | None:
        return next((one.candidate for one in self.scored if one.candidate.is_independent), None)

    @property
    def is_shown(self) -> bool:
        """Whether the choosing gains over the independent structure, on samples that had no part in it."""
        return self.over_independent is not None and self.over_independent.sign > 0

    @property
    def winner(self) -> Candidate:
        """What to use: the chosen structure where the choosing is shown to gain, else the independent one."""
        if self.independent is None or self.is_shown:
            return self.chosen
        return self.independent

    @property
    def graph(self) -> Graph:
        """The winner's."""
        return self.winner.graph

    @property
    def conditions(self) -> dict[str, list[Condition]]:
        """The winner's: node -> the conditions of its experts, as `ConditionalClassifier` takes them."""
        return self.winner.conditions

    @property
    def verdict(self) -> str:
        """One or two sentences."""
        from ensemble_kit.structure_search.text import verdict

        return verdict(self)

    def text(self) -> str:
        """At most 80 columns wide."""
        from ensemble_kit.structure_search.text import whole

        return whole(self)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON, no NaN."""
        return {
            "verdict": self.verdict,
            "winner": described(self.winner),
            "chosen": described(self.chosen),
            "metric": self.metric,
            "source": self.source,
            "n_samples": self.n_samples,
            "n_people": self.n_people,
            "n_folds": self.n_folds,
            "n_boot": self.n_boot,
            "refitted_without_each_fold": self.is_refitted,
            "nested": {
                "score": self.nested.to_json(),
                "over_independent": None if self.over_independent is None else self.over_independent.to_json(),
                "over_flat": None if self.over_flat is None else self.over_flat.to_json(),
                "chosen_without_each_fold": [pick.name for pick in self.picks],
            },
            "scored": [
                {
                    **described(one.candidate),
                    "score": one.score.to_json(),
                    "over_independent": None if one.over_independent is None else one.over_independent.to_json(),
                    "beaten_by": self.beaten_by.get(one.candidate.name),
                }
                for one in self.scored
            ],
            "unscored": [
                {**described(one.candidate), "missing": [role.describe() for role in one.missing]}
                for one in self.unscored
            ],
            "commands": {name: list(commands) for name, commands in self.commands.items()},
            "notes": list(self.notes),
        }


def described(candidate: Candidate) -> dict[str, Any]:
    """A structure as JSON: its graph and its experts' conditions as a recipe has them."""
    conditions = {
        name: [{parent: list(classes) for parent, classes in condition.items()} for condition in conditions]
        for name, conditions in candidate.conditions.items()
    }
    return {
        "name": candidate.name,
        "graph": candidate.graph.to_json(),
        "experts": conditions,
        "n_experts": len(candidate.roles),
        "size": candidate.size,
    }
