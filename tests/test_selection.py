from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from core_oracles import FACE_GRAPH, face_experts, face_schema, sample_ids
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble_kit.data.folds import make_folds
from ensemble_kit.ensemble import ConditionalEnsemble
from ensemble_kit.errors import DataError, EnsembleKitError, UsageError
from ensemble_kit.metrics import accuracy, macro_f1, person_bootstrap
from ensemble_kit.predictions import Predictions
from ensemble_kit.schema import Attribute
from ensemble_kit.selection import (
    Search,
    Selection,
    select_for_experts,
    select_for_joint,
    select_voters,
    true_columns,
)
from ensemble_kit.voting import vote_soft

SEEDS = st.integers(0, 2**32 - 1)
AGE = face_schema()["age"]
FAST: dict[str, Any] = {"n_boot": 50, "n_folds": 3}


def noisy(seed: int, truth: Any, strengths: Any, n_classes: int = 3, *, coarse: bool = True) -> Any:
    """One voter for each strength: logits of noise plus the strength at the true class. Coarse, so that ties occur."""
    random = np.random.default_rng(seed)
    found = []
    for strength in strengths:
        logits = random.normal(size=(len(truth), n_classes))
        logits[np.arange(len(truth)), truth] += strength
        shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        rounded = np.round(shares * 8) + (np.arange(n_classes) == shares.argmax(axis=1)[:, None])
        found.append(rounded if coarse else shares)
    return np.array([layer / layer.sum(axis=1, keepdims=True) for layer in found])


def small(seed: int, n_people: int = 20, strengths: Sequence[float] = (0.5, 1, 1, 0)) -> tuple[Any, Any, Any]:
    """Voters' probabilities, truth and people, three photos a person; some rows abstain."""
    random = np.random.default_rng(seed)
    truth = random.integers(0, 3, size=3 * n_people)
    probs = noisy(seed, truth, strengths)
    probs[random.random(probs.shape[:2]) < 0.05] = 0
    return probs, truth, np.repeat(np.arange(n_people), 3)


def labels_of(probs: Any, counts: Sequence[float]) -> Any:
    voted = vote_soft(probs, np.array(counts, dtype=np.float64)).astype(np.float32)
    return np.where(voted.any(axis=1), voted.argmax(axis=1), -1)


def caruana(score: Callable[[list[int]], float], n_voters: int, rounds: int, start: int) -> list[int]:
    """Greedy selection with replacement by the book, with no sums kept."""
    alone = [score([int(v == voter) for v in range(n_voters)]) for voter in range(n_voters)]
    best_first = sorted(range(n_voters), key=lambda voter: (-round(alone[voter], 10), voter))
    bag = [int(v in best_first[:start]) for v in range(n_voters)]
    path = [list(bag)]
    for _ in range(rounds):
        longer = [[count + (v == voter) for v, count in enumerate(bag)] for voter in range(n_voters)]
        scores = [round(score(counts), 10) for counts in longer]
        bag = longer[scores.index(max(scores))]
        path.append(bag)
    scores = [round(score(counts), 10) for counts in path]
    return path[scores.index(max(scores))]


