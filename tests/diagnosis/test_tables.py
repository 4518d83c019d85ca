"""The tables of a diagnosis against loops over photos and names."""

from __future__ import annotations

import json
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from core_oracles import Case, hard_gate, oracle_expert, oracle_joint, random_case
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score
from worlds import AGE, MASK, SCHEMA, World, face_world

from ensemble_kit.ensemble import ConditionalEnsemble
from ensemble_kit.graph import Node
from ensemble_kit.metrics import person_bootstrap
from ensemble_kit.predictions import Predictions
from ensemble_kit.structures import score_structures

WORLD = face_world(0, n_people=30, n_voters=3, router=2.0)
FOUND = WORLD.diagnose(n_boot=40)

# ------------------------------------------------------------------------- random graphs and taxonomies, by loops


def case_world(seed: int, taxonomy: bool, n_samples: int = 24) -> tuple[Case, World]:
    case = random_case(seed, taxonomy=taxonomy, n_samples=n_samples, max_attributes=3)
    assume(any(len(a.classes) > 1 for a in case.schema.attributes) and case.schema.n_joint > 1)
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, case.schema.n_joint, n_samples)
    groups = np.array([f"p{number // 3}" for number in range(n_samples)])
    ids = case.experts[0].ids
    call: dict[str, Any] = {"n_boot": 5, "fallback": "pooled"}
    return case, World(case.experts, truth, ids, groups, case.schema, case.graph, call)


def names_of(case: Case, joint: int) -> dict[str, str]:
    row = case.schema.paths[joint]
    return {a.name: a.classes[i] for a, i in zip(case.schema.attributes, row, strict=True)}


def all_paths(case: Case) -> list[dict[str, str]]:
    return [names_of(case, number) for number in range(case.schema.n_joint)]


def possible(case: Case, node: Node, state: dict[str, str]) -> list[tuple[str, ...]]:
    """The combinations of the node's classes in a state, by class numbers."""
    inside = [path for path in all_paths(case) if all(path[p] == c for p, c in state.items())]
    found = {tuple(path[a] for a in node.attributes) for path in inside}
    number = {a: {c: i for i, c in enumerate(case.schema[a].classes)} for a in node.attributes}
    return sorted(found, key=lambda row: [number[a][c] for a, c in zip(node.attributes, row, strict=True)])


def answer(expert: Predictions, case: Case, node: Node, state: dict[str, str], row: int) -> tuple[str, ...] | None:
    """The most probable possible combination of an expert; the first of those that tie."""
    given = {
        tuple(dict(zip(expert.names, names, strict=True))[a] for a in node.attributes): float(expert.layers[0][row][i])
        for i, names in enumerate(expert.classes)
    }
    known = [one for one in possible(case, node, state) if one in given]
    return max(known, key=lambda one: given[one]) if known else None


def chain_answer(case: Case, node: Node, state: dict[str, str], row: int) -> tuple[str, ...] | None:
    choice = possible(case, node, state)
    if len(choice) == 1:
        return choice[0]
    expert = oracle_expert(case.experts, node, state)
    assert expert is not None
    return answer(expert, case, node, state, row)


def route_of(case: Case, node: Node, row: int) -> dict[str, str]:
    """The state that hard routing takes: the one that all joint classes share which the hard chain leaves possible."""
    left = [path for path, share in zip(all_paths(case), oracle_joint(case, row, hard_gate), strict=True) if share > 0]
    (state,) = {tuple(path[p] for p in node.parents) for path in left}
    return dict(zip(node.parents, state, strict=True))


def text_of(state: dict[str, str]) -> str:
    return " ".join(f"{name}={value}" for name, value in state.items())


@given(seed=st.integers(0, 10_000), taxonomy=st.booleans())
@settings(max_examples=30, deadline=None)
def test_errors_split_as_by_a_loop(seed: int, taxonomy: bool) -> None:
    case, world = case_world(seed, taxonomy, n_samples=8)
    found = world.diagnose(groups=None)
    nodes = [node for node in case.graph.nodes if node.parents]
    expected: dict[tuple[str, str], list[int]] = {}
    for node in nodes:
        for row in range(case.n_samples):
            path = names_of(case, int(world.truth[row]))
            true, truth = {p: path[p] for p in node.parents}, tuple(path[a] for a in node.attributes)
            taken = route_of(case, node, row)
            route, expert = taken == true, chain_answer(case, node, true, row) == truth
            lucky = not route and chain_answer(case, node, taken, row) == truth
            kinds = (route and expert, not route and expert, route and not expert, not route and not expert, lucky)
            for name in ("", text_of(true)):
                counts = expected.setdefault((node.name, name), [0] * 6)
                for place, one in enumerate((True, *kinds)):
                    counts[place] += one
    assert {
        (e.node, e.state): [e.n_samples, e.right, e.wrong_route, e.wrong_expert, e.both, e.lucky] for e in found.errors
    } == expected
    for split in found.errors:
        assert split.n_samples == split.right + split.n_errors
        assert split.lucky <= split.wrong_route + split.both
        parts = split.shares
        assert parts["wrong_route"] + parts["wrong_expert"] + parts["both"] == pytest.approx(min(1, split.n_errors))


