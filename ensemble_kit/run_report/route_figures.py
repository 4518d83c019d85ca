"""Sections on routes, votes, shifts and subgroups."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ensemble_kit.diagnosis import Diagnosis
from ensemble_kit.diagnosis.findings import CrossCell, RouterReport
from ensemble_kit.diagnosis.report import GIVEN_ANSWERS
from ensemble_kit.graph import state_classes
from ensemble_kit.pages.charts import Bar, draw_bars, draw_differences, draw_flow, draw_shares
from ensemble_kit.pages.numbers import difference, estimate, listing, score
from ensemble_kit.run_report import route_sentences as say
from ensemble_kit.run_report.facts import RunReport, ShiftFacts, VoteFacts
from ensemble_kit.run_report.layout import Column, Figure, Numbers, Section
from ensemble_kit.structure_report import structure_text

MOST_STATES = 10
"""States of a flow; the rarest beyond are taken together."""

MOST_SUBGROUPS = 15
MOST_EXPERTS = 12


def routing_section(report: RunReport) -> Section:
    """Structures against each other, then each conditioned node: flow, errors, experts against states."""
    missing = [one for one in report.missing if one.what == "diagnosis"]
    found = report.diagnosis
    if found is None:
        return Section("routing", "Routes", "Routes and experts", missing=missing)
    figures = [_structures(found), _gaps(found)]
    for router in found.routers:
        figures += [_flow(router, found), _errors(router, found)]
        figures += [one for one in (_specialising(router, found), _cross(router, found)) if one is not None]
    left_out = [f"{structure_text(name)}: {reason}" for name, reason in found.left_out.items()]
    return Section("routing", "Routes", "Routes and experts", figures=figures, points=left_out, missing=missing)


def _structures(found: Diagnosis) -> Figure:
    title, sentence = "Ways of combining the same experts: joint macro F1", say.on_structures(found.scores)
    bars = [
        Bar(
            structure_text(one.structure),
            one.joint.macro_f1,
            one.joint.macro_f1_interval,
            7 if one.structure.startswith("perfect") else 0,
        )
        for one in found.scores
    ]
    rows = [
        [
            structure_text(one.structure),
            estimate(one.joint.accuracy, one.joint.accuracy_interval),
            estimate(one.joint.macro_f1, one.joint.macro_f1_interval),
            *(score(own.macro_f1) for own in one.attributes.values()),
        ]
        for one in found.scores
    ]
    attributes = [(f"{name}, macro F1", "number") for name in (found.scores[0].attributes if found.scores else ())]
    columns: list[Column] = ["structure", ("joint accuracy", "number"), ("joint macro F1", "number"), *attributes]
    return Figure(title, sentence, draw_bars(bars, title, sentence), Numbers("Every score", columns, rows))


def _gaps(found: Diagnosis) -> Figure:
    names = [f"{structure_text(gap.structure)} − {structure_text(gap.against)}" for gap in found.gaps]
    gains = [gap.macro_f1 if found.metric == "macro_f1" else gap.accuracy for gap in found.gaps]
    words = [f"{structure_text(gap.structure)} against {structure_text(gap.against)}" for gap in found.gaps]
    title = f"Differences in joint {say.METRIC_WORDS[found.metric]}"
    sentence = say.on_gaps(words, [(gain.value, gain.interval) for gain in gains])
    bars = [Bar(name, gain.value, gain.interval) for name, gain in zip(names, gains, strict=True)]
    rows = [[name, difference(gain.value, gain.interval)] for name, gain in zip(names, gains, strict=True)]
    numbers = Numbers("Every difference", ["difference", (say.METRIC_WORDS[found.metric], "number")], rows)
    return Figure(title, sentence, draw_differences(bars, title, sentence), numbers)


def expert_of(found: Diagnosis, node: str, state: str) -> str:
    """The expert that the graph asks in a state."""
    own = (cell.expert for cell in found.cross if (cell.node, cell.state) == (node, state) and cell.answers_state)
    return next(own, "none needed")


def _flow(router: RouterReport, found: Diagnosis) -> Figure:
    """True state -> state taken -> expert; rare states together."""
    title = f"From the true {' and '.join(router.parents)} to the {router.node} expert"
    sentence = say.on_flow(router)
    n = len(router.states)
    table = np.array(router.confusion, dtype=np.int64)
    order = np.argsort(-(table[:, :n].sum(axis=0) + table.sum(axis=1)), kind="stable")
    kept = sorted(order[:MOST_STATES].tolist()) if n > MOST_STATES else list(range(n))
    place = np.array([kept.index(k) if k in kept else len(kept) for k in range(n)])
    names = [say.state_name(router, k) for k in kept] + ([f"{n - len(kept)} other states"] if n > len(kept) else [])
    silent = bool(table[:, -1].any())
    first = np.zeros((len(names), len(names) + silent), dtype=np.int64)
    np.add.at(first, (place[:, None], place[None, :]), table[:, :n])
    if silent:
        np.add.at(first[:, -1], place, table[:, -1])
    experts = [_short(expert_of(found, router.node, router.states[k]), router.node) for k in range(n)]
    asked = list(dict.fromkeys(experts[k] for k in kept)) + (["other experts"] if n > len(kept) else [])
    second = np.zeros((len(names) + silent, len(asked) + silent), dtype=np.int64)
    for number, k in enumerate(kept):
        second[number, asked.index(experts[k])] += first[:, number].sum()
    if n > len(kept):
        second[len(kept), len(asked) - 1] += first[:, len(kept)].sum()
    if silent:
        second[-1, -1] = first[:, -1].sum()
    routed = [*names, "not routed"] if silent else names
    stages = [
        (f"true {' and '.join(router.parents)}", names),
        ("taken by the router", routed),
        (f"{router.node} expert", [*asked, "none"] if silent else asked),
    ]
    colours = [experts[k] for k in kept]
    tones = [list(range(len(names))), list(range(len(routed))), [_tone(name, colours) for name in stages[2][1]]]
    picture = draw_flow(stages, [first, second], title, sentence, tones=tones)
    return Figure(title, sentence, picture, _router_numbers(router), is_wide=True)


def _short(expert: str, node: str) -> str:
    """`age given mask=worn` as `for mask=worn`: the stage says whose expert it is."""
    return expert.replace(f"{node} given ", "for ") if expert != node else "pooled"


def _tone(expert: str, of_states: Sequence[str]) -> int:
    return of_states.index(expert) if expert in of_states else len(of_states)


def _router_numbers(router: RouterReport) -> Numbers:
    n = len(router.states)
    taken: list[Column] = [(say.state_name(router, k), "number") for k in range(n)]
    if n <= MOST_STATES:
        rows = [[say.state_name(router, k), *(f"{cell:,}" for cell in row)] for k, row in enumerate(router.confusion)]
        return Numbers("Photos by true state and state taken", ["true state", *taken, ("not routed", "number")], rows)
    pairs = say.astray(router)[: 3 * MOST_STATES]
    rows = [[f"{say.state_name(router, i)} taken for {say.state_name(router, j)}", f"{m:,}"] for m, i, j in pairs]
    return Numbers("The widest streams astray", ["stream", ("photos", "number")], rows)


def _errors(router: RouterReport, found: Diagnosis) -> Figure:
    splits = [one for one in found.errors if one.node == router.node and (one.n_errors or not one.state)]
    whole, states = splits[0], sorted(splits[1:], key=lambda one: -one.n_errors)[:MOST_STATES]
    what = listing([*router.parents, router.node], "or")
    title, sentence = f"Where errors in {what} come from", say.on_errors(whole, router.parents)
    names = ["wrong expert", "wrong route", "both"]
    kept = [whole, *states]
    rows = [
        (one.state or "all photos", [float(one.wrong_expert), float(one.wrong_route), float(one.both)]) for one in kept
    ]
    table = [
        [
            one.state or "all photos",
            *(f"{v:,}" for v in (one.n_samples, one.right, one.wrong_expert, one.wrong_route, one.both, one.lucky)),
        ]
        for one in splits
    ]
    heads = ("photos", "right", "wrong expert", "wrong route", "both", "lucky")
    numbers = Numbers("Photos by state", ["true state", *((head, "number") for head in heads)], table)
    return Figure(title, sentence, draw_shares(rows, names, title, sentence, tones=[1, 2, 4]), numbers)


def _specialising(router: RouterReport, found: Diagnosis) -> Figure | None:
    rows = [one for one in found.specialising if one.node == router.node]
    if not rows:
        return None
    title = f"{router.node}: specialised experts − pooled expert"
    names = [one.state or "all photos" for one in rows]
    gains = [one.gain for one in rows]
    sentence = say.on_specialising(rows)
    shown = sorted(range(1, len(rows)), key=lambda k: -rows[k].n_samples)[:MOST_STATES]
    bars = [Bar(names[k], gains[k].value, gains[k].interval, 0 if k == 0 else 1) for k in [0, *sorted(shown)]]
    table = [
        [
            names[k],
            f"{one.n_samples:,}",
            score(getattr(one.pooled, one.metric)),
            score(getattr(one.routed, one.metric)),
            difference(gains[k].value, gains[k].interval),
            difference(one.told_gain.value, one.told_gain.interval),
            one.verdict,
        ]
        for k, one in enumerate(rows)
    ]
    heads = ("photos", "pooled", "routed", "routed − pooled", "with every route right")
    numbers = Numbers(
        f"{say.METRIC_WORDS[found.metric]} by state",
        ["photos of", *((head, "number") for head in heads), "verdict"],
        table,
    )
    return Figure(title, sentence, draw_differences(bars, title, sentence), numbers)


def _cross(router: RouterReport, found: Diagnosis) -> Figure | None:
    cells = [one for one in found.cross if one.node == router.node]
    states = list(dict.fromkeys(one.state for one in cells))
    experts = list(dict.fromkeys(one.expert for one in cells))
    if len(experts) < 2:
        return None
    from ensemble_kit.run_report.tables import tinted_scores

    title, sentence = f"{router.node}: every expert on the photos of every state", say.on_cross(cells)
    by_pair = {(one.expert, one.state): one for one in cells}
    if len(experts) > MOST_EXPERTS or len(states) > MOST_EXPERTS:
        states = [
            one for one in states if any(by_pair.get((e, one)) and by_pair[e, one].answers_state for e in experts)
        ]
        states = states[:MOST_EXPERTS]
        asked = {one.expert for one in cells if one.answers_state and one.state in states}
        experts = [one for one in experts if one in asked or by_pair[one, states[0]].is_pooled]
        title += f" (the first {len(states)})"
    table = tinted_scores(
        [_short(one, router.node) for one in experts],
        [state_classes(one, router.parents) for one in states],
        [[_value(by_pair.get((expert, state))) for state in states] for expert in experts],
        [[_is_own(by_pair.get((expert, state))) for state in states] for expert in experts],
        "macro F1 of each expert (rows) on the photos of each true state (columns); in bold: the one that is asked",
    )
    return Figure(title, sentence, table)


def _value(cell: CrossCell | None) -> float | None:
    return None if cell is None else cell.macro_f1


def _is_own(cell: CrossCell | None) -> bool:
    return cell is not None and cell.answers_state


def votes_section(report: RunReport) -> Section:
    """What each checkpoint gives to the vote of its expert."""
    figures = [_votes(one) for one in report.votes]
    missing = [one for one in report.missing if one.what == "votes"]
    says = ["A checkpoint gives what the vote of all would lose without it: the vote with it minus the vote without."]
    more = f"{len(figures) - MOST_EXPERTS} more experts" if len(figures) > MOST_EXPERTS else ""
    return Section(
        "votes",
        "Votes",
        "What each checkpoint gives",
        says if figures else (),
        figures[:MOST_EXPERTS],
        more,
        figures[MOST_EXPERTS:],
        missing=missing,
    )


def _votes(votes: VoteFacts) -> Figure:
    title, sentence = votes.expert, say.on_votes(votes)
    bars = [Bar(one.name, one.given.value, one.given.interval) for one in votes.voters]
    rows = [
        [
            one.name,
            estimate(one.alone.macro_f1, one.alone.macro_f1_interval),
            score(one.alone.accuracy),
            difference(one.given.value, one.given.interval),
        ]
        for one in votes.voters
    ]
    heads = ("macro F1 alone", "accuracy alone", "gives to the vote")
    numbers = Numbers("Every checkpoint", ["checkpoint", *((head, "number") for head in heads)], rows)
    name = f"{votes.expert}: what the vote would lose without each checkpoint, {say.METRIC_WORDS[votes.metric]}"
    return Figure(title, sentence, draw_differences(bars, name, sentence), numbers)


def shift_section(report: RunReport) -> Section:
    """Shares of the classes in the photos to be answered, against those in training."""
    figures = [_shift(one) for one in report.shifts]
    missing = [one for one in report.missing if one.what == "shifts"]
    says = ["Estimated from the answers' probabilities alone, as by ens fit shift; no true answer is used."]
    return Section("shift", "Shift", "Do the shares move", says if figures else (), figures, missing=missing)


def _shift(shift: ShiftFacts) -> Figure:
    title, sentence = f"{shift.where}: estimated share − share in training", say.on_shift(shift)
    rows = list(zip(shift.names, shift.training, shift.estimated, shift.low, shift.high, strict=True))
    bars = [] if shift.refused else [Bar(n, e - t, (low - t, high - t)) for n, t, e, low, high in rows]
    shown = sorted(bars, key=lambda bar: -abs(bar.value))[:MOST_SUBGROUPS]
    table = [[n, score(t), score(e), f"{score(low)} to {score(high)}"] for n, t, e, low, high in rows]
    heads = ("training", "estimated", f"{shift.level:.0%} interval")
    numbers = Numbers("Shares", ["class", *((head, "number") for head in heads)], table)
    picture = draw_differences([bar for bar in bars if bar in shown], title, sentence) if shown else None
    return Figure(title, sentence, picture, numbers)


def subgroups_section(report: RunReport) -> Section:
    """The subgroups with the lowest joint accuracy."""
    found = report.diagnosis
    if found is None:
        return Section(
            "subgroups", "Subgroups", "Worst subgroups", missing=[m for m in report.missing if m.what == "diagnosis"]
        )
    title, sentence = "Joint accuracy, lowest first", say.on_subgroups(found.subgroups)
    bars = [
        Bar(
            f"{one.kind} {one.name}" if one.kind not in ("joint class", "state") else one.name,
            one.accuracy,
            one.accuracy_interval,
            4 if one.gap.sign < 0 else 0,
        )
        for one in found.subgroups[:MOST_SUBGROUPS]
    ]
    rows = [
        [
            one.name,
            one.kind,
            f"{one.n_samples:,}",
            "" if one.n_people is None else f"{one.n_people:,}",
            estimate(one.accuracy, one.accuracy_interval),
            difference(one.gap.value, one.gap.interval),
        ]
        for one in found.subgroups
    ]
    heads: list[Column] = ["subgroup", "of", ("photos", "number"), ("people", "number")]
    heads += [("joint accuracy", "number"), ("against all photos", "number")]
    figure = Figure(title, sentence, draw_bars(bars, title, sentence), Numbers("Every subgroup", heads, rows))
    small = f" {found.n_small_subgroups} with too few people are left out." if found.n_small_subgroups else ""
    own = f"the run's own answers ({report.read_as})" if found.subgroups_of == GIVEN_ANSWERS else found.subgroups_of
    says = [
        f"Joint accuracy of {own}, everywhere and on all photos. The differences from all photos hold for all "
        f"{len(found.subgroups)} subgroups together.{small}"
    ]
    return Section("subgroups", "Subgroups", "Worst subgroups", says, [figure])
