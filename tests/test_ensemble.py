from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from core_oracles import (
    FACE_GRAPH,
    ROUTE_GATES,
    Case,
    face_experts,
    face_schema,
    oracle_joint,
    random_case,
    random_probs,
    route_two,
    sample_ids,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble_kit import ensemble as module
from ensemble_kit.arrays import FloatArray
from ensemble_kit.ensemble import Combined, ConditionalEnsemble
from ensemble_kit.errors import DataError, EnsembleKitError, UsageError
from ensemble_kit.graph import Graph
from ensemble_kit.ids import match_ids
from ensemble_kit.joint import with_known
from ensemble_kit.metrics import accuracy
from ensemble_kit.predictions import Predictions, load_predictions, save_predictions
from ensemble_kit.routing import ROUTERS, route_hard
from ensemble_kit.schema import Schema
from ensemble_kit.voting import FIXED_VOTES, VOTES

SCHEMA = face_schema()
FOLDS = ("fold0", "fold1", "fold2")
EQUAL = dict.fromkeys(FOLDS, 1.0)
VOTE_AT: list[Literal["expert", "joint"]] = ["expert", "joint"]


def faces(n_samples: int = 40, voters: Sequence[str] = FOLDS, pooled: bool = False, seed: int = 2) -> list[Predictions]:
    return face_experts(seed, n_samples, voters, pooled)


def rows_of(expert: Predictions, rows: Any) -> Predictions:
    layers = [layer[rows] for layer in expert.layers]
    return Predictions(expert.attributes, layers, expert.ids[rows], expert.condition, expert.classes, expert.voters)


def changed(expert: Predictions, change: Callable[[FloatArray], None]) -> Predictions:
    layers = [layer.copy() for layer in expert.layers]
    for layer in layers:
        change(layer)
    return Predictions(expert.attributes, layers, expert.ids, expert.condition, expert.classes, expert.voters)


def voted(experts: Sequence[Predictions], name: str, weights: Sequence[float]) -> list[Predictions]:
    """Each expert after its vote, one voter."""
    return [
        Predictions(e.attributes, VOTES[name](np.stack(e.layers), np.array(weights)), e.ids, e.condition, e.classes)
        for e in experts
    ]


def combine(experts: Sequence[Predictions], graph: Graph = FACE_GRAPH, **options: Any) -> Combined:
    return ConditionalEnsemble(SCHEMA, graph, experts).combine(**options)


def probs(result: Combined) -> FloatArray:
    return np.asarray(result.joint.probs[0])


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.booleans(), st.sampled_from(["soft", "hard"]))
def test_the_ensemble_is_the_definition(seed: int, taxonomy: bool, route: str) -> None:
    case = random_case(seed, taxonomy=taxonomy)
    gate = ROUTE_GATES[route]
    if not any(number >= 0 for number in _asked(case)):
        return
    result = ConditionalEnsemble(case.schema, case.graph, case.experts, fallback="pooled").combine(route=route)
    expected = [oracle_joint(case, row, gate) for row in range(case.n_samples)]
    np.testing.assert_allclose(probs(result), expected, rtol=0, atol=1e-7)
    assert result.joint.names == case.schema.names
    assert [" / ".join(row) for row in result.joint.classes] == case.schema.joint_names()
    assert result.joint.probs.dtype == np.float32


def _asked(case: Case) -> list[int]:
    from ensemble_kit.joint import make_plan

    return list(make_plan(case.schema, case.graph, case.experts, "pooled").used)


@pytest.mark.parametrize("vote", FIXED_VOTES)
@pytest.mark.parametrize("route", list(ROUTERS))
def test_the_vote_comes_first_and_then_the_route(route: str, vote: str) -> None:
    experts = faces()
    case = Case(SCHEMA, FACE_GRAPH, voted(experts, vote, [1, 1, 1]), "refuse", 40)
    gate = ROUTE_GATES[route]
    expected = [oracle_joint(case, row, gate) for row in range(40)]
    np.testing.assert_allclose(probs(combine(experts, route=route, vote=vote, weights=EQUAL)), expected, atol=1e-7)


