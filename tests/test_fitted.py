from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from core_oracles import FACE_GRAPH, face_experts, face_schema, sample_ids
from fit_cases import ens_fit as ens
from fit_cases import make_run, write_table

from ensemble_kit.calibration import Temperature, apply_temperature, fit_temperature, nll
from ensemble_kit.ensemble import ConditionalEnsemble
from ensemble_kit.errors import DataError, EnsembleKitError, UsageError
from ensemble_kit.files import write_text
from ensemble_kit.fitted import KINDS, Fitted, as_combine_arguments, load_fitted, save_fitted
from ensemble_kit.metrics import macro_f1
from ensemble_kit.predictions import Predictions
from ensemble_kit.runs import Run
from ensemble_kit.selection import Selection, select_voters
from ensemble_kit.shift import PriorShift
from ensemble_kit.voting import VOTES

SCHEMA = face_schema()
VOTERS = ("fold0", "fold1", "fold2")
STATES = SCHEMA["mask"].classes


def answers_of(seed: int, n_people: int = 40) -> tuple[Any, list[str]]:
    """True joint classes and people, three photos a person; every joint class occurs."""
    joint = np.random.default_rng(seed).permutation(np.arange(3 * n_people) % 18)
    return joint, [f"p{person}" for person in range(n_people) for _ in range(3)]


def experts_of(seed: int, joint: Any, strengths: Sequence[float], sharp: float = 1.0) -> list[Predictions]:
    """The five experts of the mask task; each strength is a voter, all too sure by the factor `sharp`."""
    random, true = np.random.default_rng(seed), SCHEMA.decode(joint)
    experts = []
    for shape in face_experts(0, len(joint)):
        n_classes = len(shape.classes)
        logits = random.normal(size=(len(strengths), len(joint), n_classes))
        for layer, strength in zip(logits, strengths, strict=True):
            layer[np.arange(len(joint)), true[shape.names[0]]] += strength
        raised = np.exp(sharp * (logits - logits.max(axis=2, keepdims=True)))
        layers = raised / raised.sum(axis=2, keepdims=True)
        voters = [f"fold{number}" for number in range(len(strengths))]
        experts.append(Predictions(shape.attributes, layers, shape.ids, shape.condition, voters=voters))
    return experts


def selection(where: str = "age given mask=worn") -> Selection:
    random = np.random.default_rng(0)
    truth = random.integers(0, 3, size=60)
    probs = random.dirichlet([1, 1, 1], size=(3, 60))
    return select_voters(probs, truth, groups=np.arange(60), voters=VOTERS, who=where, rounds=2, n_boot=20)


def chains() -> Selection:
    from dataclasses import replace

    return replace(selection("joint"), weights={"fold0": 2.0, "fold1": 0.0, "fold2": 1.0}, vote_at="joint")


SHIFT = PriorShift.known(["<30", "30-59", ">=60"], [0.5, 0.4, 0.1], [0.3, 0.3, 0.4])
ITEMS = [
    Fitted.of(selection()),
    Fitted("temperature", "age given mask=worn", Temperature(2.0, 10, 1, 0.9, 0.8)),
    Fitted.of(SHIFT, "age given mask=worn"),
    Fitted.of(Temperature(0.5), "joint"),
]


def test_everything_survives_the_file(tmp_path: Path) -> None:
    save_fitted(tmp_path / "fitted.json", ITEMS)
    assert load_fitted(tmp_path / "fitted.json") == ITEMS
    content = json.loads((tmp_path / "fitted.json").read_text())
    assert (content["format"], content["version"]) == ("ensemble_kit fitted", 1)
    assert [(item["kind"], item["where"]) for item in content["items"]] == [
        ("weights", "age given mask=worn"),
        ("temperature", "age given mask=worn"),
        ("shift", "age given mask=worn"),
        ("temperature", "joint"),
    ]
    assert set(KINDS) == {"weights", "temperature", "shift", "stacking", "borders"}


def test_arguments_of_combine_a_temperature_before_a_shift() -> None:
    arguments = as_combine_arguments(ITEMS[::-1])
    assert set(arguments) == {"weights", "adjust"}
    assert arguments["weights"] == {"age given mask=worn": selection().weights}
    probs = np.random.default_rng(1).dirichlet([1, 1, 1], size=6)
    both = arguments["adjust"]["age given mask=worn"]
    np.testing.assert_array_equal(both(probs), SHIFT(apply_temperature(probs, 2.0)))
    assert arguments["adjust"]["joint"] == Temperature(0.5)
    assert as_combine_arguments([]) == {}


