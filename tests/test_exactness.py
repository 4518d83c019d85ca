"""The exactness that the library promises, each promise on random cases, and bad input in one table."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from brute_joint import brute_joint
from core_oracles import (
    FACE_GRAPH,
    ROUTE_GATES,
    Case,
    face_experts,
    face_schema,
    nodes_of,
    oracle_expert,
    oracle_joint,
    random_case,
    sample_ids,
)
from exact_cases import ROUTES, RULES, VOTE_AT, combine, crowd, fixed_options, numbers_of, rows_of
from hypothesis import example, given, settings
from hypothesis import strategies as st
from random_cases import SEEDS, tried_on

from ensemble_kit import ensemble as module
from ensemble_kit.arrays import FloatArray
from ensemble_kit.ensemble import ConditionalEnsemble
from ensemble_kit.errors import DataError, EnsembleKitError, UsageError
from ensemble_kit.graph import Graph
from ensemble_kit.predictions import Predictions, load_predictions, save_predictions
from ensemble_kit.routing import ROUTERS
from ensemble_kit.schema import Attribute, Schema
from ensemble_kit.submission import read_submission, read_template
from ensemble_kit.voting import FIXED_VOTES


def joint_of(case: Case, **options: Any) -> FloatArray:
    return np.asarray(combine(case, dtype="float64", **options).joint.layers[0])


@tried_on(SEEDS, st.booleans(), st.sampled_from(ROUTES), few=100)
def test_the_joint_is_brute_force(seed: int, taxonomy: bool, route: str) -> None:
    """Up to five attributes, blocks, sets of classes, pooled fallbacks; where rounding decides a route, its sum only."""
    case = random_case(seed, taxonomy=taxonomy, max_attributes=5, n_samples=3, rich=True)
    if case.schema.n_joint == 1:
        with pytest.raises(UsageError, match="no expert is needed"):
            combine(case)
        return
    joint = joint_of(case, route=route)
    expected, is_close = brute_joint(case, ROUTE_GATES[route])
    compared = ~np.array(is_close) | (route == "soft")
    np.testing.assert_allclose(joint[compared], np.array(expected)[compared], rtol=0, atol=1e-12)
    np.testing.assert_allclose(joint.sum(axis=1), 1, rtol=0, atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(SEEDS, st.booleans(), st.sampled_from(ROUTES))
def test_two_oracles_agree(seed: int, taxonomy: bool, route: str) -> None:
    case = random_case(seed, taxonomy=taxonomy, max_attributes=5, n_samples=3, rich=True)
    expected, is_close = brute_joint(case, ROUTE_GATES[route])
    for row in range(case.n_samples):
        if not is_close[row]:
            by_prefix = oracle_joint(case, row, ROUTE_GATES[route])
            np.testing.assert_allclose(by_prefix, expected[row], rtol=0, atol=1e-12)


@tried_on(SEEDS, few=100)
def test_soft_gives_back_the_roots_and_every_child_given_its_state(seed: int) -> None:
    case = random_case(seed, taxonomy=False, max_attributes=4, n_samples=3)
    result = combine(case, dtype="float64")
    joint, schema = np.asarray(result.joint.layers[0]), case.schema
    classes = schema.decode(np.arange(schema.n_joint))
    named = {a.name: np.array(a.classes)[classes[a.name]] for a in schema.attributes}
    for node in nodes_of(case):
        states = {tuple(named[parent][j] for parent in node.parents) for j in range(schema.n_joint)}
        for state in states:
            inside = np.ones(schema.n_joint, dtype=np.bool_)
            for parent, name in zip(node.parents, state, strict=True):
                inside &= named[parent] == name
            expert = oracle_expert(case.experts, node, dict(zip(node.parents, state, strict=True)))
            assert expert is not None
            total = joint[:, inside].sum(axis=1)
            for names, expected in zip(expert.classes, expert.layers[0].T, strict=True):
                hit = inside.copy()
                for attribute, name in zip(expert.names, names, strict=True):
                    hit &= named[attribute] == name
                np.testing.assert_allclose(joint[:, hit].sum(axis=1), total * expected, rtol=0, atol=1e-12)
        if not node.parents:
            root = oracle_expert(case.experts, node, {})
            assert root is not None
            found = result.joint.marginal(*root.names)
            columns = [found.classes.index(names) for names in root.classes]
            np.testing.assert_allclose(found.layers[0][:, columns], root.layers[0], rtol=0, atol=1e-12)


@tried_on(SEEDS, few=100)
def test_hard_picks_greedily_from_the_top(seed: int) -> None:
    """Node by node the asked expert's most probable class, by names; the top-down decision on the soft joint too."""
    case = random_case(seed, taxonomy=False, blocks=False, max_attributes=4, n_samples=3, rich=True)
    ensemble = ConditionalEnsemble(case.schema, case.graph, case.experts, fallback="pooled")
    hard = case.schema.decode(ensemble.combine(route="hard", dtype="float64").joint.labels())
    soft = case.schema.decode(ensemble.combine(dtype="float64").labels("top_down"))
    for row in range(case.n_samples):
        picked: dict[str, str] = {}
        for node in nodes_of(case):
            expert = oracle_expert(case.experts, node, picked)
            assert expert is not None
            values = {names[0]: float(expert.layers[0][row, i]) for i, names in enumerate(expert.classes)}
            (name,) = node.attributes
            picked[name] = max(case.schema[name].classes, key=lambda c, values=values: values[c])  # type: ignore[misc]
        expected = {name: case.schema[name].classes.index(value) for name, value in picked.items()}
        assert {name: int(numbers[row]) for name, numbers in hard.items()} == expected
        assert {name: int(numbers[row]) for name, numbers in soft.items()} == expected