@settings(max_examples=25, deadline=None)
@given(SEEDS, st.integers(0, 6), st.integers(1, 3), st.sampled_from(["macro_f1", "accuracy", "brier", "log_loss"]))
def test_the_selection_is_that_of_a_loop_inside_and_outside_the_folds(
    seed: int, rounds: int, start: int, metric: str
) -> None:
    probs, truth, groups = small(seed)

    def score(rows: Any, counts: Sequence[float]) -> float:
        voted = vote_soft(probs[:, rows], np.array(counts, dtype=np.float64))
        if metric in ("macro_f1", "accuracy"):
            labels = labels_of(probs[:, rows], counts)
            return {"macro_f1": macro_f1, "accuracy": accuracy}[metric](truth[rows], labels, 3)
        voted = np.where(voted.any(axis=1, keepdims=True), voted, 1 / 3)
        if metric == "brier":
            return -float(((voted - np.eye(3)[truth[rows]]) ** 2).sum(axis=1).mean())
        return float(np.log(np.maximum(voted[np.arange(len(rows)), truth[rows]], 1e-7)).mean())

    every = np.arange(len(truth))
    found = select_voters(probs, truth, groups=groups, metric=metric, rounds=rounds, start=start, **FAST)
    counts = caruana(lambda c: score(every, c), 4, rounds, start)
    assert found.weights == {f"voter{v}": float(count) for v, count in enumerate(counts)}
    sign = 1 if metric in ("macro_f1", "accuracy") else -1
    assert found.score == pytest.approx(sign * score(every, counts))
    assert found.nested_all == pytest.approx(sign * score(every, [1] * 4))
    folds = make_folds(truth, groups.astype(str), n_folds=3, seed=0)
    joined, alone = np.zeros((len(truth), 3)), np.zeros((len(truth), 3))
    for fold in range(3):
        inside, outside = np.flatnonzero(folds == fold), np.flatnonzero(folds != fold)
        own = caruana(lambda c, rows=outside: score(rows, c), 4, rounds, start)  # type: ignore[misc]
        single = caruana(lambda c, rows=outside: score(rows, c), 4, 0, 1)  # type: ignore[misc]
        joined[inside] = vote_soft(probs[:, inside], np.array(own, dtype=np.float64))
        alone[inside] = vote_soft(probs[:, inside], np.array(single, dtype=np.float64))
    assert found.over_all.value == pytest.approx(sign * (found.nested_score - found.nested_all))
    probs = joined[None]
    assert found.nested_score == pytest.approx(sign * score(every, [1]))
    probs = alone[None]
    assert found.nested_best_single == pytest.approx(sign * score(every, [1]))


@settings(max_examples=15, deadline=None)
@given(SEEDS, st.integers(0, 3))
def test_neither_the_order_of_voters_nor_that_of_photos_changes_anything(seed: int, bags: int) -> None:
    probs, truth, groups = small(seed)
    names = ["fold0", "fold1", "fold10", "fold2"]
    first = select_voters(probs, truth, groups=groups, voters=names, bags=bags, rounds=4, **FAST)
    order = np.random.default_rng(seed).permutation(4)
    turned = select_voters(
        probs[order], truth, groups=groups, voters=[names[i] for i in order], bags=bags, rounds=4, **FAST
    )
    assert turned == first
    assert select_voters(probs, truth, groups=groups, voters=names, bags=bags, rounds=4, **FAST) == first


def test_a_function_is_as_good_as_a_name() -> None:
    probs, truth, groups = small(3)
    named = select_voters(probs, truth, groups=groups, metric="macro_f1", rounds=4, **FAST)
    own = select_voters(probs, truth, groups=groups, metric=lambda t, given, n: macro_f1(t, given, n), rounds=4, **FAST)
    assert (own.weights, own.over_all, own.over_best_single) == (named.weights, named.over_all, named.over_best_single)
    assert own.metric == "<lambda>"


def test_the_interval_is_that_of_people_drawn_again() -> None:
    probs, truth, groups = small(4, n_people=40)
    strong = np.eye(3)[np.where(np.arange(len(truth)) % 4 == 0, (truth + 1) % 3, truth)][None]
    found = select_voters([strong[0], probs[3]], truth, groups=groups, rounds=0, n_folds=3, n_boot=400, seed=5)
    assert found.weights == {"voter0": 1.0, "voter1": 0.0}
    assert (found.over_best_single.low, found.over_best_single.high) == (0, 0)
    labels = labels_of(np.array([strong[0], probs[3]]), [1, 1])
    single = person_bootstrap(truth, strong[0].argmax(axis=1), groups, 3, n_boot=400, seed=5)
    both = person_bootstrap(truth, labels, groups, 3, n_boot=400, seed=5)
    assert found.over_all.value == pytest.approx(found.nested_score - found.nested_all)
    assert single[0] - both[1] <= found.over_all.low <= found.over_all.value <= found.over_all.high
    assert found.over_all.high <= single[1] - both[0]


