"""What the pictures of routes, experts, votes and shifts show, in sentences: pure functions of the facts."""

from __future__ import annotations

from collections.abc import Sequence

from ensemble_kit.diagnosis.findings import (
    COSTS,
    PAYS,
    CrossCell,
    ErrorSplit,
    RouterReport,
    Specialising,
    StructureScore,
    Subgroup,
)
from ensemble_kit.graph import state_classes
from ensemble_kit.pages.numbers import count, difference, estimate, listing, percent, score, side_of
from ensemble_kit.run_report.facts import ShiftFacts, VoteFacts
from ensemble_kit.structure_report import structure_text

METRIC_WORDS = {"accuracy": "accuracy", "macro_f1": "macro F1"}
NAMED = 3


def on_structures(scores: Sequence[StructureScore]) -> str:
    """Which way of combining scores highest, and how far the bound is above it."""
    real = [one for one in scores if not one.structure.startswith("perfect")]
    bound = next((one for one in scores if one.structure.startswith("perfect")), None)
    if not real:
        return "No structure could be scored."
    best = max(real, key=lambda one: one.joint.macro_f1)
    told = estimate(best.joint.macro_f1, best.joint.macro_f1_interval)
    text = f"Highest joint macro F1: {structure_text(best.structure)}, {told}"
    others = [one for one in real if one is not best]
    if others:
        second = max(others, key=lambda one: one.joint.macro_f1)
        text += f", before {structure_text(second.structure)} with {score(second.joint.macro_f1)}"
    if bound is not None:
        reached = score(bound.joint.macro_f1)
        text += f"; told the truth ({structure_text(bound.structure)}), the same experts reach {reached}"
    return f"{text}. Bars alone do not tell which differences are real; the next picture does."


def on_gaps(names: Sequence[str], gaps: Sequence[tuple[float, tuple[float, float] | None]]) -> str:
    """Which differences are shown.

    Args:
        names: "a against b" of each.
        gaps: the difference with its interval.
    """
    pairs = list(zip(names, gaps, strict=True))
    if not pairs:
        return "There is one structure only, so nothing is compared."
    if all(interval is None for _, (_, interval) in pairs):
        return "Nobody said who is on the photos, so no difference is tested."
    parts = [
        f"{name}: {difference(value, interval)}, {_word(interval)}"
        for name, (value, interval) in pairs
        if side_of(interval)
    ]
    silent = [name for name, (_, interval) in pairs if not side_of(interval)]
    if silent:
        parts.append(f"no difference shown for {listing(silent)}")
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}."


def _word(interval: tuple[float, float] | None) -> str:
    return {1: "higher", -1: "lower", 0: "no difference shown"}[side_of(interval)]


def astray(router: RouterReport) -> list[tuple[int, int, int]]:
    """(photos, true state, state taken) of the wrong routes, the most frequent first."""
    n = len(router.states)
    cells = [(row[j], i, j) for i, row in enumerate(router.confusion) for j in range(n) if i != j and row[j]]
    return sorted(cells, key=lambda cell: (-cell[0], cell[1], cell[2]))


def on_flow(router: RouterReport) -> str:
    """How many photos' most probable state is the true one, and which stream is the widest astray."""
    total = sum(sum(row) for row in router.confusion)
    right = sum(row[i] for i, row in enumerate(router.confusion))
    share = percent(right / total if total else 0)
    whose = "is taken for its true state" if right == 1 else "are taken for their true state"
    text = f"{right:,} of {count(total, 'photo')} ({share}) {whose}, whose expert a hard route asks"
    found = astray(router)
    if found:
        n, i, j = found[0]
        one, other = state_name(router, i), state_name(router, j)
        text += f"; the widest stream astray is {one} taken for {other}, {count(n, 'photo')}"
    else:
        text += "; no photo goes astray"
    silent = sum(row[-1] for row in router.confusion)
    text += f"; {count(silent, 'photo was', 'photos were')} not routed." if silent else "."
    if router.confidence_right is not None and router.confidence_wrong is not None:
        text += (
            f" The router's mean confidence is {score(router.confidence_right, 2)} where it is right and "
            f"{score(router.confidence_wrong, 2)} where it is wrong."
        )
    return text


def state_name(router: RouterReport, number: int) -> str:
    """`mask=worn` as worn, of several parents the classes in a row."""
    return state_classes(router.states[number], router.parents)


def on_errors(split: ErrorSplit, parents: Sequence[str]) -> str:
    """Where the errors of a node or of its route come from: the routes or the experts."""
    n, what = split.n_errors, listing([*parents, split.node], "or")
    if not n:
        return f"No photo is wrong in {what}."
    shares = {
        "the right expert was asked and was wrong": split.wrong_expert,
        "the route was wrong and the right expert would have known": split.wrong_route,
        "both were wrong": split.both,
    }
    order = sorted(shares, key=lambda name: -shares[name])
    parts = [f"in {percent(shares[name] / n, 0)} {name}" for name in order if shares[name]]
    text = f"Of {count(n, 'photo')} wrong in {what}, {listing(parts)}"
    return (
        f"{text}; in {split.lucky:,} of them {split.node} came out right all the same." if split.lucky else f"{text}."
    )


