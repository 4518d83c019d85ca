"""`ens gallery` as a user types it, on one tiny trained run."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from command_line import Ens

from ensemble_kit.explaining.looking import Looker, Wanted
from ensemble_kit.gallery.heat import heat_requests
from ensemble_kit.recipe.gallery import gallery_heat, gather_gallery
from ensemble_kit.runs import Run

RUN = "runs/face_mask"


def test_a_run_without_evaluation_answers_shows_its_training_photos(ens: Ens, trained: Path, tmp_path: Path) -> None:
    page = tmp_path / "gallery.html"
    done = ens("gallery", trained / RUN, "-o", page, "--part", "train", "--limit", 9, "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert (found["n_photos"], found["has_photos"]) == (9, False)
    assert found["n_all"] > 100
    text = page.read_text("utf-8")
    assert "out of fold" in text
    assert "data:image" not in text


def test_photos_are_put_in_where_they_are_asked_for(ens: Ens, trained: Path, tmp_path: Path) -> None:
    page = tmp_path / "gallery.html"
    done = ens("gallery", trained / RUN, "-o", page, "--part", "train", "--photos", "--limit", 3)
    assert done.code == 0, done.err
    assert "photos are answered wrongly" in done.out
    assert page.read_text("utf-8").count("data:image/webp") == 3


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["--part", "tset"], 2, '--part "tset"'),
        (["--part", "train", "--answers", "a.csv"], 2, "has its own labels"),
        (["--part", "train", "--photos", "--data", "nowhere"], 3, "nowhere"),
        (["--part", "train", "--limit", "0"], 2, ""),
        (["--part", "train", "--route", "sfot"], 2, "soft"),
        (["--part", "train", "-o", "."], 2, "found a folder"),
    ],
)
def test_bad_calls_end_in_one_line(
    ens: Ens, trained: Path, tmp_path: Path, words: list[str], code: int, told: str
) -> None:
    done = ens("gallery", trained / RUN, "-o", tmp_path / "x.html", *words, cwd=tmp_path)
    assert done.code == code
    assert told in done.err
    assert "Traceback" not in done.err
    assert not (tmp_path / "x.html").exists()


def test_photos_that_are_nowhere_are_an_error_and_a_missing_one_is_not(ens: Ens, trained: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained / RUN, run, ignore=shutil.ignore_patterns("cache"))
    info = json.loads((run / "run.json").read_text())
    root = Path(info["photo_root"])
    moved = tmp_path / "moved"
    shutil.copytree(root, moved)
    (run / "run.json").write_text(json.dumps({**info, "photo_root": str(moved)}))
    next(moved.rglob("*mask1*")).unlink()
    done = ens("gallery", run, "-o", tmp_path / "a.html", "--part", "train", "--photos")
    assert done.code == 0, done.err
    assert "1 photo could not be shown" in done.out
    shutil.rmtree(moved)
    done = ens("gallery", run, "-o", tmp_path / "b.html", "--part", "train", "--photos")
    assert done.code == 3
    assert "none of the" in done.err
    assert done.err.count("\n") == 1


def test_maps_of_where_the_expert_looked(ens: Ens, trained: Path, tmp_path: Path) -> None:
    """By the checkpoint that held the photo out; only where photos are there to lie on."""
    pytest.importorskip("captum")
    page = tmp_path / "gallery.html"
    words = ("--part", "train", "--limit", 4, "--heat", 2, "--threads", 1)
    done = ens("gallery", trained / RUN, "-o", page, *words)
    assert (done.code, "--photos" in done.err) == (2, True)
    done = ens("gallery", trained / RUN, "-o", page, "--photos", "--json", *words)
    assert done.code == 0, done.err
    assert json.loads(done.out)["n_heat"] == 2
    assert "what spoke for" in page.read_text("utf-8")


def test_a_held_out_photo_is_looked_at_by_the_checkpoint_that_never_saw_its_person(trained: Path) -> None:
    """Of a training photo the fold's own map, which is another one than that of all checkpoints or of the other fold;
    of an evaluation photo that of all checkpoints."""
    pytest.importorskip("captum")
    run = Run.open(trained / RUN)
    found = gather_gallery(run, part="train", photos=True)
    fold_of = dict(zip(run.table.ids.tolist(), run.folds.tolist(), strict=True))
    assert found.places is not None
    requests = []
    for fold in (0, 1):
        row = next(row for row, name in enumerate(found.facts.ids.tolist()) if fold_of[name] == fold)
        path = found.places[row].path
        assert path is not None
        (request,) = [one for one in heat_requests(found.facts, row, path) if one.expert == "mask"] or [
            replace(heat_requests(found.facts, row, path)[0], expert="mask", attributes=("mask",), classes=("worn",))
        ]
        assert request.fold == fold
        requests.append(request)
    maps = gallery_heat(run, run.schema, device="cpu", threads=1)([*requests, replace(requests[0], fold=None)])
    asked: list[tuple[int, list[int] | None]] = [(0, [0]), (1, [1]), (0, None)]
    for one, (number, folds) in zip(maps, asked, strict=True):
        own = requests[number]
        wanted = [Wanted(own.path, own.expert, own.attributes, own.classes)]
        by = {
            str(some): Looker(run.checkpoints(), run.schema, folds=some, device="cpu", threads=1)(wanted)[0]
            for some in ([0], [1], None)
        }
        assert one is not None
        for some, other in by.items():
            assert other is not None
            assert np.allclose(one, other, atol=1e-5) == (some == str(folds)), (number, some)


def test_what_is_not_predicted_yet_is_named(ens: Ens, trained: Path, tmp_path: Path) -> None:
    run = shutil.copytree(trained / RUN, tmp_path / "run", ignore=shutil.ignore_patterns("predictions", "results"))
    done = ens("gallery", run, "-o", tmp_path / "a.html", "--part", "eval")
    assert (done.code, "not predicted yet" in done.err, done.err.count("\n")) == (3, True, 1)
