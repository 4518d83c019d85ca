"""What a gallery says of each photo, against loops over photos and names."""

from __future__ import annotations

from base64 import b64decode

import numpy as np
import pytest
from core_oracles import FACE_GRAPH, face_experts, face_schema
from gallery_cases import face_case, means_of

from ensemble_kit.ensemble import ConditionalEnsemble
from ensemble_kit.errors import UsageError
from ensemble_kit.gallery import (
    Facet,
    Order,
    gallery_board,
    gallery_details,
    gallery_facts,
    rows_to_show,
)
from ensemble_kit.gallery.text import gallery_sentences, shown_sentence
from ensemble_kit.graph import Graph
from ensemble_kit.predictions import Predictions
from ensemble_kit.schema import Attribute, Schema

SCHEMA = face_schema()
MASKS, AGES = SCHEMA["mask"].classes, SCHEMA["age"].classes


def tags(facet: Facet, row: int) -> set[str]:
    return {name for number, name in enumerate(facet.names) if facet.has(number)[row]}


@pytest.mark.parametrize("route", ["hard", "soft"])
def test_reasons_are_those_of_a_loop_over_photos(route: str) -> None:
    """Who was asked, who should have been, and what both say, photo by photo."""
    case = face_case(seed=3, route=route)
    means, said, true = means_of(case), SCHEMA.decode(case.facts.said), SCHEMA.decode(case.truth)
    seen: set[str] = set()
    facet = gallery_board(case.facts).facet("reason")
    for row in range(len(case.truth)):
        expected = set()
        own = int(np.argmax(means[f"age given mask={MASKS[true['mask'][row]]}"][row]))
        misled = said["mask"][row] != true["mask"][row]
        if misled:
            best = int(np.argmax(means["mask"][row])) == true["mask"][row]
            expected.add("mask: expert right, the joint decided otherwise" if best else "mask: expert wrong")
        if said["gender"][row] != true["gender"][row]:
            expected.add("gender: expert wrong")
        if said["age"][row] != true["age"][row]:
            if misled:
                knew = own == true["age"][row]
                expected.add(f"age: router {'wrong, the right expert knew' if knew else 'and expert wrong'}")
            else:
                expected.add("age: expert wrong")
        elif misled:
            expected.add("age: router wrong, right all the same")
        assert tags(facet, row) == expected, row
        seen |= expected
    assert len(seen) >= 5
    assert ("mask: expert right, the joint decided otherwise" in seen) == (route == "soft")


def test_signs_of_doubt_are_counts_of_checkpoints() -> None:
    case = face_case(seed=5)
    said, true = SCHEMA.decode(case.facts.said), SCHEMA.decode(case.truth)
    ages = case.facts.measured["age"]
    by_name = {expert.describe(): expert for expert in case.experts}
    facet = gallery_board(case.facts).facet("sign")
    for row in range(len(case.truth)):
        found = tags(facet, row)
        state = MASKS[said["mask"][row]]
        for node, who in (("mask", "mask"), ("gender", "gender"), ("age", f"age given mask={state}")):
            votes = [int(np.argmax(layer[row])) for layer in by_name[who].layers]
            counts = sorted((votes.count(number) for number in set(votes)), reverse=True)
            ties = len(counts) > 1 and counts[0] == counts[1]
            assert (f"{node}: checkpoints tie" in found) == ties
            assert (f"{node}: checkpoints disagree" in found) == (len(counts) > 1 and not ties)
            missed = said[node][row] != true[node][row] and int(true[node][row]) in votes
            assert (f"{node}: a checkpoint had it right" in found) == missed
        assert ("age: another class if off by 2" in found) == (ages[row] in (28, 29, 30, 31, 58, 59, 60, 61))
        top = np.sort(case.facts.joint[row].astype(float))[::-1]
        assert ("two answers within 0.1" in found) == (top[0] - top[1] < 0.1)


def test_classes_verdicts_and_routes_are_filters() -> None:
    case = face_case(seed=1)
    board = gallery_board(case.facts)
    said, true = SCHEMA.decode(case.facts.said), SCHEMA.decode(case.truth)
    for attribute in SCHEMA.attributes:
        assert board.facet(f"true_{attribute.name}").values.tolist() == true[attribute.name].tolist()
        assert board.facet(f"said_{attribute.name}").values.tolist() == said[attribute.name].tolist()
    wrong = [sum(said[n][row] != true[n][row] for n in SCHEMA.names) for row in range(len(case.truth))]
    verdicts = board.facet("answer")
    assert [verdicts.names[number] for number in verdicts.values] == ["wrong" if n else "right" for n in wrong]
    only = board.facet("wrong")
    for number, title in enumerate(only.names):
        name = title.removeprefix("only ")
        expected = said[name] != true[name]
        assert only.has(number).tolist() == [
            bool(e) and (n == 1 or name == title) for e, n in zip(expected, wrong, strict=True)
        ]
    route = board.facet("route_age")
    assert [route.names[number] for number in route.values] == [f"age given mask={MASKS[n]}" for n in said["mask"]]