def people_of(seed: int, n_people: int) -> tuple[Any, Any]:
    truth = np.random.default_rng(seed).integers(0, 3, size=3 * n_people)
    return truth, np.repeat(np.arange(n_people), 3)


def test_one_voter_is_best_and_the_selection_says_so() -> None:
    truth, groups = people_of(0, 300)
    probs = noisy(0, truth, [3.0, -1.0, -1.0, -1.0])
    found = select_voters(probs, truth, groups=groups, n_boot=200)
    assert dict(found.weights)["voter0"]
    assert found.best_single == "voter0"
    assert found.beats_all
    assert not found.beats_best_single
    assert "does not beat the best single voter, which is cheaper" in found.text()


def test_voting_helps_and_the_plain_vote_is_as_good() -> None:
    truth, groups = people_of(1, 300)
    found = select_voters(noisy(1, truth, [1.0] * 6), truth, groups=groups, n_boot=200)
    assert found.beats_best_single
    assert not found.beats_all
    assert "does not beat the plain vote of all, which needs no weights" in found.text()
    assert "leave" not in found.advice()


def test_good_and_bad_voters_make_a_selection_that_beats_both() -> None:
    truth, groups = people_of(2, 400)
    found = select_voters(noisy(2, truth, [1.2, 1.2, 1.2, -1.5, -1.5]), truth, groups=groups, n_boot=200)
    assert found.beats_best_single
    assert found.beats_all
    assert found.weights["voter3"] == found.weights["voter4"] == 0
    assert found.advice() == "The selection beats the best single voter and the plain vote of all."


def test_where_nothing_helps_nothing_is_claimed() -> None:
    """Voters that know nothing: of 20 sets at most two selections may seem to beat the others."""
    claims = 0
    for seed in range(20):
        truth, groups = people_of(seed, 60)
        found = select_voters(noisy(seed, truth, [0.0] * 4), truth, groups=groups, rounds=5, n_boot=200)
        assert found.score >= found.nested_score - 0.05  # the score on the photos it was made from flatters
        claims += found.beats_best_single or found.beats_all
        if not found.beats_best_single and not found.beats_all:
            assert "leave the weights out" in found.text()
    assert claims <= 2


def test_equal_voters_go_to_the_first_name() -> None:
    probs, truth, groups = small(7)
    same = [probs[1]] * 3
    found = select_voters(same, truth, groups=groups, voters=["c", "a", "b"], **FAST)
    assert found.weights == {"a": 1.0, "b": 0.0, "c": 0.0}
    assert found.best_single == "a"


def test_unlabelled_photos_are_left_out_and_unknown_people_are_said() -> None:
    probs, truth, groups = small(8)
    keep = np.arange(len(truth)) % 5 > 0
    found = select_voters(probs, np.where(keep, truth, -1), groups=groups, rounds=3, **FAST)
    assert found == select_voters(probs[:, keep], truth[keep], groups=groups[keep], rounds=3, **FAST)
    nobody = select_voters(probs, truth, groups=None, rounds=3, **FAST)
    assert not nobody.people_known
    assert nobody.n_groups == len(truth)
    assert "people not known" in nobody.text()


def test_a_selection_survives_the_file() -> None:
    probs, truth, groups = small(9)
    found = select_voters(probs, truth, groups=groups, who="age given mask=worn", **FAST)
    assert Selection.from_json(json.loads(json.dumps(found.to_json()))) == found
    assert found.where == "age given mask=worn"
    ensemble, joint, people = faces(1)
    nested = select_for_joint(ensemble, joint, groups=people, rounds=1, **FAST)
    assert Selection.from_json(json.loads(json.dumps(nested.to_json()))) == nested


