"""`ens explain`: photos of the run and others, in words, as JSON and as sheets."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from command_line import Ens

from ensemble_kit.data.decode import decode_photo
from ensemble_kit.explaining.looking import Looker, Wanted
from ensemble_kit.recipe.explain import explain_photos, heat_of
from ensemble_kit.recipe.run import Silent
from ensemble_kit.runs import Run

RUN = Path("runs/face_mask")
ID = "000001_male_Drawn_{}/mask1.jpg"


@pytest.fixture
def run(trained: Path) -> Path:
    return trained / RUN


@pytest.fixture
def some_id(run: Path) -> str:
    return str(Run.open(run).table.ids[0])


def test_every_photo_gets_an_account_and_a_sheet(
    ens: Ens, run: Path, faces: Path, tmp_path: Path, some_id: str
) -> None:
    pytest.importorskip("captum")
    evaluation = sorted((faces / "eval" / "images").glob("*.jpg"))[0]
    other = tmp_path / "sub" / "my photo <b>.png"
    other.parent.mkdir()
    cv2.imwrite(str(other), np.random.default_rng(0).integers(0, 255, (50, 40, 3), dtype=np.uint8))
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no photo")
    photos = [some_id, evaluation, other, broken, "nobody"]
    out = tmp_path / "sheets"
    done = ens("explain", run, *photos, "-o", out, "--json", "--threads", 1)
    assert done.code == 0, done.err
    found = json.loads(done.out)["photos"]
    assert [one["photo"] for one in found] == [str(photo) for photo in photos]
    assert [("problem" in one) for one in found] == [False, False, False, True, True]
    assert "no such file" in found[4]["problem"]
    for one in found[:3]:
        sheet = cv2.imread(one["sheet"])
        assert sheet is not None
        assert sheet.shape[1] > 300
        assert [question["node"] for question in one["questions"]] == ["mask", "gender", "age"]
        mask, _, age = one["questions"]
        (expert,) = age["experts"]
        assert expert["expert"] == f"age given mask={mask['said']}"
        assert sum(expert["probs"].values()) == pytest.approx(1)
    assert set(found[0]["truth"]) == {"mask", "gender", "age"}
    assert found[2]["truth"] == {}
    assert len(list(out.iterdir())) == 3


def test_the_account_is_the_answer_of_the_run(ens: Ens, run: Path, faces: Path, tmp_path: Path) -> None:
    photo = sorted((faces / "eval" / "images").glob("*.jpg"))[3]
    assert ens("answer", run, "-o", tmp_path / "answers", "--threads", 1).code == 0
    done = ens("explain", run, photo, "--no-pictures", "--json", "--threads", 1)
    assert done.code == 0, done.err
    rows = (tmp_path / "answers" / "submission.csv").read_text().splitlines()
    answered = dict(row.split(",") for row in rows[1:])
    assert json.loads(done.out)["photos"][0]["label"] == int(answered[photo.name])


def test_words_for_a_terminal(ens: Ens, run: Path, some_id: str, tmp_path: Path) -> None:
    done = ens("explain", run, some_id, "--no-pictures", "--fold", 0, "--route", "soft", "--threads", 1)
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert lines[0] == some_id
    assert all(len(line) <= 80 for line in lines)
    assert "votes" not in done.out  # one checkpoint of each expert
    assert any("answer: " in line for line in lines)
    assert any("age experts" in line for line in lines)
    assert not list(run.glob("explained"))


def test_exit_3_when_nothing_can_be_explained(ens: Ens, run: Path) -> None:
    done = ens("explain", run, "nobody", "nothing", "--no-pictures")
    assert done.code == 3
    assert done.out.count("not explained") == 2
    assert "none of 2 photos" in done.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--fold", 7), "--fold 7: this run has the folds 0, 1"),
        (("--for", "age"), "expected ATTRIBUTE=CLASS"),
        (("--for", "age=old"), "30-59"),
        (("--attribute", "hat"), "hat"),
        (("--structure", "tree"), "tree"),
    ],
)
def test_bad_calls_are_told(ens: Ens, run: Path, some_id: str, words: tuple[object, ...], message: str) -> None:
    done = ens("explain", run, some_id, *words)
    assert done.code == 2
    assert message in done.err
    assert "Traceback" not in done.err


def test_a_file_is_no_folder_for_sheets_and_is_refused_before_any_work(
    ens: Ens, run: Path, some_id: str, tmp_path: Path
) -> None:
    table = tmp_path / "samples.csv"
    table.write_text("mine")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "verify", lambda _: pytest.fail("began to work"))
        for out in (table, table / "sheets"):
            done = ens("explain", run, some_id, "-o", out)
            assert (done.code, done.out) == (2, "")
            assert f"-o {table}: expected a folder, found a file" in done.err
    assert table.read_text() == "mine"


def test_what_is_being_done_is_told_from_the_first_second(run: Path, tmp_path: Path) -> None:
    told: list[tuple[float, str | None]] = []

    class Watching(Silent):
        def begin(self, title: str, total: float) -> None:
            told.append((total, title))

        def advance(self, done: float, title: str | None = None) -> None:
            told.append((done, title))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "verify", lambda _: told.append((-1, "verify")))
        explain_photos(
            Run.open(run), ["nobody", "nothing"], {}, tmp_path, Watching(), draw=False, options={"threads": 1}
        )
    assert told[:2] == [(2, "reading the experts"), (-1, "verify")]
    assert told[2:] == [
        (0, "photo 1 of 2: asking the experts"),
        (1, None),
        (1, "photo 2 of 2: asking the experts"),
        (2, None),
    ]


def test_maps_for_a_gallery_lie_on_the_photos(run: Path, faces: Path, tmp_path: Path) -> None:
    pytest.importorskip("captum")
    photo = sorted((faces / "eval" / "images").glob("*.jpg"))[0]
    missing = tmp_path / "missing.jpg"
    asked = [Wanted(photo, "age given mask=worn", ("age",), ("<30",)), Wanted(missing, "mask", ("mask",), ("worn",))]
    found, none = heat_of(Run.open(run), threads=1)(asked)
    assert none is None
    assert found.shape == decode_photo(photo).shape[:2]
    assert found.min() >= 0
    assert found.max() in (0, 1)


def test_one_fold_looks_by_itself(run: Path, faces: Path) -> None:
    pytest.importorskip("captum")
    photo = sorted((faces / "eval" / "images").glob("*.jpg"))[1]
    wanted = [Wanted(photo, "mask", ("mask",), ("worn",))]
    opened = Run.open(run)
    looked = [
        Looker(opened.checkpoints(), opened.schema, folds=folds, threads=1).look(wanted)[0]
        for folds in (None, [0], [1])
    ]
    assert [one.voters for one in looked if not isinstance(one, str)] == [("fold0", "fold1"), ("fold0",), ("fold1",)]


def test_a_moved_data_set_still_explains_files(ens: Ens, trained: Path, faces: Path, tmp_path: Path) -> None:
    photo = sorted((faces / "eval" / "images").glob("*.jpg"))[0]
    copy = tmp_path / "run"
    shutil.copytree(trained / RUN, copy)
    info = json.loads((copy / "run.json").read_text())
    info["data"] = str(tmp_path / "gone")
    (copy / "run.json").write_text(json.dumps(info))
    done = ens("explain", copy, photo, "--no-pictures", "--threads", 1)
    assert done.code == 0, done.err
    assert "true:" not in done.out
