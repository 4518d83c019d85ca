"""What the search of structures found: plain data, as JSON and as text for 80 columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ensemble_kit.arrays import Condition
from ensemble_kit.graph import Graph
from ensemble_kit.schema import Schema
from ensemble_kit.structure_report import Gain
from ensemble_kit.structure_search.candidates import Candidate, Role


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
                "score": _numbers(self.nested),
                "over_independent": _numbers(self.over_independent),
                "over_flat": _numbers(self.over_flat),
                "chosen_without_each_fold": [pick.name for pick in self.picks],
            },
            "scored": [
                {
                    **described(one.candidate),
                    "score": _numbers(one.score),
                    "over_independent": _numbers(one.over_independent),
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


def _numbers(gain: Gain | None) -> dict[str, float] | None:
    if gain is None or gain.interval is None:
        return None
    return {"value": gain.value, "low": gain.interval[0], "high": gain.interval[1]}