def faces(seed: int, n_people: int = 30, voters: Sequence[str] = ("fold0", "fold1", "fold2")) -> tuple[Any, Any, Any]:
    """An ensemble of five experts, the true joint classes and the people; a voter is good at one thing only."""
    random, schema = np.random.default_rng(seed), face_schema()
    joint = random.integers(0, 18, size=3 * n_people)
    true = schema.decode(joint)
    experts = []
    for expert in face_experts(seed, len(joint), voters):
        strengths = random.permutation([2.5, 1.0, -0.5] + [0.5] * (len(voters) - 3))
        layers = noisy(int(random.integers(2**31)), true[expert.names[0]], strengths, len(expert.classes), coarse=False)
        experts.append(Predictions(expert.attributes, layers, expert.ids, expert.condition, voters=voters))
    return ConditionalEnsemble(schema, FACE_GRAPH, experts), joint, np.repeat(np.arange(n_people), 3)


@pytest.mark.parametrize("route", ["soft", "hard"])
def test_weights_of_the_joint_are_those_of_a_loop_over_combine(route: str) -> None:
    ensemble, joint, people = faces(4)
    names = sorted(expert.describe() for expert in ensemble.experts)
    voters = ensemble.experts[0].voters

    def score(state: dict[str, list[int]]) -> float:
        weights = {name: dict(zip(voters, map(float, counts), strict=True)) for name, counts in state.items()}
        return round(macro_f1(joint, ensemble.combine(route=route, weights=weights).joint.labels(), 18), 10)

    plain = {name: [1, 1, 1] for name in names}
    state = {
        name: max(([1, 0, 0], [0, 1, 0], [0, 0, 1]), key=lambda c, name=name: score(plain | {name: c}))  # type: ignore[misc]
        for name in names
    }
    best, best_score = state, score(state)
    for _ in range(2):
        for name in names:
            longer = [[count + (v == voter) for v, count in enumerate(state[name])] for voter in range(3)]
            state = state | {name: max(longer, key=lambda c, name=name, state=state: score(state | {name: c}))}  # type: ignore[misc]
            if score(state) > best_score:
                best, best_score = state, score(state)
    found = select_for_joint(ensemble, joint, groups=people, route=route, rounds=2, **FAST)
    assert found.weights == {n: dict(zip(voters, map(float, counts), strict=True)) for n, counts in best.items()}
    assert found.score == pytest.approx(best_score)
    assert found.nested_all == pytest.approx(score(plain))
    assert found.vote_at == "expert"
    assert found.where == "joint"


def test_whole_chains_are_weighed_as_one_experts_voters() -> None:
    ensemble, joint, people = faces(5)
    chains = [np.asarray(ensemble.combine(voters=[name]).joint.layers[0]) for name in ensemble.experts[0].voters]
    found = select_for_joint(ensemble, joint, groups=people, vote_at="joint", rounds=4, **FAST)
    voters = ensemble.experts[0].voters
    plain = select_voters(chains, joint, groups=people, voters=voters, rounds=4, who="joint", **FAST)
    assert found.weights == plain.weights
    assert found.vote_at == "joint"
    labels = ensemble.combine(vote_at="joint", weights=found.weights).joint.labels()
    assert macro_f1(joint, labels, 18) == pytest.approx(found.score)


def test_weights_of_the_joint_beat_the_best_chain_where_each_voter_knows_another_thing() -> None:
    ensemble, joint, people = faces(6, n_people=250)
    found = select_for_joint(ensemble, joint, groups=people, rounds=3, n_boot=200)
    assert found.beats_best_single
    assert found.beats_all
    labels = ensemble.combine(weights=found.weights).joint.labels()
    assert macro_f1(joint, labels, 18) == pytest.approx(found.score)


