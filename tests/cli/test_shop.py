"""A taxonomy of coloured squares from the first look at the table to the scores, by the commands a user types."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from command_line import SMALL, Ens

PATHS = {
    ("Fruit", "Apple", "Gala"): (200, 30, 30),
    ("Fruit", "Apple", "Smith"): (30, 200, 30),
    ("Fruit", "Pear", "Pear"): (120, 200, 30),
    ("Veg", "Leek", "Leek"): (230, 255, 230),
    ("Veg", "Potato", "Floury"): (200, 180, 120),
    ("Veg", "Potato", "Solid"): (120, 90, 40),
}
RECIPE = """
[schema]
taxonomy = ["kind", "coarse", "fine"]
paths = "shop_paths.csv"

[graph]
kind = []
coarse = ["kind"]
fine = ["coarse"]

[train]
batch_size = 16

[experts]
"kind,coarse,fine" = ["pooled"]
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight training, two val and three test photos of each path, in a table; beside it the recipe."""
    root = tmp_path_factory.mktemp("shop")
    rng = np.random.default_rng(0)
    rows = []
    for number, (path, colour) in enumerate(PATHS.items()):
        for copy in range(13):
            photo = np.clip(np.array(colour)[::-1] + rng.normal(0, 12, (24, 24, 3)), 0, 255).astype(np.uint8)
            name = f"data/{number}_{copy:02}.png"
            (root / "data").mkdir(exist_ok=True)
            assert cv2.imwrite(str(root / name), photo)
            split = "train" if copy < 8 else "val" if copy < 10 else "test"
            rows.append([name.removeprefix("data/"), split, *path])
    with open(root / "data" / "samples.csv", "w", newline="") as handle:
        csv.writer(handle).writerows([["path", "split", "kind", "coarse", "fine"], *rows])
    (root / "shop.toml").write_text(RECIPE)
    return root


@pytest.fixture(scope="module")
def made(ens: Ens, shop: Path) -> Path:
    """The paths file, made from the table, and the run."""
    done = ens("data", "taxonomy", "data", "--columns", "kind,coarse,fine", "--out", "shop_paths.csv", cwd=shop)
    assert done.code == 0, done.err
    assert "shop_paths.csv: 6 paths (kind 2, coarse 4, fine 6)" in done.out
    one_share = {name: value for name, value in SMALL.items() if name != "ENS_FOLDS"}
    ran = ens("run", "shop.toml", "--data", "data", "--run", "r", "--val-ratio", 0.3, cwd=shop, **one_share)
    assert ran.code == 0, ran.err
    assert "6 experts x 1 folds on 60 photos" in ran.out
    return shop


def test_the_paths_file_is_what_occurs(made: Path) -> None:
    lines = (made / "shop_paths.csv").read_text().splitlines()
    assert lines == ["kind,coarse,fine", *map(",".join, PATHS)]


def test_data_check_lists_the_paths_once(ens: Ens, made: Path) -> None:
    done = ens("data", "check", "data", "--recipe", "shop.toml", "--folds", 2, cwd=made)
    assert done.code == 0, done.err
    assert "taxonomy of 6 paths: kind 2, coarse 4, fine 6" in done.out
    assert done.out.count("Veg / Potato / Solid") == 2  # counts, and folds
    assert "\nfine " not in done.out
    assert "48 of split train and 12 of split val are one training part" in " ".join(done.out.split())
    assert max(map(len, done.out.splitlines())) <= 80
    as_json = ens("data", "check", "data", "--recipe", "shop.toml", "--folds", 2, "--json", cwd=made)
    assert json.loads(as_json.out)["train"]["attributes"]["fine"]["Leek"] == {"photos": 10, "people": 10}


def test_every_answer_is_a_path(made: Path) -> None:
    with open(made / "r" / "results" / "submission.csv", newline="") as handle:
        said = [int(row["ans"]) for row in csv.DictReader(handle)]
    assert len(said) == 18
    assert set(said) <= set(range(6))


@pytest.mark.parametrize("route", ["hard", "soft", "sparse=0.01", "top_k=2", "threshold=0.9"])
def test_every_route_combines(ens: Ens, made: Path, route: str, tmp_path: Path) -> None:
    done = ens("combine", "r", "--route", route, "--out", tmp_path, cwd=made)
    assert done.code == 0, done.err
    report = json.loads((tmp_path / "combine.json").read_text())
    per_expert = report["photos_per_expert"]
    assert report["route"] == route
    assert per_expert["kind"] == 18
    assert all(count <= 18 for count in per_expert.values())
    if route == "hard":
        assert sum(count for name, count in per_expert.items() if name.startswith("coarse")) == 18


def test_the_flat_structure_and_the_scores(ens: Ens, made: Path, tmp_path: Path) -> None:
    flat = ens("combine", "r", "--structure", "flat", "--out", tmp_path, cwd=made)
    assert flat.code == 0, flat.err
    done = ens("evaluate", "r", "--json", cwd=made)
    assert done.code == 0, done.err
    assert {"flat", "conditional_hard", "conditional_soft"} <= set(json.loads(done.out)["joint"])
    text = ens("evaluate", "r", cwd=made)
    assert text.code == 0, text.err
    assert "mask" not in text.out


def test_a_photo_off_the_taxonomy_is_named(ens: Ens, made: Path) -> None:
    table = made / "data" / "samples.csv"
    text = table.read_text()
    (made / "data" / "odd.csv").write_text(text.replace("Fruit,Apple,Gala", "Fruit,Pear,Gala", 1))
    done = ens("data", "check", "data/odd.csv", "--recipe", "shop.toml", cwd=made)
    assert done.code == 3
    assert "0_00.png: labelled Fruit / Pear / Gala, which is no path of the taxonomy" in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("data", "--columns", "kind,,fine"), 2, "--columns: expected distinct columns"),
        (("data", "--columns", "kind,kind"), 2, "--columns: expected distinct columns"),
        (("data", "--columns", "kind,colour"), 3, "missing column colour"),
        (("nowhere", "--columns", "kind,fine"), 3, "nowhere"),
        ((".", "--columns", "kind,fine"), 3, "expected a table"),
    ],
)
def test_taxonomies_that_cannot_be_written(
    ens: Ens, made: Path, tmp_path: Path, words: tuple[str, ...], code: int, message: str
) -> None:
    done = ens("data", "taxonomy", *words, "--out", tmp_path / "t.csv", cwd=made)
    assert (done.code, message in done.err) == (code, True), done.err
    assert not (tmp_path / "t.csv").exists()
