"""`ens fit shift` and `ens fit stacking` against worlds whose shift, and whose best vote, are known."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from core_oracles import FACE_GRAPH, face_schema
from fit_cases import ens_fit, make_run, write_table
from shift_cases import SHIFTS, TRAINING_AGES, World

from ensemble_kit.arrays import FloatArray, IntArray
from ensemble_kit.calibration import Temperature, fit_temperature
from ensemble_kit.ensemble import ConditionalEnsemble
from ensemble_kit.errors import DataError, EnsembleKitError, UsageError
from ensemble_kit.files import write_json
from ensemble_kit.fitted import Fitted, as_combine_arguments, load_fitted, save_fitted, votes_with
from ensemble_kit.metrics import accuracy, macro_f1
from ensemble_kit.predictions import Predictions, load_predictions, save_predictions
from ensemble_kit.recipe.chains import Chains
from ensemble_kit.runs import Run
from ensemble_kit.shift import PriorShift, fit_shift_for
from ensemble_kit.stacking import fit_stacking
from ensemble_kit.submission import read_submission

SCHEMA = face_schema()
MASKS = SCHEMA["mask"].classes
VOTERS = ("fold0", "fold1")
AGES = [f"age given mask={state}" for state in MASKS]
COMBINE = {"fallback": "refuse", "route": "soft", "vote": "soft", "vote_at": "expert"}


def photos(seed: int, n_people: int, ages: tuple[float, float, float]) -> tuple[list[Predictions], IntArray, list[str]]:
    """Experts whose logits are those of three Bayes classifiers of the training shares, true joint classes, people."""
    random, world = np.random.default_rng(seed), World(("age",), sharpness=1.0)
    age_probs, age, person = world.photos(random, n_people, ages)
    probs: dict[str, FloatArray] = {"age": age_probs}
    true: dict[str, IntArray] = {"age": age}
    for name in ("mask", "gender"):
        probs[name], true[name], _ = World((name,), sharpness=1.0).photos(random, n_people, ages)
    ids = [f"{seed}-{row:05d}.jpg" for row in range(len(age))]
    experts = []
    for name, condition in [("mask", {}), ("gender", {}), *(("age", {"mask": state}) for state in MASKS)]:
        logits = np.log(probs[name]) + random.normal(scale=0.3, size=(len(VOTERS), *probs[name].shape))
        raised = np.exp(logits - logits.max(axis=2, keepdims=True))
        layers = list(raised / raised.sum(axis=2, keepdims=True))
        experts.append(Predictions(SCHEMA[name], layers, ids, condition, voters=VOTERS))
    return experts, SCHEMA.encode(true), [f"p{number}" for number in person]


class Made:
    """A run on 300 people, and 200 new people of whom `ages` are so old."""

    def __init__(self, home: Path, ages: tuple[float, float, float]):
        self.known, self.joint, self.people = photos(1, 300, TRAINING_AGES)
        self.new, self.hidden, self.new_people = photos(2, 200, ages)
        self.run = make_run(home / "run", self.joint, self.people, self.known, self.new)
        save_predictions(home / "known", self.known, SCHEMA)
        self.known_set, self.new_set = home / "known", self.run / "predictions" / "eval"
        self.answers, self.persons = home / "answers.csv", home / "persons.csv"
        write_table(self.answers, "ans", self.known[0].ids, self.joint)
        write_table(self.persons, "person", self.new[0].ids, self.new_people)
        write_table(home / "people.csv", "person", self.known[0].ids, self.people)

    def labels(self, out: Path, *words: object) -> IntArray:
        ens_fit(self.new_set, "--out", out, "--route", "soft", *words, command="combine")
        return np.asarray(read_submission(out / "submission.csv", SCHEMA)[1])


@pytest.fixture(scope="module")
def older(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return Made(tmp_path_factory.mktemp("older"), SHIFTS["large"])


@pytest.fixture(scope="module")
def same(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return Made(tmp_path_factory.mktemp("same"), TRAINING_AGES)


def shifts(file: Path) -> dict[str, PriorShift]:
    return {item.where: item.value for item in load_fitted(file)}


def test_a_shift_of_the_ages_is_found_and_its_correction_helps(older: Made, tmp_path: Path) -> None:
    file = tmp_path / "shift.json"
    told = ens_fit("shift", older.run, "--people", older.persons, "-o", file)
    found = shifts(file)
    assert list(found) == ["mask", "gender", *AGES]
    assert len({repr(found[name]) for name in AGES}) == 1
    age = found[AGES[0]]
    assert age.applied
    assert not found["mask"].applied
    assert not found["gender"].applied
    true = np.bincount(SCHEMA.decode(older.hidden)["age"]) / len(older.hidden)
    assert all(low < share < high for low, share, high in zip(age.low, true, age.high, strict=True))
    assert age.low[2] > 1.5 * TRAINING_AGES[2]
    assert (age.n_photos, age.n_people) == (1400, 200)
    assert (age.n_reference_photos, age.n_reference_people) == (2100, 300)
    assert f"compared with 1400 photos of {older.new_set}" in " ".join(told.split())
    assert "; ".join(AGES) + ":\n  class  training" in told
    assert "\n  applied: a shift is established" in told
    assert f"next: ens combine {older.run} --fitted {file}" in told
    assert "not known" not in told
    plain, corrected = older.labels(tmp_path / "a"), older.labels(tmp_path / "b", "--fitted", file)
    assert accuracy(older.hidden, corrected, 18) > accuracy(older.hidden, plain, 18) + 0.01
    assert macro_f1(older.hidden, corrected, 18) > macro_f1(older.hidden, plain, 18) + 0.03


def test_without_a_shift_the_submission_stays_to_the_byte(same: Made, tmp_path: Path) -> None:
    file = tmp_path / "shift.json"
    told = ens_fit("shift", same.run, "--people", same.persons, "-o", file)
    assert not any(shift.applied for shift in shifts(file).values())
    assert "note: no correction is applied, so the fitted file changes nothing" in told
    same.labels(tmp_path / "a")
    same.labels(tmp_path / "b", "--fitted", file)
    assert (tmp_path / "a" / "submission.csv").read_bytes() == (tmp_path / "b" / "submission.csv").read_bytes()


def test_a_root_s_shift_is_that_of_its_saved_predictions(older: Made, tmp_path: Path) -> None:
    file = tmp_path / "shift.json"
    ens_fit("shift", older.run, "--people", older.persons, "--on", "gender", "-o", file)
    (found,) = shifts(file).values()
    fold = np.array([int(person[1:]) % 2 for person in older.people])
    expert = older.known[1]
    held_out = np.where((fold == 0)[:, None], *expert.layers).astype(np.float32)
    oof = Predictions(SCHEMA["gender"], held_out, expert.ids)
    new = load_predictions(older.new_set)[1]
    true = SCHEMA.decode(older.joint)["gender"]
    wanted = fit_shift_for(new, oof, true, groups=older.new_people, oof_groups=older.people)
    for name in ("training_prior", "prior", "low", "high"):
        assert getattr(found, name) == pytest.approx(getattr(wanted, name), abs=1e-6)
    assert found.reason == wanted.reason


def test_experts_are_asked_by_each_voter_s_own_predicted_condition(older: Made) -> None:
    chains = Chains.of(older.known, SCHEMA, FACE_GRAPH, COMBINE, {AGES[2]: Temperature(2.0)})
    age = FACE_GRAPH.nodes[-1]
    together = chains.at(age)
    assert together.voters == VOTERS
    for voter in range(2):
        told = older.known[0].layers[voter].argmax(axis=1)
        for state, expert in enumerate(older.known[2:]):
            own = expert.layers[voter]
            wanted = Temperature(2.0)(own) if state == 2 else own
            np.testing.assert_allclose(together.layers[voter][told == state], wanted[told == state], atol=1e-12)
            alone = chains.at(age, AGES[state]).layers[voter]
            np.testing.assert_array_equal(np.isnan(alone[:, 0]), told != state)
            np.testing.assert_allclose(alone[told == state], wanted[told == state], atol=1e-12)


def test_each_expert_by_itself_and_the_joint(older: Made, tmp_path: Path) -> None:
    file = tmp_path / "shift.json"
    told = ens_fit("shift", older.run, "--people", older.persons, "--on", "experts", "-o", file)
    found = shifts(file)
    assert list(found) == ["mask", "gender", *AGES]
    assert found[AGES[0]].n_photos > found[AGES[1]].n_photos
    assert sum(found[name].n_reference_photos for name in AGES) == 2100  # one voter, so each photo asks one expert
    assert found[AGES[0]].applied
    told = ens_fit("shift", older.run, "--people", older.persons, "--on", "joint", "-o", file)
    (joint,) = load_fitted(file)
    assert (joint.where, len(joint.value.names)) == ("joint", 18)
    assert joint.value.refused  # too few of the rarest classes: nothing happens, and it says so
    assert "refused: expected at least 10 reference people of each class, found" in told
    np.testing.assert_array_equal(older.labels(tmp_path / "a"), older.labels(tmp_path / "b", "--fitted", file))


def test_saved_sets_are_compared_with_a_labelled_set(older: Made, tmp_path: Path) -> None:
    file = tmp_path / "shift.json"
    reference = ("--reference", older.known_set, "--answers", older.answers)
    told = ens_fit("shift", older.new_set, *reference, "--people", older.persons, "--on", "age", "-o", file)
    found = shifts(file)
    assert list(found) == AGES
    assert found[AGES[0]].applied
    assert f"next: ens combine {older.new_set} --fitted {file}" in told
    told = ens_fit("shift", older.new_set, "--reference", older.run, "--on", "age", "-o", file)
    assert "note: the people on the unlabelled photos are not known, so each photo counts as one" in " ".join(
        told.split()
    )
    assert shifts(file)[AGES[0]].n_people == 1400
    assert shifts(file)[AGES[0]].n_reference_people == 2100


def test_a_shift_is_fitted_on_what_a_temperature_leaves_and_both_are_applied(older: Made, tmp_path: Path) -> None:
    first, second, plain = (tmp_path / f"{name}.json" for name in ("t", "shift", "plain"))
    save_fitted(first, [Fitted("temperature", name, Temperature(1.6)) for name in ("age", "joint")])
    words = ("shift", older.run, "--people", older.persons, "--on", "age", "-o")
    ens_fit(*words, plain)
    told = ens_fit(*words, second, "--fitted", first)
    assert f"--fitted {first} --fitted {second}" in told
    warm, cold = shifts(second)[AGES[0]], shifts(plain)[AGES[0]]
    assert warm.gains != cold.gains
    combined = as_combine_arguments([*load_fitted(first), *load_fitted(second)])
    probs = np.random.default_rng(0).dirichlet([1, 1, 1], size=5)
    np.testing.assert_array_equal(combined["adjust"][AGES[1]](probs), warm(Temperature(1.6)(probs)))
    with pytest.raises(UsageError, match="holds a shift already; two would correct twice"):
        ens_fit(*words, tmp_path / "x.json", "--fitted", second)


@pytest.mark.parametrize(
    ("words", "kind", "message"),
    [
        ("shift {new}", DataError, "add --reference SET --answers FILE (labelled photos), or --reference RUN"),
        ("shift {new} --reference {known}", DataError, "no answers to these photos; pass --answers FILE"),
        ("shift {run} --answers {answers}", UsageError, "--answers are of the photos of --reference"),
        ("shift {run} --on aeg", UsageError, '--on "aeg" is no node and no expert; did you mean "age"?'),
        ("shift {run} --on joint --on age", UsageError, "the joint has its parts' shift already"),
        ("shift {run} --rounds 3", UsageError, "--rounds is of weights; shift has no use for it"),
        ("shift {run} --metric macrof1", UsageError, 'did you mean "macro_f1"'),
        ("shift {run} --name train", DataError, "are not predicted yet"),
        ("shift {run} --people {answers}", DataError, "person"),
        ("shift {run} --people {none}", DataError, "none.csv"),
        ("shift {run} --fitted {none}", DataError, "none.csv"),
        ("stacking {run}", DataError, "out of fold each photo is predicted by one fold only, so there are no voters"),
        ("stacking {known}", DataError, "pass --answers FILE"),
        ("stacking {known} --answers {answers} --on joint", UsageError, "nothing votes there; add --vote-at joint"),
        ("stacking {known} --answers {answers} --on age", UsageError, '--on "age"'),
        ("stacking {known} --answers {answers} --metric macrof1", UsageError, 'did you mean "macro_f1"'),
        ("stacking {known} --answers {answers} --folds 9999", DataError, "9999"),
        ("stacking {known} --answers {answers} --bags 1", UsageError, "--bags is of weights; stacking has no use"),
    ],
)
def test_bad_commands_are_one_line(
    older: Made, tmp_path: Path, words: str, kind: type[EnsembleKitError], message: str
) -> None:
    places = {"new": older.new_set, "known": older.known_set, "run": older.run, "answers": older.answers}
    with pytest.raises(kind, match=re.escape(message)) as caught:
        ens_fit(*words.format(**places, none=tmp_path / "none.csv").split(), "-o", tmp_path / "x.json")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "x.json").exists()


def test_predictions_older_than_their_checkpoints_are_refused(same: Made, tmp_path: Path) -> None:
    done = same.run / "experts" / "gender" / "fold1" / "DONE"
    before = done.read_text()
    write_json(done, {"fold": 1, "best_sha256": "another"})
    try:
        with pytest.raises(DataError, match='older than the checkpoints of the run; run "ens predict'):
            ens_fit("shift", same.run, "-o", tmp_path / "x.json")
    finally:
        done.write_text(before)


def test_voters_that_no_two_experts_share_are_named(older: Made) -> None:
    other = [e.select_voters(["fold0" if e.names == ("mask",) else "fold1"]) for e in older.known]
    with pytest.raises(DataError, match="no voter has predicted every expert"):
        Chains.of(other, SCHEMA, FACE_GRAPH, COMBINE)


# --- stacking --------------------------------------------------------------------------------------------------------


def few(seed: int, n_people: int) -> tuple[list[Predictions], IntArray, list[str]]:
    """One photo of each mask state a person, every class as frequent: what a learnt vote takes long over is rows."""
    experts, joint, people = photos(seed, n_people, (1 / 3, 1 / 3, 1 / 3))
    rows = np.flatnonzero(np.arange(len(joint)) % 7 >= 4)
    return [expert.select(rows) for expert in experts], joint[rows], [people[row] for row in rows]


def one_voter_lies(experts: list[Predictions]) -> list[Predictions]:
    """fold1 says of the classes of age, each time, those of another: worth as much as the truth, if it is known."""
    return [
        Predictions(
            expert.attributes,
            [expert.layers[0] * 0 + 1 / expert.layers[0].shape[1], np.roll(expert.layers[1], 1, axis=1)],
            expert.ids,
            expert.condition,
            voters=VOTERS,
        )
        if expert.names == ("age",)
        else expert
        for expert in experts
    ]


@pytest.fixture(scope="module")
def liars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("liars")
    for name, seed in (("known", 11), ("new", 12)):
        experts, joint, people = few(seed, 40)
        save_predictions(home / name, one_voter_lies(experts), SCHEMA)
        write_table(home / f"{name}.csv", "ans", experts[0].ids, joint)
        write_table(home / f"{name}-people.csv", "person", experts[0].ids, people)
    return home


@pytest.mark.parametrize("vote_at", ["expert", "joint"])
def test_a_stacked_vote_is_applied_where_it_was_fitted(liars: Path, tmp_path: Path, vote_at: str) -> None:
    file = tmp_path / "stacking.json"
    where = (
        "--answers",
        liars / "known.csv",
        "--people",
        liars / "known-people.csv",
        "--vote-at",
        vote_at,
        "--folds",
        2,
    )
    told = ens_fit("stacking", liars / "known", *where, "--route", "soft", "--metric", "accuracy", "-o", file)
    items = load_fitted(file)
    assert [item.where for item in items] == (["mask", "gender", *AGES] if vote_at == "expert" else ["joint"])
    assert "Stacking beats the soft vote" in told
    others = "geometric" if vote_at == "expert" else "soft"
    words = ("--route", "soft", "--vote-at", vote_at, "--vote", others)
    ens_fit(liars / "new", *words, "--out", tmp_path / "plain", command="combine")
    ens_fit(liars / "new", *words, "--out", tmp_path / "out", "--fitted", file, command="combine")
    ids, true = read_submission(liars / "new.csv", SCHEMA)
    ours, plain = (read_submission(tmp_path / name / "submission.csv", SCHEMA)[1] for name in ("out", "plain"))
    assert accuracy(true, ours, 18) > accuracy(true, plain, 18) + 0.15
    ensemble = ConditionalEnsemble(SCHEMA, FACE_GRAPH, load_predictions(liars / "new"))
    by_hand = ensemble.combine(vote_at=vote_at, vote={item.where: item.value for item in items})  # type: ignore[arg-type]
    np.testing.assert_array_equal(ours, by_hand.labels())
    assert len(ids) == len(ours)


def test_the_rule_asked_for_holds_where_nothing_was_fitted(liars: Path, tmp_path: Path) -> None:
    experts = load_predictions(liars / "known")
    joint = read_submission(liars / "known.csv", SCHEMA)[1]
    stacking = fit_stacking(experts[1], SCHEMA.decode(joint)["gender"], None, c=0.1, measure=False)
    save_fitted(tmp_path / "s.json", [Fitted.of(stacking)])
    words = ("--route", "soft", "--vote", "geometric", "--fitted", tmp_path / "s.json", "--out", tmp_path)
    ens_fit(liars / "new", *words, command="combine")
    (found,) = load_predictions(tmp_path / "joint")
    ensemble = ConditionalEnsemble(SCHEMA, FACE_GRAPH, load_predictions(liars / "new"))
    by_hand = ensemble.combine(vote={"mask": "geometric", "age": "geometric", "gender": stacking})
    np.testing.assert_array_equal(found.probs, by_hand.joint.probs)
    assert votes_with({}, "soft", "expert", ["a"]) == "soft"
    assert votes_with({"joint": stacking}, "hard", "joint", ["a"]) == {"joint": stacking}
    assert votes_with({"a": 1}, {"b": 2}, "expert", ["a", "b"]) == {"a": 1, "b": 2}


@pytest.mark.parametrize("by_place", [True, False])
@pytest.mark.parametrize("vote_at", ["expert", "joint"])
def test_a_stacked_vote_of_other_voters_is_refused(older: Made, vote_at: str, by_place: bool) -> None:
    renamed = [Predictions(e.attributes, list(e.layers), e.ids, e.condition, voters=["a", "b"]) for e in older.known]
    stacking = fit_stacking(renamed[0], SCHEMA.decode(older.joint)["mask"], None, c=0.1, measure=False)
    ensemble = ConditionalEnsemble(SCHEMA, FACE_GRAPH, older.known)
    vote: Any = {"joint" if vote_at == "joint" else "mask": stacking} if by_place else stacking
    with pytest.raises(UsageError, match="fitted for the voters a, b, found fold0, fold1"):
        ensemble.combine(vote=vote, vote_at=vote_at)  # type: ignore[arg-type]
    turned = Predictions(SCHEMA["mask"], list(older.known[0].layers), older.known[0].ids, classes=MASKS[::-1])
    other = fit_stacking(turned, SCHEMA.decode(older.joint)["mask"], None, c=0.1, measure=False, voters=None)
    again = Predictions(SCHEMA["mask"], list(older.known[0].layers), older.known[0].ids)
    ensemble = ConditionalEnsemble(SCHEMA, FACE_GRAPH, [again, *older.known[1:]])
    if vote_at == "expert" and by_place:
        with pytest.raises(UsageError, match="fitted for the classes not_worn, incorrect, worn, found worn"):
            ensemble.combine(vote={"mask": other})


def test_runs_are_stacked_out_of_fold_and_their_folds_share_the_coefficients(tmp_path: Path) -> None:
    runs = []
    for name in ("a", "b"):
        experts, joint, people = few(21, 30)
        if name == "b":
            experts = [
                Predictions(
                    e.attributes,
                    [np.random.default_rng(v).dirichlet([1] * len(e.classes), e.n_samples) for v in range(2)],
                    e.ids,
                    e.condition,
                    voters=VOTERS,
                )
                for e in experts
            ]
        runs.append(make_run(tmp_path / name, joint, people, experts, experts))
    file = tmp_path / "stacking.json"
    told = ens_fit("stacking", *runs, "--folds", 2, "-o", file)
    assert "note: fitted on single checkpoints out of fold" in told
    for item in load_fitted(file):
        assert item.value.voters == ("fold0", "fold1", "set1:fold0", "set1:fold1")
        size = np.abs(item.value.coefficients).sum(axis=(1, 2))
        assert size[0] == size[1] > size[2] == size[3] > 0
    held_out = [Run.open(run).out_of_fold()[0].layers[0] for run in runs]
    true = SCHEMA.decode(joint)["mask"]
    alone = fit_stacking(held_out, true, people, voters=["a", "b"], measure=False)
    halves = load_fitted(file)[0].value.coefficients
    np.testing.assert_allclose(halves[0] + halves[1], alone.coefficients[0], atol=1e-6)
    ens_fit(
        *(run / "predictions" / "eval" for run in runs), "--fitted", file, "--out", tmp_path / "out", command="combine"
    )
    assert (tmp_path / "out" / "submission.csv").is_file()


def test_a_temperature_of_the_joint_is_of_what_combine_will_produce(liars: Path, tmp_path: Path) -> None:
    stacking, temperature = tmp_path / "s.json", tmp_path / "t.json"
    where = ("--answers", liars / "known.csv", "--people", liars / "known-people.csv", "--route", "soft")
    ens_fit("stacking", liars / "known", *where, "--folds", 2, "-o", stacking)
    told = ens_fit("temperature", liars / "known", *where, "--fitted", stacking, "-o", temperature)
    assert f"--fitted {stacking} --fitted {temperature}" in told
    (item,) = load_fitted(temperature)
    ensemble = ConditionalEnsemble(SCHEMA, FACE_GRAPH, load_predictions(liars / "known"))
    probs = ensemble.combine(**as_combine_arguments(load_fitted(stacking))).joint.layers[0]
    true = read_submission(liars / "known.csv", SCHEMA)[1]
    assert item.value.nll_before == pytest.approx(-np.log(probs[np.arange(len(true)), true]).mean(), rel=1e-4)
    ens_fit("temperature", liars / "known", *where, "--fitted", stacking, "--on", "experts", "-o", temperature)
    vote, mask = load_fitted(stacking)[0].value, load_predictions(liars / "known")[0].probs
    own = fit_temperature(vote(mask, np.ones(2)), SCHEMA.decode(true)["mask"])
    assert load_fitted(temperature)[0].value.value == pytest.approx(own.value, rel=1e-6)
    temperature.unlink()
    ens_fit("temperature", liars / "known", *where, "-o", temperature)
    with pytest.raises(UsageError, match='two of kind "temperature" for "joint"'):
        ens_fit("temperature", liars / "known", *where, "--fitted", temperature, "-o", tmp_path / "x.json")
    assert not (tmp_path / "x.json").exists()