def test_the_first_photos_are_the_most_confident_wrong_ones() -> None:
    case = face_case(seed=2)
    board = gallery_board(case.facts)
    wrong = [row for row in range(60) if case.facts.said[row] != case.truth[row]]
    sure = [float(case.facts.joint[row].max()) for row in range(60)]
    assert board.shown().tolist() == sorted(wrong, key=lambda row: -sure[row])
    assert [order.key for order in board.orders] == ["sure", "unsure", "truth", "split", "id"]
    truth_p = [float(case.facts.joint[row, case.truth[row]]) for row in range(60)]
    assert board.orders[2].rows.tolist() == sorted(range(60), key=lambda row: truth_p[row])
    assert board.orders[4].rows.tolist() == sorted(range(60), key=lambda row: f"photo-{row}.jpg")


def test_where_checkpoints_disagree_most_comes_first() -> None:
    """Total variation to the mean, of the expert that decided, worked out by hand."""
    case = face_case(seed=4, n_photos=20)
    means, said = means_of(case), SCHEMA.decode(case.facts.said)
    apart = []
    for row in range(20):
        deciding = ["mask", "gender", f"age given mask={MASKS[said['mask'][row]]}"]
        own = [
            np.mean(
                [
                    abs(np.asarray(layer[row], dtype=float) - means[expert.describe()][row]).sum() / 2
                    for layer in expert.layers
                ]
            )
            for expert in case.experts
            if expert.describe() in deciding
        ]
        apart.append(max(own))
    order = next(order for order in gallery_board(case.facts).orders if order.key == "split")
    assert order.rows.tolist() == sorted(range(20), key=lambda row: -apart[row])


def test_a_limit_keeps_the_wrong_ones_first_then_the_doubtful() -> None:
    case = face_case(seed=2)
    sure = [float(case.facts.joint[row].max()) for row in range(60)]
    wrong = sorted((r for r in range(60) if case.facts.said[r] != case.truth[r]), key=lambda r: -sure[r])
    right = sorted((r for r in range(60) if r not in wrong), key=lambda r: sure[r])
    for limit in (1, 5, len(wrong) + 2, 1000):
        assert rows_to_show(case.facts, limit).tolist() == sorted([*wrong, *right][:limit])
    with pytest.raises(UsageError, match="at least 1"):
        rows_to_show(case.facts, 0)
    board = gallery_board(case.facts)
    some = board.select(rows_to_show(case.facts, 5))
    assert some.ids[some.shown()].tolist() == board.ids[wrong[:5]].tolist()


def test_without_a_truth_the_least_confident_come_first() -> None:
    case = face_case(seed=2, truth=None)
    board = gallery_board(case.facts)
    sure = [float(row.max()) for row in case.facts.joint]
    assert board.shown().tolist() == sorted(range(60), key=lambda row: sure[row])
    assert "reason" not in {facet.key for facet in board.facets}
    assert board.columns == ("answer",)
    assert "truth is not known" in gallery_sentences(case.facts, "the evaluation photos")[0]


def unpacked(text: str) -> list[float]:
    return [float(value) / 60_000 for value in np.frombuffer(b64decode(text), dtype="<u2")]


def test_details_hold_every_checkpoint_of_every_expert() -> None:
    """Also of the pooled one that this structure does not ask."""
    case = face_case(seed=6, n_photos=8)
    rows = np.array([5, 0, 7])
    found = gallery_details(case.facts, rows)
    by_name = {expert.describe(): expert for expert in case.experts}
    means = means_of(case)
    assert {one["name"] for one in found["experts"]} == set(by_name)
    for one in found["experts"]:
        for layer, text in zip(by_name[one["name"]].layers, one["probs"], strict=True):
            assert unpacked(text) == pytest.approx(np.asarray(layer)[rows].ravel().tolist(), abs=1e-5)
        assert unpacked(one["voted"]) == pytest.approx(means[one["name"]][rows].ravel().tolist(), abs=1e-5)
        assert one["used"] == (one["name"] != "age")
    (way,) = found["ways"]
    assert unpacked(way["belief"]) == pytest.approx(means["mask"][rows].ravel().tolist(), abs=1e-5)
    asked = {one["name"]: list(b64decode(one["asked"])) for one in found["experts"]}
    best = [MASKS[int(np.argmax(means["mask"][row]))] for row in rows]
    for state in MASKS:
        assert asked[f"age given mask={state}"] == [int(state == name) for name in best]


