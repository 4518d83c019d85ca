from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from core_oracles import face_experts, face_schema, random_probs, sample_ids
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble_kit.errors import DataError, EnsembleKitError, UsageError
from ensemble_kit.predictions import (
    Predictions,
    load_predictions,
    read_prediction_json,
    read_prediction_schema,
    save_predictions,
)
from ensemble_kit.schema import Attribute, Schema

SCHEMA = face_schema()
MASK, GENDER, AGE = SCHEMA.attributes


def small(n_samples: int = 6, voters: tuple[str, ...] = ("fold0", "fold1")) -> list[Predictions]:
    experts = face_experts(3, n_samples, voters)
    narrow = [np.float32(layer) for expert in experts for layer in expert.layers]
    layers = iter(narrow)
    return [
        Predictions(e.attributes, [next(layers) for _ in e.voters], e.ids, e.condition, e.classes, e.voters)
        for e in experts
    ]


def same(one: Predictions, two: Predictions) -> bool:
    return (
        (one.attributes, one.classes, one.voters, dict(one.condition), one.ids.tolist())
        == (two.attributes, two.classes, two.voters, dict(two.condition), two.ids.tolist())
        and np.array_equal(one.probs, two.probs, equal_nan=True)
    )  # fmt: skip


def test_one_attribute_and_one_voter_are_widened() -> None:
    probs = np.array([[0.5, 0.25, 0.25], [0.0, 1.0, 0.0]])
    found = Predictions(AGE, probs, ["a", "b"], {"mask": "worn"})
    assert found.attributes == (AGE,)
    assert found.probs.shape == (1, 2, 3)
    assert found.classes == (("<30",), ("30-59",), (">=60",))
    assert found.voters == ("voter0",)
    assert found.condition == {"mask": ("worn",)}
    assert found.describe() == "age given mask=worn"
    assert repr(found) == "Predictions(age given mask=worn; 1 voters, 2 samples)"
    assert found.layers[0] is not None
    assert np.shares_memory(found.probs, probs)


def test_a_list_of_arrays_is_one_voter_each() -> None:
    probs = random_probs(np.random.default_rng(0), 4, 2, 3)
    found = Predictions(AGE, list(probs), ["a", "b"])
    assert np.array_equal(found.probs, probs)
    assert found.voters == ("voter0", "voter1", "voter2", "voter3")


def test_a_block_has_the_product_of_classes() -> None:
    found = Predictions((GENDER, AGE), np.full((1, 6), 1 / 6), ["a"])
    assert found.classes[:4] == (("male", "<30"), ("male", "30-59"), ("male", ">=60"), ("female", "<30"))


def test_voters_are_selected_by_name() -> None:
    expert = small()[0]
    one = expert.select_voters(["fold1"])
    assert one.voters == ("fold1",)
    assert np.array_equal(one.probs, expert.probs[1:])
    assert same(expert.select_voters("fold1"), one)
    assert same(expert.select_voters(["fold0", "fold1"]), expert)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_rows_are_selected_in_the_order_asked_for(data: st.DataObject) -> None:
    expert = data.draw(st.sampled_from(small()))
    rows = data.draw(st.lists(st.integers(0, 5), max_size=8))
    found = expert.select(rows)
    assert found.ids.tolist() == [expert.ids[row] for row in rows]
    for voter, layer in enumerate(found.layers):
        assert layer.tolist() == [expert.probs[voter, row].tolist() for row in rows]
        assert layer.dtype == expert.layers[voter].dtype
    for name in ("attributes", "classes", "voters", "condition"):
        assert getattr(found, name) == getattr(expert, name)
    keep = np.isin(np.arange(6), rows)
    assert same(expert.select(keep), expert.select(sorted(set(rows))))