@pytest.mark.parametrize("vote", FIXED_VOTES)
@pytest.mark.parametrize("route", list(ROUTERS))
def test_or_each_voters_chain_is_routed_and_then_they_vote(route: str, vote: str) -> None:
    experts = faces()
    gate = ROUTE_GATES[route]
    chains = []
    for fold in FOLDS:
        case = Case(SCHEMA, FACE_GRAPH, [e.select_voters([fold]) for e in experts], "refuse", 40)
        chains.append([oracle_joint(case, row, gate) for row in range(40)])
    expected = VOTES[vote](np.array(chains), np.ones(3))
    result = combine(experts, route=route, vote=vote, vote_at="joint", weights=EQUAL)
    np.testing.assert_allclose(probs(result), expected, atol=1e-7)
    assert not np.array_equal(probs(result), probs(combine(experts, route=route, vote=vote, weights=EQUAL)))


@pytest.mark.parametrize("vote_at", VOTE_AT)
def test_one_checkpoint_and_five_voting_are_the_same_code(vote_at: str) -> None:
    experts = faces()
    one = [expert.select_voters(["fold1"]) for expert in experts]
    expected = probs(combine(one, vote_at=vote_at))
    assert np.array_equal(probs(combine(experts, voters=["fold1"], vote_at=vote_at)), expected)
    weights = {"fold0": 0, "fold2": 0}
    assert np.array_equal(probs(combine(experts, weights=weights, vote_at=vote_at)), expected)


