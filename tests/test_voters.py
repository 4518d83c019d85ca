from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from core_oracles import FACE_GRAPH, face_experts, face_schema, random_probs, random_schema, sample_ids
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble_kit import vote_together
from ensemble_kit.arrays import FloatArray, IdArray, IntArray
from ensemble_kit.ensemble import Combined, ConditionalEnsemble
from ensemble_kit.errors import DataError, EnsembleKitError, UsageError
from ensemble_kit.graph import Graph
from ensemble_kit.predictions import Predictions, save_predictions
from ensemble_kit.schema import Attribute, Schema
from ensemble_kit.stacking import fit_stacking
from ensemble_kit.submission import write_submission
from ensemble_kit.voters import READERS, as_voter
from ensemble_kit.voters import together as module
from ensemble_kit.voting import FIXED_VOTES, VOTES, vote_labels

SEEDS = st.integers(0, 2**32 - 1)
SCHEMA = face_schema()
ROWS = [tuple(name.split(" / ")) for name in SCHEMA.joint_names()]
N = 40
IDS = np.array(sample_ids(N))


def joint_probs(seed: int, n_rows: int = N) -> FloatArray:
    return random_probs(np.random.default_rng(seed), n_rows, 18)


def joint(seed: int, name: str = "flat", ids: Any = IDS) -> Predictions:
    return Predictions(SCHEMA.attributes, joint_probs(seed, len(ids)), ids, classes=ROWS, voters=[name])


def layer(source: Any, **arguments: Any) -> FloatArray:
    (values,) = as_voter(source, SCHEMA, **arguments).layers
    return values


def mixed(predictions: Predictions, seed: int) -> Predictions:
    """The same, with rows, columns and attributes in another order."""
    random = np.random.default_rng(seed)
    places, columns, rows = (random.permutation(n) for n in (3, 18, predictions.n_samples))
    return Predictions(
        [predictions.attributes[place] for place in places],
        predictions.layers[0][rows][:, columns],
        predictions.ids[rows],
        classes=[[predictions.classes[column][place] for place in places] for column in columns],
        voters=predictions.voters,
    )


def everything(folder: Path) -> dict[str, tuple[Any, FloatArray]]:
    """One source for each reader beside what it has to give on IDS, in that order."""
    flat, labels = joint(1), joint(2).labels()
    conditional = ConditionalEnsemble(SCHEMA, FACE_GRAPH, face_experts(3, N)).combine()
    save_predictions(folder / "set", [mixed(flat, 4)], SCHEMA)
    order = np.random.default_rng(5).permutation(N)
    write_submission(folder / "answers.csv", (IDS[order], labels[order]))
    columns = np.random.default_rng(6).permutation(18)
    frame = pd.DataFrame(flat.layers[0], index=IDS, columns=SCHEMA.joint_names()).iloc[order, columns]
    probs_of = dict(zip(IDS.tolist(), flat.layers[0], strict=True))
    return {
        "predictions": (mixed(flat, 7), flat.layers[0]),
        "combined": (conditional, conditional.joint.layers[0]),
        "folder": (folder / "set", flat.layers[0].astype(np.float32)),
        "submission": (str(folder / "answers.csv"), np.eye(18)[labels]),
        "frame": (frame, flat.layers[0]),
        "pair": ((IDS[order].tolist(), flat.layers[0][order]), flat.layers[0]),
        "pair of labels": ((IDS[order], labels[order]), np.eye(18)[labels]),
        "array": (flat.layers[0], flat.layers[0]),
        "list of labels": (labels.tolist(), np.eye(18)[labels]),
        "function": (lambda ids: np.array([probs_of[name] for name in ids]), flat.layers[0]),
        "function of labels": (lambda ids: np.full(len(ids), 7), np.eye(18)[np.full(N, 7)]),
    }


KINDS = ["predictions", "combined", "folder", "submission", "frame", "pair", "pair of labels", "array", "list of labels",
         "function", "function of labels"]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_becomes_joint_predictions_of_one_voter(kind: str, tmp_path: Path) -> None:
    source, expected = everything(tmp_path)[kind]
    found = as_voter(source, SCHEMA, ids=IDS, name="x")
    assert found.attributes == SCHEMA.attributes
    assert list(found.classes) == ROWS
    assert found.voters == ("x",)
    assert np.array_equal(found.ids, IDS)
    assert np.array_equal(found.layers[0], expected)


