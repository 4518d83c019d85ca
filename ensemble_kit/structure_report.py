"""What the comparison of structures found: plain data, as JSON and as a table for 80 columns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from ensemble_kit.columns import WIDTH, fitted, name_head, wrap

VOTINGS = {"one": "one of {}", "soft": "soft vote of {}", "hard": "hard vote of {}"}

Interval = tuple[float, float]


def signed(value: float) -> str:
    """Three places and a sign, no minus zero."""
    return f"{round(value, 3) + 0.0:+.3f}"


@dataclass(frozen=True)
class Gain:
    """A score, or a difference of two on the same photos, with its interval over people (None = no people)."""

    value: float
    interval: Interval | None = None

    @property
    def sign(self) -> int:
        """1 or -1 where the interval holds 0 no more, else 0."""
        if self.interval is None:
            return 0
        return 1 if self.interval[0] > 0 else -1 if self.interval[1] < 0 else 0

    @property
    def verdict(self) -> str:
        return {1: "higher", -1: "lower", 0: "no difference shown"}[self.sign]

    @property
    def plain(self) -> str:
        """Of a score: no sign."""
        return f"{self.value:.3f}" + ("" if self.interval is None else " [{:.3f}, {:.3f}]".format(*self.interval))

    def __str__(self) -> str:
        """Of a difference."""
        return signed(self.value) + ("" if self.interval is None else " [{}, {}]".format(*map(signed, self.interval)))


@dataclass(frozen=True)
class Score:
    """Accuracy and macro F1 with their 95 % intervals over people (None = no people were given)."""

    accuracy: float
    macro_f1: float
    accuracy_interval: Interval | None = None
    macro_f1_interval: Interval | None = None


@dataclass(frozen=True)
class StructureRow:
    """One structure under one voting; "one" = the mean score of the `n_voters` checkpoints, each used alone."""

    structure: str
    voting: str
    n_voters: int
    joint: Score
    attributes: dict[str, Score]


@dataclass(frozen=True)
class ChildRow:
    """A conditioned attribute, answered by the expert of the predicted state and by that of the true state."""

    attribute: str
    parents: tuple[str, ...]
    voting: str
    n_voters: int
    predicted_state: Score
    true_state: Score


@dataclass(frozen=True)
class Comparison:
    """The pooled against a specialised expert of one attribute, on the photos of the condition (by the true labels).

    `*_gain` = specialised minus pooled; its interval is paired: both experts on the same resampled people.
    """

    attribute: str
    condition: str
    voting: str
    n_voters: int
    n_samples: int
    pooled: Score
    specialised: Score
    accuracy_gain: float
    macro_f1_gain: float
    accuracy_gain_interval: Interval | None
    macro_f1_gain_interval: Interval | None

    @property
    def verdict(self) -> str:
        """Judged by macro F1, the score of the task: an interval that holds 0 shows no difference."""
        if self.macro_f1_gain_interval is None:
            return "not tested (no people to draw)"
        words = {1: "specialised better", -1: "pooled better", 0: "no difference shown"}
        return words[Gain(self.macro_f1_gain, self.macro_f1_gain_interval).sign]

    @property
    def sentence(self) -> str:
        between = (
            "" if self.macro_f1_gain_interval is None else " [{:+.3f}, {:+.3f}]".format(*self.macro_f1_gain_interval)
        )
        return f"{self.attribute}, {self.condition}: {self.verdict} (macro F1 {self.macro_f1_gain:+.3f}{between})"


@dataclass(frozen=True)
class StructureReport:
    """Every structure on the same photos. `left_out`: what could not be scored -> why; `scored_on`: which photos."""

    n_samples: int
    n_left_out: int
    n_groups: int | None
    n_boot: int
    known: tuple[str, ...]
    rows: tuple[StructureRow, ...]
    children: tuple[ChildRow, ...]
    comparisons: tuple[Comparison, ...]
    left_out: dict[str, str]
    scored_on: str = ""

    def main_rows(self) -> list[StructureRow]:
        """One row a structure, for short tables: the soft vote, or what there is instead."""
        return _main(self.rows, lambda row: row.structure)

    def main_children(self) -> list[ChildRow]:
        return _main(self.children, lambda child: child.attribute)

    def main_comparisons(self) -> list[Comparison]:
        return _main(self.comparisons, lambda compared: (compared.attribute, compared.condition))

    def to_json(self) -> dict[str, Any]:
        """Plain JSON, no NaN; `joint.<structure>` holds accuracy and macro F1 as in `main_rows`."""
        joint = {
            row.structure: {"accuracy": row.joint.accuracy, "macro_f1": row.joint.macro_f1} for row in self.main_rows()
        }
        comparisons = [asdict(c) | {"verdict": c.verdict, "sentence": c.sentence} for c in self.comparisons]
        return {"joint": joint, **asdict(self), "comparisons": comparisons}

    def text(self) -> str:
        """The tables in plain text, at most 80 columns wide."""
        parts = [self._head()]
        parts += [_joint_table(self.rows), _attribute_table(self.main_rows())] if self.rows else []
        parts += [_child_table(self.children)] if self.children else []
        parts += [_comparison_table(self.main_comparisons())] if self.comparisons else []
        parts += [self._notes()]
        return "\n\n".join(parts) + "\n"

    def _head(self) -> str:
        who = "1 person" if self.n_groups == 1 else f"{self.n_groups} people"
        people = "" if self.n_groups in (None, self.n_samples) else f" of {who}"
        skipped = f" ({self.n_left_out} left out: no label or no prediction)" if self.n_left_out else ""
        which = f"{self.scored_on}: " if self.scored_on else ""
        return wrap(f"Structures compared on {which}{self.n_samples} photos{people}{skipped}")

    def _notes(self) -> str:
        notes = []
        if any(row.voting == "one" and row.n_voters > 1 for row in self.rows):
            notes.append("one of K: the mean score of the K checkpoints, each used alone.")
        if self.n_groups == 1:
            notes.append("one person: no intervals, and no difference can be shown.")
        elif self.n_groups is not None:
            notes.append(f"[ ]: 95 % interval, people resampled {self.n_boot} times.")
        if self.known:
            name = " ".join(self.known)
            notes.append(
                f"perfect {name}: the same experts told each photo's true {name}; no route and no better {name} "
                "expert can reach a higher joint accuracy. In use nobody knows it."
            )
        reasons: dict[str, list[str]] = {}
        for name, reason in self.left_out.items():
            reasons.setdefault(reason, []).append(structure_text(name))
        notes += [f"left out: {', '.join(names)}: {reason}" for reason, names in reasons.items()]
        return "\n".join(wrap(note) for note in notes)


_Voted = TypeVar("_Voted", StructureRow, ChildRow, Comparison)


def _main(rows: Sequence[_Voted], key: Callable[[_Voted], object]) -> list[_Voted]:
    """Of the rows with the same key the one that votes softly, else by another vote, else each checkpoint alone."""
    rank = {"soft": 0, "one": 2}
    best: dict[object, _Voted] = {}
    for row in rows:
        other = best.get(key(row))
        if other is None or rank.get(row.voting, 1) < rank.get(other.voting, 1):
            best[key(row)] = row
    return list(best.values())


def same_votes(rows: Sequence[StructureRow] | Sequence[Comparison]) -> str:
    """`soft vote of 5` when that holds for all the rows, else nothing."""
    found = {votes_text(row.voting, row.n_voters) for row in rows}
    return found.pop() if len(found) == 1 else ""


def votes_text(voting: str, n_voters: int) -> str:
    return "1 checkpoint" if n_voters == 1 else VOTINGS.get(voting, voting + " of {}").format(n_voters)


def structure_text(structure: str) -> str:
    return structure.replace("_", " ")


def _with_interval(value: float, interval: Interval | None) -> str:
    return f"{value:.3f}" + ("" if interval is None else " [{:.3f}, {:.3f}]".format(*interval))


def _joint_table(rows: Sequence[StructureRow]) -> str:
    cells = []
    for i, row in enumerate(rows):
        again = i > 0 and rows[i - 1].structure == row.structure
        score = row.joint
        cells.append(
            [
                "" if again else structure_text(row.structure),
                votes_text(row.voting, row.n_voters),
                _with_interval(score.accuracy, score.accuracy_interval),
                _with_interval(score.macro_f1, score.macro_f1_interval),
            ]
        )
    return fitted(["joint class", "", "accuracy", "macro F1"], cells, WIDTH, 2)


def _attribute_table(rows: Sequence[StructureRow]) -> str:
    """Accuracy / macro F1 of each attribute."""
    names = list(rows[0].attributes)
    head = ", ".join(filter(None, ["each attribute", same_votes(rows), "accuracy / macro F1"]))
    cells = [[structure_text(row.structure), *(_pair(row.attributes[name]) for name in names)] for row in rows]
    return head + "\n" + fitted(["", *map(name_head, names)], cells, WIDTH)


def _pair(score: Score) -> str:
    return f"{score.accuracy:.3f} / {score.macro_f1:.3f}"


def _child_table(children: Sequence[ChildRow]) -> str:
    cells = [
        [
            f"{c.attribute} by {', '.join(c.parents)}",
            votes_text(c.voting, c.n_voters),
            _pair(c.predicted_state),
            _pair(c.true_state),
        ]
        for c in children
    ]
    head = "what wrong routes cost, accuracy / macro F1 by the state that chose the expert"
    return head + "\n" + fitted(["", "", "predicted state", "true state"], cells, WIDTH, 2)


def _comparison_table(comparisons: Sequence[Comparison]) -> str:
    cells = [
        [f"{c.attribute}, {c.condition}", str(c.n_samples), f"{c.pooled.macro_f1:.3f}", f"{c.specialised.macro_f1:.3f}"]
        for c in comparisons
    ]
    head = ", ".join(filter(None, ["pooled against specialised expert", same_votes(comparisons), "macro F1"]))
    lines = [head, fitted(["photos of", "number", "pooled", "specialised"], cells, WIDTH)]
    return "\n".join([*lines, *(wrap(c.sentence) for c in comparisons)])