@pytest.mark.parametrize("vote_at", VOTE_AT)
@pytest.mark.parametrize("vote", FIXED_VOTES)
@pytest.mark.parametrize("route", list(ROUTERS))
def test_order_of_voters_experts_and_rows_changes_no_bit(
    route: str, vote: str, vote_at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BLOCK_ROWS", 16)
    experts = faces()
    expected = combine(experts, route=route, vote=vote, vote_at=vote_at, weights={"fold1": 2.5})
    turned = [expert.select_voters(["fold2", "fold0", "fold1"]) for expert in reversed(experts)]
    order = np.random.default_rng(0).permutation(40)
    turned[1] = rows_of(turned[1], order)
    turned[3] = rows_of(turned[3], order[::-1])
    found = combine(turned, route=route, vote=vote, vote_at=vote_at, weights={"fold1": 2.5})
    rows = match_ids(found.joint.ids, expected.joint.ids, "x")
    assert rows is None
    assert np.array_equal(probs(found), probs(expected))
    assert found.counts == expected.counts


@pytest.mark.parametrize("block", [1, 7, 40])
@pytest.mark.parametrize("vote_at", VOTE_AT)
def test_the_block_size_changes_no_bit(vote_at: str, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    experts = faces()
    whole = combine(experts, route=route_two, vote_at=vote_at)
    monkeypatch.setattr(module, "BLOCK_ROWS", block)
    parts = combine(experts, route=route_two, vote_at=vote_at)
    assert np.array_equal(probs(parts), probs(whole))
    assert parts.counts == whole.counts
    assert all(np.array_equal(parts.gates[node], whole.gates[node]) for node in whole.gates)


def test_a_photo_alone_has_the_bits_it_has_among_others() -> None:
    experts = faces()
    whole = combine(experts, route=route_two, vote="hard")
    for row in (0, 13, 39):
        alone = combine([rows_of(expert, [row]) for expert in experts], route=route_two, vote="hard")
        assert np.array_equal(probs(alone)[0], probs(whole)[row])


def test_the_first_experts_order_of_rows_is_kept() -> None:
    experts = faces()
    order = np.random.default_rng(1).permutation(40)
    turned = [rows_of(experts[0], order), *experts[1:]]
    assert combine(turned).joint.ids.tolist() == experts[0].ids[order].tolist()
    assert np.array_equal(probs(combine(turned)), probs(combine(experts))[order])


def test_saved_predictions_give_the_same_bits(tmp_path: Path) -> None:
    single = [changed(e, lambda layer: None) for e in faces()]
    single = [Predictions(e.attributes, [x.astype(np.float32) for x in e.layers], e.ids, e.condition, e.classes, e.voters) for e in single]  # fmt: skip
    save_predictions(tmp_path / "set", single, SCHEMA)
    expected = combine(single, route="hard")
    found = combine(load_predictions(tmp_path / "set"), route="hard", out=tmp_path / "joint")
    assert np.array_equal(probs(found), probs(expected))
    (saved,) = load_predictions(tmp_path / "joint")
    assert np.array_equal(saved.labels(), expected.joint.labels())
    assert np.array_equal(saved.probs, expected.joint.probs)


def test_numbers_in_a_file_that_are_no_probabilities_are_found(tmp_path: Path) -> None:
    experts = faces(voters=["fold0"])
    save_predictions(tmp_path, experts, SCHEMA)
    np.save(tmp_path / "gender" / "fold0.npy", np.full((40, 2), 3, dtype=np.float32))
    loaded = load_predictions(tmp_path, verify=False)
    with pytest.raises(DataError, match="gender, fold0: expected probabilities"):
        combine(loaded)


def test_counts_and_gates_tell_who_answered() -> None:
    experts = faces(voters=["fold0"])
    hard, soft = combine(experts, route="hard"), combine(experts, route="soft")
    decided = np.bincount(experts[0].layers[0].argmax(axis=1), minlength=3)
    names = [f"age given mask={state}" for state in SCHEMA["mask"].classes]
    assert hard.counts == {"mask": 40, "gender": 40, **dict(zip(names, decided.tolist(), strict=True))}
    possible = (experts[0].layers[0] > 0).sum(axis=0)
    assert soft.counts == {"mask": 40, "gender": 40, **dict(zip(names, possible.tolist(), strict=True))}
    (node,) = soft.gates
    assert node.name == "age"
    assert np.array_equal(soft.gates[node], experts[0].layers[0].astype(np.float32))
    assert np.array_equal(hard.gates[node], route_hard(experts[0].layers[0]))


def test_a_route_may_be_given_node_by_node() -> None:
    random, ids = np.random.default_rng(0), sample_ids(30)
    graph = Graph({"mask": [], "gender": ["mask"], "age": ["mask"]})
    experts = faces(30, ["fold0"])
    experts[1:2] = [
        Predictions(SCHEMA["gender"], random_probs(random, 30, 2), ids, {"mask": c}) for c in SCHEMA["mask"].classes
    ]
    all_hard = combine(experts, graph, route="hard")
    assert np.array_equal(probs(combine(experts, graph, route={"age": "hard", "gender": "hard"})), probs(all_hard))
    assert np.array_equal(probs(combine(experts, graph, route={})), probs(combine(experts, graph)))
    last = combine(experts, graph, route={"age": "hard"})
    np.testing.assert_allclose(last.joint.marginal("mask").probs[0].max(axis=1), 1, atol=1e-6)
    assert last.counts["gender given mask=worn"] > last.counts["age given mask=worn"]


def test_gates_of_chains_that_vote_are_the_weighted_mean_of_theirs() -> None:
    experts = faces()
    weights = {"fold0": 1.0, "fold1": 2.0, "fold2": 5.0}
    (found,) = combine(experts, route="hard", vote_at="joint", weights=weights).gates.values()
    chains = [combine(experts, route="hard", voters=[fold]) for fold in FOLDS]
    gates = [next(iter(chain.gates.values())) for chain in chains]
    np.testing.assert_allclose(found, (gates[0] + 2 * gates[1] + 5 * gates[2]) / 8, atol=1e-7)


def test_a_vote_may_be_a_function_and_sees_the_voters_in_the_order_of_their_names() -> None:
    def first(panel: FloatArray, weights: FloatArray) -> FloatArray:
        return np.asarray(panel[0], dtype=np.float64)

    expected = probs(combine(faces(), voters=["fold0"]))
    assert np.array_equal(probs(combine(faces(), vote=first)), expected)
    turned = [expert.select_voters(["fold2", "fold0", "fold1"]) for expert in faces()]
    for vote_at in VOTE_AT:
        found = combine(turned, vote=first, vote_at=vote_at)
        np.testing.assert_allclose(probs(found), expected, atol=1e-7)


def test_one_set_of_experts_serves_three_structures_which_then_vote() -> None:
    experts = faces(pooled=True)
    flat = Predictions(
        SCHEMA.attributes, random_probs(np.random.default_rng(9), 3, 40, 18), sample_ids(40), voters=FOLDS
    )
    graphs = [FACE_GRAPH, Graph.independent(SCHEMA), Graph.flat(SCHEMA)]
    ensembles = [ConditionalEnsemble(SCHEMA, graph, [*experts, flat]) for graph in graphs]
    assert [ensemble.plan.unused for ensemble in ensembles] == [(5, 6), (2, 3, 4, 6), (0, 1, 2, 3, 4, 5)]
    results = [ensemble.combine() for ensemble in ensembles]
    np.testing.assert_allclose(probs(results[2]), np.stack(flat.layers).mean(axis=0), atol=1e-7)
    names = ["conditional", "independent", "flat"]
    panel = Predictions(SCHEMA.attributes, [probs(result) for result in results], sample_ids(40), voters=names)
    together = ConditionalEnsemble(SCHEMA, Graph.flat(SCHEMA), [panel]).combine(vote="soft")
    np.testing.assert_allclose(probs(together), np.mean([probs(result) for result in results], axis=0), atol=1e-7)


def test_combining_a_result_gives_it_back() -> None:
    result = combine(faces(), route="hard")
    again = combine([result.joint], Graph.flat(SCHEMA))
    assert np.array_equal(probs(again), probs(result))


def test_an_abstained_photo_has_no_label_and_leaves_the_vote() -> None:
    def only_sure(belief: FloatArray) -> FloatArray:
        return np.where(belief.max(axis=1, keepdims=True) >= 0.8, route_hard(belief), 0)

    experts = faces(voters=["fold0"])
    result = combine(experts, route=only_sure)
    sure = experts[0].layers[0].max(axis=1) >= 0.8
    assert np.array_equal(result.joint.labels() >= 0, sure)
    other = combine(experts)
    panel = Predictions(SCHEMA.attributes, [probs(result), probs(other)], sample_ids(40))
    together = combine([panel], Graph.flat(SCHEMA))
    assert np.array_equal(probs(together)[~sure], probs(other)[~sure])
    assert accuracy(np.zeros(40, dtype=int), result.joint.labels(), 18) <= sure.mean()


def test_describe_is_the_table_of_states() -> None:
    given = [*faces(pooled=True)[:3], faces(pooled=True)[5]]
    flat = Predictions(SCHEMA.attributes, np.full((40, 18), 1 / 18), sample_ids(40))
    ensemble = ConditionalEnsemble(SCHEMA, FACE_GRAPH, [*given, flat], fallback="pooled")
    assert [re.split(r"  +", line) for line in ensemble.describe().splitlines()] == [
        ["node", "state", "answered by"],
        ["mask", "-", "mask (3 voters)"],
        ["gender", "-", "gender (3 voters)"],
        ["age", "mask=worn", "age given mask=worn (3 voters)"],
        ["age", "mask=incorrect", "age (3 voters, fallback)"],
        ["age", "mask=not_worn", "age (3 voters, fallback)"],
        ["not used: mask,gender,age"],
    ]


def test_experts_that_are_not_used_may_be_of_other_photos() -> None:
    stray = Predictions(SCHEMA.attributes, np.full((1, 18), 1 / 18), ["elsewhere.jpg"])
    assert np.array_equal(probs(combine([stray, *faces()])), probs(combine(faces())))


def test_only_the_rows_that_are_needed_have_to_be_computed() -> None:
    experts = faces(voters=["fold0"])
    expected = combine(experts, route="hard")
    decided = experts[0].layers[0].argmax(axis=1)
    sparse = [*experts[:2]]
    for state, expert in enumerate(experts[2:]):
        sparse.append(changed(expert, lambda layer, s=state: layer.__setitem__(decided != s, np.nan)))  # type: ignore[misc]
    assert np.array_equal(probs(combine(sparse, route="hard")), probs(expected))
    with pytest.raises(DataError) as caught:
        combine(sparse, route="soft")
    counts = [int(((decided != s) & (experts[0].layers[0][:, s] > 0)).sum()) for s in range(3)]
    assert f'{counts[0]} by "age given mask=worn" (the first is "photo-' in str(caught.value)
    assert f'{counts[2]} by "age given mask=not_worn"' in str(caught.value)
    assert str(caught.value).endswith("--missing JOINT_CLASS")


def test_a_photo_that_one_voter_did_not_compute_is_not_voted_on_by_the_rest() -> None:
    experts = faces()
    experts[1].layers[2][[4, 17]] = np.nan
    for vote_at in VOTE_AT:
        for vote in FIXED_VOTES:
            with pytest.raises(DataError, match=r'of 40 photos .*: 2 by "gender" \(the first is "photo-4.jpg"\);'):
                combine(experts, vote_at=vote_at, vote=vote, weights=EQUAL)
        assert probs(combine(experts, vote_at=vote_at, weights={"fold2": 0})).shape == (40, 18)


BAD: list[tuple[Any, type[EnsembleKitError], str]] = [
    (lambda: combine(faces(), route="sfot"), UsageError, 'no route "sfot"; did you mean "soft"'),
    (lambda: combine(faces(), vote="harf"), UsageError, 'unknown vote "harf"; did you mean "hard"'),
    (lambda: combine(faces(), vote_at="experts"), UsageError, 'unknown vote_at "experts"; did you mean "expert"'),
    (lambda: combine(faces(), route={"gender": "hard"}), UsageError, 'route: "gender" is no node with parents'),
    (lambda: combine(faces(), route=lambda belief: belief / 2), UsageError, "neither 1 nor 0"),
    (lambda: combine(faces(), voters=["fold9"]), UsageError, 'mask: no voter "fold9"; did you mean "fold'),
    (lambda: combine(faces(), weights={"fol0": 1}), UsageError, 'weights: no voter "fol0"; did you mean "fold0"'),
    (lambda: combine(faces(), weights=dict.fromkeys(FOLDS, 0)), UsageError, "not all 0"),
    (lambda: combine(faces(), weights={"fold0": -1}), UsageError, "expected weights >= 0"),
    (
        lambda: combine([*faces(voters=["a"])[:2], *faces(voters=["b"])[2:]], vote_at="joint"),
        UsageError,
        "vote_at=joint needs the same voters in all experts: mask has a, age given mask=worn has b",
    ),
    (lambda: combine([*faces()[:4], rows_of(faces()[4], slice(0, 39))]), DataError, "predict all experts on the same photos"),
    (lambda: combine([rows_of(e, [0, 0]) for e in faces()]), DataError, "ids of mask: 1 ids occur more than once"),
    (lambda: combine(faces()[:4]), UsageError, "no age expert for mask=not_worn (found: worn, incorrect); train it with"),
    (lambda: combine(faces(), Graph({"mask": []})), UsageError, "no node predicts gender, age"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error", "message"), BAD, ids=[message for *_, message in BAD])
def test_bad_calls_are_refused_in_words(call: Any, error: type[EnsembleKitError], message: str) -> None:
    with pytest.raises(error) as caught:
        call()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_photos_are_fine() -> None:
    result = combine([rows_of(expert, slice(0, 0)) for expert in faces()])
    assert result.joint.probs.shape == (1, 0, 18)
    assert set(result.counts.values()) == {0}


def test_combining_imports_neither_torch_nor_pandas() -> None:
    code = (
        "import sys, ensemble_kit.ensemble, ensemble_kit.metrics; "
        "print(sorted({m.split('.')[0] for m in sys.modules} & {'torch', 'pandas', 'sklearn', 'scipy', 'cv2'}))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_the_hash_seed_changes_no_bit() -> None:
    code = (
        "import hashlib; from test_ensemble import combine, faces; "
        "r = combine(faces(), route='hard', vote='hard'); "
        "print(hashlib.sha256(r.joint.probs.tobytes()).hexdigest(), r.counts)"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True, text=True, check=True,
            cwd=Path(__file__).parent, env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(__file__).parents[1])},
        ).stdout
        for seed in ("0", "1")
    }  # fmt: skip
    assert len(outputs) == 1


def test_facts_are_told_to_the_soft_joint_only() -> None:
    experts, truth = faces(), {"mask": np.arange(40) % 3}
    soft = combine(experts)
    assert np.array_equal(probs(soft.given(truth)), with_known(probs(soft), SCHEMA, truth))
    for options in (
        {"route": "hard"},
        {"route": "hard", "vote_at": "joint"},
        {"route": "top_k=2", "voters": ["fold0"]},
    ):
        with pytest.raises(UsageError, match=r"known facts need the soft joint, found \d+ rows of another"):
            combine(experts, **options).given(truth)
    for layer in experts[1].layers:
        layer[7] = 0
    assert combine(experts).given(truth).joint.labels()[7] == -1


@pytest.mark.parametrize("route", list(ROUTERS))
@pytest.mark.parametrize("vote_at", VOTE_AT)
def test_in_float64_the_joint_is_the_oracles_to_the_twelfth_digit(route: str, vote_at: str) -> None:
    experts = faces(20)
    single = Case(SCHEMA, FACE_GRAPH, voted(experts, "soft", [1, 1, 1]), "refuse", 20)
    chains = [Case(SCHEMA, FACE_GRAPH, [e.select_voters([f]) for e in experts], "refuse", 20) for f in FOLDS]
    cases = [single] if vote_at == "expert" else chains
    expected = np.mean([[oracle_joint(case, row, ROUTE_GATES[route]) for row in range(20)] for case in cases], axis=0)
    found = combine(experts, route=route, vote_at=vote_at, dtype="float64")
    np.testing.assert_allclose(probs(found), expected, rtol=0, atol=1e-12)
    assert np.array_equal(probs(combine(experts, route=route, vote_at=vote_at)), probs(found).astype(np.float32))
    if vote_at == "expert":
        soft = [oracle_joint(single, row, ROUTE_GATES["soft"]) for row in range(20)]
        np.testing.assert_allclose(found.distance, np.abs(expected - soft).sum(axis=1) / 2, rtol=0, atol=1e-12)


@pytest.mark.parametrize("route", list(ROUTERS))
@pytest.mark.parametrize("vote_at", VOTE_AT)
def test_a_photo_named_twice_gets_the_same_bits_twice(
    route: str, vote_at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    experts = faces(12)
    whole = combine(experts, route=route, vote_at=vote_at, dtype="float64")
    rows, ids = [3, 3, 0, 11, 3], [f"copy{place}" for place in range(5)]
    copies = [
        Predictions(e.attributes, [x[rows] for x in e.layers], ids, e.condition, e.classes, e.voters) for e in experts
    ]
    for block in (1, 2, 8192):
        monkeypatch.setattr(module, "BLOCK_ROWS", block)
        found = combine(copies, route=route, vote_at=vote_at, dtype="float64")
        assert np.array_equal(probs(found), probs(whole)[rows])
        assert np.array_equal(found.distance, whole.distance[rows], equal_nan=True)


def test_columns_finer_than_the_classes_are_added_up_before_combining() -> None:
    experts, random = faces(), np.random.default_rng(8)
    fine = Predictions(
        SCHEMA["age"],
        random_probs(random, 3, 40, 4),
        sample_ids(40),
        {"mask": "worn"},
        edges=[25, 30, 60],
        voters=FOLDS,
    )
    summed = [np.stack([x[:, 0] + x[:, 1], x[:, 2], x[:, 3]], axis=1) for x in fine.layers]
    coarse = Predictions(SCHEMA["age"], summed, sample_ids(40), {"mask": "worn"}, voters=FOLDS)
    expected = combine([*experts[:2], coarse, *experts[3:]], route="hard")
    assert np.array_equal(probs(combine([*experts[:2], fine, *experts[3:]], route="hard")), probs(expected))


@pytest.mark.parametrize("route", ["hard", "soft", "top_k=2"])
@pytest.mark.parametrize("vote_at", ["expert", "joint"])
def test_labels_alone_are_those_of_the_joint(route: str, vote_at: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    experts = face_experts(11, 50, ("fold0", "fold1"))
    probs = [np.array(layer) for layer in experts[0].layers]
    for layer in probs:
        layer[7] = 0  # the mask expert abstains
    experts[0] = Predictions(experts[0].attributes, probs, experts[0].ids, voters=experts[0].voters)
    ensemble = ConditionalEnsemble(face_schema(), FACE_GRAPH, experts)
    wanted = ensemble.combine(route=route, vote_at=vote_at).joint.labels()
    assert wanted[7] == -1
    for rows in (20_000, 7):
        monkeypatch.setattr("ensemble_kit.ensemble.BLOCK_ROWS", rows)
        assert ensemble.labels(route=route, vote_at=vote_at).tolist() == wanted.tolist()


@pytest.mark.parametrize("threads", ["1", "2", "4"])
def test_blocks_side_by_side_give_the_same_bits(threads: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ensemble = ConditionalEnsemble(face_schema(), FACE_GRAPH, face_experts(12, 90, ("fold0", "fold1")))
    wanted = ensemble.combine(route="hard")
    monkeypatch.setattr("ensemble_kit.ensemble.BLOCK_ROWS", 11)
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    found = ensemble.combine(route="hard")
    assert np.array_equal(found.joint.probs, wanted.joint.probs)
    assert np.array_equal(found.distance, wanted.distance)
    assert found.counts == wanted.counts


def test_many_states_of_one_class_stand_in_one_line() -> None:
    rows = [("x", "x0"), ("x", "x1"), *((name, f"{name}0") for name in "abcde")]
    schema = Schema.from_rows(["kind", "fine"], rows)
    probs = np.full((1, 6), 1 / 6)
    experts = [
        Predictions(schema["kind"], probs, ["p"]),
        Predictions(schema["fine"], np.eye(7)[-1:], ["p"], {"kind": "x"}),
    ]
    text = ConditionalEnsemble(schema, Graph({"kind": [], "fine": ["kind"]}), experts).describe()
    assert text.splitlines()[-1].split("  ")[-1] == "(one possible class)"
    assert text.count("one possible class") == 1
    assert "5 further states" in text


def test_the_same_plan_serves_other_photos() -> None:
    experts, others = faces(n_samples=9, pooled=True), faces(n_samples=14, pooled=True, seed=5)
    first = ConditionalEnsemble(SCHEMA, FACE_GRAPH, experts)
    found = first.on([own.on(other.ids, other.layers) for own, other in zip(first.experts, others, strict=True)])
    expected = ConditionalEnsemble(SCHEMA, FACE_GRAPH, others)
    for route in ("hard", "soft"):
        np.testing.assert_array_equal(found.combine(route=route).joint.probs, expected.combine(route=route).joint.probs)
    assert first.ids.tolist() == experts[0].ids.tolist()
    twice = np.array(["a", "a"])
    with pytest.raises(DataError, match="ids of"):
        first.on([own.on(twice, [layer[:2] for layer in own.layers]) for own in first.experts])


def test_what_fills_an_expert_may_give_it_other_layers() -> None:
    experts = faces(n_samples=30)
    asked: list[str] = []

    def fill(expert: Predictions, names: Sequence[str], rows: Any) -> Predictions:
        (full,) = (own for own in experts if own.describe() == expert.describe())
        asked.append(expert.describe())
        layers = [np.full(layer.shape, np.nan) for layer in full.layers]
        for name in names:
            layers[full.voters.index(name)][rows] = full.layers[full.voters.index(name)][rows]
        return expert.on(expert.ids, layers)

    none = [own.on(own.ids, [np.broadcast_to(np.nan, layer.shape) for layer in own.layers]) for own in experts]
    ensemble = ConditionalEnsemble(SCHEMA, FACE_GRAPH, none)
    expected = ConditionalEnsemble(SCHEMA, FACE_GRAPH, experts).combine(route="hard", dtype="float64")
    found = ensemble.combine(route="hard", dtype="float64", fill=fill)
    np.testing.assert_array_equal(found.joint.probs, expected.joint.probs)
    assert asked