def on_cross(cells: Sequence[CrossCell]) -> str:
    """In which states the state's own expert is the best one; these differences are not tested."""
    states = list(dict.fromkeys(cell.state for cell in cells))
    wins, others = [], []
    for state in states:
        scored = [cell for cell in cells if cell.state == state and cell.macro_f1 is not None]
        own = next((cell for cell in scored if cell.answers_state), None)
        if own is None or len(scored) < 2:
            continue
        best = max(scored, key=lambda cell: (cell.macro_f1 or 0.0, cell.answers_state))
        if best is own:
            wins.append(state)
        else:
            who = "the pooled expert" if best.is_pooled else f'"{best.expert}"'
            others.append(f"on {state} {who} scores {score(best.macro_f1)} against {score(own.macro_f1)}")
    if not wins and not others:
        return "Every state has one expert only, so there is nothing to compare."
    text = f"In {len(wins)} of {count(len(wins) + len(others), 'state')} the expert that is asked is also the best one"
    if others:
        text += f"; {listing(others, most=NAMED)}"
    return f"{text} (macro F1, not tested)."


def on_votes(votes: VoteFacts) -> str:
    """Which checkpoint the vote would miss most, and whether that is shown."""
    metric = METRIC_WORDS[votes.metric]
    vote = getattr(votes.vote, votes.metric)
    best = max(getattr(one.alone, votes.metric) for one in votes.voters)
    text = f"The vote of {len(votes.voters)} has {metric} {score(vote)}, its best checkpoint alone {score(best)}."
    shown = [one for one in votes.voters if side_of(one.given.interval) > 0]
    harmful = [one for one in votes.voters if side_of(one.given.interval) < 0]
    if shown:
        most = max(shown, key=lambda one: one.given.value)
        amount = difference(most.given.value, most.given.interval)
        names = listing([one.name for one in shown])
        text += f" It would miss {names}{f', most of all {most.name}' if len(shown) > 1 else ''} ({amount})."
    if harmful:
        text += f" It would be better without {listing([one.name for one in harmful])}."
    if not shown and not harmful:
        tested = any(one.given.interval is not None for one in votes.voters)
        text += " For no single checkpoint a difference is shown." if tested else " Not tested: people are not known."
    return text


def on_shift(shift: ShiftFacts) -> str:
    """How far the shares seem to have moved, and what `ens fit shift` makes of it."""
    if shift.refused:
        return f"No estimate: {shift.refused}."
    moves = [new - old for new, old in zip(shift.estimated, shift.training, strict=True)]
    number = max(range(len(moves)), key=lambda i: abs(moves[i]))
    told = estimate(shift.estimated[number], (shift.low[number], shift.high[number]))
    done = "A correction pays" if shift.applied else "No correction"
    return (
        f"{shift.names[number]} moves most: {told} estimated against {score(shift.training[number])} in training. "
        f"{done}: {shift.reason}."
    )


def on_subgroups(groups: Sequence[Subgroup]) -> str:
    """Which subgroups are shown to be worse than all photos."""
    if not groups:
        return "No subgroup has enough people to be judged."
    if all(one.gap.interval is None for one in groups):
        return f"{groups[0].name} is the lowest of {len(groups)}, not tested: people are not known."
    worse = [one for one in groups if one.gap.sign < 0]
    if not worse:
        return (
            f"Of {count(len(groups), 'subgroup')} none is shown to be worse than all photos; the lowest is "
            f"{groups[0].name} ({estimate(groups[0].accuracy, groups[0].accuracy_interval)})."
        )
    names = [f"{one.name} ({score(one.accuracy)})" for one in worse]
    verb = "is" if len(worse) == 1 else "are"
    told = listing(names, most=NAMED)
    return f"{len(worse)} of {count(len(groups), 'subgroup')} {verb} shown to be worse than all photos: {told}."


def on_specialising(rows: Sequence[Specialising]) -> str:
    """Whether specialising pays, on all photos and by state."""
    whole, states = rows[0], rows[1:]
    amount = difference(whole.gain.value, whole.gain.interval)
    text = f"On all photos: {whole.verdict} ({amount} {METRIC_WORDS[whole.metric]})"
    pays = [one.state for one in states if one.verdict == PAYS]
    costs = [one.state for one in states if one.verdict == COSTS]
    if pays:
        text += f"; it pays on {listing(pays, most=NAMED)}"
    if costs:
        text += f"; it costs on {listing(costs, most=NAMED)}"
    if states and not pays and not costs:
        text += "; by state neither gain nor loss is shown"
    return f"Does specialising pay? {text}."
