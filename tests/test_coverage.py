from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from core_oracles import FACE_GRAPH, face_schema, oracle_expert, random_case, sample_ids
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble_kit.coverage import choose_experts
from ensemble_kit.errors import DataError, EnsembleKitError, UsageError
from ensemble_kit.graph import Graph
from ensemble_kit.predictions import Predictions
from ensemble_kit.schema import Attribute, Schema

Condition = Mapping[str, str | Sequence[str]]
BY_BOTH = Graph({"mask": [], "gender": [], "age": ["mask", "gender"]})
ROOTS: list[tuple[str, Condition]] = [("mask", {}), ("gender", {})]


def expert(name: str, condition: Condition, schema: Schema | None = None) -> Predictions:
    attributes = [(schema or face_schema())[part] for part in name.split(",")]
    n_classes = int(np.prod([len(attribute.classes) for attribute in attributes]))
    return Predictions(attributes, np.full((2, n_classes), 1 / n_classes), sample_ids(2), condition)


def chosen(graph: Graph, given: Sequence[tuple[str, Condition]], fallback: str = "refuse") -> dict[str, list[int]]:
    found = choose_experts(face_schema(), graph, [expert(*one) for one in given], fallback)
    return {node.name: numbers.tolist() for node, numbers in found.items()}


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.booleans())
def test_every_state_gets_the_narrowest_expert(seed: int, taxonomy: bool) -> None:
    case = random_case(seed, taxonomy=taxonomy)
    found = choose_experts(case.schema, case.graph, case.experts, case.fallback)
    for node, numbers in found.items():
        states = {
            tuple(path.split(" / ")[case.schema.names.index(p)] for p in node.parents)
            for path in case.schema.joint_names()
        }
        in_order = sorted(states, key=lambda s: [case.schema[p].index(c) for p, c in zip(node.parents, s, strict=True)])
        assert len(numbers) == len(in_order)
        for number, state in zip(numbers, in_order, strict=True):
            if number >= 0:
                best = oracle_expert(case.experts, node, dict(zip(node.parents, state, strict=True)))
                assert case.experts[number] is best


def test_the_narrower_expert_goes_before_the_wider_one() -> None:
    given: list[tuple[str, Condition]] = [
        *ROOTS,
        ("age", {}),
        ("age", {"gender": "male"}),
        ("age", {"mask": ["worn", "incorrect"]}),
        ("age", {"mask": "worn"}),
        ("age", {"mask": "worn", "gender": "female"}),
    ]
    # states: worn male, worn female, incorrect male, incorrect female, not_worn male, not_worn female
    assert chosen(BY_BOTH, given, "pooled")["age"] == [5, 6, 4, 4, 3, 2]


def test_the_parents_order_is_the_back_off_order() -> None:
    given: list[tuple[str, Condition]] = [*ROOTS, ("age", {"gender": "male"}), ("age", {"mask": "worn"}), ("age", {})]
    assert chosen(BY_BOTH, given, "pooled")["age"] == [3, 3, 2, 4, 2, 4]
    swapped = Graph({"mask": [], "gender": [], "age": ["gender", "mask"]})
    assert chosen(swapped, given, "pooled")["age"] == [2, 2, 2, 3, 4, 4]


def test_one_set_of_experts_serves_several_graphs() -> None:
    states = face_schema()["mask"].classes
    given: list[tuple[str, Condition]] = [*ROOTS, ("age", {}), *(("age", {"mask": state}) for state in states)]
    given += [("mask,gender,age", {}), ("age", {"gender": "male"})]
    assert chosen(FACE_GRAPH, given) == {"mask": [0], "gender": [1], "age": [3, 4, 5]}
    assert chosen(Graph.independent(face_schema()), given) == {"mask": [0], "gender": [1], "age": [2]}
    assert chosen(Graph.flat(face_schema()), given) == {"mask,gender,age": [6]}
    assert chosen(FACE_GRAPH, given, "pooled") == chosen(FACE_GRAPH, given)


def test_an_expert_of_several_classes_serves_them_all() -> None:
    given: list[tuple[str, Condition]] = [
        *ROOTS,
        ("age", {"mask": "worn"}),
        ("age", {"mask": ["incorrect", "not_worn"]}),
    ]
    assert chosen(FACE_GRAPH, given)["age"] == [2, 3, 3]


GAPS: list[tuple[Graph, list[tuple[str, Condition]], str, str]] = [
    (
        FACE_GRAPH,
        [*ROOTS, ("age", {"mask": "worn"}), ("age", {"mask": "not_worn"}), ("age", {})],
        "refuse",
        "no age expert for mask=incorrect (found: worn, not_worn, pooled); "
        'train it with "ens train-age --mask-state incorrect" or combine with --fallback pooled',
    ),
    (
        FACE_GRAPH,
        [*ROOTS, ("age", {"mask": "worn"}), ("age", {"mask": "not_worn"})],
        "refuse",
        "no age expert for mask=incorrect (found: worn, not_worn); "
        'train it with "ens train-age --mask-state incorrect" or combine with --fallback pooled after "ens train age"',
    ),
    (
        FACE_GRAPH,
        [*ROOTS, ("age", {"mask": "worn"})],
        "pooled",
        "no age expert for mask=incorrect, mask=not_worn (found: worn); train it with "
        '"ens train-age --mask-state incorrect", "ens train-age --mask-state not_worn" or a pooled one with "ens train age"',
    ),
    (
        Graph({"mask": [], "gender": ["mask"], "age": []}),
        [("age", {}), ("gender", {"mask": ["worn", "not_worn"]})],
        "refuse",
        'no mask expert (found: none); train it with "ens train mask"; '
        "no gender expert for mask=incorrect (found: worn,not_worn); "
        'train it with "ens train gender --given mask=incorrect" or combine with --fallback pooled after "ens train gender"',
    ),
    (
        BY_BOTH,
        [*ROOTS, ("age", {"mask": "worn"})],
        "refuse",
        "no age expert for mask=worn gender=male, mask=worn gender=female, mask=incorrect gender=male, "
        "mask=incorrect gender=female, mask=not_worn gender=male, mask=not_worn gender=female (found: mask=worn); "
        'train it with "ens train age --given mask=worn --given gender=male", '
        '"ens train age --given mask=worn --given gender=female", '
        '"ens train age --given mask=incorrect --given gender=male", ... '
        'or combine with --fallback pooled after "ens train age"',
    ),
    (
        Graph.flat(face_schema()),
        ROOTS,
        "refuse",
        'no mask,gender,age expert (found: none); train it with "ens train mask,gender,age"',
    ),
    (
        Graph.independent(face_schema()),
        [*ROOTS, ("age", {"mask": "worn"})],
        "pooled",
        'no age expert (found: mask=worn); train it with "ens train age"',
    ),
]


