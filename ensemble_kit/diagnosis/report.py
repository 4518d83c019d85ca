"""The diagnosis as a whole: plain data, as sentences and tables, as JSON and as data frames."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from ensemble_kit.diagnosis import advice
from ensemble_kit.diagnosis.findings import (
    ChildScore,
    CrossCell,
    Diversity,
    ErrorSplit,
    Gap,
    RouterReport,
    Specialising,
    StructureScore,
    Subgroup,
)
from ensemble_kit.diagnosis.text import write_text

if TYPE_CHECKING:
    import pandas as pd


SOFT_ANSWERS, GIVEN_ANSWERS = "the soft route's answers", "the answers given"


@dataclass(frozen=True)
class Diagnosis:
    """Where the errors of a conditional ensemble come from, and what to do about them.

    Attributes:
        scored_on: which photos, in words.
        vote: across each expert's voters.
        metric: the one that verdicts and advice are by.
        n_left_out: photos without a label or without a prediction by every expert.
        n_groups: people; None = not known, so no intervals and no verdicts.
        scores, gaps: of the structures that the experts allow, on the joint class.
        children, errors, cross, specialising, routers: one or more rows for each conditioned node.
        subgroups: lowest joint accuracy first, of the answers that `subgroups_of` names.
        n_small_subgroups: those with too few people to be among them.
        subgroups_of: whose answers, in words: the soft route's, or those that `diagnose` was given.
        diversity: of the experts with several voters.
        left_out: what could not be told -> why.
    """

    scored_on: str
    vote: str
    metric: str
    n_samples: int
    n_left_out: int
    n_groups: int | None
    n_boot: int
    scores: tuple[StructureScore, ...]
    gaps: tuple[Gap, ...]
    children: tuple[ChildScore, ...]
    errors: tuple[ErrorSplit, ...]
    cross: tuple[CrossCell, ...]
    specialising: tuple[Specialising, ...]
    routers: tuple[RouterReport, ...]
    subgroups: tuple[Subgroup, ...]
    n_small_subgroups: int
    subgroups_of: str
    diversity: tuple[Diversity, ...]
    left_out: dict[str, str]

    @property
    def advice(self) -> list[str]:
        """Plain sentences, the most useful first."""
        found: list[str] = []
        for router in self.routers:
            rows = [row for row in self.specialising if row.node == router.node]
            whole = next(row for row in self.errors if row.node == router.node)
            if rows:
                found += advice.on_specialising(rows)
            elif self.left_out.get(uncompared(router.node)) == no_pooled(router.node):
                found.append(advice.on_no_pooled(router.node))
            found.append(advice.on_errors(whole, router.parents))
        found += [advice.on_gap(gap, self.metric) for gap in self.gaps]
        if self.subgroups:
            found.append(advice.on_subgroups(self.subgroups[0], len(self.subgroups)))
        found += advice.on_voters(self.diversity, self.metric)
        if not self.routers:
            found.insert(0, "nothing is conditioned in this graph, so there is no route to look at.")
        return found

    def verdict(self, node: str, state: str = "") -> str:
        """Whether specialising pays for a node, on all photos or on those of one state.

        Returns:
            "pays", "costs", "no difference shown", "too few people to tell", "not tested (no people to draw)", or
            "not compared".
        """
        rows = (row for row in self.specialising if (row.node, row.state) == (node, state))
        return next((row.verdict for row in rows), "not compared")

    def to_json(self) -> dict[str, Any]:
        """Plain JSON without NaN: what is not known is null."""
        errors = [asdict(row) | {"shares": row.shares} for row in self.errors]
        return {"advice": self.advice, **asdict(self), "errors": errors}

    def to_frames(self) -> dict[str, pd.DataFrame]:
        """One data frame a table, nested values as columns such as `gain.interval`."""
        import pandas as pd

        content = self.to_json()
        tables = [name for name, value in content.items() if isinstance(value, list | tuple) and name != "advice"]
        return {name: pd.json_normalize(list(content[name])) for name in tables}

    def text(self) -> str:
        """What to do, then the tables, at most 100 columns wide."""
        return write_text(self)


def uncompared(node: str) -> str:
    """The key in `left_out` of a node whose experts are not compared with a pooled one."""
    return f"{node}, pooled against specialised"


def no_pooled(node: str) -> str:
    return f"no pooled {node} expert"
