"""A diagnosis in plain text: what to do first, then the tables, for 80 columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from ensemble_kit.columns import WIDTH, fitted, name_head, wrap
from ensemble_kit.diagnosis.advice import METRIC_NAMES
from ensemble_kit.diagnosis.findings import (
    COSTS,
    NO_DIFFERENCE,
    NOT_TESTED,
    PAYS,
    TOO_FEW,
    ChildScore,
    CrossCell,
    Diversity,
    ErrorSplit,
    RouterReport,
    Specialising,
    Subgroup,
)
from ensemble_kit.graph import state_classes
from ensemble_kit.structure_report import Interval, Score, structure_text

if TYPE_CHECKING:
    from ensemble_kit.diagnosis.report import Diagnosis

MAX_STATES = 5
"""States side by side; of more, the matrices are told in other words."""

MAX_ROWS = 12
LONGEST = 72
"""Characters of a name, in as many lines as it takes."""

VERDICTS = {PAYS: "yes", COSTS: "no", NO_DIFFERENCE: "not shown", TOO_FEW: "too few", NOT_TESTED: "not tested"}
"""Short, for a column."""


def write_text(found: Diagnosis) -> str:
    """Sentences and tables, no line wider than WIDTH."""
    parts = [_head(found), _advice(found), _scores(found)]
    for router in found.routers:
        parts += _node(found, router)
    parts += [_subgroups(found)] if found.subgroups else []
    parts += [_diversity(found.diversity)] if found.diversity else []
    parts.append(_notes(found))
    return "\n\n".join(part for part in parts if part) + "\n"


def _head(found: Diagnosis) -> str:
    people = "" if found.n_groups in (None, found.n_samples) else f" of {found.n_groups} people"
    skipped = f" ({found.n_left_out} left out: no label or no prediction)" if found.n_left_out else ""
    which = f"{found.scored_on}: " if found.scored_on else ""
    return wrap(f"Diagnosis on {which}{found.n_samples} photos{people}{skipped}, {found.vote} vote", WIDTH)


def _advice(found: Diagnosis) -> str:
    return "\n".join(["What to do", *(wrap(f"- {line}", WIDTH) for line in found.advice)])


def _scores(found: Diagnosis) -> str:
    rows = [[_short(structure_text(row.structure)), *_both(row.joint)] for row in found.scores]
    parts = [_table("Joint class", ["", "accuracy", "macro F1"], rows)] if rows else []
    gaps = [
        [
            _short(f"{structure_text(gap.structure)} - {structure_text(gap.against)}"),
            str(gap.accuracy),
            str(gap.macro_f1),
        ]
        for gap in found.gaps
    ]
    parts += [_table("Gaps, paired", ["", "accuracy", "macro F1"], gaps)] if gaps else []
    main = next((row for row in found.scores if row.structure in ("conditional_soft", "graph")), None)
    if main is not None and len(main.attributes) > 1:
        each = [[_short(name), *_both(score)] for name, score in main.attributes.items()]
        title = f"Each attribute, {structure_text(main.structure)}"
        parts.append(_table(title, ["", "accuracy", "macro F1"], each))
    return "\n\n".join(parts)


def _node(found: Diagnosis, router: RouterReport) -> Iterator[str]:
    """Everything on one conditioned node."""
    name = router.node

    title = wrap(f"== {name} given {', '.join(router.parents)} ==", WIDTH)
    yield title + "\n" + _router(router)
    yield _children([row for row in found.children if row.node == name])
    yield _errors([row for row in found.errors if row.node == name], router.parents)
    yield _cross([row for row in found.cross if row.node == name], router.parents)
    yield _specialising([row for row in found.specialising if row.node == name], router.parents)


def _router(router: RouterReport) -> str:
    sure = [("taken", router.mean_confidence), ("right", router.confidence_right), ("wrong", router.confidence_wrong)]
    told = ", ".join(f"{word} {value:.3f}" for word, value in sure if value is not None)
    head = f"Router: the right state for {router.accuracy:.1%} of photos" + (
        f"; mean confidence {told}" if told else ""
    )
    if len(router.states) > MAX_STATES:
        return "\n".join([wrap(head, WIDTH), _confused(router)])
    columns = [
        _of(router.parents),
        "share",
        "routed\nso",
        *(f"to\n{name_head(state_classes(state, router.parents), 9)}" for state in router.states),
    ]
    abstained = any(row[-1] for row in router.confusion)
    rows = []
    for i, state in enumerate(router.states):
        shares = [f"{router.true_share[i]:.1%}", f"{router.predicted_share[i]:.1%}"]
        cells = router.confusion[i] if abstained else router.confusion[i][:-1]
        rows.append([_state(state, router.parents), *shares, *map(str, cells)])
    return _table(head, columns + ["to\nnone"] * abstained, rows)


def _confused(router: RouterReport) -> str:
    """Of many states the pairs that are confused most."""
    wrong = [(count, i, j) for i, row in enumerate(router.confusion) for j, count in enumerate(row) if i != j and count]
    names = [*router.states, "none"]
    rows = [
        [
            _state(names[i], router.parents),
            _state(names[j], router.parents),
            str(count),
            f"{count / max(1, sum(router.confusion[i])):.0%}",
        ]
        for count, i, j in sorted(wrong, key=lambda one: (-one[0], one[1:]))[:MAX_ROWS]
    ]
    if not rows:
        return "no photo is routed wrong"
    head = f"most frequent wrong routes, of {len(wrong)} kinds"
    return _table(head, [_of(router.parents), "routed to", "photos", "of its\nphotos"], rows, names=2)


def _children(rows: Sequence[ChildScore]) -> str:
    cells = []
    for row in rows:
        cells.append(["by the predicted state", *_both(row.predicted_state)])
        cells.append(["by the true state", *_both(row.true_state)])
        cells.append(["cost of wrong routes", str(row.accuracy_cost), str(row.macro_f1_cost)])
    return _table(f"{rows[0].node} by the state that chose the expert", ["", "accuracy", "macro F1"], cells)


def _errors(rows: Sequence[ErrorSplit], parents: Sequence[str]) -> str:
    whole, states = rows[0], sorted(rows[1:], key=lambda row: -row.n_errors)[:MAX_ROWS]
    shown = [row for row in rows[1:] if row in states]
    cells = []
    for row in [whole, *shown]:
        parts = [(getattr(row, kind), row.shares[kind]) for kind in ("wrong_route", "wrong_expert", "both", "lucky")]
        counts = [str(row.n_samples), str(row.n_errors), *(f"{n} {s:>4.0%}" for n, s in parts)]
        cells.append([_state(row.state or "all", parents), *counts])
    head = [_of(parents), "photos", "wrong", "wrong\nroute", "wrong\nexpert", "both", "lucky\nchild"]
    return _table("Errors split (shares of the wrong ones)" + _more(rows[1:], shown, "state"), head, cells)


def _cross(rows: Sequence[CrossCell], parents: Sequence[str]) -> str:
    states = list(dict.fromkeys(row.state for row in rows))
    experts = list(dict.fromkeys(row.expert for row in rows))
    if not rows:
        return ""
    if len(states) > MAX_STATES:
        return _cross_many(rows, experts)
    by = {(row.expert, row.state): row for row in rows}
    counts = {state: max(by[expert, state].n_samples for expert in experts) for state in states}
    head = ["expert", *(f"{name_head(state_classes(state, parents))}\n({counts[state]})" for state in states)]
    cells = [[_short(expert), *(_cell(by[expert, state]) for state in states)] for expert in experts]
    missing = sum(row.n_missing for row in rows)
    note = f"; {missing} answers not computed" if missing else ""
    title = f"Every expert on the photos of every true state, accuracy / macro F1 (* = asked there){note}"
    return _table(title, head, cells)


def _cell(row: CrossCell) -> str:
    return (
        "-" if row.accuracy is None else f"{row.accuracy:.3f} / {row.macro_f1:.3f}{'*' if row.answers_state else ' '}"
    )


def _cross_many(rows: Sequence[CrossCell], experts: Sequence[str]) -> str:
    """Of many states each expert's accuracy where it is asked and elsewhere; the pooled one first, as it knows all."""
    pooled = [row.expert for row in rows if row.is_pooled]
    experts = sorted(experts, key=lambda name: name not in pooled)
    cells = []
    for expert in experts[:MAX_ROWS]:
        line = [_short(expert)]
        for asked in (True, False):
            own = [row for row in rows if row.expert == expert and row.answers_state is asked]
            scored = [(row.n_samples, row.accuracy) for row in own if row.accuracy is not None]
            total = sum(n for n, _ in scored)
            mean = sum(n * accuracy for n, accuracy in scored) / total if total else None
            line += [str(total), "-" if mean is None else f"{mean:.3f}"]
        cells.append(line)
    head = ["expert", "asked", "accuracy", "else-\nwhere", "accuracy"]
    title = "Every expert on the photos where it is asked, and on those of other states whose classes it knows"
    return _table(title + _more(experts, experts[:MAX_ROWS], "expert"), head, cells)