CHOICES = list(product(ROUTES, RULES, VOTE_AT))


@tried_on(SEEDS, st.booleans(), st.sampled_from(CHOICES), few=100)
def test_a_row_alone_is_the_row_in_any_batch(seed: int, taxonomy: bool, choice: tuple[str, str, str]) -> None:
    """Bit for bit with all fitted quantities fixed: a row alone, another order, duplicates, blocks of a few rows."""
    random = np.random.default_rng(seed)
    n_samples = int(random.integers(1, 20))
    case = random_case(seed, taxonomy=taxonomy, max_attributes=3, n_samples=n_samples, rich=True)
    if case.schema.n_joint == 1:
        return
    case = crowd(case, seed, dtype="float32" if random.random() < 0.5 else "float64")
    options = fixed_options(case, seed, *choice)
    whole = numbers_of(combine(case, **options))
    alone, batch = random.integers(n_samples, size=1), random.integers(n_samples, size=n_samples + 3)
    for rows, block in ((alone, 8), (batch, int(random.integers(1, 6)))):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "BLOCK_ROWS", block)
            found = numbers_of(combine(rows_of(case, rows), **options))
        assert_same(found, whole, rows)


def assert_same(found: dict[str, Any], whole: dict[str, Any], rows: Any) -> None:
    for name, values in whole.items():
        assert np.array_equal(found[name], values[rows], equal_nan=values.dtype.kind == "f"), name


