"""From photos to joint classes: the answers of predicting and combining, with only the passes that routes need."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_training import BACKBONES, SCHEMA, draw_table, folds_of, make_job, make_photos

from ensemble_kit import answering, inference
from ensemble_kit.answering import Answered, Answerer, answer_table
from ensemble_kit.calibration import Temperature
from ensemble_kit.data.decode import decode_photo
from ensemble_kit.data.samples import SampleTable
from ensemble_kit.ensemble import ConditionalEnsemble
from ensemble_kit.errors import UsageError
from ensemble_kit.graph import Graph
from ensemble_kit.loading import decoding
from ensemble_kit.predictions import load_predictions
from ensemble_kit.training import train_fold

GRAPH = Graph({"mask": [], "gender": [], "age": ["mask"]})
STATES: list[dict[str, Any]] = [{"mask": ("worn",)}, {"mask": ("incorrect", "not_worn")}]


class World:
    """Two folds of a mask, a gender and two age experts, one of them of single years; photos to answer."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.table = draw_table(root / "photos")
        self.eval = draw_table(root / "eval", people=7, seed=9, broken=["p002_worn.png"])
        experts: list[dict[str, Any]] = [
            {"attributes": ("mask",)},
            {"attributes": ("gender",), "mean": (0.3, 0.3, 0.3)},
        ]
        experts += [{"attributes": ("age",), "condition": condition} for condition in STATES]
        self.checkpoints = [self.train(fold, **expert) for expert in experts for fold in (0, 1)]
        self.pooled = [self.train(fold, attributes=("age",)) for fold in (0, 1)]

    def train(self, fold: int, **changed: Any) -> Path:
        job = make_job(fold=fold, epochs=1, **changed)
        kind = "classes" if job.columns is None else "years"
        folder = self.root / kind / job.name.replace(" ", "-") / f"fold{fold}"
        photos = make_photos(self.table, self.root / "cache", job)
        return train_fold(job, table=self.table, folds=folds_of(self.table), photos=photos, folder=folder).checkpoint

    def answer(self, **options: Any) -> Answered:
        settings = {"device": "cpu", "precision": "fp32", "backbones": BACKBONES} | options
        checkpoints = settings.pop("checkpoints", self.checkpoints)
        return answer_table(settings.pop("table", self.eval), checkpoints, settings.pop("graph", GRAPH), **settings)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def ensemble(world: World) -> ConditionalEnsemble:
    """All experts predicted on all photos, the way that needs every pass."""
    folder = inference.predict_table(
        world.eval, world.checkpoints, world.root / "set", device="cpu", precision="fp32", backbones=BACKBONES
    )
    return ConditionalEnsemble(SCHEMA, GRAPH, load_predictions(folder))


def my_route(belief: Any) -> Any:
    sure = belief.max(axis=1, keepdims=True) >= 0.5
    return np.where(sure, belief == belief.max(axis=1, keepdims=True), belief)


HOW: list[dict[str, Any]] = [
    {"route": "hard"},
    {"route": "soft"},
    {"route": "threshold=0.6", "vote": "hard"},
    {"route": "sparse=0.3", "vote": "geometric"},
    {"route": my_route},
    {"route": "hard", "vote_at": "joint"},
    {"route": "top_k=2", "voters": ["fold1"]},
    {"route": "hard", "weights": {"fold0": 0.0, "fold1": 1.0}},
    {"route": "hard", "adjust": {"mask": Temperature(3.0)}},
]


@pytest.mark.parametrize("how", HOW, ids=lambda how: "-".join(map(str, how.values())).partition(" at 0x")[0])
@pytest.mark.parametrize(("window", "batch_size"), [(None, 32), (4, 3)])
def test_the_answers_are_those_of_predicting_and_combining(
    world: World, ensemble: ConditionalEnsemble, how: dict[str, Any], window: int | None, batch_size: int
) -> None:
    expected = ensemble.combine(**how, missing="abstain")
    found = world.answer(window=window, batch_size=batch_size, **how)
    np.testing.assert_allclose(found.joint.probs, expected.joint.probs, atol=1e-5)
    np.testing.assert_array_equal(found.joint.labels(), expected.joint.labels())
    assert {name: n for name, n in found.counts.photos.items() if n} == {n: c for n, c in expected.counts.items() if c}


@pytest.mark.parametrize("window", [None, 5])
def test_a_hard_route_takes_one_pass_a_checkpoint_and_attribute(world: World, window: int | None) -> None:
    table = draw_table(world.root / "whole", people=7, seed=4)
    found = world.answer(table=table, route="hard", window=window)
    n_photos, n_folds, n_attributes = len(table), 2, 3
    assert found.counts.decoded == n_photos
    assert found.counts.forwards == n_photos * n_folds * n_attributes
    assert sum(n for name, n in found.counts.photos.items() if name.startswith("age")) == n_photos


def test_files_decoded_are_counted_as_they_are(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Path] = []

    def counted(path: Path) -> Any:
        opened.append(path)
        return decode_photo(path)

    monkeypatch.setattr(decoding, "decode_photo", counted)
    for options in ({"window": 5}, {"cache": world.root / "own"}, {"cache": world.root / "own"}):
        opened.clear()
        found = world.answer(route="hard", **options)
        assert found.counts.decoded == len(opened) == len(world.eval)
    for expert in ("mask", "gender"):  # two ways of normalising, one of preparing
        make_photos(world.eval, world.root / "own", make_job(attributes=(expert,)))
    opened.clear()
    assert world.answer(route="hard", cache=world.root / "own").counts.decoded == len(opened) == 0