def _specialising(rows: Sequence[Specialising], parents: Sequence[str]) -> str:
    if not rows:
        return ""
    shown = [rows[0], *sorted(rows[1:], key=lambda row: -row.n_samples)[: MAX_ROWS - 1]]
    metric = rows[0].metric
    cells = [
        [
            _state(row.state or "all", parents),
            str(row.n_samples),
            "-" if row.n_people is None else str(row.n_people),
            f"{getattr(row.pooled, metric):.3f}",
            f"{getattr(row.routed, metric):.3f}",
            str(row.gain),
            VERDICTS[row.verdict],
        ]
        for row in shown
    ]
    title = f"Does specialising pay, {METRIC_NAMES[metric]}" + _more(rows, shown, "state")
    head = [_of(parents), "photos", "people", "pooled", "routed", "gain", "pays?"]
    return _table(title, head, cells)


def _subgroups(found: Diagnosis) -> str:
    cells = [_subgroup(row) for row in found.subgroups[:10]]
    small = f"; {found.n_small_subgroups} more have too few people" if found.n_small_subgroups else ""
    title = f"Lowest joint accuracy of {found.subgroups_of}, of {len(found.subgroups)} subgroups{small}"
    return _table(title, ["", "photos", "people", "accuracy", "against all photos"], cells)