def test_of_many_classes_the_answer_and_the_truth_are_kept() -> None:
    random = np.random.default_rng(0)
    kind = Attribute("kind", [f"k{number:02}" for number in range(40)])
    schema, ids = Schema(kind), [f"{number}" for number in range(30)]
    raw = random.random((2, 30, 40)) ** 4
    expert = Predictions(kind, raw / raw.sum(axis=-1, keepdims=True), ids)
    truth = random.integers(0, 40, 30)
    facts = gallery_facts(ConditionalEnsemble(schema, Graph({"kind": []}), [expert]), truth=truth)
    (one,) = gallery_details(facts, np.arange(30))["experts"]
    kept = np.frombuffer(b64decode(one["kept"]), dtype="<u4").reshape(30, 12)
    mean = np.asarray(expert.layers[0], dtype=float) / 2 + np.asarray(expert.layers[1], dtype=float) / 2
    for row in range(30):
        assert truth[row] in kept[row]
        best = np.argsort(-mean[row])
        assert set(best[:11]) <= set(kept[row].tolist())
        assert mean[row][kept[row]].tolist() == sorted(mean[row][kept[row]].tolist(), reverse=True)
    shown = np.array(unpacked(one["voted"])).reshape(30, 12)
    assert shown == pytest.approx(np.take_along_axis(mean, kept.astype(int), axis=1), abs=1e-5)


def test_photos_without_predictions_have_no_answer() -> None:
    experts = face_experts(1, 4)
    layers = [np.array(layer) for layer in experts[0].layers]
    for layer in layers:
        layer[2] = np.nan
    experts[0] = Predictions(SCHEMA["mask"], layers, experts[0].ids, voters=experts[0].voters)
    ensemble = ConditionalEnsemble(SCHEMA, FACE_GRAPH, experts)
    facts = gallery_facts(ensemble, truth=np.zeros(4, dtype=np.int64))
    board = gallery_board(facts)
    assert board.facet("answer").names[board.facet("answer").values[2]] == "abstained"
    assert not facts.wrong[2]
    assert board.to_json()["lines"]
    assert "1 photo got no answer" in gallery_sentences(facts, "photos")[0]


def test_ages_that_are_no_finer_than_their_classes_are_no_filter() -> None:
    coarse = np.array([22.0, 45.0, 60.0] * 20)
    assert face_case(measured={"age": coarse}).facts.measured == {}
    assert list(face_case().facts.measured) == ["age"]


def test_different_galleries_have_different_sentences() -> None:
    told = {tuple(gallery_sentences(face_case(seed=seed).facts, "the photos")) for seed in range(4)}
    assert len(told) == 4
    case = face_case(seed=0)
    n_wrong = int((case.facts.said != case.truth).sum())
    first, second = gallery_sentences(case.facts, "the photos")
    assert first.startswith(f"{n_wrong} of 60 photos are wrong ({100 * n_wrong / 60:.1f} %)")
    said, true = SCHEMA.decode(case.facts.said), SCHEMA.decode(case.truth)
    for name in SCHEMA.names:
        assert f"{name} in {int((said[name] != true[name]).sum())}" in second
    assert shown_sentence(case.facts, 60).startswith("All 60 photos")
    assert shown_sentence(case.facts, 7).startswith("7 of 60 photos")


def test_orders_and_facets_of_some_rows() -> None:
    order = Order.by("p", "by p", np.array([0.3, np.nan, 0.9, 0.1]), falling=True)
    assert order.rows.tolist() == [2, 0, 3, 1]
    assert order.among(np.array([3, 2])).rows.tolist() == [1, 0]
    several = Facet("x", "x", ("a", "b"), np.array([[True, False], [True, True]]))
    assert several.select(np.array([1])).to_json()["values"] == [[0, 1]]
    assert several.n_used == 2


def test_of_many_experts_those_asked_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A taxonomy has dozens: a photo's details hold the ones that it was routed to."""
    monkeypatch.setattr("ensemble_kit.gallery.details.MANY_EXPERTS", 3)
    case = face_case(seed=6, n_photos=8)
    rows = np.array([5, 0, 7])
    by_name = {expert.describe(): expert for expert in case.experts}
    said = SCHEMA.decode(case.facts.said)["mask"]
    for one in gallery_details(case.facts, rows)["experts"]:
        state = one["name"].partition("mask=")[2]
        expected = [place for place, row in enumerate(rows) if one["used"] and (not state or MASKS[said[row]] == state)]
        assert np.frombuffer(b64decode(one["places"]), dtype="<u4").tolist() == expected
        own = np.asarray(by_name[one["name"]].layers[0])[rows[expected]]
        assert unpacked(one["probs"][0]) == pytest.approx(own.ravel().tolist(), abs=1e-5)
