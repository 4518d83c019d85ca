"""The generated faces: the tree, the people, sameness by seed, and where in a face an age can be read."""

from __future__ import annotations

import csv
import hashlib
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import cv2
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ensemble_kit.arrays import IntArray
from ensemble_kit.data.drawing.population import (
    STATES,
    TELLING,
    Cues,
    EvalLike,
    cue_ages,
    draw_people,
    head_counts,
    shares,
)
from ensemble_kit.data.drawing.portrait import draw_photo
from ensemble_kit.data.generated import generate_faces
from ensemble_kit.errors import DataError, EnsembleKitError, UsageError

Photos: TypeAlias = NDArray[np.uint8]
STEMS = ["incorrect_mask", "mask1", "mask2", "mask3", "mask4", "mask5", "normal"]
STATE_OF_PHOTO = ["worn"] * 5 + ["incorrect", "not_worn"]


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


def files(root: Path) -> dict[str, str]:
    """Every file below `root` with its hash."""
    found = [path for path in root.rglob("*") if path.is_file()]
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("generated") / "faces"
    counts = generate_faces(out, people=30, eval_people=5, size=(48, 36), seed=3)
    assert counts == {"train_people": 30, "train_photos": 210, "eval_people": 5, "eval_photos": 35}
    return out


def test_the_tree_is_the_tasks(tree: Path) -> None:
    assert sorted(p.name for p in tree.iterdir()) == ["eval", "train"]
    assert sorted(p.name for p in (tree / "train").iterdir()) == ["images", "train.csv"]
    assert sorted(p.name for p in (tree / "eval").iterdir()) == ["answers.csv", "images", "info.csv", "people.csv"]
    table = rows(tree / "train" / "train.csv")
    assert list(table[0]) == ["id", "gender", "race", "age", "path"]
    assert sorted(row["path"] for row in table) == sorted(p.name for p in (tree / "train" / "images").iterdir())
    for row in table:
        assert row["path"] == f"{row['id']}_{row['gender']}_{row['race']}_{row['age']}"
        assert re.fullmatch(r"\d{6}", row["id"])
        assert sorted(p.name for p in (tree / "train" / "images" / row["path"]).iterdir()) == [
            f"{s}.jpg" for s in STEMS
        ]
    assert len({row["id"] for row in table}) == 30


def test_genders_and_ages_are_in_range_and_every_cell_has_people(tree: Path) -> None:
    table = rows(tree / "train" / "train.csv")
    assert {row["gender"] for row in table} == {"male", "female"}
    assert all(18 <= int(row["age"]) <= 60 for row in table)
    cells = Counter((row["gender"], sum(int(row["age"]) >= border for border in (30, 60))) for row in table)
    assert len(cells) == 6
    assert min(cells.values()) >= 2


def test_the_evaluation_tables_agree(tree: Path) -> None:
    info, answers, people = (rows(tree / "eval" / f"{name}.csv") for name in ("info", "answers", "people"))
    names = [row["ImageID"] for row in info]
    assert all(re.fullmatch(r"[0-9a-f]{40}\.jpg", name) for name in names)
    assert sorted(names) == sorted(p.name for p in (tree / "eval" / "images").iterdir())
    assert names == [row["ImageID"] for row in answers] == [row["ImageID"] for row in people]
    assert {row["ans"] for row in info} == {"0"}
    assert all(0 <= int(row["ans"]) < 18 for row in answers)