def _subgroup(row: Subgroup) -> list[str]:
    people = "-" if row.n_people is None else str(row.n_people)
    name = row.name if row.kind in ("joint class", "state") else f"{row.kind}={row.name}"
    return [_short(name), str(row.n_samples), people, f"{row.accuracy:.3f}", str(row.gap)]


def _diversity(rows: Sequence[Diversity]) -> str:
    cells = []
    for row in rows[:MAX_ROWS]:
        alone = [score.accuracy for score in row.voters.values()]
        q = "-" if row.q_statistic is None else f"{row.q_statistic:.2f}"
        pair = [f"{row.disagreement:.3f}", q, f"{row.double_fault:.3f}"]
        scores = [f"{min(alone):.3f}-{max(alone):.3f}", f"{row.vote.accuracy:.3f}", f"{row.any_right:.3f}"]
        cells.append([_short(row.expert), str(len(row.voters)), str(row.n_samples), *scores, *pair])
    head = ["expert", "voters", "photos", "each alone", "vote", "any\nright", "dis-\nagree", "Q", "both\nwrong"]
    title, numbers = "Voters, accuracy", {row[1] for row in cells}
    if len(numbers) == 1:
        title = f"Voters, accuracy; {numbers.pop()} of every expert"
        head, *cells = ([row[0], *row[2:]] for row in [head, *cells])
    return _table(title + _more(rows, rows[:MAX_ROWS], "expert"), head, cells)


def _notes(found: Diagnosis) -> str:
    notes = []
    if found.n_groups is None:
        notes.append("Nobody said who is on the photos: no intervals, and nothing is tested.")
    else:
        notes.append(f"[ ]: 95 % interval, people resampled {found.n_boot} times.")
    if found.specialising and found.n_groups is not None:
        notes.append("Specialising: the intervals hold for all photos and all the states of a node together.")
    if found.subgroups and found.n_groups is not None:
        notes.append("Subgroups: the differences from all photos hold for all the subgroups together.")
    if found.errors:
        notes.append(
            "wrong route: the true state's expert was right, but not asked; wrong expert: asked, and wrong; lucky "
            "child: a wrong state's expert was right all the same (of wrong route and both)."
        )
    if found.diversity:
        notes.append("Q: 1 = the voters err on the same photos, 0 = independently, below = on others.")
    notes += [f"left out: {structure_text(name)}: {reason}" for name, reason in found.left_out.items()]
    return "\n".join(wrap(note, WIDTH) for note in notes)


def _table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]], names: int = 1) -> str:
    return wrap(title, WIDTH) + "\n" + fitted(head, rows, WIDTH, names)


def _both(score: Score) -> list[str]:
    return [
        _with_interval(score.accuracy, score.accuracy_interval),
        _with_interval(score.macro_f1, score.macro_f1_interval),
    ]


def _with_interval(value: float, interval: Interval | None) -> str:
    return f"{value:.3f}" + ("" if interval is None else " [{:.3f}, {:.3f}]".format(*interval))


def _of(parents: Sequence[str]) -> str:
    """Above the states: the one parent, whose classes stand below, or what several parents' states are of."""
    return parents[0] if len(parents) == 1 else "photos of"


def _state(state: str, parents: Sequence[str]) -> str:
    """`mask=worn` -> `worn` under the head `mask`; of several parents as it is."""
    return _short(state.removeprefix(f"{parents[0]}=") if len(parents) == 1 else state)


def _short(text: str, longest: int = LONGEST) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _more(rows: Sequence[object], shown: Sequence[object], what: str) -> str:
    left = len(rows) - len(shown)
    return f"; {left} more {what}s not shown" if left > 0 else ""