def test_what_was_fitted_is_what_combine_applies() -> None:
    joint, _ = answers_of(0)
    experts = experts_of(0, joint, [1.0, 0.5, 0.0])
    ensemble = ConditionalEnsemble(SCHEMA, FACE_GRAPH, experts)
    weighed = as_combine_arguments([Fitted.of(selection()), Fitted.of(Temperature(3.0), "joint")])
    found = ensemble.combine(**weighed).joint.probs[0]
    own = [float(selection().weights[name]) for name in VOTERS]  # type: ignore[arg-type]
    by_hand = [
        Predictions(
            expert.attributes,
            np.average(expert.probs, axis=0, weights=own if expert.condition == WORN else None),
            expert.ids,
            expert.condition,
        )
        for expert in experts
    ]
    plain = ConditionalEnsemble(SCHEMA, FACE_GRAPH, by_hand).combine().joint.probs[0]
    np.testing.assert_allclose(found, apply_temperature(plain, 3.0), atol=1e-6)
    whole = as_combine_arguments([Fitted.of(chains())])
    assert whole == {"weights": {"joint": {"fold0": 2.0, "fold1": 0.0, "fold2": 1.0}}}
    chosen = ensemble.combine(vote_at="joint", **whole).joint.probs
    np.testing.assert_array_equal(
        chosen, ensemble.combine(vote_at="joint", weights=whole["weights"]["joint"]).joint.probs
    )
    with pytest.raises(UsageError, match="vote_at=joint only"):
        ensemble.combine(**whole)


WORN = {"mask": ("worn",)}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", 'expected a file of format "ensemble_kit fitted", found None; make one with "ens fit"'),
        ("{", "not readable as JSON"),
        ('{"format": "ensemble_kit fitted", "version": 2, "items": []}', "expected version 1, found 2; update"),
        ('{"format": "ensemble_kit fitted", "version": 1, "items": []}', "expected a list of items, found []"),
        ('{"format": "ensemble_kit fitted", "version": 1, "items": [1]}', "item 0: expected kind, where and value"),
        (
            '{"format": "ensemble_kit fitted", "version": 1, "items": [{"kind": "weight", "where": "a", "value": {}}]}',
            'item 0: unknown kind "weight"; did you mean "weights"?',
        ),
        (
            '{"format": "ensemble_kit fitted", "version": 1,'
            ' "items": [{"kind": "temperature", "where": "a", "value": {"temperature": 0}}]}',
            "item 0: temperature: expected",
        ),
        (
            '{"format": "ensemble_kit fitted", "version": 1,'
            ' "items": [{"kind": "temperature", "where": 3, "value": {"temperature": 1}}]}',
            'expected an expert, a node or "joint", found 3',
        ),
        (
            '{"format": "ensemble_kit fitted", "version": 1,'
            ' "items": [{"kind": "weights", "where": "a", "value": {"weights": {"fold0": 1}}}]}',
            "fit them again",
        ),
    ],
)
def test_files_that_are_none_are_named(tmp_path: Path, content: str, message: str) -> None:
    write_text(tmp_path / "fitted.json", content)
    with pytest.raises(DataError, match=re.escape(message)) as caught:
        load_fitted(tmp_path / "fitted.json")
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: load_fitted(Path("nowhere.json")), DataError, "expected a JSON file, found none"),
        (lambda: save_fitted(Path("never.json"), []), UsageError, "nothing to save"),
        (lambda: save_fitted(Path("never.json"), [ITEMS[1], ITEMS[1]]), UsageError, "two of kind"),
        (lambda: as_combine_arguments([ITEMS[0], ITEMS[0]]), UsageError, 'two of kind "weights" for "age given'),
        (lambda: Fitted("temprature", "joint", Temperature(1.0)), UsageError, 'did you mean "temperature"'),
        (lambda: Fitted("weights", "joint", Temperature(1.0)), UsageError, "Selection, found Temperature"),
        (lambda: Fitted.of(Temperature(1.0)), UsageError, 'expected an expert, a node or "joint"'),
        (lambda: Fitted.of(SCHEMA), UsageError, "expected one of Selection, Temperature"),
    ],
)
def test_bad_calls_are_named(call: Any, kind: type[EnsembleKitError], message: str) -> None:
    with pytest.raises(kind, match=re.escape(message)):
        call()
    assert not Path("never.json").exists()


