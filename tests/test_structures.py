"""The comparison of structures, against loops over photos and over resamples."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from ensemble_kit.arrays import FloatArray, IdArray, IntArray
from ensemble_kit.errors import DataError, UsageError
from ensemble_kit.graph import Graph
from ensemble_kit.metrics import person_bootstrap
from ensemble_kit.predictions import Predictions
from ensemble_kit.schema import Attribute, Schema
from ensemble_kit.structure_report import Score, StructureReport, StructureRow
from ensemble_kit.structures import score_structures

MASK = Attribute("mask", ["worn", "incorrect", "not_worn"])
GENDER = Attribute("gender", ["male", "female"])
AGE = Attribute("age", ["<30", "30-59", ">=60"], borders=[30, 60])
SCHEMA = Schema(MASK, GENDER, AGE)
GRAPH = Graph({"mask": [], "gender": [], "age": ["mask"]})
VOTERS = ("fold0", "fold1", "fold2")


@dataclass(frozen=True)
class World:
    """Random experts that are right more often than not. `experts`: mask, gender, age (pooled, by mask state), flat."""

    experts: dict[str, Predictions]
    truth: IntArray
    ids: IdArray
    groups: IdArray

    def score(self, **changes: object) -> StructureReport:
        call: dict[str, object] = {"truth": self.truth, "ids": self.ids, "groups": self.groups, "n_boot": 20, "seed": 3}
        return score_structures(list(self.experts.values()), SCHEMA, GRAPH, **(call | changes))  # type: ignore[arg-type]


def noisy(rng: np.random.Generator, true: IntArray, n_classes: int, n_voters: int, strength: float = 1.6) -> FloatArray:
    logits = strength * np.eye(n_classes)[true] + rng.normal(size=(n_voters, len(true), n_classes))
    grown = np.exp(logits)
    probs: FloatArray = (grown / grown.sum(axis=-1, keepdims=True)).astype(np.float32)
    return probs


def make_world(seed: int = 0, n_samples: int = 84, n_voters: int = 3) -> World:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 18, n_samples)
    true = SCHEMA.decode(truth)
    ids = np.array([f"{number:03d}.jpg" for number in range(n_samples)])
    groups = np.array([f"p{number // 7}" for number in range(n_samples)])

    def expert(block: list[Attribute], labels: IntArray, condition: Mapping[str, str] | None = None) -> Predictions:
        order = rng.permutation(n_samples)  # each expert has a row order of its own
        probs = noisy(rng, labels, Schema(*block).n_joint, n_voters)[:, order]
        return Predictions(block, probs, ids[order], condition, voters=VOTERS[:n_voters])

    own = {
        c: np.where(true["mask"] == i, true["age"], rng.integers(0, 3, n_samples)) for i, c in enumerate(MASK.classes)
    }
    experts = {
        "mask": expert([MASK], true["mask"]),
        "gender": expert([GENDER], true["gender"]),
        "age": expert([AGE], true["age"]),
        **{f"age {c}": expert([AGE], labels, {"mask": c}) for c, labels in own.items()},
        "flat": expert([MASK, GENDER, AGE], truth),
    }
    return World(experts, truth, ids, groups)


WORLD = make_world()
REPORT = WORLD.score()


# ------------------------------------------------------------------------------------------------ the loop oracles


def row_of(expert: Predictions, sample_id: str) -> FloatArray:
    """`(n_voters, n_classes)` of one photo, in float64."""
    row = expert.ids.tolist().index(sample_id)
    return np.array([layer[row] for layer in expert.layers], dtype=np.float64)


def vote(rows: FloatArray, voting: str) -> FloatArray:
    if voting == "soft":
        return np.array([sum(column) / len(rows) for column in rows.T])
    counts = [sum(int(row.argmax()) == c for row in rows) for c in range(rows.shape[1])]
    shares = [(n + 0.001 * m) / (1.001 * len(rows)) for n, m in zip(counts, rows.sum(axis=0), strict=True)]
    return np.array(shares)


def loop_labels(world: World, structure: str, voting: str) -> list[list[int]]:
    """The joint index of each photo by each of the answers (three of them for "one"), written out photo by photo."""
    voters = range(len(world.experts["mask"].voters)) if voting == "one" else [None]
    pairs = list(zip(world.ids.tolist(), world.truth.tolist(), strict=True))
    return [
        [loop_label(structure, reader(world, sample_id, voting, voter), truth) for sample_id, truth in pairs]
        for voter in voters
    ]


def reader(world: World, sample_id: str, voting: str, voter: int | None) -> Callable[[str], FloatArray]:
    def probs(name: str) -> FloatArray:
        rows = row_of(world.experts[name], sample_id)
        return vote(rows, voting) if voter is None else rows[voter]

    return probs


def loop_label(structure: str, probs: Callable[[str], FloatArray], truth: int) -> int:
    if structure == "flat":
        return int(probs("flat").argmax())
    best, label = -1.0, -1
    chosen = int(probs("mask").argmax())
    for joint in range(18):
        m, g, a = joint // 6, joint // 3 % 2, joint % 3
        if structure == "conditional_hard" and m != chosen:
            continue
        if structure == "perfect_mask" and m != truth // 6:
            continue
        age = "age" if structure == "independent" else f"age {MASK.classes[m]}"
        mask = 1.0 if structure == "perfect_mask" else probs("mask")[m]
        value = mask * probs("gender")[g] * probs(age)[a]
        if value > best:
            best, label = value, joint
    return label


def means(truth: list[int], answers: list[list[int]], n_classes: int) -> tuple[float, float]:
    right = [sum(t == p for t, p in zip(truth, labels, strict=True)) / len(truth) for labels in answers]
    f1 = [f1_score(truth, labels, labels=range(n_classes), average="macro", zero_division=0) for labels in answers]
    return sum(right) / len(right), sum(f1) / len(f1)


def naive_interval(
    truth: list[int], answers: list[list[int]], n_classes: int, *, n_boot: int, seed: int, world: World
) -> tuple[list[float], list[float]]:
    """Accuracy and macro F1 of each draw: people drawn again, their photos written down as often, scored anew."""
    people = sorted(set(world.groups.tolist()))
    drawn = np.random.default_rng(seed).multinomial(len(people), [1 / len(people)] * len(people), size=n_boot)
    rows = {name: np.flatnonzero(world.groups == name).tolist() for name in people}
    scores = []
    for counts in drawn:
        photos = [row for name, count in zip(people, counts, strict=True) for row in rows[name] * int(count)]
        scores.append(means([truth[i] for i in photos], [[labels[i] for i in photos] for labels in answers], n_classes))
    accuracies, f1s = zip(*scores, strict=True)
    return list(accuracies), list(f1s)


def as_interval(draws: list[float]) -> tuple[float, float]:
    return float(np.percentile(draws, 2.5)), float(np.percentile(draws, 97.5))


def find(report: StructureReport, structure: str, voting: str) -> StructureRow:
    found = [row for row in report.rows if (row.structure, row.voting) == (structure, voting)]
    assert len(found) == 1
    return found[0]


STRUCTURES = ["flat", "independent", "conditional_hard", "conditional_soft", "perfect_mask"]
VOTINGS = ["one", "soft", "hard"]


# ----------------------------------------------------------------------------------------------------------- scores


def test_every_structure_under_every_voting() -> None:
    assert [(row.structure, row.voting) for row in REPORT.rows] == [(s, v) for s in STRUCTURES for v in VOTINGS]
    assert {row.n_voters for row in REPORT.rows} == {3}
    assert (REPORT.n_samples, REPORT.n_left_out, REPORT.n_groups, REPORT.left_out) == (84, 0, 12, {})


@pytest.mark.parametrize("voting", VOTINGS)
@pytest.mark.parametrize("structure", STRUCTURES)
def test_joint_and_attribute_scores(structure: str, voting: str) -> None:
    answers, row = loop_labels(WORLD, structure, voting), find(REPORT, structure, voting)
    truth = WORLD.truth.tolist()
    assert (row.joint.accuracy, row.joint.macro_f1) == pytest.approx(means(truth, answers, 18))
    for name, n_classes, step in [("mask", 3, 6), ("gender", 2, 3), ("age", 3, 1)]:
        part = [[label // step % n_classes for label in labels] for labels in [truth, *answers]]
        expected = means(part[0], part[1:], n_classes)
        assert (row.attributes[name].accuracy, row.attributes[name].macro_f1) == pytest.approx(expected)


@pytest.mark.parametrize(("structure", "voting"), [("conditional_soft", "soft"), ("independent", "one")])
def test_intervals_against_a_loop_over_resamples(structure: str, voting: str) -> None:
    answers, score = loop_labels(WORLD, structure, voting), find(REPORT, structure, voting).joint
    accuracies, f1s = naive_interval(WORLD.truth.tolist(), answers, 18, n_boot=20, seed=3, world=WORLD)
    assert score.accuracy_interval == pytest.approx(as_interval(accuracies))
    assert score.macro_f1_interval == pytest.approx(as_interval(f1s))


def test_an_interval_is_that_of_the_plain_metric() -> None:
    """What `ens evaluate` says of a submission is what the table says of the same labels."""
    report = WORLD.score(n_boot=250, seed=5)
    (labels,) = loop_labels(WORLD, "conditional_hard", "hard")
    expected = person_bootstrap(WORLD.truth, labels, WORLD.groups, 18, "macro_f1", n_boot=250, seed=5)
    assert find(report, "conditional_hard", "hard").joint.macro_f1_interval == pytest.approx(expected)


@pytest.mark.parametrize("groups", [None, np.full(len(WORLD.groups), "p1")])
def test_without_several_people_there_are_no_intervals_and_no_verdicts(groups: IdArray | None) -> None:
    report = WORLD.score(groups=groups)
    assert "people resampled" not in report.text()
    assert all(row.joint.accuracy_interval is None and row.joint.macro_f1_interval is None for row in report.rows)
    assert {compared.verdict for compared in report.comparisons} == {"not tested (no people to draw)"}
    assert [row.joint.accuracy for row in report.rows] == [row.joint.accuracy for row in REPORT.rows]


# --------------------------------------------------------------------------------------------- children, comparisons


@pytest.mark.parametrize("voting", VOTINGS)
def test_age_by_the_predicted_and_by_the_true_state(voting: str) -> None:
    (child,) = [child for child in REPORT.children if child.voting == voting]
    truth = [t % 3 for t in WORLD.truth.tolist()]
    for score, structure in [(child.predicted_state, "conditional_hard"), (child.true_state, "perfect_mask")]:
        answers = [[p % 3 for p in labels] for labels in loop_labels(WORLD, structure, voting)]
        assert (score.accuracy, score.macro_f1) == pytest.approx(means(truth, answers, 3))
    assert (child.attribute, child.parents, child.n_voters) == ("age", ("mask",), 3)


@pytest.mark.parametrize("voting", VOTINGS)
@pytest.mark.parametrize("state", range(3))
def test_pooled_against_specialised(state: int, voting: str) -> None:
    name = MASK.classes[state]
    (found,) = [c for c in REPORT.comparisons if (c.condition, c.voting) == (f"mask={name}", voting)]
    keep = [i for i, t in enumerate(WORLD.truth.tolist()) if t // 6 == state]
    part = World(WORLD.experts, WORLD.truth[keep], WORLD.ids[keep], WORLD.groups[keep])
    truth = [t % 3 for t in part.truth.tolist()]
    answers = {}
    for expert in ("age", f"age {name}"):
        rows = [row_of(WORLD.experts[expert], sample_id) for sample_id in part.ids]
        if voting == "one":
            answers[expert] = [[int(row[voter].argmax()) for row in rows] for voter in range(3)]
        else:
            answers[expert] = [[int(vote(row, voting).argmax()) for row in rows]]
    pooled, special = (means(truth, given, 3) for given in answers.values())
    assert (found.pooled.accuracy, found.pooled.macro_f1) == pytest.approx(pooled)
    assert (found.specialised.accuracy, found.specialised.macro_f1) == pytest.approx(special)
    assert (found.accuracy_gain, found.macro_f1_gain) == pytest.approx((special[0] - pooled[0], special[1] - pooled[1]))
    assert found.n_samples == len(keep)
    before, after = (naive_interval(truth, given, 3, n_boot=20, seed=3, world=part) for given in answers.values())
    for metric, interval in enumerate([found.accuracy_gain_interval, found.macro_f1_gain_interval]):
        paired = [b - a for a, b in zip(before[metric], after[metric], strict=True)]
        assert interval == pytest.approx(as_interval(paired))


@pytest.mark.parametrize(
    ("interval", "verdict"),
    [
        ((0.01, 0.2), "specialised better"),
        ((-0.2, -0.01), "pooled better"),
        ((-0.01, 0.2), "no difference shown"),
        ((0.0, 0.2), "no difference shown"),
        (None, "not tested (no people to draw)"),
    ],
)
def test_a_verdict_follows_the_interval(interval: tuple[float, float] | None, verdict: str) -> None:
    compared = replace(REPORT.comparisons[0], macro_f1_gain_interval=interval, macro_f1_gain=0.05)
    assert compared.verdict == verdict
    assert compared.sentence.startswith(f"age, mask=worn: {verdict} (macro F1 +0.050")


def test_an_expert_of_two_states_is_compared_on_both() -> None:
    special = WORLD.experts["age worn"]
    rest = Predictions(
        special.attributes, special.probs, special.ids, {"mask": ("incorrect", "not_worn")}, voters=VOTERS
    )
    kept = {name: e for name, e in WORLD.experts.items() if name not in ("age incorrect", "age not_worn")}
    report = World(kept | {"rest": rest}, WORLD.truth, WORLD.ids, WORLD.groups).score(votes=["soft"])
    sizes = {c.condition: c.n_samples for c in report.comparisons}
    worn = int((WORLD.truth < 6).sum())
    assert sizes == {"mask=worn": worn, "mask=incorrect,not_worn": 84 - worn}


# -------------------------------------------------------------------------------------------------------- properties


@given(seed=st.integers(0, 10_000))
@settings(max_examples=8, deadline=None)
def test_the_order_of_experts_rows_columns_and_voters_changes_nothing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    names = list(WORLD.experts)
    shuffled = {}
    for number in rng.permutation(len(names)):
        expert = WORLD.experts[names[number]]
        rows = rng.permutation(expert.n_samples)
        voters = [VOTERS[i] for i in rng.permutation(3)]
        again = expert.select_voters(voters)
        columns = rng.permutation(len(expert.classes))
        shuffled[names[number]] = Predictions(
            again.attributes,
            again.probs[:, rows][:, :, columns],
            again.ids[rows],
            again.condition,
            [again.classes[column] for column in columns],
            voters,
        )
    rows = rng.permutation(len(WORLD.ids))
    report = World(shuffled, WORLD.truth[rows], WORLD.ids[rows], WORLD.groups[rows]).score()
    found, expected = report.to_json(), REPORT.to_json()
    for name in ("rows", "children"):
        assert rounded(found[name]) == rounded(expected[name])
    assert sorted(map(str, rounded(found["comparisons"]))) == sorted(map(str, rounded(expected["comparisons"])))


def rounded(value: object) -> Any:
    return json.loads(json.dumps(value), parse_float=lambda text: round(float(text), 12))


@given(seed=st.integers(0, 10_000))
@settings(max_examples=10, deadline=None)
def test_nobody_beats_the_perfect_mask(seed: int) -> None:
    report = make_world(seed, 60).score(groups=None)
    for voting in VOTINGS:
        bound = find(report, "perfect_mask", voting)
        assert bound.attributes["mask"].accuracy == 1.0
        for structure in ("conditional_hard", "conditional_soft"):
            assert find(report, structure, voting).joint.accuracy <= bound.joint.accuracy + 1e-12


def test_photos_without_a_label_or_a_prediction_are_left_out() -> None:
    truth = WORLD.truth.copy()
    truth[[3, 8]] = -1
    age = WORLD.experts["age worn"]
    probs = np.array(age.probs)
    probs[1, age.ids == "020.jpg"] = np.nan
    gap = Predictions(age.attributes, probs, age.ids, age.condition, voters=VOTERS)
    found = World(WORLD.experts | {"age worn": gap}, truth, WORLD.ids, WORLD.groups).score()
    kept = np.setdiff1d(np.arange(84), [3, 8, 20])
    alone = {
        name: Predictions(e.attributes, e.probs[:, rows], e.ids[rows], e.condition, voters=VOTERS)
        for name, e in WORLD.experts.items()
        for rows in [np.isin(e.ids, WORLD.ids[kept])]
    }
    expected = World(alone, WORLD.truth[kept], WORLD.ids[kept], WORLD.groups[kept]).score()
    assert (found.n_samples, found.n_left_out) == (81, 3)
    assert rounded(found.to_json()["rows"]) == rounded(expected.to_json()["rows"])
    assert "81 photos of 12 people (3 left out: no label or no prediction)" in " ".join(found.text().split())


def test_a_joint_is_dropped_when_its_labels_are_read() -> None:
    """Six voters more make twelve joints more, each of 1500 x 600 numbers = 3.6 MB, but never at the same time."""
    peaks = {n_voters: wide_world_peak(1500, n_voters) for n_voters in (2, 8)}
    assert peaks[8] < peaks[2] + 2 * 3.6e6


def wide_world_peak(n_samples: int, n_voters: int) -> int:
    """Bytes that scoring each checkpoint alone takes at most, for 2 x 300 joint classes and two structures."""
    rng = np.random.default_rng(0)
    schema = Schema(Attribute("kind", ["a", "b"]), Attribute("name", [f"n{i}" for i in range(300)]))
    ids = np.array([f"{i}.jpg" for i in range(n_samples)])
    truth = rng.integers(0, 600, n_samples)
    true = schema.decode(truth)
    experts = [
        Predictions(schema[name], noisy(rng, true[name], n, n_voters), ids, condition)
        for name, n, condition in [("kind", 2, {}), ("name", 300, {"kind": "a"}), ("name", 300, {"kind": "b"})]
    ]
    tracemalloc.start()
    report = score_structures(experts, schema, Graph({"kind": [], "name": ["kind"]}), truth, ids, votes=[])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [row.n_voters for row in report.rows] == [n_voters] * 3
    return peak


def test_photos_in_blocks_are_read_as_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ensemble_kit.structures.reader.BLOCK_NUMBERS", 37 * 18)
    assert WORLD.score().to_json() == REPORT.to_json()


# ----------------------------------------------------------------------------------------------- what may be missing


@pytest.mark.parametrize(
    ("missing", "structures", "left_out"),
    [
        (["flat"], STRUCTURES[1:], {"flat": "no mask,gender,age expert"}),
        (
            ["age"],
            ["flat", *STRUCTURES[2:]],
            {"independent": "no age expert", "age, pooled against specialised": "no pooled age expert"},
        ),
        (
            ["age incorrect"],
            ["flat", "independent"],
            {"conditional_hard": "mask=incorrect", "conditional_soft": "mask=incorrect"},
        ),
        (["mask", "flat"], [], {"flat": "", "independent": "", "conditional_hard": "", "conditional_soft": ""}),
    ],
)
def test_what_cannot_be_scored_is_left_out_with_the_reason(
    missing: list[str], structures: list[str], left_out: dict[str, str]
) -> None:
    kept = {name: expert for name, expert in WORLD.experts.items() if name not in missing}
    report = World(kept, WORLD.truth, WORLD.ids, WORLD.groups).score()
    assert list(dict.fromkeys(row.structure for row in report.rows)) == structures
    assert set(report.left_out) == set(left_out)
    for name, words in left_out.items():
        assert words in report.left_out[name]
        assert name.replace("_", " ") in report.text()


def test_where_the_pooled_expert_may_stand_in() -> None:
    """The pooled expert by another name for the missing state gives the same chain without a fallback."""
    kept = {name: expert for name, expert in WORLD.experts.items() if name != "age worn"}
    found = World(kept, WORLD.truth, WORLD.ids, WORLD.groups).score(fallback="pooled")
    age = WORLD.experts["age"]
    named = Predictions(AGE, age.probs, age.ids, {"mask": "worn"}, voters=VOTERS)
    expected = World(kept | {"age worn": named}, WORLD.truth, WORLD.ids, WORLD.groups).score()
    assert rounded(found.to_json()["rows"]) == rounded(expected.to_json()["rows"])
    assert rounded(found.to_json()["children"]) == rounded(expected.to_json()["children"])
    assert found.left_out == {}


def test_one_voter_has_no_votes() -> None:
    report = make_world(1, n_voters=1).score()
    assert [(row.structure, row.voting, row.n_voters) for row in report.rows] == [(s, "one", 1) for s in STRUCTURES]
    assert set(report.to_json()["joint"]) == set(STRUCTURES)
    assert "1 checkpoint" in report.text()
    assert "one of" not in report.text()


def test_experts_with_other_voters_vote_but_have_no_chain_of_one() -> None:
    flat = WORLD.experts["flat"]
    single = Predictions(flat.attributes, flat.probs[:1], flat.ids, voters=["seed7"])
    other = {"gender": Predictions(GENDER, WORLD.experts["gender"].probs, WORLD.experts["gender"].ids, voters="abc")}
    report = World(WORLD.experts | {"flat": single} | other, WORLD.truth, WORLD.ids, WORLD.groups).score()
    votings = [(row.structure, row.voting, row.n_voters) for row in report.rows]
    assert votings == [("flat", "one", 1), *((s, v, 3) for s in STRUCTURES[1:] for v in ("soft", "hard"))]
    assert set(report.to_json()["joint"]) == set(STRUCTURES)


def test_a_graph_that_conditions_nothing_is_scored_as_it_is() -> None:
    flat = WORLD.experts["flat"]
    block = flat.marginal("gender", "age")
    experts = [WORLD.experts["mask"], block]
    graph = Graph({"mask": [], ("gender", "age"): []})
    report = score_structures(experts, SCHEMA, graph, WORLD.truth, WORLD.ids, votes=["soft"])
    assert [row.structure for row in report.rows] == ["graph", "graph"]
    assert (report.children, report.comparisons, report.known) == ((), (), ())
    assert "perfect" not in report.text()


def test_a_taxonomy() -> None:
    paths = [
        ["fruit", "apple", "gala"],
        ["fruit", "apple", "fuji"],
        ["fruit", "pear", "conference"],
        ["milk", "oat", "oat1"],
        ["milk", "oat", "oat2"],
    ]
    schema = Schema.from_rows(["kind", "coarse", "fine"], paths)
    graph = Graph({"kind": [], "coarse": ["kind"], "fine": ["coarse"]})
    rng = np.random.default_rng(4)
    truth = rng.integers(0, 5, 40)
    true, ids = schema.decode(truth), np.array([f"{i}" for i in range(40)])

    def expert(name: str, condition: Mapping[str, str] | None = None) -> Predictions:
        probs = noisy(rng, true[name], len(schema[name].classes), 2, strength=0.5)
        return Predictions(schema[name], probs, ids, condition, voters=["a", "b"])

    of_fruit = noisy(rng, true["coarse"] // 2, 2, 2, strength=0.5)  # knows no oat
    experts = [
        expert("kind"),
        Predictions(schema["coarse"], of_fruit, ids, {"kind": "fruit"}, ["apple", "pear"], ["a", "b"]),
        expert("fine", {"coarse": "apple"}),
        expert("fine", {"coarse": "oat"}),
        expert("fine"),
        expert("coarse"),
    ]
    report = score_structures(experts, schema, graph, truth, ids, groups=ids, n_boot=10)
    assert "perfect_kind_coarse" in {row.structure for row in report.rows}
    assert {(c.attribute, c.parents) for c in report.children} == {("coarse", ("kind",)), ("fine", ("coarse",))}
    assert {c.condition for c in report.comparisons} == {"kind=fruit", "coarse=apple", "coarse=oat"}
    assert find(report, "perfect_kind_coarse", "soft").attributes["coarse"].accuracy == 1.0
    (coarse,) = [c for c in report.children if (c.attribute, c.voting) == ("coarse", "soft")]
    answers = [(0, 2)[int(np.argmax(of_fruit[0, row] + of_fruit[1, row]))] for row in range(40)]
    fruit = [row for row in range(40) if true["kind"][row] == 0]
    right = sum(answers[row] == true["coarse"][row] for row in fruit)
    assert 0 < right < len(fruit)
    assert coarse.true_state.accuracy == pytest.approx((right + 40 - len(fruit)) / 40)  # milk leaves no choice
    (compared,) = [c for c in report.comparisons if (c.condition, c.voting) == ("kind=fruit", "soft")]
    assert compared.specialised.accuracy == pytest.approx(right / len(fruit))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"votes": ["sofd"]}, UsageError, 'unknown vote "sofd"; did you mean "soft"?'),
        ({"truth": WORLD.truth[:-1]}, DataError, "expected a true joint class for each of 84 ids, found (83,)"),
        ({"groups": WORLD.groups[:-1]}, DataError, "expected a group for each of 84 ids, found (83,)"),
        ({"truth": np.full(84, -1)}, DataError, "none of 84 photos has both a label and a prediction by every expert"),
        ({"truth": np.full(84, 18)}, DataError, "joint classes are 0 to 17"),
        ({"ids": np.char.add("x", WORLD.ids)}, DataError, "84 are missing"),
        ({"n_boot": 0}, DataError, "expected photos and at least one draw, found 84 and 0"),
    ],
)
def test_bad_calls(changes: dict[str, object], error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        WORLD.score(**changes)
    assert message in str(caught.value)


def test_no_experts() -> None:
    with pytest.raises(UsageError, match="expected at least one expert's predictions, found none"):
        score_structures([], SCHEMA, GRAPH, WORLD.truth, WORLD.ids)


# ------------------------------------------------------------------------------------------------------- the report


def test_json() -> None:
    value = json.loads(json.dumps(REPORT.to_json(), allow_nan=False))
    soft = find(REPORT, "conditional_soft", "soft").joint
    assert value["joint"]["conditional_soft"] == {"accuracy": soft.accuracy, "macro_f1": soft.macro_f1}
    assert list(value["joint"]) == STRUCTURES
    assert value["rows"][0]["joint"]["accuracy_interval"] == list(
        find(REPORT, "flat", "one").joint.accuracy_interval or ()
    )
    assert {c["verdict"] for c in value["comparisons"]} <= {
        "specialised better",
        "pooled better",
        "no difference shown",
    }


def test_the_report_says_which_photos_it_is_on() -> None:
    assert REPORT.text().startswith("Structures compared on 84 photos of 12 people\n")
    assert REPORT.to_json()["scored_on"] == ""
    named = WORLD.score(scored_on="training photos, out of fold", groups=None)
    assert named.text().startswith("Structures compared on training photos, out of fold: 84 photos\n")
    assert named.to_json()["scored_on"] == "training photos, out of fold"
    long = replace(named, scored_on="the photos " * 9 + "of the evaluation")
    assert max(map(len, long.text().splitlines())) <= 80


def test_text_has_every_figure_and_fits() -> None:
    text = REPORT.text()
    assert max(map(len, text.splitlines())) <= 80
    for row in REPORT.rows:
        assert f"{row.joint.accuracy:.3f} [" in text
        assert row.structure.replace("_", " ") in text
    for compared in (c for c in REPORT.comparisons if c.voting == "soft"):
        assert compared.sentence in text
    assert "perfect mask: the same experts told each photo's true mask" in text
    assert "84 photos of 12 people" in text


@given(
    names=st.lists(st.text("abcdefgh_", min_size=1, max_size=30), min_size=1, max_size=9, unique=True),
    structure=st.text("abc_", min_size=1, max_size=70),
    condition=st.text("abc=,", min_size=1, max_size=120),
)
@settings(max_examples=60, deadline=None)
def test_text_fits_whatever_the_names(names: list[str], structure: str, condition: str) -> None:
    score = Score(0.5, 0.5, (0.4, 0.6), (0.4, 0.6))
    row = StructureRow(structure, "soft", 5, score, dict.fromkeys(names, score))
    compared = replace(REPORT.comparisons[0], attribute=names[0], condition=condition)
    child = replace(REPORT.children[0], attribute=names[0], parents=tuple(names))
    report = replace(
        REPORT,
        rows=(row,),
        known=tuple(names),
        comparisons=(compared,),
        children=(child,),
        left_out={structure: condition},
    )
    assert max(map(len, report.text().splitlines())) <= 80
