"""The diagnosis as text, JSON and data frames, of a large taxonomy too; bad calls."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from worlds import SCHEMA, World, answers, face_world

import ensemble_kit as ek
from ensemble_kit.diagnosis import Diagnosis, diagnose
from ensemble_kit.errors import DataError, UsageError
from ensemble_kit.graph import Graph
from ensemble_kit.predictions import Predictions
from ensemble_kit.schema import Schema
from ensemble_kit.structure_report import Gain

WORLD = face_world(2, n_people=40, n_voters=3, special=(2.5, 2.5, 2.5))
FOUND = WORLD.diagnose(scored_on="the evaluation photos")


def shop_world(long_names: bool = False) -> World:
    """kind -> coarse -> fine: 3 kinds, 27 coarse classes of 1 or 5 fine ones, 81 joint classes; pooled experts too."""
    tail = " of a name that is much too long for any table" if long_names else ""
    rows = []
    for coarse in range(27):
        n_fine = 5 if coarse < 13 else 2 if coarse == 13 else 1
        rows += [
            (f"kind{coarse % 3}{tail}", f"c{coarse:02d}{tail}", f"c{coarse:02d}-f{i}{tail}") for i in range(n_fine)
        ]
    assert len(rows) == 80
    schema = Schema.from_rows(["kind", "coarse", "fine"], [*rows, (f"kind2{tail}", f"c26{tail}", f"c26-g{tail}")])
    graph = Graph({"kind": [], "coarse": ["kind"], "fine": ["coarse"]})
    rng = np.random.default_rng(0)
    person = np.repeat(np.arange(400), 3)
    truth = rng.integers(0, schema.n_joint, 400)[person]
    true = schema.decode(truth)
    ids = np.array([f"{number}.jpg" for number in range(len(truth))])

    def expert(name: str, condition: dict[str, str] | None = None) -> Predictions:
        """Of the classes that exist under the condition only."""
        allowed = np.ones(schema.n_joint, dtype=bool)
        for parent, value in (condition or {}).items():
            allowed &= schema.decode(np.arange(schema.n_joint))[parent] == schema[parent].index(value)
        kept = np.unique(schema.decode(np.flatnonzero(allowed))[name])
        local = np.searchsorted(kept, true[name]).clip(max=len(kept) - 1)
        probs = answers(rng, local, len(kept), 3.0 if condition else 1.5, person, n_voters=2)
        return Predictions(schema[name], probs, ids, condition, [schema[name].classes[i] for i in kept])

    experts = [expert("kind"), expert("coarse"), expert("fine")]
    experts += [expert("coarse", {"kind": kind}) for kind in schema["kind"].classes]
    by_coarse = schema.paths[:, schema.names.index("coarse")]
    for number, name in enumerate(schema["coarse"].classes):
        if (by_coarse == number).sum() > 1:
            experts.append(expert("fine", {"coarse": name}))
    return World(experts, truth, ids, np.array([f"p{n}" for n in person]), schema, graph)


@pytest.mark.parametrize("long_names", [False, True])
def test_a_taxonomy_of_81_paths(long_names: bool) -> None:
    found = shop_world(long_names).diagnose(subgroups={"a column of the user's with a long name": ["x", "y"] * 600})
    assert [(router.node, len(router.states)) for router in found.routers] == [("coarse", 3), ("fine", 27)]
    text = found.text()
    assert max(map(len, text.splitlines())) <= 80
    assert len(text.splitlines()) < (340 if long_names else 210), "tables of many states are cut"
    assert "most frequent wrong routes" in text
    assert found.verdict("coarse") == "pays"
    json.dumps(found.to_json(), allow_nan=False)
    states = [row.state for row in found.specialising if row.node == "fine"]
    assert len(states) == 1 + 15, "all photos, and the coarse classes that leave a choice"
    splits = {row.state: row for row in found.errors if row.node == "fine"}
    single = splits[next(state for state in splits if state.startswith("coarse=c20"))]
    assert (single.wrong_expert, single.both) == (0, 0), "one possible class is never a wrong expert"


def test_text_leads_with_what_to_do() -> None:
    lines = FOUND.text().splitlines()
    assert lines[0] == "Diagnosis on the evaluation photos: 280 photos of 40 people, soft vote"
    assert lines[2] == "What to do"
    assert lines[3].startswith("- age: specialising pays")
    assert max(map(len, lines)) <= 80
    assert "nan" not in FOUND.text().lower().replace("cannot", "")


def test_every_sentence_of_advice_is_in_the_text() -> None:
    text = " ".join(FOUND.text().split())
    assert FOUND.advice
    for sentence in FOUND.advice:
        assert sentence in text


def numbers_in(value: object) -> list[float]:
    if isinstance(value, dict):
        return [n for one in value.values() for n in numbers_in(one)]
    if isinstance(value, list | tuple):
        return [n for one in value for n in numbers_in(one)]
    return [value] if isinstance(value, float) else []


@pytest.mark.parametrize("groups", [True, False])
def test_json_has_no_nan_and_comes_back(groups: bool) -> None:
    found = FOUND if groups else World(WORLD.experts, WORLD.truth, WORLD.ids, None).diagnose()
    value = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert all(math.isfinite(number) for number in numbers_in(found.to_json()))
    assert value["advice"] == found.advice
    assert value["specialising"][0]["verdict"] == found.verdict("age")
    assert value["errors"][0]["shares"]["lucky"] == found.errors[0].shares["lucky"]


def test_frames() -> None:
    frames = FOUND.to_frames()
    assert set(frames) == {
        "scores", "gaps", "children", "errors", "cross", "specialising", "routers", "subgroups", "diversity",
    }  # fmt: skip
    cross = frames["cross"].pivot_table(index="expert", columns="state", values="accuracy")
    assert cross.shape == (4, 3)
    assert cross.loc["age given mask=worn", "mask=worn"] == FOUND.cross[0].accuracy
    assert frames["specialising"]["macro_f1.value"].tolist() == [row.macro_f1.value for row in FOUND.specialising]


def test_a_graph_without_conditions() -> None:
    graph = Graph.independent(SCHEMA)
    found = World(WORLD.experts, WORLD.truth, WORLD.ids, WORLD.groups, SCHEMA, graph).diagnose()
    assert (found.routers, found.errors, found.cross, found.specialising) == ((), (), (), ())
    assert found.advice[0].startswith("nothing is conditioned in this graph")
    assert max(map(len, found.text().splitlines())) <= 80
    assert len(found.diversity) == len(WORLD.experts)


def test_where_only_the_pooled_expert_answers() -> None:
    found = World(WORLD.experts[:2], WORLD.truth, WORLD.ids, WORLD.groups).diagnose(fallback="pooled")
    assert found.specialising == ()
    assert found.left_out["age, pooled against specialised"] == "no specialised age expert is asked"
    assert found.errors[0].n_samples == 280


def test_a_zero_has_no_minus() -> None:
    assert str(Gain(-0.0002, (-0.0004, 0.0))) == "+0.000 [+0.000, +0.000]"
    assert str(replace(Gain(-0.0312), interval=(-0.05, 0.01))) == "-0.031 [-0.050, +0.010]"


def test_it_is_a_public_name() -> None:
    assert ek.diagnose is diagnose
    assert isinstance(FOUND, Diagnosis)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"vote": "sofd"}, UsageError, 'unknown vote "sofd"; did you mean "soft"?'),
        ({"metric": "f1"}, UsageError, 'unknown metric "f1"'),
        ({"fallback": "pool"}, UsageError, 'unknown fallback "pool"; did you mean "pooled"?'),
        ({"groups": WORLD.groups[:-1]}, DataError, "expected a group for each of 280 ids, found (279,)"),  # type: ignore[index]
        ({"n_boot": 0}, DataError, "expected photos and at least one draw, found 280 and 0"),
        (
            {"subgroups": {"eyes": ["blue"]}},
            DataError,
            'subgroup "eyes": expected a value for each of 280 ids, found 1',
        ),
    ],
)
def test_bad_calls(changes: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        WORLD.diagnose(**changes)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"experts": []}, UsageError, "diagnose: expected at least one expert's predictions, found none"),
        ({"experts": WORLD.experts[:3]}, UsageError, "no age expert for mask=incorrect, mask=not_worn"),
        ({"truth": WORLD.truth[1:]}, DataError, "expected a true joint class for each of 280 ids, found (279,)"),
        ({"truth": np.full(280, -1)}, DataError, "none of 280 photos has both a label and a prediction"),
        ({"truth": np.full(280, 9)}, DataError, "joint classes are 0 to 8"),
        ({"ids": np.char.add("x", WORLD.ids)}, DataError, "280 are missing"),
        ({"graph": Graph({"mask": []})}, UsageError, "graph: no node predicts age"),
    ],
)
def test_bad_inputs(changes: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        replace(WORLD, **changes).diagnose()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
