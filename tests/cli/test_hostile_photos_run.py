"""Damaged photos through the commands: named by each, training and predicting go on, the others' answers unchanged.

`pytest -m slow -s tests/cli/test_hostile_photos_run.py`: 3 formats x 4 corruptions x 250 files, counts printed.
"""

from __future__ import annotations

import csv
import os
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from command_line import SMALL, Ens
from damaged_photos import BOMBS, CORRUPTIONS, FORMATS, cannot_be_decoded, encoded_as

from ensemble_kit.arrays import ByteArray
from ensemble_kit.predictions import load_predictions

RECIPE = """
[schema]
kind = ["bright", "dark"]

[graph]
kind = []

[experts]
kind = ["pooled"]

[train]
batch_size = 16
augment = []
"""


def photo_of(kind: int, rng: np.random.Generator) -> ByteArray:
    return np.clip(rng.normal((170, 80)[kind], 30, (40, 32, 3)), 0, 255).astype(np.uint8)


def draw(folder: Path, times: int) -> tuple[list[str], dict[str, tuple[str, str]]]:
    """Sound photos, and sound ones that are to be damaged; returns the names of the first, and of the others what is
    to be done to them."""
    rng = np.random.default_rng(0)
    rows, sound, others = [], [], {}
    folder.mkdir()
    for number in range(24):
        name = f"sound{number:02}.png"
        (folder / name).write_bytes(encoded_as(photo_of(number % 2, rng), "PNG"))
        sound.append(name)
        rows.append((name, number % 2))
    for form, options in FORMATS.items():
        for corruption in CORRUPTIONS:
            for number in range(times):
                name = f"{form}_{corruption}_{number:03}.jpg"
                (folder / name).write_bytes(encoded_as(photo_of(number % 2, rng), form, **options))
                others[name] = (form, corruption)
                rows.append((name, number % 2))
    lines = [("path", "kind"), *((name, ("bright", "dark")[kind]) for name, kind in rows)]
    (folder / "samples.csv").write_text("".join(",".join(line) + "\n" for line in lines))
    (folder.parent / "task.toml").write_text(RECIPE)
    return sound, others


def listed(path: Path) -> set[str]:
    with open(path, newline="") as handle:
        return {row["path"] for row in csv.DictReader(handle)}


def answers(run: Path, name: str) -> dict[str, bytes]:
    """Photo -> the bits of what every fold says about it; photos without an answer are left out."""
    (found,) = load_predictions(run / "predictions" / name)
    probs = np.asarray(found.probs)
    return {str(i): probs[:, row].tobytes() for row, i in enumerate(found.ids) if not np.isnan(probs[:, row]).any()}


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("times", [1, pytest.param(250, marks=pytest.mark.slow)])
def test_damaged_photos_are_named_by_every_command(ens: Ens, tmp_path: Path, times: int) -> None:
    data = tmp_path / "data"
    sound, others = draw(data, times)

    def run(*words: object, code: int = 0) -> str:
        done = ens(*words, cwd=tmp_path, **SMALL)
        assert done.code == code, done.err
        assert "Traceback" not in done.err
        return done.out + done.err

    check = ("data", "check", "data", "--recipe", "task.toml", "--folds", 2)
    run("run", "task.toml", "--data", "data", "--run", "before")
    run("predict", "before", "--part", "train", "--name", "whole")
    run("data", "manifest", "data", "--recipe", "task.toml", "--out", "hashes")
    run(*check, "--manifest", "hashes")
    rng = np.random.default_rng(1)
    for name, (_, corruption) in others.items():
        whole = (data / name).read_bytes()
        while (broken := CORRUPTIONS[corruption](whole, rng)) == whole:
            continue
        (data / name).write_bytes(broken)
    certain = {name for name, what in others.items() if cannot_be_decoded(*what)}
    run(*check, "--errors", "found.csv")
    found = listed(tmp_path / "found.csv")
    assert certain <= found <= set(others)
    assert "not as they were" in run(*check, "--manifest", "hashes", "--errors", "altered.csv", code=3)
    altered = listed(tmp_path / "altered.csv")
    assert altered == set(others)
    run("run", "task.toml", "--data", "data", "--run", "after")
    assert listed(tmp_path / "after" / "errors.csv") == found
    run("predict", "before", "--part", "train", "--name", "damaged")
    assert listed(tmp_path / "before" / "predictions" / "damaged" / "errors.csv") == found
    then, now = answers(tmp_path / "before", "whole"), answers(tmp_path / "before", "damaged")
    assert set(now) == {*sound, *others} - found
    harmless = {name for name, (form, _) in others.items() if form == "PNG"} - found
    assert all(now[name] == then[name] for name in {*sound, *harmless})
    counts = Counter(f"{form}, {corruption}" for form, corruption in (others[name] for name in found))
    print(f"\n{len(others)} damaged files: {len(found)} cannot be decoded, each named by check, training and predict")
    print(
        f"altered files that the manifest finds: {len(altered)} of {len(others)}; by kind not decoded: {dict(counts)}"
    )


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_what_is_no_photo_stops_nothing(ens: Ens, tmp_path: Path) -> None:
    data = tmp_path / "data"
    draw(data, 1)
    names = sorted(path.name for path in data.glob("*.jpg"))
    hostile: dict[str, bytes | None] = {f"bomb {form}": make(12_000, 12_000) for form, make in BOMBS.items()}
    hostile |= {"empty": b"", "page": b"<html>", "pipe": None, "folder": None, "dangling": None}
    for name, (kind, content) in zip(names, hostile.items(), strict=False):
        (data / name).unlink()
        if kind == "pipe":
            os.mkfifo(data / name)
        elif kind == "folder":
            (data / name).mkdir()
        elif kind == "dangling":
            (data / name).symlink_to("nowhere.jpg")
        else:
            (data / name).write_bytes(content or b"")
    sizes = [(17, 90), (300, 20)]  # photos of unequal size in one data set
    for name, (rows, columns) in zip(["sound00.png", "sound01.png"], sizes, strict=True):
        cv2.imwrite(str(data / name), np.full((rows, columns, 3), 99, dtype=np.uint8))
    done = ens("run", "task.toml", "--data", "data", "--run", "r", cwd=tmp_path, **SMALL)
    assert done.code == 0, done.err
    assert listed(tmp_path / "r" / "errors.csv") == set(names[: len(hostile)])
    assert f"{len(hostile)} photos could not be read" in done.out + done.err