def test_weights_of_the_joint_and_of_one_of_its_experts_contradict() -> None:
    from dataclasses import replace

    nested = replace(selection("joint"), weights={"age given mask=worn": {"fold0": 1.0}})
    with pytest.raises(UsageError, match='"age given mask=worn" has weights and weights besides'):
        as_combine_arguments([Fitted.of(nested), ITEMS[0]])


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs of the same photos, `good` and `bad`, and their answers."""
    home = tmp_path_factory.mktemp("fit")
    joint, people = answers_of(3)
    good, bad = experts_of(1, joint, [2.0, 2.0], 3.0), experts_of(2, joint, [-1.0, -1.0])
    make_run(home / "good", joint, people, good, good)
    make_run(home / "bad", joint, people, bad, bad)
    ids = sample_ids(len(joint))
    write_table(home / "answers.csv", "ans", ids, joint)
    write_table(home / "people.csv", "person", ids, people)
    return home


def test_temperatures_of_a_run_out_of_fold(world: Path, tmp_path: Path) -> None:
    file = tmp_path / "fitted.json"
    told = ens("temperature", world / "good", "--on", "experts", "-o", file)
    assert "fitted on 120 photos: training photos, out of fold" in told
    assert "note: fitted on single checkpoints out of fold" in told
    assert f"next: ens combine {world / 'good'} --fitted {file}" in told
    items = load_fitted(file)
    assert [item.where for item in items] == [expert.describe() for expert in Run.open(world / "good").out_of_fold()]
    joint, _ = answers_of(3)
    true = SCHEMA.decode(joint)
    for item, expert in zip(items, Run.open(world / "good").out_of_fold(), strict=True):
        rows = np.flatnonzero(np.isin(true["mask"], [STATES.index(c) for c in expert.condition.get("mask", STATES)]))
        assert item.value.n_samples == len(rows)
        assert item.value.value > 1.1  # they were made too sure
        truth = true[expert.names[0]][rows]
        assert nll(item.value(expert.probs[0][rows]), truth) < nll(expert.probs[0][rows], truth)


def test_a_temperature_of_the_joint_on_answers(world: Path, tmp_path: Path) -> None:
    shown = ens("temperature", world / "good", "--answers", world / "answers.csv", "-o", tmp_path / "t.json", "--json")
    found = json.loads(shown)
    (item,) = load_fitted(tmp_path / "t.json")
    assert found["items"] == [{"kind": "temperature", "where": "joint", "value": item.value.to_json()}]
    joint, _ = answers_of(3)
    experts = experts_of(1, joint, [2.0, 2.0], 3.0)
    probs = ConditionalEnsemble(SCHEMA, FACE_GRAPH, experts).combine().joint.probs[0]
    assert item.value.nll_before == pytest.approx(nll(probs, joint), rel=1e-4)
    assert item.value.value == pytest.approx(fit_temperature(probs, joint).value, rel=1e-4)
    ens("temperature", world / "good", "--answers", world / "answers.csv", "--route", "hard", "-o", tmp_path / "t.json")
    hard = load_fitted(tmp_path / "t.json")[0].value
    assert hard.n_impossible > 0  # photos whose mask was told wrong


@pytest.mark.parametrize(("how", "voted"), [("--vote geometric", "geometric"), ("--vote-at joint", None)])
def test_experts_temperatures_are_of_what_combine_will_adjust(
    world: Path, tmp_path: Path, how: str, voted: str | None
) -> None:
    file = tmp_path / "t.json"
    answers = ("--answers", world / "answers.csv")
    ens("temperature", world / "good", *answers, "--on", "experts", *how.split(), "-o", file)
    joint, _ = answers_of(3)
    probs = experts_of(1, joint, [2.0, 2.0], 3.0)[0].probs
    truth = SCHEMA.decode(joint)["mask"]
    asked = VOTES[voted](probs, np.ones(2)) if voted else np.concatenate(list(probs))
    expected = fit_temperature(asked, truth if voted else np.tile(truth, 2))
    item = next(item for item in load_fitted(file) if item.where == "mask")
    assert item.value.value == pytest.approx(expected.value, rel=1e-4)


def test_runs_are_weighed_out_of_fold_and_their_folds_share_the_weight(world: Path, tmp_path: Path) -> None:
    file = tmp_path / "fitted.json"
    told = ens("weights", world / "good", world / "bad", "--on", "experts", "--rounds", 3, "-o", file)
    assert str(world / "good") in told
    items = load_fitted(file)
    assert len(items) == 5
    for item in items:
        own = item.value.weights
        assert set(own) == {"fold0", "fold1", "set1:fold0", "set1:fold1"}
        assert own["fold0"] == own["fold1"] > own["set1:fold0"] == own["set1:fold1"]
    ens("weights", world / "good", world / "bad", "--on", "experts", "--rounds", 0, "-o", file)
    assert [sum(item.value.weights.values()) for item in load_fitted(file)] == [1.0] * 5  # one vote, by two folds
    ens("weights", world / "good", world / "bad", "--rounds", 2, "-o", file)
    (item,) = load_fitted(file)
    assert item.where == "joint"
    assert all(own["set1:fold1"] < own["fold1"] for own in item.value.weights.values())


def test_weights_of_predicted_photos_with_answers(world: Path, tmp_path: Path) -> None:
    file = tmp_path / "fitted.json"
    sets = [world / name / "predictions" / "eval" for name in ("good", "bad")]
    told = ens("weights", *sets, "--answers", world / "answers.csv", "--rounds", 2, "-o", file)
    assert "of 40 people" in told
    assert "The selection " in told
    joint, _ = answers_of(3)
    both = [
        Predictions(
            a.attributes, [*a.layers, *b.layers], a.ids, a.condition, a.classes,
            ["fold0", "fold1", "set1:fold0", "set1:fold1"],
        )
        for a, b in zip(experts_of(1, joint, [2.0, 2.0], 3.0), experts_of(2, joint, [-1.0, -1.0]), strict=True)
    ]  # fmt: skip
    ensemble = ConditionalEnsemble(SCHEMA, FACE_GRAPH, both)
    for where, route in (("expert", "soft"), ("joint", "hard")):
        options = ("--answers", world / "answers.csv", "--rounds", 2, "--vote-at", where, "--route", route)
        told = ens("weights", *sets, *options, "-o", file)
        assert f'--route "{route}" --vote-at "{where}" --fitted {file}' in told
        (item,) = load_fitted(file)
        combined = ensemble.combine(route=route, vote_at=where, **as_combine_arguments([item]))  # type: ignore[arg-type]
        assert macro_f1(joint, combined.joint.labels(), 18) == pytest.approx(item.value.score)
        assert item.value.vote_at == where
    default = world / "good" / "results" / "weights.json"
    ens("weights", world / "good", "--answers", world / "answers.csv", "--rounds", 0)
    assert default.is_file()


@pytest.mark.parametrize(
    ("words", "kind", "message"),
    [
        (
            "weights {world}/good",
            DataError,
            "each photo is predicted by one fold only, so its voters cannot be weighed",
        ),
        ("weihgts {world}/good", UsageError, 'ens fit: cannot fit "weihgts"; did you mean "weights"?'),
        ("weights {world}", DataError, "expected a run (run.json) or saved predictions"),
        ("weights {world}/good/predictions/eval", DataError, "pass --answers FILE"),
        ("weights {world}/good --answers {world}/none.csv", DataError, "none.csv"),
        ("weights {world}/good --answers {world}/answers.csv --name train", DataError, "are not predicted yet"),
        ("weights {world}/good {world}/bad --metric macrof1", UsageError, 'did you mean "macro_f1"'),
        ("weights {world}/good {world}/bad --on expert", UsageError, '--on "expert"; did you mean "experts"?'),
        ("temperature {world}/good --metric brier", UsageError, "--metric is of weights"),
        (
            "temperature {world}/good --folds 3",
            UsageError,
            "--folds is of weights, stacking, borders; temperature has no use",
        ),
        ("temperature {world}/good --on joint --on experts", UsageError, "found 2 places; name one"),
        ("temperature {world}/good --reference {world}/bad", UsageError, "--reference is of shift"),
        ("weights {world}/good {world}/bad --fitted {world}/answers.csv", DataError, "not readable as JSON"),
        ("temperature {world}/nothing", DataError, "found neither"),
        ("temperature {world}/good --route hrd", UsageError, 'no route "hrd"; did you mean "hard"?'),
        ("temperature {world}/good --vote-at experts", UsageError, "vote_at"),
    ],
)
def test_bad_commands_are_named(
    world: Path, tmp_path: Path, words: str, kind: type[EnsembleKitError], message: str
) -> None:
    with pytest.raises(kind, match=re.escape(message)):
        ens(*words.format(world=world).split(), "-o", tmp_path / "x.json")
    assert not (tmp_path / "x.json").exists()