def test_rows_of_mapped_layers_come_into_memory_and_are_checked(tmp_path: Path) -> None:
    experts = small()
    save_predictions(tmp_path / "set", experts, SCHEMA)
    mapped = load_predictions(tmp_path / "set", memory_map=True)
    assert isinstance(mapped[0].layers[0], np.memmap)
    found = mapped[0].select([4, 1])
    assert not isinstance(found.layers[0], np.memmap)
    assert same(found, experts[0].select([4, 1]))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([6], "rows are 0 to 5, found 6 to 6"),
        ([2, -1], "rows are 0 to 5, found -1 to 2"),
        ([True, False], "expected row numbers or 6 times True or False, found bool of shape (2,)"),
        ([[0]], "expected row numbers or 6 times True or False, found int64 of shape (1, 1)"),
        (["a"], "expected row numbers or 6 times True or False, found <U1 of shape (1,)"),
        ([0.0], "found float64 of shape (1,)"),
        (3, "found int64 of shape ()"),
    ],
)
def test_rows_that_are_not_there_are_refused(rows: Any, message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        small()[0].select(rows)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_collapsing_adds_the_columns_of_a_class(seed: int) -> None:
    random = np.random.default_rng(seed)
    n_fine = int(random.integers(1, 20))
    to = random.integers(0, 3, size=n_fine)
    probs = random_probs(random, 2, 5, n_fine)
    fine = Predictions(AGE, probs, sample_ids(5), {"mask": "worn"}, [str(i) for i in range(n_fine)], ["a", "b"])
    found = fine.collapse(to.tolist())
    expected = np.stack([probs[:, :, to == number].sum(axis=2) for number in range(3)], axis=2)
    np.testing.assert_allclose(found.probs, expected, atol=1e-15)
    assert (found.classes, found.voters, found.condition) == (
        Predictions(AGE, np.eye(3), list("abc")).classes,
        fine.voters,
        fine.condition,
    )


def test_collapsing_a_row_alone_gives_the_same_bits() -> None:
    probs = random_probs(np.random.default_rng(1), 50, 61).astype(np.float32)
    to = [min(2, i // 20) for i in range(61)]
    names = [str(i) for i in range(61)]
    whole = Predictions(AGE, probs, sample_ids(50), classes=names).collapse(to).probs[0]
    assert whole.dtype == np.float32
    for row in range(50):
        assert np.array_equal(
            Predictions(AGE, probs[row : row + 1], ["a"], classes=names).collapse(to).probs[0, 0], whole[row]
        )


def joint(seed: int, n_samples: int = 8) -> Predictions:
    probs = random_probs(np.random.default_rng(seed), n_samples, 18)
    return Predictions(SCHEMA.attributes, probs, sample_ids(n_samples))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.permutations(["mask", "gender", "age"]), st.integers(1, 3))
def test_marginals_add_up_the_others(seed: int, order: list[str], n_names: int) -> None:
    predictions, names = joint(seed), order[:n_names]
    found = predictions.marginal(*names)
    assert found.names == tuple(names)
    for column, classes in enumerate(found.classes):
        hits = [
            i for i, row in enumerate(predictions.classes)
            if all(row[predictions.names.index(n)] == c for n, c in zip(names, classes, strict=True))
        ]  # fmt: skip
        np.testing.assert_allclose(found.probs[0, :, column], predictions.probs[0][:, hits].sum(axis=1), atol=1e-15)
    assert found.classes == Predictions(found.attributes, found.probs, found.ids).classes


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_labels_by_joint_class_and_by_attribute(seed: int) -> None:
    predictions = joint(seed)
    assert predictions.labels().tolist() == [row.tolist().index(row.max()) for row in predictions.probs[0]]
    each = {name: predictions.marginal(name).probs[0].argmax(axis=1) for name in SCHEMA.names}
    assert predictions.labels("attribute").tolist() == SCHEMA.encode(each).tolist()


def test_a_taxonomy_may_lack_the_combination_of_the_attributes() -> None:
    schema = Schema(Attribute("kind", ["a", "b"]), Attribute("fine", ["x", "y", "z"]), paths=["ax", "ay", "bz"])
    predictions = Predictions(
        schema.attributes, [[0.3, 0.3, 0.4]] * 2, ["p", "q"], classes=[tuple(c) for c in ("ax", "ay", "bz")]
    )
    assert predictions.labels().tolist() == [2, 2]
    assert predictions.labels("attribute").tolist() == [-1, -1]


def test_abstained_and_not_computed_rows_have_no_label() -> None:
    probs = np.array([[0.0, 0.0, 0.0], [np.nan] * 3, [0.25, 0.5, 0.25]])
    assert Predictions(AGE, probs, ["a", "b", "c"]).labels().tolist() == [-1, -1, 1]
    flat = np.full((3, 18), 1 / 18)
    flat[0], flat[1] = 0, np.nan
    assert Predictions(SCHEMA.attributes, flat, ["a", "b", "c"]).labels("attribute").tolist() == [-1, -1, 0]


FINE = Predictions(AGE, [[0.5, 0.5]], ["a"], classes=["young", "old"])
THREE = [[0.5, 0.25, 0.25]]
WRONG: list[tuple[Any, type[EnsembleKitError], str]] = [
    (
        lambda: Predictions(AGE, [[0.5, 0.5]], ["a"]),
        UsageError,
        "age: expected 2 distinct columns, found 3 class names",
    ),
    (lambda: Predictions(AGE, THREE, ["a", "b"]), UsageError, "found 2 ids and 1 rows"),
    (lambda: Predictions(AGE, THREE, [1]), DataError, "ids of age: expected text"),
    (lambda: Predictions(AGE, [[[[1.0]]]], ["a"]), UsageError, "(n_voters, n_samples, n_classes)"),
    (lambda: Predictions(AGE, [], ["a"]), UsageError, "(n_voters, n_samples, n_classes)"),
    (lambda: Predictions(AGE, [np.ones((1, 3)), np.ones((2, 3))], ["a"]), UsageError, "found [(1, 3), (2, 3)]"),
    (lambda: Predictions(AGE, THREE, ["a"], voters=["x", "y"]), UsageError, "expected 1 distinct voter names"),
    (lambda: Predictions(AGE, [THREE, THREE], ["a"], voters=["x", "x"]), UsageError, "expected 2 distinct voter names"),
    (lambda: Predictions(AGE, THREE, ["a"], classes=["x", "x", "y"]), UsageError, "expected 3 distinct columns"),
    (lambda: Predictions(AGE, [[2.5, -1.0, -0.5]], ["a"]), DataError, "row 0 has sum 1 and lowest -1"),
    (lambda: Predictions(AGE, [[2.0, 1.0, 0.5]], ["a"]), DataError, "logits need a softmax first"),
    (lambda: Predictions(AGE, [[0.5, np.nan, 0.5]], ["a"]), DataError, "expected probabilities"),
    (lambda: Predictions(AGE, [[np.inf, -np.inf, 0.0]], ["a"]), DataError, "expected probabilities"),
    (lambda: small()[0].labels(), UsageError, "mask: 2 voters; select one, or combine them"),
    (lambda: small()[0].select_voters(["fold2"]), UsageError, 'mask: no voter "fold2"; did you mean "fold'),
    (lambda: joint(0).marginal("ages"), UsageError, 'no attribute "ages"; did you mean "age"'),
    (lambda: joint(0).labels("joined"), UsageError, 'unknown decision "joined"; did you mean "joint"'),  # type: ignore[arg-type]
    (lambda: FINE.collapse([0]), UsageError, "expected one class number from 0 to 2 for each of 2 columns"),
    (lambda: FINE.collapse([0, 3]), UsageError, "found [0, 3]"),
    (lambda: FINE.marginal("age"), UsageError, 'attribute "age" has no class "young"'),
]


@pytest.mark.parametrize(("call", "error", "message"), WRONG, ids=[message for *_, message in WRONG])
def test_bad_predictions_are_refused(call: Any, error: type[EnsembleKitError], message: str) -> None:
    with pytest.raises(error) as caught:
        call()
    assert message in str(caught.value)


# ---- the prediction set


@pytest.mark.parametrize("memory_map", [False, True])
def test_a_set_comes_back_as_it_was(tmp_path: Path, memory_map: bool) -> None:
    experts = small()
    experts[2].layers[0][3] = np.nan
    hashes = [{"fold0": f"{number}a", "fold1": f"{number}b"} for number in range(len(experts))]
    problems = [("photo-3.jpg", "eval/photo-3.jpg", 'cut short, "JPEG"')]
    save_predictions(tmp_path / "set", experts, SCHEMA, checkpoints=hashes, problems=problems, command="ens predict")
    found = load_predictions(tmp_path / "set", memory_map=memory_map)
    assert all(same(one, two) for one, two in zip(experts, found, strict=True))
    assert {type(expert.layers[0]) for expert in found} == {np.memmap if memory_map else np.ndarray}
    assert all(expert.ids is found[0].ids for expert in found)
    assert read_prediction_schema(tmp_path / "set") == SCHEMA
    with open(tmp_path / "set" / "errors.csv", newline="", encoding="utf-8") as handle:
        assert list(csv.reader(handle)) == [["sample_id", "path", "problem"], list(problems[0])]
    content = read_prediction_json(tmp_path / "set")
    assert content["n_samples"] == 6
    assert content["created"]["command"] == "ens predict"
    assert [voter["checkpoint_sha256"] for voter in content["experts"][1]["voters"]] == ["1a", "1b"]
    assert content["experts"][2]["voters"][1]["file"] == "age-given-mask-worn/fold1.npy"


def test_the_folder_holds_what_the_contract_says(tmp_path: Path) -> None:
    save_predictions(tmp_path, small(), SCHEMA)
    files = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    slugs = ["age-given-mask-incorrect", "age-given-mask-not_worn", "age-given-mask-worn", "gender", "mask"]
    arrays = [f"{slug}/fold{fold}.npy" for slug in slugs for fold in (0, 1)]
    assert files == sorted([*arrays, "errors.csv", "ids.npy", "predictions.json"])
    assert np.load(tmp_path / "ids.npy").dtype.kind == "S"
    assert np.load(tmp_path / "mask" / "fold0.npy").dtype == np.float32
    assert list(json.loads((tmp_path / "predictions.json").read_text())) == [
        "format", "version", "n_samples", "ids_sha256", "schema", "experts", "created"
    ]  # fmt: skip


@settings(max_examples=20, deadline=None)
@given(
    st.lists(
        st.text(min_size=1, max_size=5).filter(lambda t: "\0" not in t and t.isprintable()), unique=True, max_size=6
    )
)
def test_any_text_may_be_an_id(tmp_path_factory: pytest.TempPathFactory, names: list[str]) -> None:
    folder = tmp_path_factory.mktemp("set")
    probs = random_probs(np.random.default_rng(0), len(names), 3).astype(np.float32)
    save_predictions(folder, [Predictions(MASK, probs, names)], SCHEMA)
    (found,) = load_predictions(folder)
    assert found.ids.tolist() == names
    assert np.array_equal(found.probs[0], probs)


def test_rows_in_another_order_are_joined_by_id(tmp_path: Path) -> None:
    mask, gender, *_ = small()
    order = np.array([3, 0, 5, 1, 2, 4])
    shuffled = Predictions(GENDER, gender.probs[:, order], gender.ids[order], voters=gender.voters)
    save_predictions(tmp_path, [mask, shuffled], SCHEMA)
    assert all(same(one, two) for one, two in zip([mask, gender], load_predictions(tmp_path), strict=True))


def test_names_that_slugs_blur_stay_apart(tmp_path: Path) -> None:
    a = Attribute("a", ["<x", ">x"])
    schema = Schema(a, Attribute("b", ["y", "z"]))
    random = np.random.default_rng(0)
    experts = [
        Predictions(schema["b"], random_probs(random, 2, 3, 2), sample_ids(3), {"a": c}, voters=["+", "-"])
        for c in a.classes
    ]
    save_predictions(tmp_path, experts, schema)
    for one, two in zip(experts, load_predictions(tmp_path), strict=True):
        np.testing.assert_array_equal(two.probs, one.probs.astype(np.float32))


def test_double_precision_becomes_single(tmp_path: Path) -> None:
    result = joint(1)
    save_predictions(tmp_path, [result], SCHEMA)
    (found,) = load_predictions(tmp_path)
    assert np.array_equal(found.probs, result.probs.astype(np.float32))


def test_writing_again_replaces_the_set(tmp_path: Path) -> None:
    save_predictions(tmp_path, small(), SCHEMA)
    newer = small(4, ("fold0",))[:2]
    save_predictions(tmp_path, newer, SCHEMA)
    assert all(same(one, two) for one, two in zip(newer, load_predictions(tmp_path), strict=True))


def test_a_set_that_does_not_fit_leaves_the_old_one(tmp_path: Path) -> None:
    experts = small()
    save_predictions(tmp_path, experts, SCHEMA)
    stranger = Predictions(MASK, THREE, ["other"])
    with pytest.raises(DataError, match="mask: expected the same 6 ids"):
        save_predictions(tmp_path, [experts[0], stranger], SCHEMA)
    assert len(load_predictions(tmp_path)) == 5


def test_stopped_half_way_it_is_no_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_predictions(tmp_path, small(), SCHEMA)
    from ensemble_kit.predictions import folder

    def full_disk(path: Path, array: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(folder, "write_array", full_disk)
    with pytest.raises(OSError, match="No space"):
        save_predictions(tmp_path, small(), SCHEMA)
    with pytest.raises(DataError, match=r"not a prediction set \(no predictions.json\); write one with"):
        load_predictions(tmp_path)


REFUSED: list[tuple[Any, type[EnsembleKitError], str]] = [
    (lambda f: save_predictions(f, [], SCHEMA), UsageError, "at least one expert"),
    (lambda f: save_predictions(f, small(), SCHEMA, checkpoints=[{}]), UsageError, "checkpoints for each or for none"),
    (lambda f: save_predictions(f, [Predictions(MASK, THREE * 2, ["a", "a"])], SCHEMA), DataError, '1 ids occur more than once, the first is "a"'),
    (lambda f: save_predictions(f, [Predictions(Attribute("mask", ["on", "off"]), [[1.0, 0.0]], ["a"])], SCHEMA), DataError, "found ['on', 'off']"),
    (lambda f: save_predictions(f, [Predictions(AGE, THREE, ["a"], {"mask": "wron"})], SCHEMA), UsageError, 'did you mean "worn"'),
    (lambda f: save_predictions(f, [Predictions(AGE, THREE, ["a"], {"maks": "worn"})], SCHEMA), UsageError, 'did you mean "mask"'),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error", "message"), REFUSED, ids=[message for *_, message in REFUSED])
def test_sets_that_cannot_be_are_refused(
    tmp_path: Path, call: Any, error: type[EnsembleKitError], message: str
) -> None:
    with pytest.raises(error) as caught:
        call(tmp_path / "set")
    assert message in str(caught.value)
    assert not (tmp_path / "set").exists()


def cut(path: Path, share: float = 0.5) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-3] ^= 0x40
    path.write_bytes(bytes(data))


def edit(path: Path, change: Any) -> None:
    content = json.loads(path.read_text("utf-8"))
    change(content)
    path.write_text(json.dumps(content), "utf-8")


def change_first(key: str, value: Any) -> Any:
    return lambda content: content["experts"][0]["voters"][0].update({key: value})


DAMAGE: list[tuple[Any, str]] = [
    (lambda f: cut(f / "mask" / "fold0.npy"), "mask/fold0.npy: not readable as an array"),
    (lambda f: cut(f / "mask" / "fold0.npy", 0.01), "mask/fold0.npy: not readable as an array"),
    (lambda f: (f / "mask" / "fold0.npy").write_bytes(b""), "mask/fold0.npy: not readable as an array"),
    (lambda f: flip(f / "gender" / "fold1.npy"), "gender/fold1.npy: changed since it was written"),
    (lambda f: (f / "gender" / "fold1.npy").unlink(), "gender/fold1.npy: expected an array file (.npy), found none"),
    (lambda f: np.save(f / "gender" / "fold1.npy", np.zeros((6, 2))), "gender/fold1.npy: expected float32 (6, 2), found float64"),
    (lambda f: np.save(f / "gender" / "fold1.npy", np.zeros((5, 2), np.float32)), "expected float32 (6, 2), found float32 (5, 2)"),
    (lambda f: np.save(f / "gender" / "fold1.npy", np.array([{}]), allow_pickle=True), "gender/fold1.npy: not readable as an array"),
    (lambda f: flip(f / "ids.npy"), "ids.npy: not the ids of predictions.json"),
    (lambda f: cut(f / "ids.npy"), "ids.npy: not readable as an array"),
    (lambda f: np.save(f / "ids.npy", np.arange(6)), "ids.npy: expected ids as bytes"),
    (lambda f: cut(f / "predictions.json"), "predictions.json: not readable as JSON"),
    (lambda f: (f / "predictions.json").unlink(), 'not a prediction set (no predictions.json); write one with "ens predict"'),
    (lambda f: (f / "predictions.json").write_text("[]"), "predictions.json: not a prediction set"),
    (lambda f: edit(f / "predictions.json", lambda c: c.update(version=2)), "predictions.json: expected version 1, found 2"),
    (lambda f: edit(f / "predictions.json", lambda c: c.update(format="x")), "predictions.json: not a prediction set"),
    (lambda f: edit(f / "predictions.json", lambda c: c.pop("experts")), "predictions.json: not readable (KeyError"),
    (lambda f: edit(f / "predictions.json", lambda c: c.pop("schema")), "predictions.json: schema: not a stored schema"),
    (lambda f: edit(f / "predictions.json", lambda c: c.update(experts=[1])), "predictions.json: not readable"),
    (lambda f: edit(f / "predictions.json", change_first("file", "../mask/fold0.npy")), "lies outside the folder"),
    (lambda f: edit(f / "predictions.json", change_first("file", "/etc/passwd")), "lies outside the folder"),
    (lambda f: edit(f / "predictions.json", change_first("file", 3)), "predictions.json: not readable"),
    (lambda f: edit(f / "predictions.json", change_first("name", "fold1")), "distinct voter names"),
    (lambda f: edit(f / "predictions.json", lambda c: c["experts"][0].update(attributes=["maks"])), 'did you mean "mask"'),
]  # fmt: skip


@pytest.mark.parametrize(("damage", "message"), DAMAGE, ids=[message for _, message in DAMAGE])
@pytest.mark.parametrize("memory_map", [False, True])
def test_a_damaged_set_is_refused_by_the_file_name(tmp_path: Path, damage: Any, message: str, memory_map: bool) -> None:
    save_predictions(tmp_path, small(), SCHEMA)
    damage(tmp_path)
    with pytest.raises(DataError) as caught:
        load_predictions(tmp_path, memory_map=memory_map)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_columns_of_a_data_frame_are_taken_by_name() -> None:
    pd = pytest.importorskip("pandas")
    mask = Attribute("mask", ["worn", "incorrect", "not_worn"])
    frame = pd.DataFrame([[0.1, 0.7, 0.2]], columns=["not_worn", "worn", "incorrect"])
    assert Predictions(mask, frame, ["a"]).probs.tolist() == [[[0.7, 0.2, 0.1]]]
    assert Predictions(mask, [frame, frame], ["a"]).probs[1].tolist() == [[0.7, 0.2, 0.1]]
    assert Predictions(mask, pd.DataFrame([[0.7, 0.2, 0.1]]), ["a"]).labels().tolist() == [0]
    with pytest.raises(UsageError, match="expected the columns worn, incorrect, not_worn, found worn, on, off"):
        Predictions(mask, frame.set_axis(["worn", "on", "off"], axis=1), ["a"])