def test_every_reader_has_a_case_and_names_its_voter(tmp_path: Path) -> None:
    found = everything(tmp_path)
    assert list(found) == KINDS
    first = {next(reader.what for reader in READERS if reader.fits(source)) for source, _ in found.values()}
    assert first == {reader.what for reader in READERS}

    def answers(ids: IdArray) -> IntArray:
        return np.zeros(len(ids), dtype=np.int64)

    names = {kind: as_voter(source, SCHEMA, ids=IDS).voters[0] for kind, (source, _) in found.items()}
    assert names["predictions"] == "flat"
    assert names["combined"] == "combined"
    assert names["folder"] == "set"
    assert names["submission"] == "answers"
    assert as_voter(answers, SCHEMA, ids=IDS).voters == ("answers",)


def test_columns_are_found_by_name_number_or_tuple() -> None:
    flat, columns = joint(1).layers[0], np.random.default_rng(0).permutation(18)
    frame = pd.DataFrame(flat, index=IDS)
    assert np.array_equal(layer(frame[columns]), flat)
    frame.columns = pd.MultiIndex.from_tuples(ROWS)
    assert np.array_equal(layer(frame.iloc[:, columns]), flat)
    other = Attribute("gender", ["female", "male"])  # the same classes, written in another order
    turned = Predictions(
        [SCHEMA["mask"], other, SCHEMA["age"]], flat[:, columns], IDS, classes=[ROWS[column] for column in columns]
    )
    assert np.array_equal(layer(turned), flat)


def test_rows_that_were_not_computed_stay_and_abstained_ones_are_zero() -> None:
    probs = joint_probs(1)
    probs[3] = np.nan
    assert np.isnan(layer(probs, ids=IDS)[3]).all()
    assert layer([-1.0, 13.0], ids=["a", "b"]).sum(axis=1).tolist() == [0, 1]
    assert layer([-1.0, 13.0], ids=["a", "b"])[1, 13] == 1
    assert as_voter(np.zeros((0, 18)), SCHEMA, ids=[]).n_samples == 0


@settings(max_examples=30, deadline=None)
@given(SEEDS)
def test_taxonomies_in_any_order_of_columns(seed: int) -> None:
    random = np.random.default_rng(seed)
    schema = random_schema(random, 3, taxonomy=True)
    rows = [tuple(name.split(" / ")) for name in schema.joint_names()]
    probs = random_probs(random, 6, schema.n_joint)
    columns, places = random.permutation(schema.n_joint), random.permutation(len(schema.names))
    given = Predictions(
        [schema.attributes[place] for place in places],
        probs[:, columns],
        sample_ids(6),
        classes=[[rows[column][place] for place in places] for column in columns],
    )
    assert np.array_equal(as_voter(given, schema).layers[0], probs)


# vote_together


def three() -> list[Predictions]:
    return [joint(1, "flat"), mixed(joint(2, "pooled"), 3), joint(4, "other")]


