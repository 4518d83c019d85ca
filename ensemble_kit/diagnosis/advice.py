"""What the findings come to, in plain sentences."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from ensemble_kit.diagnosis.findings import (
    COSTS,
    MIN_PEOPLE,
    NO_DIFFERENCE,
    NOT_TESTED,
    PAYS,
    TOO_FEW,
    Diversity,
    ErrorSplit,
    Gap,
    Specialising,
    Subgroup,
)
from ensemble_kit.structure_report import Gain, signed, structure_text

METRIC_NAMES = {"accuracy": "accuracy", "macro_f1": "macro F1"}
ALIKE = 0.1
"""Shares of the errors closer than this are called alike."""

FEW_DIFFER = 0.02
"""Voters that disagree on fewer photos than this hardly differ."""

NAMED = 4
"""States or experts named in one sentence; the table has them all."""


def listed(names: Sequence[str]) -> str:
    """The first few by name, the others by number."""
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")


def on_specialising(rows: Sequence[Specialising]) -> list[str]:
    """One sentence on all photos of a node, one where its states differ from that, one on the router."""
    whole, states = rows[0], rows[1:]
    name = whole.node
    amount = f"{whole.gain} {METRIC_NAMES[whole.metric]}"
    first = {
        PAYS: f"{name}: specialising pays, {amount} over the pooled expert. Keep the specialised experts.",
        COSTS: f"{name}: specialising costs, {amount} against the pooled expert. Answer {name} by the pooled one.",
        NO_DIFFERENCE: f"{name}: no difference shown between specialised and pooled experts ({amount}). "
        "The pooled one alone is simpler.",
        TOO_FEW: f"{name}: too few people to tell whether to specialise: {whole.n_people}, at least {MIN_PEOPLE} "
        f"are needed ({amount}).",
        NOT_TESTED: f"{name}: specialised against pooled {amount}, not tested: nobody said who is on the photos.",
    }[whole.verdict]
    if whole.verdict == NO_DIFFERENCE and any(row.verdict in (PAYS, COSTS) for row in states):
        first = first.replace(" The pooled one alone is simpler.", " It depends on the state:")
    found = [first, *_by_state(whole, states)]
    if whole.verdict in (COSTS, NO_DIFFERENCE) and whole.told_gain.sign > 0:
        found.append(
            f"{name}: with every route right the specialised experts would gain {whole.told_gain} "
            f"{METRIC_NAMES[whole.metric]}: what they lack is a better router."
        )
    return found


def _by_state(whole: Specialising, states: Sequence[Specialising]) -> list[str]:
    words = {
        PAYS: "specialising pays on photos of",
        COSTS: "the pooled expert is better on photos of",
        NO_DIFFERENCE: "no difference shown on photos of",
        TOO_FEW: f"too few people to tell (under {MIN_PEOPLE}) on photos of",
    }
    differing = {row.verdict for row in states} - {whole.verdict}
    if whole.verdict in (NOT_TESTED, TOO_FEW) or not differing:
        return []
    parts = []
    for verdict, text in words.items():
        own = [f"{row.state} ({row.n_people if verdict == TOO_FEW else row.gain})" for row in states]
        chosen = [one for one, row in zip(own, states, strict=True) if row.verdict == verdict]
        if verdict == NO_DIFFERENCE and len(chosen) > NAMED:
            chosen = [f"{len(chosen)} states"]
        parts += [f"{text} {listed(chosen)}"] if chosen else []
    hint = (
        ' There, leave the specialised expert out and combine with "--fallback pooled".'
        if any(row.verdict == COSTS for row in states) and whole.verdict != COSTS
        else ""
    )
    return [f"{whole.node} by state: {'; '.join(parts)}.{hint}"]


def on_no_pooled(node: str) -> str:
    return (
        f"{node}: whether specialising helps cannot be told without a pooled {node} expert; train one with "
        f'"ens train {shlex.quote(node)}".'
    )


def on_errors(whole: ErrorSplit, parents: Sequence[str]) -> str:
    """Of one node, on all photos."""
    what = " or ".join([*parents, whole.node])
    if not whole.n_errors:
        return f"{whole.node}: no photo is wrong in {what}."
    shares = whole.shares
    difference = shares["wrong_expert"] - shares["wrong_route"]
    router = f"what predicts {' and '.join(parents)}"
    todo = (
        f"Work on the {whole.node} experts first."
        if difference > ALIKE
        else f"Work on {router} first."
        if difference < -ALIKE
        else f"The {whole.node} experts and {router} matter alike."
    )
    return (
        f"{whole.node}: {whole.n_errors} of {whole.n_samples} photos are wrong in {what}: "
        f"{shares['wrong_expert']:.0%} right route but wrong expert, {shares['wrong_route']:.0%} wrong route, "
        f"{shares['both']:.0%} both. {todo}"
    )


def on_gap(gap: Gap, metric: str) -> str:
    gain: Gain = gap.macro_f1 if metric == "macro_f1" else gap.accuracy
    one, other = structure_text(gap.structure), structure_text(gap.against)
    amount = f"{gain} joint {METRIC_NAMES[metric]}"
    if gap.structure.startswith("perfect"):
        return f"{one} is the bound for any better route: {amount} over {other}."
    if gain.interval is None:
        return f"{one} against {other}: {amount}, not tested."
    if gain.sign == 0:
        return f"{one} against {other}: no difference shown ({amount})."
    return f"{one} is {'better' if gain.sign > 0 else 'worse'} than {other}: {amount}."


def on_subgroups(worst: Subgroup, n_subgroups: int) -> str:
    between = "" if worst.accuracy_interval is None else " [{:.3f}, {:.3f}]".format(*worst.accuracy_interval)
    gap = f"{signed(worst.gap.value)} against all photos"
    judged = {
        None: f"{gap}, not tested; it is the lowest of {n_subgroups}",
        -1: f"{gap}, which is more than the lowest of {n_subgroups} shows by chance",
        0: f"{gap}, which the lowest of {n_subgroups} may be by chance",
        1: gap,
    }[None if worst.gap.interval is None else worst.gap.sign]
    return f"worst subgroup: {worst.kind} {worst.name}, joint accuracy {worst.accuracy:.3f}{between}, {judged}."


def on_voters(rows: Sequence[Diversity], metric: str) -> list[str]:
    gains = [(row, row.macro_f1 if metric == "macro_f1" else row.accuracy) for row in rows]
    tested = [(row, gain) for row, gain in gains if gain.interval is not None]
    found = []
    helped = [f"{row.expert} ({gain.value:+.3f})" for row, gain in tested if gain.sign > 0]
    plain = [row.expert for row, gain in tested if gain.sign == 0]
    worse = [f"{row.expert} ({gain.value:+.3f})" for row, gain in tested if gain.sign < 0]
    parts = [f"helps {listed(helped)}"] if helped else []
    parts += [f"shows no gain for {listed(plain)}"] if plain else []
    parts += [f"harms {listed(worse)}"] if worse else []
    if parts:
        found.append(f"voting, against one voter's mean {METRIC_NAMES[metric]}: {'; '.join(parts)}.")
    alike = [row.expert for row in rows if row.disagreement < FEW_DIFFER]
    if alike:
        found.append(
            f"voters hardly differ (under {FEW_DIFFER:.0%} of photos): {listed(alike)}. More alike add little."
        )
    return found
