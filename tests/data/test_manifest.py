"""A manifest names every altered file, as sha256sum itself would, and nothing else."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from fake_tree import face_schema, write, write_eval, write_train

from ensemble_kit.data.check import check_data
from ensemble_kit.data.manifest import read_manifest, write_manifest
from ensemble_kit.errors import DataError
from ensemble_kit.schema import Attribute, Schema

PEOPLE = [(f"{n:06}", ("female", "male")[n % 2], "Asian", (18, 45, 60)[n // 2 % 3]) for n in range(12)]


def altered(root: Path, manifest: Path) -> dict[str, str]:
    report = check_data(root, face_schema(), folds=2, seed=0, decode=False, manifest=manifest)
    assert set(report.altered) <= set(report.problems)
    return {problem.path: problem.problem for problem in report.altered}


def test_every_altered_file_is_found_and_no_other(tmp_path: Path) -> None:
    root = write_eval(write_train(tmp_path / "data", PEOPLE), {"a.jpg": 0, "b.jpg": 1})
    manifest = root / "manifest.sha256"
    assert write_manifest(manifest, root, face_schema()) == 12 * 7 + 2 + 3  # photos of both parts, and the lists
    assert altered(root, manifest) == {}
    checked = subprocess.run(["sha256sum", "--check", "--quiet", str(manifest)], cwd=root, capture_output=True)
    assert (checked.returncode, checked.stdout) == (0, b"")
    photos = sorted((root / "train" / "images").rglob("*.jpg"))
    for photo in photos[::2]:
        data = bytearray(photo.read_bytes())
        data[len(data) // 2] ^= 1  # still a photo, very likely
        photo.write_bytes(bytes(data))
    (root / "eval" / "images" / "b.jpg").unlink()
    shutil.copy(photos[1], photos[1].with_suffix(".png"))
    lists = root / "eval" / "info.csv"
    lists.write_bytes(lists.read_bytes() + b"\n")
    changed = "changed since the manifest was written (SHA-256 differs)"
    assert altered(root, manifest) == {
        **{str(photo.relative_to(root)): changed for photo in photos[::2]},
        "eval/info.csv": changed,
        "eval/images/b.jpg": "in the manifest: missing now",
        str(photos[1].with_suffix(".png").relative_to(root)): "not in the manifest",
    }


def test_odd_names_are_escaped_as_sha256sum_does(tmp_path: Path) -> None:
    names = ["plain.png", "two words.png", "back\\slash.png"]
    for name in names:
        (tmp_path / name).write_bytes(b"")
    write(tmp_path / "samples.csv", "path,kind\n" + "".join(f"{name},{'ab'[i % 2]}\n" for i, name in enumerate(names)))
    out = tmp_path / "m"
    assert write_manifest(out, tmp_path, Schema(Attribute("kind", ["a", "b"]))) == 4
    assert set(read_manifest(out)) == {*names, "samples.csv"}
    checked = subprocess.run(["sha256sum", "--check", "--quiet", "m"], cwd=tmp_path, capture_output=True)
    assert (checked.returncode, checked.stdout) == (0, b"")


HASH = "0" * 64


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a manifest, found no line"),
        ("abc  a.jpg\n", 'line 1: expected "HASH  PATH" as sha256sum writes it'),
        (f"{HASH}  a.jpg\n{HASH}  a.jpg\n", "line 2: a.jpg is there already"),
        (f"{HASH}  ../a.jpg\n", "line 1: expected a path inside the data folder"),
        (f"{HASH}  /etc/passwd\n", "line 1: expected a path inside the data folder"),
    ],
)
def test_what_is_no_manifest_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match="expected a manifest, found no such file"):
        read_manifest(tmp_path / "none")
    with pytest.raises(DataError, match=message):
        read_manifest(write(tmp_path / "m", text))


def test_a_manifest_is_of_a_sound_data_set(tmp_path: Path) -> None:
    root = write_train(tmp_path / "data", PEOPLE)
    (root / "train" / "images" / "000000_female_Asian_18" / "mask1.jpg").unlink()
    (root / "train" / "images" / "000000_female_Asian_18" / "mask1.jpg").symlink_to("nowhere.jpg")
    with pytest.raises(DataError, match=r"mask1.jpg: expected a file for the manifest, found missing now; mend that"):
        write_manifest(tmp_path / "m", root, face_schema())
    assert not (tmp_path / "m").exists()