@pytest.mark.parametrize("vote", FIXED_VOTES)
def test_structures_vote_with_the_same_functions(vote: str, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = {"flat": 2.0, "other": 0.5}
    expected = VOTES[vote](np.stack([joint_probs(seed) for seed in (1, 4, 2)]), np.array([2.0, 0.5, 1.0]))
    result = vote_together(three(), SCHEMA, vote=vote, weights=weights)
    assert result.layers[0].dtype == np.float32
    assert np.array_equal(result.layers[0], expected.astype(np.float32))
    assert (result.ids.tolist(), list(result.classes), result.voters) == (IDS.tolist(), ROWS, ("voted",))
    monkeypatch.setattr(module, "BLOCK_ROWS", 7)
    for again in (
        vote_together(three(), SCHEMA, vote=vote, weights=weights),
        vote_together(three(), SCHEMA, vote=vote, weights=[2, 1, 0.5]),
        vote_together(three()[::-1], SCHEMA, vote=VOTES[vote], weights=weights, ids=IDS),
        vote_together({v.voters[0]: v for v in three()}, SCHEMA, vote=vote, weights=weights),
    ):
        assert np.array_equal(again.layers[0], result.layers[0])


def test_flat_independent_conditional_submissions_and_functions_together(tmp_path: Path) -> None:
    experts = face_experts(1, N, pooled=True)
    independent = ConditionalEnsemble(
        SCHEMA, Graph({"mask": [], "gender": [], "age": []}), [experts[0], experts[1], experts[-1]]
    ).combine()
    conditional = ConditionalEnsemble(SCHEMA, FACE_GRAPH, experts[:-1]).combine(route="hard")
    labels = joint(5).labels()
    write_submission(tmp_path / "mine.csv", (IDS[::-1], labels[::-1]))
    voters: list[Any] = [
        independent,
        conditional,
        joint(2),
        tmp_path / "mine.csv",
        lambda ids: np.zeros(len(ids), dtype=int),
    ]
    result = vote_together(voters, SCHEMA, vote="soft")
    every: list[FloatArray] = [c.joint.layers[0] for c in (independent, conditional)]
    every += [joint_probs(2), np.eye(18)[labels], np.eye(18)[np.zeros(N, dtype=int)]]
    expected = np.mean([probs.astype(np.float64) for probs in every], axis=0)
    np.testing.assert_allclose(result.layers[0], expected, rtol=0, atol=1e-7)


def test_submissions_by_hard_vote_as_votes_on_labels() -> None:
    labels = np.stack([joint(seed).labels() for seed in range(5)])
    result = vote_together([(IDS, own) for own in labels], SCHEMA, vote="hard")
    assert np.array_equal(result.labels(), vote_labels(labels, 18).labels)


def test_ids_choose_photos_and_order() -> None:
    order = np.random.default_rng(0).permutation(N)
    result = vote_together(three(), SCHEMA, ids=IDS[order])
    assert np.array_equal(result.ids, IDS[order])
    assert np.array_equal(result.layers[0], vote_together(three(), SCHEMA).layers[0][order])
    only = vote_together([lambda ids: np.full(len(ids), 3), joint_probs(1)], SCHEMA, ids=IDS, weights=[1, 0])
    assert only.labels().tolist() == [3] * N


def test_a_fitted_vote_knows_its_voters_and_classes() -> None:
    truth = np.random.default_rng(0).integers(0, 18, N)
    layers = {"x": joint_probs(1), "w": joint_probs(2)}
    together = Predictions(SCHEMA.attributes, list(layers.values()), IDS, classes=ROWS, voters=list(layers))
    stacking = fit_stacking(together, truth, None, c=0.1, measure=False)
    found = vote_together({name: (IDS, probs) for name, probs in layers.items()}, SCHEMA, vote=stacking)
    expected = stacking(np.stack([layers["w"], layers["x"]]), np.ones(2))
    assert np.array_equal(found.layers[0], expected.astype(np.float32))
    with pytest.raises(UsageError, match="fitted for the voters w, x, found w, y"):
        vote_together({"w": (IDS, layers["w"]), "y": (IDS, layers["x"])}, SCHEMA, vote=stacking)


def test_not_computed_is_refused_unless_its_voter_weighs_nothing() -> None:
    probs = joint_probs(1)
    probs[[4, 17]] = np.nan
    voters = {"gaps": (IDS, probs), "whole": joint(2)}
    with pytest.raises(
        DataError, match=r'of 40 photos these have no prediction: 2 by "gaps" \(the first is "photo-4.jpg"'
    ):
        vote_together(voters, SCHEMA)
    result = vote_together(voters, SCHEMA, weights={"gaps": 0})
    assert np.array_equal(result.layers[0], joint_probs(2).astype(np.float32))


def test_memory_is_that_of_a_block_beside_the_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    n_rows, n_voters = 20_000, 5
    monkeypatch.setattr(module, "BLOCK_BYTES", 2**19)
    ids = np.arange(n_rows).astype(str)
    for number in range(n_voters):
        probs = np.full((n_rows, 18), 1 / 18, dtype=np.float32)
        save_predictions(tmp_path / str(number), [Predictions(SCHEMA.attributes, probs, ids, classes=ROWS)], SCHEMA)
    voters: list[Any] = [tmp_path / str(number) for number in range(n_voters)]
    asked: list[int] = []

    def one_by_one(wanted: IdArray) -> IntArray:
        asked.append(len(wanted))
        return np.zeros(len(wanted), dtype=np.int64)

    tracemalloc.start()
    result = vote_together([*voters, one_by_one], SCHEMA)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    of_ids = (n_voters + 2) * ids.nbytes
    assert peak < result.layers[0].nbytes + of_ids + 5 * module.BLOCK_BYTES
    assert max(asked) < 1000
    assert n_voters * 8 * 18 * n_rows > peak  # what all of them in float64 take
    assert sum(asked) == n_rows


# Bad input


def gender(*classes: str) -> Predictions:
    other = Attribute("gender", classes)
    names = [[mask, g, age] for mask in SCHEMA["mask"].classes for g in classes for age in SCHEMA["age"].classes]
    return Predictions([SCHEMA["mask"], other, SCHEMA["age"]], np.full((2, 18), 1 / 18), ["a", "b"], classes=names)


def borders(*values: float) -> Predictions:
    age = Attribute("age", ["<30", "30-59", ">=60"], values)
    return Predictions([SCHEMA["mask"], SCHEMA["gender"], age], np.full((2, 18), 1 / 18), ["a", "b"])


def file(folder: Path, text: str) -> Path:
    path = folder / "answers.csv"
    path.write_text(text, "utf-8")
    return path


def saved(folder: Path, *experts: Predictions, schema: Schema = SCHEMA) -> Path:
    save_predictions(folder / "set", experts, schema)
    return folder / "set"


AB = ["a", "b"]
FRAME = pd.DataFrame(np.full((2, 18), 1 / 18), index=AB, columns=SCHEMA.joint_names())
EVEN = np.full((2, 18), 1 / 18)

BAD: list[tuple[Callable[[Path], Any], dict[str, Any], type[EnsembleKitError], str]] = [
    (lambda _: 3.5, {}, UsageError, "voter: expected Predictions, or what combine returns, or"),
    (lambda _: None, {}, UsageError, "or a function ids -> array; found NoneType"),
    (lambda _: EVEN, {}, UsageError, "voter array: an array needs ids; pass ids=, or the pair (ids, array)"),
    (lambda _: EVEN, {"ids": ["a"]}, DataError, "expected one id a row, found 1 ids and 2 rows"),
    (lambda _: EVEN, {"ids": ["a", "a"]}, DataError, 'ids of voter array: 1 ids occur more than once, the first is "a"'),
    (lambda _: EVEN, {"ids": [1, 2]}, DataError, "ids: expected text, found int64"),
    (lambda _: EVEN[:, :17], {"ids": AB}, DataError, "probabilities of shape (n_samples, 18) or joint classes of shape"),
    (lambda _: EVEN[None], {"ids": AB}, DataError, "found shape (1, 2, 18)"),
    (lambda _: EVEN / 2, {"ids": AB}, DataError, "voter array: expected probabilities, each row >= 0 with sum 1; row 0 has sum 0.5"),
    (lambda _: np.log(EVEN), {"ids": AB}, DataError, "logits need a softmax first"),
    (lambda _: EVEN.astype(str), {"ids": AB}, DataError, "expected probabilities of shape (2, 18)"),
    (lambda _: [0, 18], {"ids": AB}, DataError, "joint classes are 0 to 17, or -1 = abstained, found 0 to 18"),
    (lambda _: [0, 0.5], {"ids": AB}, DataError, "expected joint classes as whole numbers, found float64 [0.0, 0.5]"),
    (lambda _: [0, np.nan], {"ids": AB}, DataError, "expected joint classes as whole numbers"),
    (lambda _: (AB, EVEN), {"ids": ["a", "c"]}, DataError, '1 are missing, the first is "c"; 1 are too many, the first is "b"'),
    (lambda _: (AB, [1]), {}, DataError, "expected one id a row, found 2 ids and 1 rows"),
    (lambda _: lambda ids: EVEN, {}, UsageError, "a function answers for any ids; say which, with ids="),
    (lambda _: lambda ids: EVEN[:1], {"ids": AB}, DataError, "found float64 (1, 18)"),
    (lambda _: lambda ids: None, {"ids": AB}, DataError, "or joint classes of shape (2,), found object ()"),
    (lambda _: lambda ids: EVEN, {"ids": ["a", "a"]}, DataError, "occur more than once"),
    (lambda _: face_experts(0, 2)[2], {}, DataError, "expected joint predictions of mask,gender,age, found age given mask=worn"),
    (lambda _: Predictions(SCHEMA.attributes, [EVEN, EVEN], AB), {}, UsageError, "holds 2 voters (voter0, voter1), expected one"),
    (lambda _: gender("male", "woman"), {}, DataError, "expected the schema's gender, male, female, found male, woman"),
    (lambda _: borders(20, 60), {}, DataError, "with borders [30.0, 60.0], found <30, 30-59, >=60 with borders [20.0, 60.0]"),
    (lambda _: FRAME.rename(columns={"worn / male / <30": "x"}), {}, DataError, '1 are missing, the first is "worn / male / <30"; 1 are no joint class, the first is "x"'),
    (lambda _: FRAME.iloc[:, [*range(18), 0]], {}, DataError, "1 are there twice"),
    (lambda _: FRAME.set_axis(range(1, 19), axis=1), {}, DataError, '1 are missing, the first is "0"'),
    (lambda _: FRAME.set_axis([1, 2]), {}, DataError, "index of voter table: expected text, found int64"),
    (lambda _: FRAME.set_axis(["a", "a"]), {}, DataError, "ids of voter table: 1 ids occur more than once"),
    (lambda _: FRAME.astype(str) + "x", {}, DataError, "expected numbers in every column"),
    (lambda path: path / "none.csv", {}, DataError, "none.csv: expected a CSV file with ImageID, ans, found none"),
    (lambda path: file(path, ""), {}, DataError, "expected a header with ImageID, ans, found an empty file"),
    (lambda path: file(path, "ImageID,ans\n"), {}, DataError, "expected a row for each photo, found none"),
    (lambda path: file(path, "ImageID,ans\na,18\n"), {}, DataError, "ans must be a whole number from 0 to 17"),
    (lambda path: file(path, "ImageID,ans\na,1\na,2\n"), {}, DataError, 'ImageID "a" is there already on line 2'),
    (lambda path: path, {}, DataError, "not a prediction set (no predictions.json)"),
    (lambda path: saved(path, *face_experts(0, 2)), {}, DataError, "expected one block of mask,gender,age, found mask, gender, age given"),
    (lambda path: saved(path, borders(20, 60), schema=Schema(*borders(20, 60).attributes)), {}, DataError, "found the schema"),
]  # fmt: skip


@pytest.mark.parametrize(("source", "arguments", "error", "message"), BAD, ids=range(len(BAD)))
def test_bad_voters(
    source: Callable[[Path], Any],
    arguments: dict[str, Any],
    error: type[EnsembleKitError],
    message: str,
    tmp_path: Path,
) -> None:
    with pytest.raises(error) as caught:
        as_voter(source(tmp_path), SCHEMA, **arguments)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_taxonomy_refuses_the_full_product() -> None:
    tree = Schema(*SCHEMA.attributes, paths=ROWS[:5])
    with pytest.raises(DataError, match='13 are no joint class, the first is "worn / female / >=60"'):
        as_voter(joint(1), tree)


BAD_CALLS: list[tuple[Any, dict[str, Any], type[EnsembleKitError], str]] = [
    ([], {}, UsageError, "expected a list of voters or voters by name, found list"),
    ({}, {}, UsageError, "expected voters by name, found []"),
    ({1: joint(1)}, {}, UsageError, "expected voters by name, found [1]"),
    ("answers.csv", {}, UsageError, "expected a list of voters or voters by name, found str"),
    (joint(1), {}, UsageError, "found Predictions"),
    ([lambda ids: np.zeros(len(ids))], {}, UsageError, "no voter has ids of its own; say which photos, with ids="),
    ([joint(1), joint(2, ids=IDS[:39])], {}, DataError, 'voter flat-2: expected the same 40 ids, found 39: 1 are missing, the first is "photo-39.jpg"'),
    ([joint(1)], {"ids": IDS[:39]}, DataError, '1 are too many, the first is "photo-39.jpg"'),
    ([joint(1), joint(2)], {"weights": [1]}, UsageError, "expected one for each of 2 voters (flat, flat-2), found (1,)"),
    ([joint(1), joint(2)], {"weights": [1, -1]}, UsageError, "expected weights >= 0"),
    ([joint(1), joint(2)], {"weights": [1, np.nan]}, UsageError, "expected weights >= 0, finite"),
    ([joint(1)], {"weights": ["a"]}, UsageError, "weights: expected numbers, found ['a']"),
    ([joint(1), joint(2)], {"weights": {"flat": 0, "flat-2": 0}}, UsageError, "not all 0"),
    ([joint(1)], {"weights": {"flaw": 1}}, UsageError, 'weights: no voter "flaw"; did you mean "flat"'),
    ([joint(1)], {"vote": "harf"}, UsageError, 'unknown vote "harf"; did you mean "hard"'),
    ([joint(1)], {"vote": "stacking"}, UsageError, "has to be fitted first"),
    ([joint(1), joint(2)], {"vote": "weighted"}, UsageError, "needs a weight for each voter, found none"),
    ([joint(1)], {"vote": lambda probs, weights: probs}, UsageError, "expected (n_samples, n_classes)"),
]  # fmt: skip


@pytest.mark.parametrize(("voters", "arguments", "error", "message"), BAD_CALLS, ids=range(len(BAD_CALLS)))
def test_bad_calls(voters: Any, arguments: dict[str, Any], error: type[EnsembleKitError], message: str) -> None:
    with pytest.raises(error) as caught:
        vote_together(voters, SCHEMA, **arguments)
    assert message in str(caught.value)


def test_combined_is_what_combine_returns() -> None:
    assert isinstance(ConditionalEnsemble(SCHEMA, FACE_GRAPH, face_experts(3, 2)).combine(), Combined)