@given(seed=st.integers(0, 10_000), taxonomy=st.booleans())
@settings(max_examples=30, deadline=None)
def test_cross_matrix_as_by_a_loop(seed: int, taxonomy: bool) -> None:
    case, world = case_world(seed, taxonomy, n_samples=8)
    found = world.diagnose(groups=None)
    for node in case.graph.nodes:
        states = {tuple(path[p] for p in node.parents): path for path in all_paths(case)} if node.parents else {}
        mine = [e for e in case.experts if sorted(e.names) == sorted(node.attributes)]
        cells = {(c.expert, c.state): c for c in found.cross if c.node == node.name}
        assert len(cells) == len(states) * len(mine)
        for expert in mine if states else []:
            for values in states:
                state = dict(zip(node.parents, values, strict=True))
                cell = cells[expert.describe(), text_of(state)]
                owner = oracle_expert(case.experts, node, state) if len(possible(case, node, state)) > 1 else None
                assert cell.answers_state == (owner is expert)
                check_cell(case, world, node, expert, state, cell)


def check_cell(case: Case, world: World, node: Node, expert: Predictions, state: dict[str, str], cell: Any) -> None:
    paths = [names_of(case, int(number)) for number in world.truth]
    rows = [row for row, path in enumerate(paths) if all(path[p] == c for p, c in state.items())]
    assert (cell.n_samples, cell.n_missing) == (len(rows), 0)
    classes = possible(case, node, state)
    given = [answer(expert, case, node, state, row) for row in rows]
    if not rows or all(one is None for one in given):
        assert cell.accuracy is None
        assert cell.macro_f1 is None
        return
    truth = [classes.index(tuple(paths[row][a] for a in node.attributes)) for row in rows]
    said = [-1 if one is None else classes.index(one) for one in given]
    assert cell.accuracy == pytest.approx(accuracy_score(truth, said))
    expected = f1_score(truth, said, labels=range(len(classes)), average="macro", zero_division=0)
    assert cell.macro_f1 == pytest.approx(expected)


@given(seed=st.integers(0, 10_000), taxonomy=st.booleans())
@settings(max_examples=40, deadline=None)
def test_any_graph_is_diagnosed(seed: int, taxonomy: bool) -> None:
    """Blocks, several parents, one possible class, experts in any order: plain JSON, and 80 columns of text."""
    _, world = case_world(seed, taxonomy)
    found = world.diagnose()
    json.dumps(found.to_json(), allow_nan=False)
    assert max(map(len, found.text().splitlines())) <= 80
    assert {name: len(frame) for name, frame in found.to_frames().items()} == {
        name: len(value)
        for name, value in found.to_json().items()
        if isinstance(value, list | tuple) and name != "advice"
    }
    assert all(found.advice)
    for node in [router.node for router in found.routers]:
        (child,) = [child for child in found.children if child.node == node]
        whole = next(split for split in found.errors if split.node == node)
        told = (whole.right + whole.wrong_route) / whole.n_samples
        routed = (whole.right + whole.lucky) / whole.n_samples
        assert child.true_state.accuracy == pytest.approx(told)
        assert child.predicted_state.accuracy == pytest.approx(routed)
        assert child.accuracy_cost.value == pytest.approx(told - routed)


# ------------------------------------------------------------------------------------------- the mask task, by names


def test_scores_are_those_of_the_structures() -> None:
    """The vote first, then one expert each, is the same as combining with the vote."""
    report = score_structures(
        WORLD.experts, SCHEMA, WORLD.graph, WORLD.truth, WORLD.ids, groups=WORLD.groups, n_boot=40, seed=1
    )
    rows = {row.structure: row for row in report.main_rows()}
    assert [row.structure for row in FOUND.scores] == [
        "perfect_mask",
        "conditional_hard",
        "conditional_soft",
        "independent",
    ]
    for row in FOUND.scores:
        assert row.joint == rows[row.structure].joint
        assert row.attributes == rows[row.structure].attributes
    (child,) = [child for child in report.children if child.voting == "soft"]
    assert FOUND.children[0].predicted_state == child.predicted_state
    assert FOUND.children[0].true_state == child.true_state


