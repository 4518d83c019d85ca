"""The search of structures in words, at most 80 columns wide."""

from __future__ import annotations

from collections import Counter

from ensemble_kit.columns import WIDTH, fitted, wrap, wrap_command
from ensemble_kit.structure_search.candidates import Candidate
from ensemble_kit.structure_search.result import StructureSearch

METRIC_NAMES = {"accuracy": "accuracy", "macro_f1": "macro F1"}
SHOWN, SHOWN_EDGES = 4, 12
"""Of the highest structures, and of those that condition one attribute on one other."""

SHOWN_COMMANDS = 6
"""Structures whose missing experts' commands are printed."""


def whole(found: StructureSearch) -> str:
    parts = [_head(found), wrap(found.verdict), _table(found), _notes(found)]
    if found.unscored:
        parts.append(_missing(found))
    return "\n\n".join(part for part in parts if part) + "\n"


def verdict(found: StructureSearch) -> str:
    """What to use, by how much, and how sure that is."""
    metric = f"joint {METRIC_NAMES[found.metric]}"
    times = sum(pick == found.chosen for pick in found.picks)
    again = f"chosen again without {times} of {len(found.picks)} folds"
    if found.independent is None:
        return (
            f"Of the structures that can be scored {found.chosen.name}, {metric} {found.nested.plain}. The "
            "independent one is not among them, so whether anything should be conditioned is open."
        )
    if found.chosen.is_independent:
        return _nothing_shown(found, found.independent, metric)
    gain = str(found.over_independent) if found.over_independent else ""
    if found.is_shown:
        flat = f", {found.over_flat} over flat" if found.over_flat and not found.chosen.is_flat else ""
        return (
            f"Use {found.chosen.name} ({again}). The choosing scores {metric} {found.nested.plain} on samples that "
            f"had no part in it: {gain} over independent{flat}.{_unsettled(found, times)}"
        )
    return (
        f"Independent is as good, as far as can be told: {found.chosen.name} beats it on the samples it was chosen "
        f"by ({again}), but on samples that had no part in the choosing it gains {gain}."
    )


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _unsettled(found: StructureSearch, times: int) -> str:
    """What speaks against taking the choice for the last word."""
    score = {one.candidate: one.score.value for one in found.scored}
    best = max(found.scored, key=lambda one: one.score.value).candidate
    above = score[best] - score[found.chosen]
    highest = (
        "" if best == found.chosen else f" {_capital(best.name)} scores {above:+.3f} beside it, not shown to be more."
    )
    return highest + (" Which structure it is, is not settled." if 2 * times < len(found.picks) else "")


def _nothing_shown(found: StructureSearch, independent: Candidate, metric: str) -> str:
    own = next(one for one in found.scored if one.candidate == independent).score.plain
    others = sorted((one for one in found.scored if one.candidate != independent), key=lambda one: -one.score.value)
    if not others:
        return f"Independent is the only structure whose experts are there: {metric} {own}."
    best = others[0]
    gain = "" if best.over_independent is None else str(best.over_independent)
    if len(others) == 1:
        return f"Independent is as good: {metric} {own}; {best.candidate.name} is not shown to beat it ({gain})."
    if best.over_independent is not None and best.over_independent.value <= 0:
        return f"Independent is as good: {metric} {own}, and none of {len(others)} other structures scores higher."
    return (
        f"Independent is as good: {metric} {own}, and none of {len(others)} other structures is shown to beat it. The "
        f"highest of them, {best.candidate.name}, has {gain}: no more than the best of so many has by chance."
    )


def _head(found: StructureSearch) -> str:
    people = "" if found.n_people in (None, found.n_samples) else f" of {found.n_people} people"
    where = f"{found.source}: " if found.source else ""
    n_all = len(found.scored) + len(found.unscored)
    scored = f"{n_all} structures" if not found.unscored else f"{len(found.scored)} of {n_all} structures"
    return wrap(f"{where}{scored} scored on {found.n_samples} samples{people}, out of fold")


def _table(found: StructureSearch) -> str:
    """The highest ones, the ones that are spoken of, and of every single edge the best grouping."""
    ranked = sorted(found.scored, key=lambda one: -one.score.value)
    kept = {one.candidate for one in ranked[:SHOWN]} | {found.chosen, found.winner}
    kept |= {one.candidate for one in ranked if one.candidate.is_independent or one.candidate.is_flat}
    edges: dict[tuple[str, str], Candidate] = {}
    for one in ranked:
        conditioned = [choice.node for choice in one.candidate.choices if choice.node.parents]
        if len(conditioned) == 1 and len(conditioned[0].parents) == 1:
            edges.setdefault((conditioned[0].name, conditioned[0].parents[0]), one.candidate)
    kept |= set(list(edges.values())[:SHOWN_EDGES])
    rows = []
    for one in ranked:
        if one.candidate not in kept:
            continue
        mark = "*" if one.candidate == found.winner else ""
        gain = "" if one.over_independent is None or one.candidate.is_independent else str(one.over_independent)
        numbers = [str(len(one.candidate.roles)), str(one.candidate.size), f"{one.score.value:.3f}", gain]
        rows.append([mark, one.candidate.name, *numbers])
    head = ["", "structure", "experts", "size", "F1" if found.metric == "macro_f1" else "acc.", "over independent"]
    left = len(ranked) - len(kept)
    return fitted(head, rows, WIDTH, 2) + (f"\n  ... and {left} others" if left else "")


def _notes(found: StructureSearch) -> str:
    notes = [
        "*: the one to use, the simplest that no other one is shown to beat, if the choosing gains over independent. "
        "size: probabilities its experts have to learn. [ ]: 95 % interval, people resampled "
        f"{found.n_boot} times; in the table each by itself, which for the highest of many is too good.",
        *_picked(found),
        *found.notes,
    ]
    if not found.is_refitted:
        notes.append(
            "Saved predictions: experts trained on a fold's photos had a part in the choices without that fold."
        )
    if found.n_people is None:
        notes.append("Nobody said whose samples these are: each counts as a person, intervals may be too narrow.")
    return "\n".join(wrap(note) for note in notes)


def _picked(found: StructureSearch) -> list[str]:
    """What was chosen without each fold; a line each where it was not always the same."""
    picks = Counter(pick.name for pick in found.picks).most_common()
    head = f"chosen without each of {found.n_folds} folds:"
    return [f"{head} {picks[0][0]}"] if len(picks) == 1 else [head, *(f"  {count} x {name}" for name, count in picks)]


def _missing(found: StructureSearch) -> str:
    missing = {role for one in found.unscored for role in one.missing}
    count = f"{len(found.unscored)} structures lack {len(missing)} experts"
    if not found.commands:
        return wrap(f"{count}; --json lists them.")
    lines = [wrap(f"{count}. To score those that need fewest:")]
    for name, commands in list(found.commands.items())[:SHOWN_COMMANDS]:
        lines += [wrap(f"  {name}:", WIDTH), *(wrap_command(command, "    ") for command in commands)]
    if len(found.commands) > SHOWN_COMMANDS:
        lines.append("  ... --json lists the others")
    return "\n".join(lines)