@pytest.mark.parametrize("choice", CHOICES, ids="-".join)
def test_every_route_and_vote_keeps_a_rows_bits(choice: tuple[str, str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for each combination by itself, so that none is left to chance."""
    schema = face_schema()
    case = crowd(Case(schema, FACE_GRAPH, face_experts(1, 21), "refuse", 21), 2, dtype="float32")
    options = fixed_options(case, 3, *choice)
    whole = numbers_of(combine(case, **options))
    order = np.random.default_rng(4).permutation(21)
    for rows, block in ((np.append(order, [7, 7, 0, 7]), 5), (np.array([20]), 1)):
        monkeypatch.setattr(module, "BLOCK_ROWS", block)
        found = numbers_of(combine(rows_of(case, rows), **options))
        assert_same(found, whole, rows)


@pytest.mark.parametrize("n_seeds", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_hash_seeds_give_the_same_bits(n_seeds: int) -> None:
    """All routes and votes, a taxonomy; and conditions and experts written the other way round."""

    def run(seed: int) -> list[str]:
        environment = {**os.environ, "PYTHONHASHSEED": str(seed), "PYTHONPATH": str(Path(__file__).parents[1])}
        command = [sys.executable, str(Path(__file__).with_name("exact_cases.py"))]
        found = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert found.returncode == 0, found.stderr
        return found.stdout.split()

    with ThreadPoolExecutor(2) as pool:
        outputs = list(pool.map(run, range(n_seeds)))
    assert all(output == outputs[0] for output in outputs)
    assert [len(digest) for digest in outputs[0]] == [64] * 4
    assert len(set(outputs[0])) == 3
    assert outputs[0][2] == outputs[0][3]


def revoiced(case: Case, layers: list[int], voters: list[str], strangers: int = 0) -> Case:
    """Voters by number, in a new order or several times, under new names; and some that know nothing of the photos."""
    experts = []
    for expert in case.experts:
        own = [expert.layers[layer] for layer in layers]
        own += [np.full_like(expert.layers[0], np.nan)] * strangers
        experts.append(Predictions(expert.attributes, own, expert.ids, expert.condition, expert.classes, voters))
    return Case(case.schema, case.graph, experts, case.fallback, case.n_samples, case.edges)


def check_votes(case: Case, options: dict[str, Any], random: np.random.Generator) -> None:
    """Another order of the voters, every voter N times, a voter of weight 0."""
    weights = random.integers(1, 5, size=3) / 2

    def run(layers: list[int], strangers: int = 0) -> tuple[FloatArray, Any]:
        voters = [f"v{number:02}" for number in range(len(layers) + strangers)]
        given_ = {v: float(weights[layer]) for v, layer in zip(voters, layers, strict=False)}
        given_ |= dict.fromkeys(voters[len(layers) :], 0.0)
        result = combine(revoiced(case, layers, voters, strangers), weights=given_, dtype="float64", **options)
        return np.asarray(result.joint.layers[0]), result.joint.labels()

    joint, labels = run([0, 1, 2])
    times = int(random.integers(2, 5))
    for layers in (random.permutation(3).tolist(), random.permutation([0, 1, 2] * times).tolist()):
        again, again_labels = run(layers)
        np.testing.assert_allclose(again, joint, rtol=0, atol=1e-12)
        assert np.array_equal(again_labels, labels)
    assert np.array_equal(run([0, 1, 2], strangers=2)[0], joint)


VOTE = (st.sampled_from(FIXED_VOTES), st.sampled_from(VOTE_AT))


@tried_on(SEEDS, st.booleans(), *VOTE, st.sampled_from(ROUTES), few=100)
@example(176, True, "rank", "expert", "hard")  # a tie among the classes possible here, below the highest of all
@example(445469454, True, "rank", "expert", "hard")  # equal beliefs, added up otherwise
def test_voters_count_by_weight_alone(seed: int, taxonomy: bool, vote: str, vote_at: str, route: str) -> None:
    case = random_case(seed, taxonomy=taxonomy, max_attributes=3, n_samples=4, rich=True)
    if case.schema.n_joint > 1:
        options = {"vote": vote, "vote_at": vote_at, "route": route}
        check_votes(crowd(case, seed), options, np.random.default_rng(seed))


@tried_on(SEEDS, *VOTE, st.booleans(), few=100, many=300)
def test_nor_do_ties_of_tenths_fall_by_the_voters_order(seed: int, vote: str, vote_at: str, flat: bool) -> None:
    """0.1 + 0.2 + 0.3 rounds by its order, and a third of these rows tie: voted flat, or node by node and routed hard."""
    random, schema = np.random.default_rng(seed), face_schema()
    graph = Graph.flat(schema) if flat else FACE_GRAPH
    tenths = []
    asked = [(schema.names, {})] if flat else [(e.names, e.condition) for e in face_experts(0, 1)]
    for names, condition in asked:
        n_classes = int(np.prod([len(schema[name].classes) for name in names]))
        probs = random.multinomial(10, np.full(n_classes, 1 / n_classes), size=(3, 12)) / 10
        tenths.append(Predictions([schema[name] for name in names], probs, sample_ids(12), condition))
    case = Case(schema, graph, tenths, "refuse", 12)
    check_votes(case, {"vote": vote, "vote_at": vote_at, "route": "hard"}, random)


def sixty(n_voters: int) -> Case:
    """a while it lasts, then b for ever: P(a | a before) = a thousandth on photo 0, 0.999 on photo 1."""
    rows = [("a",) * length + ("b",) * (60 - length) for length in range(61)]
    names = [f"step{number:02}" for number in range(60)]
    schema = Schema.from_rows(names, rows)
    layers = [np.array([[0.001, 0.999], [0.999, 0.001]])] * n_voters
    conditions = [{}, *({before: "a"} for before in names[:-1])]
    experts = [Predictions(schema[n], layers, sample_ids(2), c) for n, c in zip(names, conditions, strict=True)]
    graph = Graph({name: list(condition) for name, condition in zip(names, conditions, strict=True)})
    return Case(schema, graph, experts, "refuse", 2)


@pytest.mark.parametrize("vote_at", VOTE_AT)
@pytest.mark.parametrize("vote", ["soft", "geometric"])
def test_sixty_factors_of_a_thousandth_do_not_underflow(vote: str, vote_at: str) -> None:
    case = sixty(3)
    places = {name: number for number, name in enumerate(case.schema.joint_names())}
    all_a, all_b = places[" / ".join("a" * 60)], places[" / ".join("b" * 60)]
    ensemble = ConditionalEnsemble(case.schema, case.graph, case.experts)
    options: dict[str, Any] = {"vote": vote, "vote_at": vote_at}
    exact = ensemble.combine(dtype="float64", **options)
    joint = np.asarray(exact.joint.layers[0])
    np.testing.assert_allclose(joint[:, all_a], [1e-180, 0.999**60], rtol=1e-12)
    np.testing.assert_allclose(joint[:, all_b], [0.999, 0.001], rtol=1e-12)
    for route in ROUTERS:
        kept = ensemble.combine(route=route, **options)  # in float32
        assert kept.joint.labels().tolist() == [all_b, all_a]
        np.testing.assert_allclose(kept.joint.layers[0].sum(axis=1), 1, atol=1e-6)
    assert exact.given({"step59": [0, 0]}).joint.labels().tolist() == [all_a, all_a]


@pytest.mark.parametrize("vote_at", VOTE_AT)
def test_sixty_voters_of_a_thousandth_do_not_underflow(vote_at: str) -> None:
    schema = Schema(Attribute("kind", [f"k{number:04}" for number in range(1000)]))
    probs = np.full((60, 1, 1000), 0.001)
    for vote in FIXED_VOTES:
        case = Case(schema, Graph.flat(schema), [Predictions(schema["kind"], probs, ["a"])], "refuse", 1)
        options = {"vote": vote, "vote_at": vote_at, "weights": dict.fromkeys(case.experts[0].voters, 1.0)}
        joint = joint_of(case, **options)
        if vote == "hard":  # all vote for the first
            assert joint.argmax() == 0
        else:
            np.testing.assert_allclose(joint, 0.001, rtol=1e-12)
        np.testing.assert_allclose(joint.sum(), 1, rtol=1e-12)


SCHEMA = face_schema()
MASK, GENDER, AGE = SCHEMA.attributes
THREE = [[0.2, 0.3, 0.5], [0.1, 0.1, 0.8]]
IDS = ["a", "b"]
PERMUTED = Attribute("mask", ["not_worn", "incorrect", "worn"])


def faces(
    mask: Any = None, extra: Any = (), graph: Any = FACE_GRAPH, by_mask: Any = (["worn"], ["incorrect", "not_worn"])
) -> ConditionalEnsemble:
    """The mask task of two photos, something of it replaced or added."""
    experts = [Predictions(MASK, THREE, IDS) if mask is None else mask, Predictions(GENDER, [[0.5, 0.5]] * 2, IDS)]
    experts += [Predictions(AGE, THREE, IDS, {"mask": classes}) for classes in by_mask]
    return ConditionalEnsemble(SCHEMA, graph, [*experts, *extra])


def of_mask(probs: Any = None, ids: Any = None, **options: Any) -> Predictions:
    return Predictions(MASK, THREE if probs is None else probs, IDS if ids is None else ids, **options)


def saved(folder: Path, name: str) -> list[Predictions]:
    """A prediction set with one of its files emptied."""
    save_predictions(folder, [of_mask()], Schema(MASK))
    (folder / name).write_bytes(b"")
    return load_predictions(folder)


def submission(folder: Path, text: str, read: Callable[..., Any] = read_submission) -> Any:
    path = folder / "given.csv"
    path.write_text(text)
    return read(path, SCHEMA) if read is read_submission else read(path)


BAD: list[tuple[str, Callable[[Path], Any], type[EnsembleKitError], str]] = [
    ("misordered classes", lambda f: faces(Predictions(PERMUTED, THREE, IDS)), DataError, "mask: expected the schema's classes of mask, worn, incorrect, not_worn; found not_worn, incorrect, worn"),
    ("misordered classes, saved", lambda f: save_predictions(f / "set", [Predictions(PERMUTED, THREE, IDS)], SCHEMA), DataError, "mask: expected the schema's classes of mask, ['worn', 'incorrect', 'not_worn'], found ['not_worn',"),
    ("missing id", lambda f: faces(of_mask(THREE[:1], ["a"])), DataError, 'expected the same 1 ids, found 2: 1 are too many, the first is "b"; predict all experts on the same photos'),
    ("another id", lambda f: faces(of_mask(ids=["a", "c"])), DataError, '1 are missing, the first is "c"; 1 are too many, the first is "b"; predict all'),
    ("duplicate id", lambda f: faces(of_mask(ids=["a", "a"])), DataError, 'ids of mask: 1 ids occur more than once, the first is "a"; make them unique'),
    ("duplicate id of a later expert", lambda f: later(["b", "b"]), DataError, 'gender: 1 ids occur more than once, the first is "b"'),
    ("ids that are numbers", lambda f: of_mask(ids=[1, 2]), DataError, "ids of mask: expected text, found int64; read the table's id column as text"),
    ("empty id", lambda f: of_mask(ids=["a", ""]), DataError, "ids of mask: row 1 has an empty id"),
    ("ids and rows", lambda f: of_mask(ids=["a"]), UsageError, "mask: expected one id a row, found 1 ids and 2 rows"),
    ("NaN", lambda f: of_mask([[0.2, np.nan, 0.8], THREE[1]]), DataError, "row 0 has sum nan and lowest nan (1 such rows)"),
    ("a whole row NaN", lambda f: faces(of_mask([THREE[0], [np.nan] * 3])).combine(), DataError, 'of 2 photos these have no prediction that the route needs: 1 by "mask" (the first is "b")'),
    ("rows of another sum", lambda f: of_mask([THREE[0], [0.2, 0.2, 0.2]]), DataError, "row 1 has sum 0.6 and lowest 0.2 (1 such rows); logits need a softmax first"),
    ("negative probabilities", lambda f: of_mask([[1.2, -0.4, 0.2], THREE[1]]), DataError, "row 0 has sum 1 and lowest -0.4"),
    ("negative weight", lambda f: faces().combine(weights={"voter0": -1}), UsageError, "expected weights >= 0, finite and not all 0, found [-1.0]"),
    ("weight NaN", lambda f: faces().combine(weights={"voter0": np.nan}), UsageError, "expected weights >= 0, finite and not all 0, found [nan]"),
    ("weights all 0", lambda f: faces().combine(weights={"voter0": 0}), UsageError, "expected weights >= 0, finite and not all 0, found [0.0]"),
    ("weight of nobody", lambda f: faces().combine(weights={"voter9": 1}), UsageError, 'weights: no voter "voter9"; did you mean "voter0"'),
    ("cycle", lambda f: faces(graph=Graph({"mask": ["age"], "gender": [], "age": ["mask"]})), UsageError, "graph: a cycle among mask -> age; a node cannot condition itself"),
    ("own parent", lambda f: Graph({"mask": ["mask"]}), UsageError, "graph: a cycle among mask; a node cannot condition itself"),
    ("overlapping conditions", lambda f: faces(by_mask=(["worn", "incorrect"], ["incorrect", "not_worn"])), UsageError, 'two experts answer age for mask=incorrect and neither is narrower: "age given mask=worn,incorrect" and "age given mask=incorrect,not_worn"; leave one out'),
    ("the same condition twice", lambda f: faces(extra=[of_mask()]), UsageError, 'two experts answer mask for every photo and neither is narrower: "mask" and "mask"'),
    ("condition on no class", lambda f: faces(by_mask=(["wron"], ["incorrect", "not_worn"])), UsageError, 'attribute "mask" has no class "wron"; did you mean "worn"'),
    ("condition on no attribute", lambda f: faces(by_mask=(["incorrect", "not_worn"],), extra=[of_age({"maks": "worn"})]), UsageError, "no age expert for mask=worn (found: incorrect,not_worn, maks=worn); train it with"),
    ("condition of no class at all", lambda f: faces(by_mask=([], ["worn", "incorrect", "not_worn"])), UsageError, 'condition: "mask" names no class; leave it out for a pooled expert'),
    ("classes of another schema", lambda f: faces(Predictions(Attribute("mask", ["on", "off"]), [[0.5, 0.5]] * 2, IDS)), DataError, "expected the schema's classes of mask, worn, incorrect, not_worn; found on, off"),
    ("attributes of another schema", lambda f: faces(Predictions(Attribute("hat", ["on", "off"]), [[0.5, 0.5]] * 2, IDS)), UsageError, 'no mask expert (found: none); train it with "ens train mask"'),
    ("graph of another schema", lambda f: faces(graph=Graph({"mask": [], "gender": [], "hat": []})), UsageError, 'graph: "hat" is not in the schema'),
    ("empty predictions.json", lambda f: saved(f / "set", "predictions.json"), DataError, "predictions.json: not readable as JSON (Expecting value"),
    ("empty probabilities", lambda f: saved(f / "set", "mask/voter0.npy"), DataError, "mask/voter0.npy: not readable as an array ("),
    ("empty ids", lambda f: saved(f / "set", "ids.npy"), DataError, "ids.npy: not readable as an array ("),
    ("empty folder", lambda f: load_predictions(f), DataError, 'not a prediction set (no predictions.json); write one with "ens predict"'),
    ("empty submission", lambda f: submission(f, ""), DataError, "given.csv line 1: expected a header with ImageID, ans, found an empty file"),
    ("submission without rows", lambda f: submission(f, "ImageID,ans\n"), DataError, "given.csv line 2: expected a row for each photo, found none"),
    ("empty template", lambda f: submission(f, "", read_template), DataError, "given.csv line 1: expected a header with ImageID, found an empty file"),
    ("no experts", lambda f: ConditionalEnsemble(SCHEMA, FACE_GRAPH, []), UsageError, "no mask expert (found: none); train it with"),
    ("no experts to save", lambda f: save_predictions(f / "set", [], SCHEMA), UsageError, "a prediction set needs at least one expert"),
]  # fmt: skip


def later(ids: list[str]) -> ConditionalEnsemble:
    return ConditionalEnsemble(
        Schema(MASK, GENDER),
        Graph({"mask": [], "gender": []}),
        [of_mask(), Predictions(GENDER, [[0.5, 0.5]] * 2, ids)],
    )


def of_age(condition: dict[str, str]) -> Predictions:
    return Predictions(AGE, THREE, IDS, condition)


@pytest.mark.parametrize(("what", "call", "error", "message"), BAD, ids=[what for what, *_ in BAD])
def test_bad_input_has_its_own_message(
    tmp_path: Path, what: str, call: Callable[[Path], Any], error: type[EnsembleKitError], message: str
) -> None:
    with pytest.raises(error) as caught:
        call(tmp_path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_two_faults_share_a_message() -> None:
    messages = [message for *_, message in BAD]
    assert len(set(messages)) == len(messages)