def test_gaps_are_paired_differences() -> None:
    joint = {row.structure: row.joint for row in FOUND.scores}
    assert [(gap.structure, gap.against) for gap in FOUND.gaps] == [
        ("perfect_mask", "conditional_soft"),
        ("conditional_soft", "conditional_hard"),
        ("conditional_soft", "independent"),
    ]
    for gap in FOUND.gaps:
        difference = joint[gap.structure].accuracy - joint[gap.against].accuracy
        assert gap.accuracy.value == pytest.approx(difference)
        assert gap.accuracy.interval is not None
        assert gap.accuracy.interval[0] <= gap.accuracy.interval[1]
    bound = FOUND.gaps[0].accuracy.interval
    assert bound is not None
    assert bound[0] >= 0, "told the true mask no draw of people has a lower joint accuracy"


def test_router() -> None:
    (router,) = FOUND.routers
    true = SCHEMA.decode(WORLD.truth)["mask"]
    mean = np.mean(np.array(WORLD.experts[0].probs, dtype=np.float64), axis=0)
    said = mean.argmax(axis=1)
    table = confusion_matrix(true, said, labels=range(3))
    assert router.confusion == tuple((*map(int, row), 0) for row in table)
    assert router.accuracy == pytest.approx((true == said).mean())
    assert router.true_share == pytest.approx([np.mean(true == c) for c in range(3)])
    assert router.predicted_share == pytest.approx([np.mean(said == c) for c in range(3)])
    sure = mean.max(axis=1)
    assert router.mean_confidence == pytest.approx(sure.mean(), abs=1e-6)
    assert router.confidence_right == pytest.approx(sure[true == said].mean(), abs=1e-6)
    assert router.confidence_wrong == pytest.approx(sure[true != said].mean(), abs=1e-6)


def test_specialising_scores() -> None:
    true, mean = SCHEMA.decode(WORLD.truth), [np.mean(np.array(e.probs, float), axis=0) for e in WORLD.experts]
    route = mean[0].argmax(axis=1)
    pooled = mean[1].argmax(axis=1)
    own = np.stack([mean[2 + c].argmax(axis=1) for c in range(3)], axis=1)
    for row in FOUND.specialising:
        inside = np.ones(len(route), bool) if not row.state else true["mask"] == MASK.index(row.state.split("=")[1])
        rows = np.flatnonzero(inside)
        assert (row.n_samples, row.n_people) == (len(rows), 30)
        for score, said in (
            (row.pooled, pooled[rows]),
            (row.routed, own[rows, route[rows]]),
            (row.told, own[rows, true["mask"][rows]]),
        ):
            assert score.accuracy == pytest.approx(accuracy_score(true["age"][rows], said))
            expected = f1_score(true["age"][rows], said, labels=range(3), average="macro", zero_division=0)
            assert score.macro_f1 == pytest.approx(expected)
        assert row.macro_f1.value == pytest.approx(row.routed.macro_f1 - row.pooled.macro_f1)
        assert row.told_accuracy.value == pytest.approx(row.told.accuracy - row.pooled.accuracy)


def test_subgroups_as_by_a_loop() -> None:
    colour = np.array(["red", "blue", "", "red", "green"] * 42)
    found = WORLD.diagnose(subgroups={"colour": list(colour)}, n_boot=200)
    result = ConditionalEnsemble(SCHEMA, WORLD.graph, WORLD.experts).combine(route="soft", vote="soft")
    right = result.joint.labels() == WORLD.truth
    true = SCHEMA.decode(WORLD.truth)
    sizes = {}
    assert WORLD.groups is not None
    for kind, values in {
        "mask": np.array(MASK.classes)[true["mask"]],
        "age": np.array(AGE.classes)[true["age"]],
        "joint class": np.array(SCHEMA.joint_names())[WORLD.truth],
        "colour": colour,
    }.items():
        for name in set(values.tolist()) - {""}:
            inside = values == name
            people = set(WORLD.groups[inside].tolist())
            sizes[kind, name] = len(people)
            if len(people) < 10:
                continue
            (row,) = [row for row in found.subgroups if (row.kind, row.name) == (kind, name)]
            assert (row.n_samples, row.n_people) == (int(inside.sum()), len(people))
            assert row.accuracy == pytest.approx(right[inside].mean())
            assert row.gap.value == pytest.approx(right[inside].mean() - right.mean())
            if len(people) == 30:  # then the draws of people are the same as those of the subgroup alone
                low, high = person_bootstrap(
                    np.ones(inside.sum(), int), right[inside].astype(int), WORLD.groups[inside], 2, "accuracy",
                    n_boot=200, seed=1,
                )  # fmt: skip
                assert row.accuracy_interval == pytest.approx((low, high))
    assert found.n_small_subgroups == sum(size < 10 for size in sizes.values()) > 0
    assert len(found.subgroups) == sum(size >= 10 for size in sizes.values())
    assert [row.accuracy for row in found.subgroups] == sorted(row.accuracy for row in found.subgroups)


