"""Sentences say what their numbers say: the really largest is named, and no difference is claimed that is not shown."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import hypothesis
import numpy as np
import pytest
from hypothesis import assume
from hypothesis import strategies as st
from report_cases import answered

from ensemble_kit.diagnosis.findings import CrossCell, ErrorSplit, RouterReport, StructureScore, Subgroup
from ensemble_kit.pages.numbers import listing, percent
from ensemble_kit.run_report import route_sentences as routes
from ensemble_kit.run_report import sentences as say
from ensemble_kit.run_report.facts import (
    ClassCount,
    Curve,
    DataFacts,
    LabelFacts,
    NumberFacts,
    ShiftFacts,
    VoteFacts,
    VoterGain,
)
from ensemble_kit.structure_report import Gain, Score


def given(*strategies: st.SearchStrategy[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Fewer examples: sentences are simple, and there are many."""

    def wrapped(test: Callable[..., None]) -> Callable[..., None]:
        return hypothesis.settings(max_examples=40)(hypothesis.given(*strategies)(test))

    return wrapped


small = st.integers(0, 50)
unit = st.floats(0, 1)
intervals = st.one_of(st.none(), st.tuples(st.floats(-1, 1), st.floats(0, 1)).map(lambda p: (p[0], p[0] + p[1])))


def labels_of(counts: list[int], held: list[tuple[int, ...]] | None = None) -> LabelFacts:
    parts = held or [()] * len(counts)
    return LabelFacts("age", tuple(ClassCount(f"class {k}", n, n, parts[k]) for k, n in enumerate(counts)), 0)


@given(st.lists(small, min_size=2, max_size=6))
def test_the_most_and_the_least_frequent_class_are_named(counts: list[int]) -> None:
    text = say.on_labels(labels_of(counts))
    if not sum(counts):
        assert "No photo" in text
    elif min(counts) == max(counts):
        assert f"All {len(counts)} classes have" in text
    else:
        assert re.search(f"Most photos are {all_of(counts, max(counts), 'or')} [(]", text)
        if min(counts):
            assert re.search(f"fewest {all_of(counts, min(counts), 'and')} [(]", text)
            assert f"{max(counts) / min(counts):.1f} times" in text
        else:
            assert "fewest" not in text
            assert f"class {counts.index(0)}" in text


def all_of(counts: list[int], number: int, last: str) -> str:
    """All classes of so many photos: none of those that tie may be passed over."""
    return listing([f"class {k}" for k, n in enumerate(counts) if n == number], last, most=say.NAMED)


def test_folds_that_differ_are_told_from_folds_that_are_alike() -> None:
    assert "same shares" in say.on_labels(labels_of([4, 8], [(2, 2), (4, 4)]))
    text = say.on_labels(labels_of([10, 10], [(6, 4), (4, 6)]))
    assert "differs by 20.0 points at most (class 0)" in text


def test_people_in_several_folds_are_told() -> None:
    good = DataFacts("d", "auto", 10, 4, (5, 5), (2, 2), 0, (), ())
    leak = DataFacts("d", "auto", 10, 4, (5, 5), (3, 2), 0, (), ())
    assert "nobody is in two folds" in say.on_data(good)
    assert "too good" in say.on_data(leak)
    assert "nobody" not in say.on_data(leak)
    assert "3 photos are trained on only" in say.on_data(DataFacts("d", "auto", 10, 4, (4, 3), (2, 2), 3, (), ()))
    assert "a person of its own" in say.on_data(DataFacts("d", "auto", 4, 4, (2, 2), (2, 2), 0, (), ()))


def test_one_photo_has_what_several_have() -> None:
    one = LabelFacts("age", (ClassCount("a", 1, 1, ()), ClassCount("b", 2, 2, ())), 1)
    assert " 1 photo has no label of it." in say.on_labels(one)
    assert "1 photo is trained on only" in say.on_data(DataFacts("d", "auto", 9, 4, (4, 4), (2, 2), 1, (), ()))
    assert "1 photo of them is held out" in say.on_data(DataFacts("d", "auto", 9, 4, (1,), (1,), 0, (), ()))
    assert "2 folds of 1 photo each" in say.on_data(DataFacts("d", "auto", 2, 1, (1, 1), (1, 1), 0, (), ()))
    pairs = (*((float(k), 0) for k in range(55, 60)), (60.0, 1))
    text = say.on_numbers(NumberFacts("age", (60.0,), pairs, 1.0, ((60.0, 1),), 2.0, pairs[-1]))
    assert text.startswith("Of 1 photo, 100.0 % lie so near to 60 that a label off by 2 would be in another class. ")
    assert " 1 photo stands at 60 exactly" in text
    flow = routes.on_flow(router([[1, 0, 0], [1, 0, 1]]))
    assert flow.startswith("1 of 3 photos (33.3 %) is taken for its true state")
    assert "1 photo was not routed" in flow


