from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise, product
from typing import Any

import numpy as np
import pytest
from core_oracles import (
    FACE_GRAPH,
    ROUTE_GATES,
    Case,
    Gate,
    face_experts,
    face_schema,
    hard_gate,
    oracle_joint,
    random_case,
    random_probs,
    route_two,
    sample_ids,
    soft_gate,
    two_gate,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble_kit.arrays import FloatArray, IntArray
from ensemble_kit.errors import DataError, EnsembleKitError, UsageError
from ensemble_kit.graph import Graph, Node
from ensemble_kit.joint import Passed, Plan, forward, make_plan, with_known
from ensemble_kit.predictions import Predictions
from ensemble_kit.routing import Route, find_route, route_hard, route_soft, route_threshold, route_top_k
from ensemble_kit.schema import Attribute, Schema

SEEDS = st.integers(0, 2**32 - 1)
GATES: list[tuple[Route, Gate]] = [(route_soft, soft_gate), (route_hard, hard_gate), (route_two, two_gate)]
RULES: list[tuple[Route, Gate]] = [*((find_route(text), gate) for text, gate in ROUTE_GATES.items()), GATES[2]]
ROUTES = [route for route, _ in RULES]


def run_pass(case: Case, route: Route, rows: IntArray | None = None) -> Passed:
    """The forward pass over saved predictions, on some rows only."""
    plan = make_plan(case.schema, case.graph, case.experts, case.fallback)
    chosen = np.arange(case.n_samples) if rows is None else rows

    def read(number: int, wanted: IntArray) -> FloatArray:
        return case.experts[number].layers[0][chosen[wanted]]

    return forward(plan, len(chosen), read, {node: route for node in case.graph.nodes if node.parents})


def run(case: Case, route: Route, rows: IntArray | None = None) -> tuple[FloatArray, dict[Node, FloatArray]]:
    passed = run_pass(case, route, rows)
    return passed.joint, {node: routed.gate for node, routed in passed.routed.items()}


@settings(max_examples=150, deadline=None)
@given(SEEDS, st.booleans(), st.sampled_from(RULES))
def test_joint_is_the_definition_on_random_graphs(seed: int, taxonomy: bool, rule: tuple[Route, Gate]) -> None:
    case = random_case(seed, taxonomy=taxonomy)
    joint, _ = run(case, rule[0])
    expected = [oracle_joint(case, row, rule[1]) for row in range(case.n_samples)]
    np.testing.assert_allclose(joint, expected, rtol=0, atol=1e-12)
    np.testing.assert_allclose(joint.sum(axis=1), 1, rtol=0, atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(SEEDS)
def test_hard_is_greedy_picking_from_the_top(seed: int) -> None:
    case = random_case(seed, taxonomy=False, blocks=False)
    joint, _ = run(case, route_hard)
    classes = case.schema.decode(joint.argmax(axis=1))
    plan = make_plan(case.schema, case.graph, case.experts, case.fallback)
    for row in range(case.n_samples):
        picked: dict[str, int] = {}
        for step in plan.steps:
            (name,) = step.node.attributes
            state = [picked[parent] for parent in step.node.parents]
            number = step.expert_of_state[[list(s) for s in step.states].index(state)]
            if number < 0:
                picked[name] = 0
                continue
            expert = case.experts[number]
            given_ = {c[0]: expert.layers[0][row][i] for i, c in enumerate(expert.classes)}
            in_order = [given_[c] for c in case.schema[name].classes]
            picked[name] = in_order.index(max(in_order))
        assert {name: int(classes[name][row]) for name in picked} == picked


@settings(max_examples=40, deadline=None)
@given(SEEDS)
def test_soft_gives_the_experts_back(seed: int) -> None:
    """A root's probabilities are its marginal; P(child | state) is the child's expert."""
    case = random_case(seed, taxonomy=False)
    joint, _ = run(case, route_soft)
    plan = make_plan(case.schema, case.graph, case.experts, case.fallback)
    classes = case.schema.decode(np.arange(case.schema.n_joint))
    for step in plan.steps:
        for state, number in zip(step.states, step.expert_of_state, strict=True):
            fits = np.ones(case.schema.n_joint, dtype=np.bool_)
            for parent, value in zip(step.node.parents, state, strict=True):
                fits &= classes[parent] == value
            total = joint[:, fits].sum(axis=1)
            expert = case.experts[number]
            for column, names in enumerate(expert.classes if number >= 0 else ()):
                hits = fits.copy()
                for name, value in zip(expert.names, names, strict=True):
                    hits &= classes[name] == case.schema[name].index(value)
                expected = expert.layers[0][:, column]
                live = total > 1e-6
                np.testing.assert_allclose(joint[live][:, hits].sum(axis=1) / total[live], expected[live], atol=1e-9)


def arrays(passed: Passed) -> list[FloatArray]:
    per_node = [a for r in passed.routed.values() for a in (r.gate, r.confidence, r.kept)]
    return [passed.joint, passed.distance, passed.n_answered.astype(np.float64), *per_node]


@settings(max_examples=80, deadline=None)
@given(SEEDS, st.booleans(), st.sampled_from(ROUTES))
def test_a_row_has_the_same_bits_alone_in_any_order_and_twice(seed: int, taxonomy: bool, route: Route) -> None:
    case = random_case(seed, taxonomy=taxonomy, n_samples=9)
    whole = arrays(run_pass(case, route))
    random = np.random.default_rng(seed)
    choices = [random.permutation(9), random.integers(0, 9, size=14), *([row] for row in range(9))]
    for rows in map(np.array, choices):
        for found, expected in zip(arrays(run_pass(case, route, rows)), whole, strict=True):
            assert np.array_equal(found, expected[rows], equal_nan=True)


def test_a_row_alone_keeps_its_bits_where_many_classes_are_divided() -> None:
    """40 of 60 classes are possible: a sum along them may run in another order when there is one row."""
    fine = [f"f{number:02}" for number in range(60)]
    rows = [("a", name) for name in fine[:40]] + [("b", name) for name in fine[20:]]
    schema = Schema.from_rows(["kind", "fine"], rows)
    random, ids = np.random.default_rng(0), sample_ids(25)
    experts = [Predictions(schema[n], random_probs(random, 25, len(schema[n].classes)), ids) for n in schema.names]
    case = Case(schema, Graph({"kind": [], "fine": ["kind"]}), experts, "pooled", 25)
    joint, _ = run(case, route_soft)
    for row in range(25):
        assert np.array_equal(run(case, route_soft, np.array([row]))[0][0], joint[row])


@settings(max_examples=150, deadline=None)
@given(SEEDS, st.booleans())
def test_the_distance_is_the_total_variation_to_soft(seed: int, taxonomy: bool) -> None:
    """An equality, with a route of its own at every node."""
    case = random_case(seed, taxonomy=taxonomy)
    random = np.random.default_rng(seed)
    plan = make_plan(case.schema, case.graph, case.experts, case.fallback)
    routes = {node: ROUTES[int(random.integers(len(ROUTES)))] for node in case.graph.nodes if node.parents}
    passed = forward(plan, case.n_samples, lambda n, rows: case.experts[n].layers[0][rows], routes)
    soft = np.array([oracle_joint(case, row, soft_gate) for row in range(case.n_samples)])
    expected = np.abs(passed.joint - soft).sum(axis=1) / 2
    np.testing.assert_allclose(passed.distance, expected, rtol=0, atol=1e-12)
    assert (passed.n_answered == len(case.graph.nodes)).all()


def test_a_soft_pass_is_at_distance_zero_and_keeps_all_also_in_float32() -> None:
    case = face_case()
    for number, expert in enumerate(case.experts):
        layers = [layer.astype(np.float32) for layer in expert.layers]
        case.experts[number] = Predictions(expert.attributes, layers, expert.ids, expert.condition)
    passed = run_pass(case, route_soft)
    (routed,) = passed.routed.values()
    assert not passed.distance.any()
    assert set(routed.kept) == {1.0}
    np.testing.assert_allclose(routed.confidence, case.experts[0].layers[0].max(axis=1), atol=1e-6)
    cut = run_pass(case, route_top_k(2))
    expected = np.abs(cut.joint - passed.joint).sum(axis=1) / 2
    np.testing.assert_allclose(cut.distance, expected, atol=1e-6)


def test_a_distance_that_is_not_known_is_nan_row_by_row() -> None:
    """A gate of another form, a route that abstains, an expert that abstains; the other rows keep theirs."""
    case = face_case(6)
    case.experts[0].layers[0][:] = [0.5, 0.3, 0.2]
    case.experts[1].layers[0][4] = 0

    def route(belief: FloatArray) -> FloatArray:
        first = belief[:, :1] == 0.5
        gate = np.where(first, [0.625, 0.375, 0.0], belief)
        gate[(belief[:, 0] == 0.25)] = [1 / 3, 1 / 3, 1 / 3]
        gate[(belief[:, 0] == 0.125)] = 0
        return gate

    case.experts[0].layers[0][2] = [0.25, 0.25, 0.5]
    case.experts[0].layers[0][3] = [0.125, 0.375, 0.5]
    case.experts[0].layers[0][5] = [0.4, 0.3, 0.3]
    passed = run_pass(case, route)
    np.testing.assert_allclose(passed.distance, [0.2, 0.2, np.nan, np.nan, np.nan, 0.0], atol=1e-15)
    assert passed.n_answered.tolist() == [3, 3, 3, 2, 1, 3]
    (routed,) = passed.routed.values()
    np.testing.assert_allclose(routed.kept, [0.8, 0.8, 1, 0, 0, 1])
    np.testing.assert_allclose(routed.confidence, [0.5, 0.5, 0.5, 0.5, 0, 0.4])


def chain(n_attributes: int, share: float) -> Case:
    """a while it lasts, then b for ever: P(a | a before) = share. n_attributes + 1 joint classes."""
    rows = [("a",) * length + ("b",) * (n_attributes - length) for length in range(n_attributes + 1)]
    names = [f"step{number:02}" for number in range(n_attributes)]
    schema = Schema.from_rows(names, rows)
    probs = np.array([[share, 1 - share], [1 - share, share]])
    edges: dict[str | tuple[str, ...], list[str]] = {names[0]: []}
    experts = [Predictions(schema[names[0]], probs, sample_ids(2))]
    for before, name in pairwise(names):
        edges[name] = [before]
        experts.append(Predictions(schema[name], probs, sample_ids(2), {before: "a"}))
    return Case(schema, Graph(edges), experts, "refuse", 2)


def test_sixty_factors_of_a_thousandth_do_not_underflow() -> None:
    case = chain(60, 1e-3)
    index = {name: number for number, name in enumerate(case.schema.joint_names())}
    all_a, first_b = index[" / ".join("a" * 60)], index[" / ".join("b" * 60)]
    for route in (route_soft, find_route("sparse=0")):
        joint = run_pass(case, route).joint
        np.testing.assert_allclose(joint[0, all_a], 1e-180, rtol=1e-12)
        np.testing.assert_allclose(joint[1, all_a], 0.999**60, rtol=1e-12)
        np.testing.assert_allclose(joint[0, first_b], 0.999, rtol=1e-12)
        np.testing.assert_allclose(joint.sum(axis=1), 1, rtol=1e-12)
    known = with_known(run_pass(case, route_soft).joint, case.schema, {"step59": np.array([0, 0])})
    assert known.argmax(axis=1).tolist() == [all_a, all_a]
    hard = run_pass(case, route_hard)
    assert hard.joint.argmax(axis=1).tolist() == [first_b, all_a]
    np.testing.assert_allclose(hard.distance, [0.001, 1 - 0.999**59], rtol=1e-12)
    sure = run_pass(case, route_threshold(0.9))
    assert np.array_equal(sure.joint, hard.joint)


def face_case(n_samples: int = 50, graph: Graph = FACE_GRAPH, **options: Any) -> Case:
    return Case(face_schema(), graph, face_experts(7, n_samples, **options), "refuse", n_samples)


def test_the_mask_task_is_the_einsum() -> None:
    case = face_case()
    mask, gender, *age = (expert.layers[0] for expert in case.experts)
    expected = np.einsum("nm,ng,mna->nmga", mask, gender, np.stack(age)).reshape(50, 18)
    np.testing.assert_allclose(run(case, route_soft)[0], expected, atol=1e-15)


def test_a_flat_expert_comes_back_as_it_is() -> None:
    schema = face_schema()
    probs = random_probs(np.random.default_rng(1), 20, 18)
    flat = Predictions(schema.attributes, probs, sample_ids(20))
    joint, gates = run(Case(schema, Graph.flat(schema), [flat], "refuse", 20), route_hard)
    assert np.array_equal(joint, probs)
    assert gates == {}


def test_an_expert_is_read_on_exactly_the_rows_its_gate_opens() -> None:
    case = face_case()
    plan = make_plan(case.schema, case.graph, case.experts)
    asked: dict[int, list[int]] = {}

    def read(number: int, rows: IntArray) -> FloatArray:
        assert number not in asked
        asked[number] = rows.tolist()
        return case.experts[number].layers[0][rows]

    forward(plan, 50, read, dict.fromkeys(case.graph.nodes, route_hard))
    decided = case.experts[0].layers[0].argmax(axis=1)
    for state in range(3):
        assert asked[2 + state] == np.flatnonzero(decided == state).tolist()
    assert asked[0] == asked[1] == list(range(50))


def test_rows_that_are_not_needed_may_be_anything() -> None:
    case = face_case()
    expected = run(case, route_hard)[0]
    decided = case.experts[0].layers[0].argmax(axis=1)
    for state in range(3):
        case.experts[2 + state].layers[0][decided != state] = np.nan
    assert np.array_equal(run(case, route_hard)[0], expected)


def test_an_expert_that_abstains_makes_the_row_abstain() -> None:
    case = face_case()
    case.experts[0].layers[0][3] = 0
    case.experts[2].layers[0][4] = 0
    joint, gates = run(case, route_soft)
    assert np.flatnonzero(joint.sum(axis=1) == 0).tolist() == [3, 4]
    assert not gates[case.graph.nodes[2]][3].any()
    np.testing.assert_allclose(np.delete(joint, [3, 4], axis=0).sum(axis=1), 1)


def test_a_route_that_abstains_leaves_a_row_of_zeros() -> None:
    case = face_case()
    sure = case.experts[0].layers[0].max(axis=1) >= 0.8

    def only_sure(belief: FloatArray) -> FloatArray:
        return np.where(belief.max(axis=1, keepdims=True) >= 0.8, route_hard(belief), 0)

    joint, _ = run(case, only_sure)
    assert 0 < sure.sum() < 50
    np.testing.assert_allclose(joint.sum(axis=1), sure.astype(float))


def test_nothing_divided_by_nothing_is_equal_shares() -> None:
    """The expert gives all it has to a class that the taxonomy forbids under this parent."""
    schema = Schema(Attribute("kind", ["a", "b"]), Attribute("fine", ["x", "y", "z"]), paths=["ax", "ay", "by", "bz"])
    kind = Predictions(schema["kind"], [[0.5, 0.5]], ["p"])
    fine = Predictions(schema["fine"], [[0.0, 0.0, 1.0]], ["p"])
    case = Case(schema, Graph({"kind": [], "fine": ["kind"]}), [kind, fine], "pooled", 1)
    assert run(case, route_soft)[0].tolist() == [[0.25, 0.25, 0.0, 0.5]]


def grocery(n_coarse_with_choice: int) -> tuple[Schema, Graph, list[Predictions]]:
    """kind -> coarse -> fine, where most coarse classes have one fine class."""
    rows = []
    for coarse in range(12):
        for fine in range(3 if coarse < n_coarse_with_choice else 1):
            rows.append((f"kind{coarse % 3}", f"coarse{coarse:02}", f"fine{coarse:02}{fine}"))
    schema = Schema.from_rows(["kind", "coarse", "fine"], rows)
    graph = Graph({"kind": [], "coarse": ["kind"], "fine": ["coarse"]})
    random, ids = np.random.default_rng(5), sample_ids(30)
    experts = [Predictions(schema["kind"], random_probs(random, 30, 3), ids)]
    for kind in schema["kind"].classes:
        own = sorted({row[1] for row in rows if row[0] == kind})
        experts.append(Predictions(schema["coarse"], random_probs(random, 30, 4), ids, {"kind": kind}, classes=own))
    for coarse in range(n_coarse_with_choice):
        own = [f"fine{coarse:02}{fine}" for fine in range(3)]
        condition = {"coarse": f"coarse{coarse:02}"}
        experts.append(Predictions(schema["fine"], random_probs(random, 30, 3), ids, condition, classes=own))
    return schema, graph, experts


def test_a_taxonomy_needs_no_expert_where_one_class_is_possible() -> None:
    schema, graph, experts = grocery(2)
    plan = make_plan(schema, graph, experts)
    assert len(plan.used) == len(experts) == 1 + 3 + 2
    assert schema.n_joint == 16
    case = Case(schema, graph, experts, "refuse", 30)
    for route, gate in GATES:
        np.testing.assert_allclose(
            run(case, route)[0], [oracle_joint(case, row, gate) for row in range(30)], atol=1e-12
        )


def test_an_expert_without_a_class_that_is_possible_is_refused() -> None:
    schema, graph, experts = grocery(2)
    short = experts[1]
    experts[1] = Predictions(
        short.attributes, short.layers[0][:, :3] * 0, short.ids, short.condition, short.classes[:3]
    )
    with pytest.raises(DataError, match=r"coarse given kind=kind0: no column for coarse09 \(found: coarse00, coarse03"):
        make_plan(schema, graph, experts)


@settings(max_examples=40, deadline=None)
@given(SEEDS, st.booleans())
def test_known_facts_are_bayes(seed: int, taxonomy: bool) -> None:
    case = random_case(seed, taxonomy=taxonomy)
    random = np.random.default_rng(seed)
    joint, _ = run(case, route_soft)
    truth = random.integers(0, case.schema.n_joint, size=case.n_samples)
    decoded = case.schema.decode(truth)
    names = [name for name in case.schema.names if random.random() < 0.6]
    known = {name: np.where(random.random(case.n_samples) < 0.8, decoded[name], -1) for name in names}
    found = with_known(joint, case.schema, known)
    for row in range(case.n_samples):
        fits = [
            all(known[n][row] in (-1, path[case.schema.names.index(n)]) for n in names) for path in case.schema.paths
        ]
        total = sum(p for p, fit in zip(joint[row], fits, strict=True) if fit)
        expected = [p / total if total > 0 else 1 / sum(fits) for p in joint[row]]
        np.testing.assert_allclose(found[row], np.where(fits, expected, 0), atol=1e-12)


def test_known_mask_is_the_age_expert_of_that_mask() -> None:
    case = face_case()
    truth = np.arange(50) % 3
    found = with_known(run(case, route_soft)[0], case.schema, {"mask": truth}).reshape(50, 3, 2, 3)
    for row, state in enumerate(truth):
        held_possible = case.experts[0].layers[0][row, state] > 0
        expected = case.experts[2 + state].layers[0][row] if held_possible else np.full(3, 1 / 3)
        np.testing.assert_allclose(found[row, state].sum(axis=0), expected, atol=1e-12)


def test_known_facts_leave_an_abstained_row_and_keep_the_type() -> None:
    joint = np.zeros((1, 18), dtype=np.float32)
    found = with_known(joint, face_schema(), {"mask": [1]})
    assert found.dtype == np.float32
    assert not found.any()


@pytest.mark.parametrize(
    ("known", "error", "message"),
    [
        ({"mask": [3]}, DataError, "known mask: expected 1 class numbers from 0 to 2 or -1"),
        ({"mask": [0, 1]}, DataError, "known mask: expected 1 class numbers"),
        ({"mask": [0.7]}, DataError, "known mask: expected 1 class numbers"),
        ({"mask": ["worn"]}, DataError, "found <U4 (1,)"),
        ({"maks": [0]}, UsageError, 'did you mean "mask"'),
    ],
)
def test_bad_facts_are_refused(known: Mapping[str, Any], error: type[EnsembleKitError], message: str) -> None:
    with pytest.raises(error) as caught:
        with_known(np.full((1, 18), 1 / 18), face_schema(), known)
    assert message in str(caught.value)


def test_facts_that_exclude_each_other_are_refused() -> None:
    schema = Schema(Attribute("kind", ["a", "b"]), Attribute("fine", ["x", "y"]), paths=["ax", "by"])
    with pytest.raises(DataError, match="row 0: no joint class has them together"):
        with_known(np.array([[0.5, 0.5]]), schema, {"kind": [0], "fine": [1]})


@pytest.mark.parametrize("block", [("gender", "age"), ("mask", "age"), ("age", "mask")])
def test_a_block_is_the_flat_question_about_its_attributes(block: tuple[str, str]) -> None:
    """With the block's probabilities made from single experts, the joint is that of the single experts."""
    schema, n_samples = face_schema(), 20
    case = face_case(n_samples, graph=Graph.independent(schema), pooled=True)
    singles = {expert.names[0]: expert for expert in case.experts if not expert.condition}
    expected, _ = run(Case(schema, Graph.independent(schema), list(singles.values()), "refuse", n_samples), route_soft)
    one, two = (singles[name].layers[0] for name in block)
    both = np.einsum("na,nb->nab", one, two).reshape(n_samples, -1)
    classes = list(product(*(schema[name].classes for name in block)))
    (rest,) = set(schema.names) - set(block)
    experts = [singles[rest], Predictions([schema[name] for name in block], both, sample_ids(n_samples), {}, classes)]
    graph = Graph({block: [], rest: []})
    np.testing.assert_allclose(
        run(Case(schema, graph, experts, "refuse", n_samples), route_soft)[0], expected, atol=1e-15
    )


def test_a_plan_holds_no_photo() -> None:
    case = face_case()
    assert isinstance(make_plan(case.schema, case.graph, case.experts), Plan)
    small = run(face_case(0), route_hard)[0]
    assert small.shape == (0, 18)
