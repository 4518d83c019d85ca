"""`[vote]` in a recipe: who votes, what comes out, and how it is scored."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from core_oracles import face_schema
from fit_cases import make_run
from sklearn.metrics import accuracy_score, f1_score
from tiny_training import draw_table
from typer.testing import CliRunner

import ensemble_kit as ek
from ensemble_kit.cli import app
from ensemble_kit.errors import DataError, UsageError
from ensemble_kit.files import read_json
from ensemble_kit.recipe.load import load_recipe
from ensemble_kit.recipe.run import Silent
from ensemble_kit.recipe.votes import Member, members_of, vote_members
from ensemble_kit.submission import read_submission

SCHEMA = face_schema()
N_PEOPLE = 40


def world() -> tuple[Any, list[str], list[str]]:
    rng = np.random.default_rng(0)
    joint = np.array([m * 6 + rng.integers(6) for _ in range(N_PEOPLE) for m in range(3)])
    return (
        joint,
        [f"p{person}" for person in range(N_PEOPLE) for _ in range(3)],
        [f"{i}.jpg" for i in range(len(joint))],
    )


def run_of(folder: Path, seed: int, submission: bool = True) -> tuple[Path, list[int]]:
    """A run whose attributes lean to the truth, with its answers as a submission; and these answers."""
    joint, people, ids = world()
    rng = np.random.default_rng(seed)
    experts = []
    for attribute in SCHEMA.attributes:
        true = SCHEMA.decode(joint)[attribute.name]
        logits = rng.normal(size=(len(ids), len(attribute.classes)))
        logits += 2 * (np.arange(len(attribute.classes)) == true[:, None])
        probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        experts.append(ek.Predictions(attribute, [probs, probs], ids))
    make_run(folder, joint, people, experts, experts)
    said = ek.ConditionalEnsemble(SCHEMA, ek.Graph.independent(SCHEMA), experts).combine(route="hard").labels()
    if submission:
        ek.write_submission(folder / "results" / "submission.csv", (ids, said), schema=SCHEMA)
    return folder, said.tolist()


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], list[list[int]]]:
    root = tmp_path_factory.mktemp("runs")
    made = [run_of(root / name, seed) for seed, name in enumerate(("a", "b", "c"))]
    return [folder for folder, _ in made], [said for _, said in made]


def majority(answers: list[list[int]]) -> list[int]:
    """Photo by photo; ties to the class with more training photos, then to the lowest number."""
    counts = Counter(world()[0].tolist())
    found = []
    for column in zip(*answers, strict=True):
        votes = Counter(column)
        found.append(min(votes, key=lambda k: (-votes[k], -counts[k], k)))
    return found


def recipe_of(*names: str, **more: Any) -> Any:
    edits = [f"vote.of={list(names)}".replace("'", '"'), *(f"vote.{key}={value}" for key, value in more.items())]
    return load_recipe("final-vote", edits)


def test_the_class_that_most_say_and_its_scores(three: tuple[list[Path], list[list[int]]], tmp_path: Path) -> None:
    folders, answers = three
    recipe = recipe_of(*map(str, folders))
    voted = vote_members(recipe, {p.name: p for p in folders}, None, tmp_path, Silent())
    expected, (joint, _, ids) = majority(answers), world()
    assert voted.submission == tmp_path / "results" / "submission.csv"
    found_ids, labels = read_submission(voted.submission, SCHEMA)
    assert (found_ids.tolist(), labels.tolist()) == (ids, expected)
    for name, said in [*zip("abc", answers, strict=True), ("vote", expected)]:
        assert voted.scores[name].accuracy == pytest.approx(accuracy_score(joint, said))
        macro = f1_score(joint, said, labels=range(18), average="macro", zero_division=0)
        assert voted.scores[name].macro_f1 == pytest.approx(macro)
    gains = {(gain.against, gain.metric): gain for gain in voted.gains}
    assert len(gains) == 6
    assert gains["a", "accuracy"].value == pytest.approx(voted.scores["vote"].accuracy - voted.scores["a"].accuracy)
    assert all(gain.interval[0] <= gain.value <= gain.interval[1] for gain in voted.gains)
    assert read_json(tmp_path / "results" / "vote.json")["members"] == ["a", "b", "c"]
    assert "vote minus a: joint macro F1" in voted.text()


def test_weights_and_attributes(three: tuple[list[Path], list[list[int]]], tmp_path: Path) -> None:
    folders, answers = three
    places = {p.name: p for p in folders}
    only_b = recipe_of(*map(str, folders), weights=[0, 1, 0])
    said = vote_members(only_b, places, None, tmp_path, Silent()).submission
    assert said is not None
    assert read_submission(said, SCHEMA)[1].tolist() == answers[1]
    apart = recipe_of(*map(str, folders), by="attribute")
    vote_members(apart, places, None, tmp_path, Silent())
    parts = [SCHEMA.decode(np.array(own)) for own in answers]
    genders = np.array([max(set(c), key=c.count) for c in zip(*(p["gender"].tolist() for p in parts), strict=True)])
    assert (SCHEMA.decode(read_submission(said, SCHEMA)[1])["gender"] == genders).all()


def test_answer_files_vote_beside_runs(three: tuple[list[Path], list[list[int]]], tmp_path: Path) -> None:
    folders, answers = three
    files = [folder / "results" / "submission.csv" for folder in folders]
    names = [str(files[0]), str(folders[1]), str(files[2])]
    done = CliRunner().invoke(
        app, ["run", "final-vote", "--set", f"vote.of={names}".replace("'", '"'), "--run", str(tmp_path / "final")]
    )
    assert done.exit_code == 0, done.output
    assert "not scored out of fold" in done.output
    assert read_submission(tmp_path / "final" / "results" / "submission.csv", SCHEMA)[1].tolist() == majority(answers)


def test_runs_without_answers_are_scored_out_of_fold_alone(tmp_path: Path) -> None:
    places = {name: run_of(tmp_path / name, seed, submission=False)[0] for seed, name in enumerate("ab")}
    voted = vote_members(recipe_of(*map(str, places.values())), places, None, tmp_path / "out", Silent())
    assert voted.submission is None
    assert set(voted.scores) == {"a", "b", "vote"}
    assert any("no answers to evaluation photos" in note for note in voted.notes)
    with pytest.raises(DataError, match=r"nothing\.csv"):
        vote_members(recipe_of("x.csv", "y.csv"), {"x": tmp_path / "nothing.csv"}, None, tmp_path, Silent())


def test_members_are_variants_recipes_runs_and_files(three: tuple[list[Path], list[list[int]]]) -> None:
    gray = members_of(load_recipe("gray-crop"), ["train.epochs=2", "vote.by=attribute"])
    assert [one.told for one in gray] == ["gray_crop-half", "gray_crop-most", "gray_crop-always"]
    assert all(one.recipe is not None and one.recipe.train["epochs"] == 2 for one in gray)
    assert all(one.recipe is not None and one.recipe.vote.of == () for one in gray)
    final = members_of(load_recipe("final-vote"))
    assert [one.told for one in final] == [
        "three_models", "age_by_mask-three_way", "gender_age_first-resnet18", "adam_then_sgd-adam_alone", "losses-focal"
    ]  # fmt: skip
    mixed = members_of(recipe_of("mine.csv", str(three[0][0]), "losses:focal"))
    assert mixed[:2] == [Member("mine.csv", None, Path("mine.csv")), Member(str(three[0][0]), None, three[0][0])]


@pytest.mark.parametrize(
    ("names", "more", "message"),
    [
        (("losses:focal", "nowhere"), {}, '"nowhere" is no variant, recipe, run folder or .csv file'),
        (("losses:focal", "three-modles"), {}, 'did you mean "three_models"'),
        (("losses:focal", "losses:focl"), {}, 'no variant "focl"; did you mean "focal"'),
        (("losses:focal", "losses:focal"), {}, "stands twice and would count twice"),
        (("losses:focal",), {}, "expected at least two that vote, found 1"),
        (("a.csv", "b.csv"), {"weights": [1]}, "expected one for each of 2, found 1"),
        (("a.csv", "gray-crop"), {}, "is a vote itself; name one of its variants"),
    ],
)
def test_bad_members(names: tuple[str, ...], more: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        members_of(recipe_of(*names, **more))


def test_a_dry_run_plans_those_that_vote(tmp_path: Path) -> None:
    table = draw_table(tmp_path / "photos")
    table.frame.to_csv(tmp_path / "photos" / "samples.csv", index=False)
    small = ["--data", str(tmp_path / "photos"), "--size", "16", "--weights", "none", "--folds", "2", "--fixes", "none"]
    edits = ["--set", "train.backbone=resnet18", "--set", 'vote.of=["half","always"]', "--run", str(tmp_path / "r")]
    done = CliRunner().invoke(app, ["run", "gray-crop", *small, *edits, "--dry-run"])
    assert done.exit_code == 0, done.output
    plain = " ".join(done.output.split())
    assert [f"r-{name} (a plan" in plain for name in ("half", "most", "always")] == [True, False, True]
    assert not list(tmp_path.glob("r*"))