def test_the_order_of_experts_and_rows_of_the_truth_change_nothing() -> None:
    ensemble, joint, people = faces(7)
    found = select_for_joint(ensemble, joint, groups=people, rounds=1, **FAST)
    turned = ConditionalEnsemble(ensemble.schema, FACE_GRAPH, ensemble.experts[::-1])
    assert select_for_joint(turned, joint, groups=people, rounds=1, **FAST) == found
    order = np.random.default_rng(0).permutation(len(joint))
    joined = select_for_joint(ensemble, joint[order], groups=people[order], ids=ensemble.ids[order], rounds=1, **FAST)
    assert joined == found


def test_each_expert_is_weighed_on_the_photos_of_its_condition() -> None:
    ensemble, joint, people = faces(8, n_people=60)
    schema = ensemble.schema
    search = Search(rounds=3, **FAST)
    found = select_for_experts(ensemble.experts, schema, joint, ensemble.ids, groups=people, search=search)
    assert [each.where for each in found] == [expert.describe() for expert in ensemble.experts]
    true = schema.decode(joint)
    rows = np.flatnonzero(true["mask"] == schema["mask"].index("incorrect"))
    expert = next(e for e in ensemble.experts if e.condition == {"mask": ("incorrect",)})
    alone = select_voters(expert.select(rows), true["age"][rows], groups=people[rows], rounds=3, **FAST)
    assert next(each for each in found if each.where == expert.describe()) == alone


def test_true_columns_follow_the_experts_own_order_and_leave_the_rest_out() -> None:
    schema = face_schema()
    expert = Predictions(
        AGE, [[0.2, 0.3, 0.5]] * 18, sample_ids(18), {"mask": ["worn"]}, classes=["30-59", ">=60", "<30"]
    )
    assert true_columns(expert, schema, np.arange(18)).tolist() == [2, 0, 1, 2, 0, 1] + [-1] * 12
    block = Predictions([AGE, schema["gender"]], np.full((2, 6), 1 / 6), ["a", "b"])
    assert true_columns(block, schema, [4, -1]).tolist() == [3, -1]


PROBS, TRUTH, GROUPS = small(0)


def holed() -> Any:
    holes = PROBS.copy()
    holes[1, 4:6] = np.nan
    return holes


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: select_voters(PROBS[:1], TRUTH, groups=GROUPS), UsageError, "one voter only, so there is nothing"),
        (lambda: select_voters(PROBS[0], TRUTH, groups=GROUPS), UsageError, "(n_voters, n_samples, n_classes), found"),
        (
            lambda: select_voters(PROBS, TRUTH, groups=GROUPS, metric="macrof1"),
            UsageError,
            'unknown metric "macrof1"; did you mean "macro_f1"? (known: accuracy, macro_f1, brier, log_loss)',
        ),
        (lambda: select_voters(PROBS, TRUTH[1:], groups=GROUPS), DataError, "a true class and a group for each of 60"),
        (lambda: select_voters(PROBS, TRUTH, groups=GROUPS[1:]), DataError, "and groups (59,)"),
        (lambda: select_voters(PROBS, TRUTH / 1.0, groups=GROUPS), DataError, "found float64 (60,)"),
        (lambda: select_voters(PROBS, TRUTH + 1, groups=GROUPS), DataError, "true classes must be 0 to 2, found 3"),
        (lambda: select_voters(PROBS, TRUTH * 0 - 1, groups=GROUPS), DataError, "none of 60 photos has a label"),
        (lambda: select_voters(PROBS, TRUTH, groups=GROUPS * 0), DataError, "5 folds need 5 people or more, found 1"),
        (lambda: select_voters(holed(), TRUTH, groups=GROUPS), DataError, "voter voter1 has not computed 2 of 60"),
        (lambda: select_voters(PROBS, TRUTH, groups=GROUPS, voters=["a"]), UsageError, "4 distinct voter names"),
        (lambda: select_voters(PROBS * 2, TRUTH, groups=GROUPS), DataError, "logits need a softmax first"),
        (lambda: select_voters(PROBS, TRUTH, groups=GROUPS, rounds=-1), UsageError, "rounds: expected 0 or more"),
        (lambda: select_voters(PROBS, TRUTH, groups=GROUPS, start=0), UsageError, "start: expected 1 or more"),
        (lambda: select_voters(PROBS, TRUTH, groups=GROUPS, n_folds=1), UsageError, "n_folds: expected 2 or more"),
        (
            lambda: select_voters(PROBS, TRUTH, groups=GROUPS, metric=lambda t, given, n: float("nan")),
            UsageError,
            'metric "<lambda>": expected one finite number, found nan',
        ),
        (lambda: on_faces(vote_at="chain"), UsageError, 'unknown vote_at "chain" (known: expert, joint)'),
        (lambda: on_faces(route="sft"), UsageError, 'no route "sft"'),
        (lambda: on_faces(route={"gender": "soft"}), UsageError, '"gender" is no node with parents'),
        (lambda: other_voters(), UsageError, 'has no "fold2"; select at the experts'),
        (lambda: on_faces(ids=np.array(["a"] * 90)), DataError, "ids of the truth"),
        (lambda: Selection.from_json({"weights": {"a": 1}}), DataError, "fit them again"),
        (lambda: Selection.from_json([]), DataError, "fit them again"),
        (lambda: stored({"a": -1.0}), DataError, "finite, at least 0 and not all 0, found [-1.0]"),
        (lambda: stored({"a": 0.0}), DataError, "not all 0"),
        (lambda: stored({"a": 1.0, "age": {"b": 1.0}}), DataError, "weights of some voters and of some experts"),
        (lambda: stored({}), DataError, "weights by voter, or by expert and voter"),
    ],
)
def test_bad_input_is_named(call: Any, kind: type[EnsembleKitError], message: str) -> None:
    with pytest.raises(kind, match=re.escape(message)):
        call()