def test_where_nobody_is_known_no_people_are_told_of() -> None:
    text = say.on_data(DataFacts("d", "auto", 4, 4, (2, 2), (2, 2), 0, (), ()))
    assert text == "4 photos, each counted as a person of its own, divided into 2 folds of 2 photos each."


@pytest.mark.parametrize(("counts", "capped"), [([5, 5, 5, 5, 5, 60], True), ([5, 5, 5, 5, 5, 6], False), ([9], False)])
def test_a_cap_is_a_tower_at_the_highest_number(counts: list[int], capped: bool) -> None:
    pairs = tuple((float(55 + k), n) for k, n in enumerate(counts))
    facts = NumberFacts("age", (60.0,), pairs, 1.0, ((60.0, 3),), 2.0, pairs[-1])
    assert ("cap" in say.on_numbers(facts)) == capped


matrices = st.integers(2, 4).flatmap(
    lambda n: st.lists(st.lists(small, min_size=n + 1, max_size=n + 1), min_size=n, max_size=n)
)


@given(matrices)
def test_the_most_frequent_mistake_is_named(rows: list[list[int]]) -> None:
    table, n = np.array(rows), len(rows)
    text = say.on_confusion(answered(rows))
    wrong = table[:, :n] * (1 - np.eye(n, dtype=int))
    if not wrong.any():
        assert "No photo got a wrong class" in text
    else:
        i, j = np.unravel_index(wrong.argmax(), wrong.shape)
        assert text.startswith(f"{wrong.sum()} of ") or wrong.sum() > 999
        assert f"most often class {i} is called class {j}: " in text
    assert ("got no answer" in text) == bool(table[:, -1].any())


@given(matrices)
def test_the_share_of_a_mistake_is_that_of_the_true_class(rows: list[list[int]]) -> None:
    table, n = np.array(rows), len(rows)
    wrong = table[:, :n] * (1 - np.eye(n, dtype=int))
    assume(bool(wrong.any()))
    i, j = np.unravel_index(wrong.argmax(), wrong.shape)
    told = f"{percent(wrong[i, j] / table[i].sum())} of all class {i}"
    assert told in say.on_confusion(answered(rows))


def test_a_mistake_of_half_a_class_is_told_as_half_of_it() -> None:
    """Whatever the class that it is called: 30 of 60, not 30 of the 90 that are called so."""
    text = say.on_confusion(answered([[30, 30, 0], [0, 60, 0]]))
    assert (
        text
        == "30 of 120 photos got a wrong class; most often class 0 is called class 1: 30 photos, 50.0 % of all class 0."
    )


@given(matrices)
def test_the_class_found_best_and_the_one_found_worst_are_named(rows: list[list[int]]) -> None:
    facts = answered(rows)
    text = say.on_classes(facts)
    there = [one for one in facts.classes if one.n_photos]
    if len(there) > 1 and len({one.f1 for one in there}) > 1:
        assert f"Found best is {max(there, key=lambda one: one.f1).name} (" in text
        lowest = min(one.f1 for one in there)
        last = [one for one in there if f"{one.f1:.3f}" == f"{lowest:.3f}"]
        if len(last) == 1:
            assert f"worst {last[0].name} (" in text
        else:
            assert f"worst are {len(last)} classes with {lowest:.3f}, among them {last[0].name}." in text
    absent = len(facts.classes) - len(there)
    assert ("no photo here" in text) == (absent > 0 and bool(there))


def test_classes_that_are_worst_alike_are_counted() -> None:
    text = say.on_classes(answered([[5, 0, 0, 0, 0], [3, 0, 0, 0, 0], [2, 0, 0, 0, 0], [0, 0, 0, 0, 0]]))
    assert "Found best is class 0 (" in text
    assert "worst are 2 classes with 0.000, among them class 1." in text
    assert "1 class has no photo here" in text


@given(st.lists(st.tuples(unit, unit, st.integers(0, 9)), min_size=1, max_size=5))
def test_too_sure_is_said_where_confidence_is_above_truth(bins: list[tuple[float, float, int]]) -> None:
    text = say.on_reliability(answered([[1, 0, 0], [0, 1, 0]], reliability=tuple(bins)))
    n = sum(row[2] for row in bins)
    if not n:
        assert text == "No photo was answered."
        return
    gap = sum((row[0] - row[1]) * row[2] for row in bins) / n
    assume(abs(abs(gap) - say.ALIKE) > 1e-9)
    assert ("too sure" in text) == (gap > say.ALIKE)
    assert ("too unsure" in text) == (gap < -say.ALIKE)


