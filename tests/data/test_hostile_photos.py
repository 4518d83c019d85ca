"""Photos that people have: turned, of every colour mode, damaged, or made to do harm."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from damaged_photos import BOMBS, CORRUPTIONS, FORMATS, cannot_be_decoded, encoded_as
from PIL import Image

from ensemble_kit.arrays import ByteArray
from ensemble_kit.data.decode import MAX_BYTES, PhotoError, Preprocess, decode_photo, upright_size
from ensemble_kit.data.samples import SampleTable
from ensemble_kit.loading.cache import PhotoCache
from ensemble_kit.loading.decoding import decode_windows
from ensemble_kit.schema import Attribute, Schema

UPRIGHT = np.zeros((24, 40, 3), dtype=np.uint8)
UPRIGHT[:, :20] = (200, 10, 30)
UPRIGHT[:12, 20:] = (20, 180, 40)
AS_HELD = {
    1: UPRIGHT,
    2: UPRIGHT[:, ::-1],
    3: UPRIGHT[::-1, ::-1],
    4: UPRIGHT[::-1],
    5: UPRIGHT.transpose(1, 0, 2),
    6: np.rot90(UPRIGHT, 1),
    7: UPRIGHT[::-1, ::-1].transpose(1, 0, 2),
    8: np.rot90(UPRIGHT, -1),
}
"""EXIF orientation -> how the camera stored the upright picture."""
EXACT: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 100, "subsampling": 0},
    "PNG": {},
    "WEBP": {"lossless": True},
}


def as_seen(path: Path, folder: Path) -> list[ByteArray]:
    """The photo as training's cache and as prediction's windows have it."""
    schema = Schema(Attribute("kind", ["a", "b"]))
    columns = {"sample_id": ["x"], "path": [path.name], "group_id": ["x"], "kind": ["a"]}
    table = SampleTable.from_columns(columns, path.parent, schema)
    how = Preprocess((24, 40))
    photos = PhotoCache.build(table, how, folder)
    ((_, (window,), problems),) = decode_windows(table.paths, [how])
    assert photos.readable.all()
    assert not problems
    return [np.array(photos.photos[0]), window[0]]


@pytest.mark.parametrize("form", EXACT)
@pytest.mark.parametrize("orientation", AS_HELD)
def test_every_orientation_of_every_format_comes_out_upright(tmp_path: Path, form: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{form.lower()}"
    path.write_bytes(encoded_as(np.ascontiguousarray(AS_HELD[orientation]), form, exif=exif, **EXACT[form]))
    photo = decode_photo(path)
    assert photo.shape == UPRIGHT.shape
    assert photo.flags.c_contiguous
    assert np.abs(photo.astype(int) - UPRIGHT).max() <= (8 if form == "JPEG" else 0)
    assert upright_size(path) == UPRIGHT.shape[:2]
    if orientation == 6:
        training, prediction = as_seen(path, tmp_path / "cache")
        np.testing.assert_array_equal(training, photo)
        np.testing.assert_array_equal(prediction, photo)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_an_orientation_behind_the_pixels_of_a_png_counts_and_a_broken_one_does_not(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded_as(np.ascontiguousarray(AS_HELD[6]), "PNG", exif=exif)
    at = data.index(b"eXIf") - 4
    length = 12 + int.from_bytes(data[at : at + 4], "big")
    end = data.index(b"IEND") - 4
    path = tmp_path / "a.png"
    path.write_bytes(data[:at] + data[at + length : end] + data[at : at + length] + data[end:])
    np.testing.assert_array_equal(decode_photo(path), UPRIGHT)
    jpeg = encoded_as(UPRIGHT, "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff nonsense", **EXACT["JPEG"])
    path.write_bytes(jpeg)
    assert decode_photo(path).shape == UPRIGHT.shape


MODES = {
    "1": ("PNG", "1"),
    "grey": ("PNG", "L"),
    "grey, alpha": ("PNG", "LA"),
    "palette": ("PNG", "P"),
    "colours": ("PNG", "RGB"),
    "colours, alpha": ("PNG", "RGBA"),
    "16 bit grey": ("PNG", "I;16"),
    "grey jpeg": ("JPEG", "L"),
    "print colours": ("JPEG", "CMYK"),
    "webp with alpha": ("WEBP", "RGBA"),
    "bmp of 32 bits": ("BMP", "RGBA"),
}


@pytest.mark.parametrize(("form", "mode"), MODES.values(), ids=MODES)
def test_every_colour_mode_is_the_rgb_picture_in_training_and_prediction(tmp_path: Path, form: str, mode: str) -> None:
    path = tmp_path / "a.png"
    if mode == "I;16":
        grey = Image.fromarray(UPRIGHT).convert("L")
        Image.fromarray(np.asarray(grey).astype(np.uint16) * 257).save(path)
        expected = np.asarray(grey.convert("RGB"))
    else:
        picture = Image.fromarray(UPRIGHT).convert(mode)
        picture.save(path, format=form, **EXACT.get(form, {}))
        expected = np.asarray(picture.convert("RGB"))
    photo = decode_photo(path)
    assert np.abs(photo.astype(int) - expected).max() <= (3 if form == "JPEG" else 0)
    training, prediction = as_seen(path, tmp_path / "cache")
    np.testing.assert_array_equal(training, photo)
    np.testing.assert_array_equal(prediction, photo)


@pytest.mark.parametrize("form", BOMBS)
@pytest.mark.parametrize(("width", "height"), [(10_000, 10_000), (16_383, 16_383), (34_640, 34_640)])
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_bombs_are_refused_from_the_header(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, width: int, height: int
) -> None:
    sides = (width, height) if form != "lossless webp" else (min(width, 16_384), min(height, 16_384))  # it has no more
    path = tmp_path / "bomb.jpg"
    path.write_bytes(BOMBS[form](*sides))
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded"))
    with pytest.raises(PhotoError, match="80,000,000"):
        decode_photo(path)
    with pytest.raises(PhotoError, match="80,000,000"):
        upright_size(path)


def test_a_file_of_terabytes_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    with open(path, "wb") as handle:
        handle.truncate(MAX_BYTES + 1)  # sparse: it takes no room
    with pytest.raises(PhotoError, match=r"a file of 400,000,001 bytes, at most 400,000,000 are allowed"):
        decode_photo(path)


def test_what_is_no_photo_is_named_and_nothing_hangs(tmp_path: Path) -> None:
    (tmp_path / "folder.jpg").mkdir()
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "dangling.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (tmp_path / "device.jpg").symlink_to("/dev/zero")
    (tmp_path / "gif.jpg").write_bytes(encoded_as(UPRIGHT, "GIF"))
    (tmp_path / "page.jpg").write_bytes(b"<!DOCTYPE html><html><body>404</body></html>")
    (tmp_path / "drawing.jpg").write_bytes(b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>')
    (tmp_path / "empty.jpg").write_bytes(b"")
    with socket.socket(socket.AF_UNIX) as listener:
        here = Path.cwd()
        os.chdir(tmp_path)  # a socket's name must be short
        listener.bind("socket.jpg")
        os.chdir(here)
        found = {}
        for path in sorted(tmp_path.iterdir()):
            with pytest.raises(PhotoError) as caught:
                decode_photo(path)
            found[path.stem] = str(caught.value).removeprefix(f"{path}: expected a photo").removeprefix(", ")
    other = " (JPEG, PNG, WEBP, BMP), found something else"
    assert found == {
        "dangling": "found a link to nothing",
        "device": "found no regular file (a device)",
        "drawing": other,
        "empty": "found an empty file; replace it",
        "folder": "found a folder",
        "gif": other,
        "page": other,
        "pipe": "found no regular file (a pipe)",
        "socket": "found no regular file (a socket)",
    }


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("corruption", CORRUPTIONS)
def test_damaged_photos_are_photos_or_errors(tmp_path: Path, form: str, corruption: str) -> None:
    rng = np.random.default_rng(0)
    photo = rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)
    data = encoded_as(photo, form, **FORMATS[form])
    path = tmp_path / "a.jpg"
    for _ in range(40):
        path.write_bytes(CORRUPTIONS[corruption](data, rng))
        try:
            decode_photo(path)
        except PhotoError:
            continue
        assert not cannot_be_decoded(form, corruption)