def on_faces(**options: Any) -> Selection:
    ensemble, joint, people = faces(0)
    return select_for_joint(ensemble, joint, groups=people, **options)


def other_voters() -> Selection:
    ensemble, joint, people = faces(0)
    first, *others = ensemble.experts
    experts = [first.select_voters(["fold0", "fold1"]), *others]
    odd = ConditionalEnsemble(ensemble.schema, FACE_GRAPH, experts)
    return select_for_joint(odd, joint, groups=people, vote_at="joint")


def stored(weights: Any) -> Selection:
    plain = select_voters(PROBS, TRUTH, groups=GROUPS, rounds=0, **FAST).to_json()
    return Selection.from_json(plain | {"weights": weights})


def test_one_expert_with_one_voter_is_left_as_it_is() -> None:
    ensemble, joint, people = faces(2)
    first, *others = ensemble.experts
    odd = ConditionalEnsemble(ensemble.schema, FACE_GRAPH, [first.select_voters(["fold1"]), *others])
    found = select_for_joint(odd, joint, groups=people, rounds=1, **FAST)
    assert found.weights["mask"] == {"fold1": 1.0}
    assert found.best_single == "fold1"
    single = [expert.select_voters(["fold0"]) for expert in ensemble.experts]
    with pytest.raises(UsageError, match="every expert has one voter only"):
        select_for_experts(single, ensemble.schema, joint, ensemble.ids, groups=people)


def test_finer_columns_are_weighed_in_the_schemas_classes() -> None:
    age = Attribute("age", ["young", "old"], borders=[40])
    from ensemble_kit.schema import Schema

    truth, groups = people_of(3, 30)
    fine = Predictions(age, noisy(3, truth, [2.0, -1.0]), sample_ids(len(truth)), edges=[30, 40])
    (found,) = select_for_experts(
        [fine], Schema(age), truth // 2, fine.ids, groups=groups, search=Search(rounds=2, **FAST)
    )
    coarse = np.stack([np.stack([layer[:, 0] + layer[:, 1], layer[:, 2]], axis=1) for layer in fine.layers])
    assert found.weights == select_voters(coarse, truth // 2, groups=groups, rounds=2, **FAST).weights