@given(st.lists(unit, min_size=1, max_size=12))
def test_coverage_is_read_off_the_curve(risks: list[float]) -> None:
    n = len(risks)
    points = tuple(((k + 1) / n, risk) for k, risk in enumerate(risks))
    facts = answered([[1, 0, 0], [0, 1, 0]], coverage=points)
    assert say.wrong_at(facts, 0.5) == risks[-(-n // 2) - 1]
    assert say.most_answered(facts, 0.1) == max([0.0, *(c for c, r in points if r <= 0.1)])
    assert f"Of all answers to age {percent(risks[-1])} are wrong" in say.on_coverage([facts])


def curve(scores: list[float | None], losses: list[float | None] | None = None) -> Curve:
    n = len(scores)
    return Curve(
        "age", 0, 0, tuple(range(1, n + 1)), tuple([0.5] * n), tuple(losses or [None] * n), tuple(scores), 1.0, n
    )


@given(st.lists(st.lists(unit, min_size=2, max_size=5), min_size=1, max_size=4))
def test_epochs_are_asked_for_where_most_trainings_still_rise(runs: list[list[float]]) -> None:
    text = say.on_curves([curve(list(scores)) for scores in runs])
    rising = sum(scores[-1] > max(scores[:-1]) for scores in runs)
    assert f"In {rising} of {len(runs)} the last epoch is the best" in text
    assert ("more epochs may help" in text) == (rising > len(runs) / 2)
    ends = [scores[-1] for scores in runs]
    assert f"{min(ends):.3f}" in text
    assert f"{max(ends):.3f}" in text


def test_learning_by_heart_is_said_where_the_loss_rises_again() -> None:
    assert "by heart" in say.on_curves([curve([0.1, 0.2, 0.2], [1.0, 0.5, 0.9])])
    assert "by heart" not in say.on_curves([curve([0.1, 0.2, 0.3], [1.0, 0.6, 0.5])])
    assert "measured once" in say.on_curves([curve([None, None, 0.3])])
    assert "without a validation score" in say.on_curves([curve([None, None])])


@given(st.lists(st.tuples(st.floats(-1, 1), intervals), min_size=1, max_size=4))
def test_no_difference_is_claimed_whose_interval_holds_0(gaps: list[tuple[float, Any]]) -> None:
    names = [f"a{k} against b{k}" for k in range(len(gaps))]
    text = routes.on_gaps(names, gaps).lower()
    if all(interval is None for _, interval in gaps):
        assert "no difference is tested" in text
        return
    for name, (_, interval) in zip(names, gaps, strict=True):
        claimed = f"{name}: " in text
        assert claimed == (interval is not None and (interval[0] > 0 or interval[1] < 0))
        if claimed:
            assert f"{name}: " + text.split(f"{name}: ")[1].split(";")[0].rstrip(".") in text
            part = text.split(f"{name}: ")[1].split(";")[0]
            assert ("higher" in part) == (interval[0] > 0)


@given(st.lists(st.tuples(unit, unit), min_size=1, max_size=4))
def test_the_highest_structure_is_named_and_the_bound_never(scores: list[tuple[float, float]]) -> None:
    rows = [StructureScore("perfect_mask", Score(1.0, 1.0), {})]
    rows += [StructureScore(f"s_{k}", Score(a, f), {}) for k, (a, f) in enumerate(scores)]
    best = max(range(len(scores)), key=lambda k: scores[k][1])
    assert routes.on_structures(rows).startswith(f"Highest joint macro F1: s {best}, ")


def router(table: list[list[int]]) -> RouterReport:
    n = len(table)
    states = tuple(f"mask={k}" for k in range(n))
    nothing = (0.0,) * n
    return RouterReport("age", ("mask",), states, nothing, nothing, tuple(map(tuple, table)), 0.0, None, None, None)


@given(matrices)
def test_the_widest_stream_astray_is_named(rows: list[list[int]]) -> None:
    table, n = np.array(rows), len(rows)
    text = routes.on_flow(router(rows))
    wrong = table[:, :n] * (1 - np.eye(n, dtype=int))
    assert text.startswith(f"{np.trace(table):,} of ")
    if wrong.any():
        i, j = np.unravel_index(wrong.argmax(), wrong.shape)
        assert f"the widest stream astray is {i} taken for {j}, " in text
    else:
        assert "no photo goes astray" in text
    assert ("not routed" in text) == bool(table[:, -1].any())


@given(small, small, small)
def test_errors_are_told_by_their_largest_part_first(route: int, expert: int, both: int) -> None:
    lucky = route // 2
    split = ErrorSplit("age", "", 200, 200 - route - expert - both, route, expert, both, lucky)
    text = routes.on_errors(split, ["mask", "gender"])
    n = route + expert + both
    if not n:
        assert text == "No photo is wrong in mask, gender or age."
        return
    assert text.startswith(f"Of {n} photo{'' if n == 1 else 's'} wrong in mask, gender or age, in ")
    assert text.endswith(f"; in {lucky} of them age came out right all the same.") == bool(lucky)
    parts = {"the right expert was asked": expert, "the route was wrong": route, "both were": both}
    places = [text.find(words) for words in sorted(parts, key=lambda words: -parts[words]) if parts[words]]
    assert places == sorted(places)
    assert -1 not in places


def cell(expert: str, state: str, value: float | None, own: bool) -> CrossCell:
    return CrossCell("age", expert, state, not own, own, 9, 0, value, value)


@pytest.mark.parametrize(
    ("states", "parents", "names"),
    [
        (("mask=not worn", "mask=a b>=60"), ("mask",), ["not worn", "a b>=60"]),
        (("mask=a=b c gender=d e", "mask=gender gender=x"), ("mask", "gender"), ["a=b c d e", "gender x"]),
    ],
)
def test_states_keep_the_signs_and_blanks_of_their_classes(
    states: tuple[str, ...], parents: tuple[str, ...], names: list[str]
) -> None:
    router = RouterReport("age", parents, states, (0.5, 0.5), (0.5, 0.5), ((1, 0, 0), (0, 1, 0)), 1.0, None, None, None)
    assert [routes.state_name(router, k) for k in range(2)] == names


def test_a_better_expert_than_the_one_asked_is_named() -> None:
    cells = [
        cell("a", "worn", 0.5, True),
        cell("b", "worn", 0.7, False),
        cell("a", "off", 0.4, False),
        cell("b", "off", 0.6, True),
    ]
    text = routes.on_cross(cells)
    assert text.startswith("In 1 of 2 states")
    assert "on worn the pooled expert scores 0.700 against 0.500" in text
    assert "on off" not in text
    assert "one expert only" in routes.on_cross([cell("a", "worn", 0.5, True)])


@given(st.lists(st.tuples(st.floats(-1, 1), intervals), min_size=2, max_size=5))
def test_a_vote_misses_only_whom_it_is_shown_to_miss(given_: list[tuple[float, Any]]) -> None:
    voters = tuple(
        VoterGain(f"fold{k}", Score(0.5, 0.5), Gain(value, between)) for k, (value, between) in enumerate(given_)
    )
    text = routes.on_votes(VoteFacts("age", "macro_f1", 9, Score(0.6, 0.6), voters))
    shown = [k for k, (_, between) in enumerate(given_) if between is not None and between[0] > 0]
    harmful = [k for k, (_, between) in enumerate(given_) if between is not None and between[1] < 0]
    assert ("would miss" in text) == bool(shown)
    assert ("better without" in text) == bool(harmful)
    if len(shown) > 1:
        most = max(shown, key=lambda k: given_[k][0])
        assert f"most of all fold{most} (" in text
    if not shown and not harmful:
        assert "no single checkpoint a difference is shown" in text or "Not tested" in text


def test_a_shift_is_told_as_it_was_decided() -> None:
    shares = ((0.5, 0.5), (0.4, 0.6), (0.35, 0.55), (0.45, 0.65))
    text = routes.on_shift(ShiftFacts("age", ("young", "old"), *shares, 0.9, True, "", "it gains"))
    assert "A correction pays: it gains." in text
    assert "0.400 [0.350, 0.450] estimated against 0.500" in text
    assert "No correction: no gain." in routes.on_shift(
        ShiftFacts("age", ("a", "b"), *shares, 0.9, False, "", "no gain")
    )
    assert routes.on_shift(ShiftFacts("age", ("a", "b"), *shares, 0.9, False, "too few", "")) == "No estimate: too few."


@given(st.lists(intervals, max_size=5))
def test_only_subgroups_shown_to_be_worse_are_called_so(gaps: list[Any]) -> None:
    groups = [Subgroup("age", f"g{k}", 9, 3, 0.5, None, Gain(-0.1, between)) for k, between in enumerate(gaps)]
    text = routes.on_subgroups(groups)
    worse = [k for k, between in enumerate(gaps) if between is not None and between[1] < 0]
    if worse:
        assert text.startswith(f"{len(worse)} of {len(gaps)} subgroup")
        assert f"g{worse[0]} (" in text
    else:
        assert "shown to be worse than all photos:" not in text