def test_a_persons_seven_answers_share_gender_and_age(tree: Path) -> None:
    answer = {row["ImageID"]: int(row["ans"]) for row in rows(tree / "eval" / "answers.csv")}
    by_person: dict[str, list[int]] = {}
    for row in rows(tree / "eval" / "people.csv"):
        by_person.setdefault(row["person"], []).append(answer[row["ImageID"]])
    assert len(by_person) == 5
    for answers in by_person.values():
        assert Counter(value // 6 for value in answers) == {0: 5, 1: 1, 2: 1}
        assert len({value % 6 for value in answers}) == 1
    train_ids = {row["id"] for row in rows(tree / "train" / "train.csv")}
    assert not train_ids & set(by_person)


def test_the_answers_are_the_persons_own(tmp_path: Path) -> None:
    """The numbering worked out here from the drawn people, not by the schema."""
    generate_faces(tmp_path / "faces", people=2, eval_people=5, size=(16, 16), seed=9)
    people = draw_people(5, "training", (9, 1))
    expected = Counter(
        (f"{number:06d}", state * 6 + person.gender * 3 + (person.age >= 30) + (person.age >= 60))
        for number, person in enumerate(people, start=3)
        for state in [0, 0, 0, 0, 0, 1, 2]
    )
    answers, owners = (rows(tmp_path / "faces" / "eval" / f"{name}.csv") for name in ("answers", "people"))
    assert Counter((o["person"], int(a["ans"])) for a, o in zip(answers, owners, strict=True)) == expected


def test_the_seed_decides_every_byte(tmp_path: Path) -> None:
    for name, seed in (("first", 3), ("again", 3), ("other", 4)):
        generate_faces(tmp_path / name, people=2, eval_people=2, size=(32, 24), seed=seed)
    first, again, other = files(tmp_path / "first"), files(tmp_path / "again"), files(tmp_path / "other")
    assert again == first
    photos = {digest for name, digest in first.items() if name.endswith(".jpg")}
    assert len(photos) == 4 * 7
    assert not photos & set(other.values())


@pytest.mark.parametrize("size", [(64, 64), (64, 48), (40, 100), (100, 40), (300, 225), (512, 384)])
def test_photos_have_the_size_asked_for(tmp_path: Path, size: tuple[int, int]) -> None:
    generate_faces(tmp_path / "faces", people=1, eval_people=1, size=size)
    for path in (tmp_path / "faces").rglob("*.jpg"):
        photo = cv2.imread(str(path))
        assert photo is not None
        assert photo.shape == (*size, 3)
        assert photo.std() > 15


def test_the_default_size_and_number_of_evaluation_people(tmp_path: Path) -> None:
    generate_faces(tmp_path / "a", people=1, eval_people=1)
    photo = cv2.imread(str(next((tmp_path / "a").rglob("normal.jpg"))))
    assert photo is not None
    assert photo.shape == (512, 384, 3)

    def stop(_: int, total: int) -> None:
        raise InterruptedError(total // 7)

    for people, held in ((2, 12), (40, 13)):
        with pytest.raises(InterruptedError, match=str(people + held)):
            generate_faces(tmp_path / "b", people=people, size=(16, 16), progress=stop)


def test_progress_is_told_after_each_person(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    generate_faces(tmp_path / "a", people=2, eval_people=1, size=(16, 16), progress=lambda *n: told.append(n))
    assert told == [(7, 21), (14, 21), (21, 21)]


def test_a_folder_in_use_is_refused_and_an_empty_one_taken(tmp_path: Path) -> None:
    used, empty, file = tmp_path / "used", tmp_path / "empty", tmp_path / "file"
    used.mkdir()
    (used / "mine.txt").write_text("mine")
    file.write_text("mine")
    empty.mkdir()
    with pytest.raises(
        DataError, match="expected a new or empty folder, found a folder that is not empty; name another"
    ):
        generate_faces(used, people=1, eval_people=1, size=(16, 16))
    with pytest.raises(DataError, match="expected a new or empty folder, found a file; name another"):
        generate_faces(file, people=1, eval_people=1, size=(16, 16))
    generate_faces(empty, people=1, eval_people=1, size=(16, 16))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty", "file", "used"]
    assert [p.name for p in used.iterdir()] == ["mine.txt"]


def test_a_stop_in_the_middle_leaves_nothing(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        if done == 14:
            raise KeyboardInterrupt

    (tmp_path / "faces").mkdir()
    with pytest.raises(KeyboardInterrupt):
        generate_faces(tmp_path / "faces", people=3, eval_people=1, size=(16, 16), progress=stop)
    assert [p.name for p in tmp_path.iterdir()] == ["faces"]
    assert not any((tmp_path / "faces").iterdir())


BAD: list[tuple[dict[str, Any], str]] = [
    ({"people": 0}, "expected at least 1 person to train and 1 to score, found 0 and 12"),
    ({"people": 5, "eval_people": 0}, "found 5 and 0"),
    ({"people": 5, "size": (8, 64)}, r"each at least 16, found \(8, 64\)"),
    ({"people": 5, "size": (64,)}, r"expected a size of height, width"),
    ({"people": 5, "seed": -1}, "expected a seed of 0 or more, found -1"),
    ({"people": 5, "eval_like": "shift"}, 'unknown eval_like "shift"; did you mean "shifted"'),
]


@pytest.mark.parametrize(("arguments", "message"), BAD)
def test_bad_arguments(tmp_path: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        generate_faces(tmp_path / "faces", **arguments)
    assert isinstance(caught.value, EnsembleKitError)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


@settings(max_examples=60, deadline=None)
@given(people=st.integers(1, 3000), like=st.sampled_from(["training", "shifted"]))
@example(people=30, like="training")
def test_head_counts_follow_the_shares(people: int, like: EvalLike) -> None:
    counts = head_counts(people, like)
    assert counts.shape == (2, 3)
    assert counts.sum() == people
    if people >= 30:
        assert counts.min() >= 2
    if people >= 100:
        assert np.abs(counts - shares(like) * people).max() < 2


def test_the_two_populations() -> None:
    """The shares of DATA.md: training 39 % men and 7 % of 60 and over, shifted 60 % and 26 %."""
    for like, men, old in (("training", 0.39, 0.07), ("shifted", 0.60, 0.26)):
        people = draw_people(1000, like, (0, 5))  # type: ignore[arg-type]
        assert np.mean([person.gender == 0 for person in people]) == pytest.approx(men, abs=0.01)
        assert np.mean([person.age == 60 for person in people]) == pytest.approx(old, abs=0.005)
        assert min(person.age for person in people) == 18
        assert max(person.age for person in people) == 60


@pytest.mark.parametrize("state", STATES)
def test_only_the_part_that_tells_knows_the_age(state: str) -> None:
    people = draw_people(600, "training", (1, 2))
    cues = [cue_ages(person, state, np.random.default_rng((7, n))) for n, person in enumerate(people)]
    ages = np.array([person.look_age for person in people])
    for part in ("upper", "middle", "lower"):
        shown = np.array([getattr(cue, part) for cue in cues])
        assert 0 <= shown.min() <= shown.max() <= 1
        correlation = np.corrcoef(ages, shown)[0, 1]
        assert correlation > 0.9 if part == TELLING[state] else abs(correlation) < 0.12, part


def test_what_the_other_parts_show_is_the_same_in_all_photos_of_a_person() -> None:
    """They say nothing of the age, but a person does not get new ones in each photo either."""
    people = draw_people(300, "training", (1, 2))
    lower = [
        [cue_ages(p, state, np.random.default_rng((8, n))).lower for n, p in enumerate(people)] for state in STATES
    ]
    assert np.corrcoef(lower[0], lower[1])[0, 1] > 0.9
    assert abs(np.corrcoef(lower[0], lower[2])[0, 1]) < 0.2


def drawn(people: int, part: int, size: tuple[int, int], states: Sequence[str] = STATES) -> tuple[Photos, IntArray]:
    """Photos `(n, h, w, 3)` of the states asked for, and their mask, gender and age classes `(n, 3)`."""
    photos, labels = [], []
    for person in draw_people(people, "training", (0, part)):
        for number, state in enumerate(STATE_OF_PHOTO):
            if state in states:
                photos.append(draw_photo(person, state, number, size))
                labels.append([STATES.index(state), person.gender, (person.age >= 30) + (person.age >= 60)])
    return np.stack(photos), np.array(labels)


def test_one_person_differs_from_photo_to_photo_but_less_than_two_people_do() -> None:
    """In the wall's corner, which light and pose change least."""
    photos, _ = drawn(12, 0, (64, 64), ["worn"])
    corner = photos[:, :12, :12].astype(float).mean(axis=(1, 2)).reshape(12, 5, 3)
    assert len({photo.tobytes() for photo in photos}) == 60
    within, between = corner.std(axis=1).mean(), corner.mean(axis=1).std(axis=0).mean()
    assert within < between


def test_each_state_shows_the_part_that_tells_and_hides_what_its_mask_covers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pixels, not numbers."""
    person = draw_people(1, "training", (0, 3))[0]

    def change(state: str, part: str) -> float:
        ends = []
        for value in (0.0, 1.0):
            cues = Cues(**{"upper": 0.4, "middle": 0.4, "lower": 0.4, part: value})
            monkeypatch.setattr("ensemble_kit.data.drawing.portrait.cue_ages", lambda *_, cues=cues: cues)
            ends.append(draw_photo(person, state, STATE_OF_PHOTO.index(state), (128, 96)).astype(float))
        return float(np.abs(ends[1] - ends[0]).mean())

    assert change("worn", "middle") == 0
    assert change("worn", "lower") < 0.4 * change("not_worn", "lower")
    assert change("incorrect", "lower") < 0.8 * change("not_worn", "lower")
    for state, part in TELLING.items():
        assert change(state, part) > 0.8, state


def linear_predictions(photos: Photos, labels: IntArray, wanted: Photos) -> IntArray:
    """Logistic regression on raw pixels, fitted in the span of the training photos (the same optimum, sooner)."""
    from sklearn.linear_model import LogisticRegression

    flat, asked = (x.reshape(len(x), -1) / 255.0 - 0.5 for x in (photos, wanted))
    middle = flat.mean(axis=0)
    left, scale, right = np.linalg.svd(flat - middle, full_matrices=False)
    model = LogisticRegression(C=1.0, tol=1e-3, max_iter=200).fit(left * scale, labels @ (6, 3, 1))
    found: IntArray = model.predict((asked - middle) @ right.T)
    return found


@pytest.mark.slow
def test_a_linear_model_on_pixels_stays_below_half() -> None:
    photos, labels = drawn(70, 0, (32, 32))
    wanted, truth = drawn(30, 1, (32, 32))
    found = linear_predictions(photos, labels, wanted)
    assert 0.2 < np.mean(found == truth @ (6, 3, 1)) < 0.5


@pytest.mark.slow
def test_the_wrong_states_expert_loses_age_accuracy() -> None:
    """ResNet18 from scratch at 64 px, one a state: each knows the age in its own state at least 0.15 better."""
    import torch

    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    right: list[float] = []
    wrong: list[float] = []
    held = {state: drawn(80, 1, (64, 48), [state]) for state in STATES}
    for state in STATES:
        photos, labels = drawn(80 if state == "worn" else 160, 0, (64, 48), [state])
        expert = fit_resnet18(photos, labels[:, 2], epochs=4 if state == "worn" else 8, rng=rng)
        for other, (asked, truth) in held.items():
            score = float(np.mean(expert(asked) == truth[:, 2]))
            (right if other == state else wrong).append(score)
    assert np.mean(right) - np.mean(wrong) >= 0.15
    assert np.mean(right) > 0.65


def fit_resnet18(
    photos: Photos, classes: IntArray, *, epochs: int, rng: np.random.Generator
) -> Callable[[Photos], IntArray]:
    """A ResNet18 trained from random weights, as a function from photos to class numbers."""
    import torch
    from torchvision.models import resnet18

    def tensor(x: Photos) -> torch.Tensor:
        return torch.from_numpy((x.transpose(0, 3, 1, 2).astype(np.float32) - 127) / 64)

    model = resnet18(weights=None, num_classes=3)
    steps = epochs * (len(photos) // 16)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1e-3, total_steps=steps, pct_start=0.2)
    for _ in range(epochs):
        for rows in rng.permutation(len(photos))[: len(photos) // 16 * 16].reshape(-1, 16):
            batch = photos[rows][:, :, :: rng.choice((-1, 1))].copy()
            logits = model(tensor(batch))
            loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(classes[rows]), label_smoothing=0.1)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
    model.eval()

    def classify(asked: Photos) -> IntArray:
        with torch.no_grad():
            found: IntArray = model(tensor(asked)).argmax(dim=1).numpy()
        return found

    return classify