@pytest.mark.parametrize(("graph", "given", "fallback", "message"), GAPS)
def test_all_gaps_are_listed_in_one_message(
    graph: Graph, given: list[tuple[str, Condition]], fallback: str, message: str
) -> None:
    with pytest.raises(UsageError) as caught:
        chosen(graph, given, fallback)
    assert str(caught.value) == message


ODD = Schema(Attribute("time of day", ["it's late", "<noon"]), Attribute("x", ["a", "b"]), Attribute("age", ["o", "y"]))


@pytest.mark.parametrize("classes", [*ODD["time of day"].classes])
def test_commands_can_be_pasted_into_a_shell(classes: str) -> None:
    graph = Graph({"time of day": [], "x": ["time of day"], "age": []})
    other = next(name for name in ODD["time of day"].classes if name != classes)
    experts = [
        Predictions(ODD["x"], [[0.5, 0.5]], ["a"], condition={"time of day": (other,)}),
        Predictions(ODD["age"], [[0.5, 0.5]], ["a"]),
    ]
    with pytest.raises(UsageError) as caught:
        choose_experts(ODD, graph, experts)
    commands = [shlex.split(line[: line.rindex('"')]) for line in str(caught.value).split('"ens ')[1:]]
    assert commands == [["train", "time of day"], ["train", "x", "--given", f"time of day={classes}"], ["train", "x"]]


def test_an_attribute_with_blanks_is_quoted_before_its_condition() -> None:
    graph = Graph({"x": [], "age": [], "time of day": ["x"]})
    roots = [Predictions(ODD[name], [[0.5, 0.5]], ["a"]) for name in ("x", "age")]
    with pytest.raises(
        UsageError, match="\"ens train 'time of day' --given x=a\", \"ens train 'time of day' --given x=b"
    ):
        choose_experts(ODD, graph, roots)


def test_the_short_form_is_for_age_given_mask_alone() -> None:
    schema = Schema(Attribute("mask", ["on", "half on"]), Attribute("age", ["o", "y"]))
    experts = [Predictions(schema["mask"], [[0.5, 0.5]], ["a"])]
    with pytest.raises(UsageError) as caught:
        choose_experts(schema, Graph({"mask": [], "age": ["mask"]}), experts)
    assert '"ens train-age --mask-state on", "ens train-age --mask-state \'half on\'"' in str(caught.value)
    by_age = Graph({"mask": ["age"], "age": []})
    with pytest.raises(UsageError) as caught:
        choose_experts(schema, by_age, [Predictions(schema["age"], [[0.5, 0.5]], ["a"])])
    assert '"ens train mask --given age=o", "ens train mask --given age=y"' in str(caught.value)


WRONG: list[tuple[list[Predictions], str, type[EnsembleKitError], str]] = [
    ([expert("mask", {}), expert("mask", {})], "refuse", UsageError, 'two experts answer mask for every photo'),
    (
        [expert("mask", {}), expert("gender", {}), expert("age", {"mask": ["worn", "incorrect"]}), expert("age", {"mask": ["incorrect", "not_worn"]})],
        "refuse",
        UsageError,
        'two experts answer age for mask=incorrect and neither is narrower: "age given mask=worn,incorrect" and',
    ),
    ([expert("age", {"mask": "wron"})], "refuse", UsageError, 'attribute "mask" has no class "wron"; did you mean "worn"'),
    ([expert("mask", {})], "pool", UsageError, 'unknown fallback "pool"; did you mean "pooled"'),
    (
        [Predictions(Attribute("mask", ["on", "off"]), [[0.5, 0.5]], ["a"])],
        "refuse",
        DataError,
        "mask: expected the schema's classes of mask, worn, incorrect, not_worn; found on, off",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("experts", "fallback", "error", "message"), WRONG)
def test_experts_that_do_not_fit_are_refused(
    experts: list[Predictions], fallback: str, error: type[EnsembleKitError], message: str
) -> None:
    with pytest.raises(error) as caught:
        choose_experts(face_schema(), FACE_GRAPH, experts, fallback)
    assert message in str(caught.value)


def test_an_expert_of_another_task_is_left_aside() -> None:
    other: Any = Predictions(Attribute("race", ["a", "b"]), [[0.5, 0.5]], ["a"])
    by_race = expert("age", {"race": "a"})
    given = [expert("mask", {}), expert("gender", {}), expert("age", {}), other, by_race]
    found = choose_experts(face_schema(), Graph.independent(face_schema()), given)
    assert {node.name: numbers.tolist() for node, numbers in found.items()} == {"mask": [0], "gender": [1], "age": [2]}