def test_diversity_as_by_a_loop() -> None:
    rows = {row.expert: row for row in FOUND.diversity}
    assert list(rows) == [expert.describe() for expert in WORLD.experts]
    true = SCHEMA.decode(WORLD.truth)
    for expert in WORLD.experts:
        row, name = rows[expert.describe()], expert.names[0]
        inside = np.ones(len(WORLD.ids), bool)
        for parent, (value,) in expert.condition.items():
            inside &= true[parent] == MASK.index(value)
        truth = true[name][inside]
        right = np.array([layer[inside].argmax(axis=1) == truth for layer in expert.layers])
        assert row.n_samples == inside.sum()
        assert [score.accuracy for score in row.voters.values()] == pytest.approx(right.mean(axis=1))
        assert row.any_right == pytest.approx(np.mean([any(column) for column in right.T]))
        voted = np.mean(np.array(expert.probs, float), axis=0)[inside].argmax(axis=1)
        assert row.vote.accuracy == pytest.approx(np.mean(voted == truth))
        assert row.accuracy.value == pytest.approx(np.mean(voted == truth) - right.mean())
        for pair, (i, j) in zip(row.pairs, combinations(range(3), 2), strict=True):
            assert pair.disagreement == pytest.approx(np.mean(right[i] != right[j]))
            assert pair.double_fault == pytest.approx(np.mean(~right[i] & ~right[j]))
            a, b, c, d = (int(np.sum((right[i] == x) & (right[j] == y))) for x in (1, 0) for y in (1, 0))
            assert pair.q_statistic == pytest.approx((a * d - b * c) / (a * d + b * c))
        assert row.disagreement == pytest.approx(np.mean([pair.disagreement for pair in row.pairs]))


def test_voters_that_are_all_alike_have_no_q() -> None:
    probs = np.tile(np.eye(3)[SCHEMA.decode(WORLD.truth)["mask"]], (2, 1, 1))
    experts = [Predictions(MASK, probs, WORLD.ids), *WORLD.experts[1:]]
    found = World(experts, WORLD.truth, WORLD.ids, WORLD.groups).diagnose()
    assert found.diversity[0].q_statistic is None
    assert found.diversity[0].pairs[0].q_statistic is None
    json.dumps(found.to_json(), allow_nan=False)


def test_rows_that_were_not_computed() -> None:
    """Left out of the scores, counted in the cross-matrix, and other experts are still shown on them."""
    probs = np.array(WORLD.experts[2].probs)
    probs[1, :4] = np.nan
    truth = WORLD.truth.copy()
    truth[[3, 9]] = -1
    experts = [*WORLD.experts[:2], Predictions(AGE, probs, WORLD.ids, {"mask": "worn"}), *WORLD.experts[3:]]
    found = World(experts, truth, WORLD.ids, WORLD.groups).diagnose()
    assert (found.n_samples, found.n_left_out) == (len(truth) - 5, 5)
    gap = [cell for cell in found.cross if cell.expert == "age given mask=worn"]
    whole = [cell for cell in found.cross if cell.expert == "age"]
    assert sum(cell.n_missing for cell in gap) == 3
    assert sum(cell.n_samples for cell in gap) == len(truth) - 5
    assert sum(cell.n_samples for cell in whole) == len(truth) - 2
    assert "3 answers not computed" in " ".join(found.text().split())


def test_order_of_rows_and_of_experts_changes_nothing() -> None:
    rng = np.random.default_rng(3)
    shuffled = [expert.select(rng.permutation(expert.n_samples)) for expert in WORLD.experts]
    found = World([*shuffled[:2], *shuffled[:1:-1]], WORLD.truth, WORLD.ids, WORLD.groups).diagnose(n_boot=40)
    one, other = FOUND.to_json(), found.to_json()
    for table in ("scores", "gaps", "children", "errors", "specialising", "routers", "subgroups"):
        assert one[table] == other[table]
    assert sorted(one["cross"], key=str) == sorted(other["cross"], key=str)


def test_a_vote_by_name_is_the_vote_by_function() -> None:
    from ensemble_kit.voting import find_vote

    def my_vote(probs: Any, weights: Any) -> Any:
        return find_vote("hard")(probs, weights)

    by_name, by_function = WORLD.diagnose(vote="hard").to_json(), WORLD.diagnose(vote=my_vote).to_json()
    assert (by_name.pop("vote"), by_function.pop("vote")) == ("hard", "my_vote")
    assert by_name == by_function
    assert by_name["scores"] != json.loads(json.dumps(FOUND.to_json()))["scores"]