def test_a_zero_weight_and_an_idle_expert_cost_nothing(world: World) -> None:
    alone = world.answer(
        route="hard", weights={"fold0": 0.0, "fold1": 1.0}, checkpoints=[*world.checkpoints, *world.pooled]
    )
    assert alone.counts.loaded == 4  # one checkpoint each of mask, gender and the two age experts
    assert alone.counts.forwards == 3 * (len(world.eval) - 1)  # one photo cannot be read


def test_an_expert_that_is_not_asked_takes_no_memory(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    own = Answerer(world.checkpoints, SCHEMA, GRAPH, device="cpu", precision="fp32", backbones=BACKBONES)
    made: list[tuple[int, ...]] = []

    def counted(shape: tuple[int, ...]) -> Any:
        made.append(shape)
        return np.full(shape, np.nan, dtype=np.float32)

    def only_worn(belief: Any) -> Any:
        return np.where(np.arange(belief.shape[1]) == 0, 1.0, 0.0) * np.ones_like(belief)

    monkeypatch.setattr(answering, "_empty", counted)
    for route, n_asked in ((only_worn, 3), ("soft", 4)):  # of mask, gender and two age experts
        made.clear()
        counts = own.answer(world.eval, route=route).counts
        assert sum(n > 0 for n in counts.photos.values()) == n_asked
        assert len(made) == 2 * n_asked


def test_an_unreadable_photo_has_no_answer_and_a_line(world: World) -> None:
    found = world.answer(route="hard")
    (row,) = np.flatnonzero(found.joint.labels() < 0)
    assert world.eval.ids[row] == "p002/worn"
    ((sample, path, problem),) = found.problems
    assert (sample, path) == ("p002/worn", "p002_worn.png")
    assert problem.startswith("expected a photo")


def test_other_borders_need_finer_columns(world: World) -> None:
    columns = tuple(range(20, 62, 2))
    years = [
        world.train(fold, attributes=("age",), condition=state, columns=columns) for state in STATES for fold in (0, 1)
    ]
    checkpoints = [*world.checkpoints[:4], *years]
    moved = SCHEMA.with_borders({"age": [24, 50]})
    found = world.answer(checkpoints=checkpoints, borders={"age": [24, 50]}, route="hard")
    folder = inference.predict_table(
        world.eval, checkpoints, world.root / "years", device="cpu", precision="fp32", backbones=BACKBONES
    )
    expected = ConditionalEnsemble(moved, GRAPH, load_predictions(folder)).combine(route="hard", missing="abstain")
    np.testing.assert_allclose(found.joint.probs, expected.joint.probs, atol=1e-5)


def test_an_answerer_is_asked_again(world: World) -> None:
    own = Answerer(world.checkpoints, SCHEMA, GRAPH, device="cpu", precision="fp32", backbones=BACKBONES)
    first, soft, again = (own.answer(world.eval, route=route) for route in ("hard", "soft", "hard"))
    np.testing.assert_array_equal(first.joint.probs, again.joint.probs)
    assert first.counts.loaded + soft.counts.loaded == 8
    assert again.counts.loaded == 0
    assert again.counts.forwards == first.counts.forwards < soft.counts.forwards


def test_views_are_averaged(world: World) -> None:
    plain, views = world.answer(route="hard"), world.answer(route="hard", tta=["flip"])
    assert views.counts.forwards == 2 * plain.counts.forwards
    assert np.abs(plain.joint.probs - views.joint.probs).max() > 1e-6


def test_bad_requests(world: World) -> None:
    empty: SampleTable = world.eval.select([])
    for changed, message in (
        ({"checkpoints": []}, "expected checkpoints, found none"),
        ({"table": empty}, "expected photos, found none"),
        ({"batch_size": 0}, "batch size: expected at least 1, found 0"),
        ({"window": 0}, "window: expected at least 1, found 0"),
        ({"checkpoints": world.checkpoints[:6]}, "age"),  # a state without an expert
        ({"route": "harsh"}, "harsh"),
        ({"tta": ["flap"]}, "flap"),
    ):
        with pytest.raises(UsageError, match=message):
            world.answer(**changed)


@pytest.mark.parametrize("people", [1, 2])
def test_where_no_photo_can_be_read_each_has_its_line_and_no_network_runs(world: World, people: int) -> None:
    table = draw_table(world.root / f"all-broken-{people}", people=people)
    for path in table.paths:
        path.write_bytes(b"no photo")
    found = world.answer(table=table, route="hard")
    assert (found.joint.labels() == -1).all()
    assert [sample for sample, _, _ in found.problems] == table.ids.tolist()
    assert found.counts.forwards == found.counts.loaded == 0


def test_one_photo_alone_is_answered_as_among_others(world: World) -> None:
    among = world.answer(route="hard")
    alone = world.answer(table=world.eval.select([0]), route="hard")
    np.testing.assert_allclose(alone.joint.probs[:, 0], among.joint.probs[:, 0], atol=1e-5)
