"""Photos: every kind decodes to upright RGB, nothing else gets through, and preparing is deterministic."""

from __future__ import annotations

import json
import os
import sys
import zlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from fake_tree import JPEG, PNG
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ensemble_kit.arrays import ByteArray
from ensemble_kit.data import preparers
from ensemble_kit.data.decode import PhotoError, Preprocess, decode_photo, prepare
from ensemble_kit.data.preparers import PREPARERS
from ensemble_kit.errors import DataError, UsageError

RED_LEFT = np.zeros((6, 10, 3), dtype=np.uint8)  # RGB
RED_LEFT[:, :5] = (200, 10, 30)


def save(path: Path, photo: ByteArray, mode: str = "RGB", **options: Any) -> Path:
    Image.fromarray(photo).convert(mode).save(path, **options)
    return path


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.webp", "wrong_ending.jpg"])
def test_lossless_formats_come_back_exactly_as_rgb(tmp_path: Path, name: str) -> None:
    form = "PNG" if name == "wrong_ending.jpg" else None
    options: dict[str, Any] = {"lossless": True} if name.endswith("webp") else {}
    path = save(tmp_path / name, RED_LEFT, format=form, **options)
    photo = decode_photo(path)
    assert photo.dtype == np.uint8
    assert photo.flags.c_contiguous
    np.testing.assert_array_equal(photo, RED_LEFT)


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "I;16"])
def test_other_pixel_kinds_become_rgb(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "a.png"
    if mode == "I;16":
        Image.fromarray(np.full((6, 10), 204 * 257, dtype=np.uint16)).save(path)
    else:
        save(path, np.full((6, 10, 3), 255 if mode == "1" else 204, dtype=np.uint8), mode)
    photo = decode_photo(path)
    assert photo.shape == (6, 10, 3)
    assert photo.dtype == np.uint8
    assert set(np.unique(photo)) == {255 if mode == "1" else 204}


def test_alpha_is_dropped_not_blended(tmp_path: Path) -> None:
    pixels = np.dstack([RED_LEFT, np.zeros((6, 10), dtype=np.uint8)])
    Image.fromarray(pixels).save(tmp_path / "a.png")
    np.testing.assert_array_equal(decode_photo(tmp_path / "a.png"), RED_LEFT)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    save(tmp_path / "a.jpg", RED_LEFT, quality=100, exif=exif)
    turned = {
        1: RED_LEFT,
        2: RED_LEFT[:, ::-1],
        3: RED_LEFT[::-1, ::-1],
        4: RED_LEFT[::-1],
        5: RED_LEFT.transpose(1, 0, 2),
        6: np.rot90(RED_LEFT, -1),
        7: RED_LEFT.transpose(1, 0, 2)[::-1, ::-1],
        8: np.rot90(RED_LEFT),
    }[orientation]
    photo = decode_photo(tmp_path / "a.jpg")
    assert photo.shape == turned.shape
    assert (photo[1, 1, 0] > 100) == (turned[1, 1, 0] > 100)
    assert (photo[-2, -2, 0] > 100) == (turned[-2, -2, 0] > 100)


def noise_jpeg() -> bytes:
    ok, data = cv2.imencode(".jpg", np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    assert ok
    return bytes(data)


BAD = {
    "empty": (b"", "found an empty file"),
    "text": (b"not a photo at all", "expected a photo \\(JPEG, PNG, WEBP, BMP\\), found something else"),
    "gif": (b"GIF89a\x01\x00\x01\x00\x00\x00\x00;", "found something else"),
    "header only": (PNG[:20], "expected a photo"),
    "half a jpeg": (noise_jpeg()[:1500], "cut short or damaged"),
    "nearly a png": (PNG[:-30], "cut short or damaged"),
    "one bad byte": (PNG[:29] + bytes([PNG[29] ^ 1]) + PNG[30:], "expected a photo"),
}


@pytest.mark.parametrize(("content", "message"), BAD.values(), ids=BAD.keys())
def test_broken_photos_are_one_line_each(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    with pytest.raises(PhotoError, match=message) as caught:
        decode_photo(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@given(st.binary(max_size=200), st.sampled_from([JPEG, PNG]), st.integers(0, 400))
@settings(max_examples=150, deadline=None)
def test_any_bytes_give_a_photo_or_a_photo_error(
    tmp_path_factory: pytest.TempPathFactory, noise: bytes, start: bytes, at: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.jpg"
    path.write_bytes(start[:at] + noise)
    try:
        photo = decode_photo(path)
    except PhotoError:
        return
    assert photo.ndim == 3


def test_what_is_no_regular_file_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(PhotoError, match="found no regular file"):
        decode_photo(tmp_path / "pipe.jpg")
    with pytest.raises(PhotoError, match="found a folder"):
        decode_photo(tmp_path)
    with pytest.raises(PhotoError, match="found no such file"):
        decode_photo(tmp_path / "none.jpg")


def test_too_many_pixels_are_refused_from_the_header_alone(tmp_path: Path) -> None:
    header = b"IHDR" + (20_000).to_bytes(4, "big") * 2 + PNG[24:29]
    claims_much = tmp_path / "bomb.png"
    claims_much.write_bytes(PNG[:12] + header + zlib.crc32(header).to_bytes(4, "big") + PNG[33:])
    with pytest.raises(PhotoError, match="80,000,000"):
        decode_photo(claims_much)
    path = save(tmp_path / "a.png", RED_LEFT)
    with pytest.raises(PhotoError, match="10x6 pixels, at most 59 are allowed"):
        decode_photo(path, max_pixels=59)
    assert decode_photo(path, max_pixels=60).shape == (6, 10, 3)


# --- prepare -------------------------------------------------------------------------------------------------------

shares = st.floats(0.05, 1.0)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 24), st.integers(1, 24), shares, shares)
@settings(max_examples=100, deadline=None)
def test_prepare_gives_the_size_and_keeps_a_flat_photo_flat(
    h: int, w: int, oh: int, ow: int, ch: float, cw: float
) -> None:
    photo = np.full((h, w, 3), (7, 130, 250), dtype=np.uint8)
    out = prepare(photo, Preprocess((oh, ow), (ch, cw)))
    assert out.shape == (oh, ow, 3)
    assert out.dtype == np.uint8
    assert out.flags.c_contiguous
    assert (out == (7, 130, 250)).all()


def test_area_shrinking_is_the_mean_of_the_block() -> None:
    photo = np.random.default_rng(1).integers(0, 256, (12, 8, 3), dtype=np.uint8)
    out = prepare(photo, Preprocess((3, 2)))
    blocks = photo.reshape(3, 4, 2, 4, 3).mean(axis=(1, 3))
    assert np.abs(out - blocks).max() <= 0.5


def test_the_crop_is_the_centre_share_of_height_and_width() -> None:
    photo = np.arange(10 * 20 * 3, dtype=np.uint8).reshape(10, 20, 3)
    out = prepare(photo, Preprocess((6, 10), (0.6, 0.5)))
    np.testing.assert_array_equal(out, photo[2:8, 5:15])
    assert not np.shares_memory(out, photo)


def test_a_quarter_is_left_of_a_photo_that_is_dark_outside() -> None:
    photo = np.zeros((20, 20, 3), dtype=np.uint8)
    photo[5:15, 5:15] = 255
    assert (prepare(photo, Preprocess((4, 4), (0.5, 0.5))) == 255).all()


def test_a_crop_in_pixels_is_height_by_width_around_the_centre() -> None:
    photo = np.random.default_rng(2).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    np.testing.assert_array_equal(prepare(photo, Preprocess((20, 10), (20, 10))), photo[10:30, 10:20])
    np.testing.assert_array_equal(prepare(photo, Preprocess((20, 30), (20, 1.0))), photo[10:30])
    with pytest.raises(
        DataError, match=r"the crop is 41x10 pixels \(height x width\), the photo only 40x30; crop less"
    ):
        prepare(photo, Preprocess((20, 10), (41, 10)))


@pytest.mark.parametrize(("at", "top", "left"), [((0.25, 0.5), 4, 10), ((0.0, 1.0), 0, 20), ((0.9, 0.45), 28, 8)])
def test_a_crop_somewhere_else_stays_inside(at: tuple[float, float], top: int, left: int) -> None:
    photo = np.random.default_rng(3).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    out = prepare(photo, Preprocess((12, 10), (12, 10), crop_at=at))
    np.testing.assert_array_equal(out, photo[top : top + 12, left : left + 10])


def test_steps_come_before_the_crop_in_order() -> None:
    photo = np.random.default_rng(4).integers(0, 256, (40, 30, 3), dtype=np.uint8)

    def left_half(photo: ByteArray) -> ByteArray:
        return photo[:, :15]

    out = prepare(photo, Preprocess((20, 15), (20, 1.0), prepare=(left_half, "invert")))
    np.testing.assert_array_equal(out, 255 - photo[10:30, :15])
    gray = prepare(photo, Preprocess((40, 30), prepare=("grayscale",)))
    assert (gray == gray[..., :1]).all()
    with pytest.raises(DataError, match=r"expected \(h, w, 3\) uint8 from .*<lambda>, found float64 \(40, 30, 3\)"):
        prepare(photo, Preprocess((40, 30), prepare=(lambda p: p / 2,)))  # type: ignore[arg-type, return-value]


@pytest.mark.parametrize("name", [n for n in PREPARERS if n != "rembg"])
def test_every_step_gives_the_same_photo_twice_and_changes_it(name: str) -> None:
    photo = np.random.default_rng(5).integers(0, 200, (40, 30, 3), dtype=np.uint8)
    before = photo.copy()
    one, two = (prepare(photo, Preprocess((40, 30), prepare=(name,))) for _ in range(2))
    np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(photo, before)
    assert not np.array_equal(one, photo)


@pytest.mark.parametrize(("weak", "strong"), [("sharpen=0.1", "sharpen=2"), ("blur=0.5", "blur=3")])
def test_an_amount_says_how_much(weak: str, strong: str) -> None:
    photo = np.random.default_rng(6).integers(80, 120, (40, 30, 3), dtype=np.uint8)
    far = [
        np.abs(prepare(photo, Preprocess((40, 30), prepare=(s,))) - photo.astype(float)).mean() for s in (weak, strong)
    ]
    assert far[0] < far[1]


def test_without_rembg_one_line_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rembg", None)
    with pytest.raises(UsageError, match=r'rembg is not installed; pip install "rembg\[cpu\]"; its model u2net.onnx'):
        prepare(RED_LEFT, Preprocess((6, 10), prepare=("rembg",)))


def test_rembg_paints_the_background_black(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in for the library: its model is a download."""

    def remove(photo: ByteArray, session: object) -> ByteArray:
        assert session == "u2net session"
        return np.dstack([photo, np.where(photo[..., 0] > 100, 255, 0)]).astype(np.uint8)

    fake = SimpleNamespace(new_session=lambda name: f"{name} session", remove=remove)
    monkeypatch.setitem(sys.modules, "rembg", fake)
    monkeypatch.setattr(preparers, "_SESSIONS", {})
    out = prepare(RED_LEFT, Preprocess((6, 10), prepare=("rembg",)))
    np.testing.assert_array_equal(out, RED_LEFT * (RED_LEFT[..., :1] > 100))


# --- Preprocess ----------------------------------------------------------------------------------------------------


def test_preprocess_round_trip() -> None:
    chosen = Preprocess((224, 192), (0.78, 0.67), (0.5, 0.4, 0.3), (0.2, 0.2, 0.1), "linear")
    assert Preprocess.from_json(chosen.to_json()) == chosen
    further = Preprocess((64, 64), (300, 0.5), crop_at=(0.4, 0.5), prepare=("grayscale", "clahe=3"))
    assert Preprocess.from_json(json.loads(json.dumps(further.to_json()))) == further
    old = {key: value for key, value in chosen.to_json().items() if key not in ("crop_at", "prepare")}
    assert Preprocess.from_json(old) == chosen
    assert Preprocess.from_json(Preprocess((64, 64), (1, 1)).to_json()) == Preprocess((64, 64))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": (0, 64)}, "size must be 2 whole numbers from 1"),
        ({"size": (64,)}, "size must be 2"),
        ({"size": 64}, "size must be 2"),
        ({"crop": (0.0, 1.0)}, "crop must be 2 shares above 0 and at most 1, or whole numbers of pixels"),
        ({"crop": (0.5, 1.1)}, "crop must be 2 shares"),
        ({"mean": (0.0, float("nan"), 0.0)}, "mean must be 3 finite numbers"),
        ({"std": (0.0, 1.0, 1.0)}, "std must be 3 positive numbers"),
        ({"crop_at": (0.5, 1.1)}, "crop_at must be 2 shares from 0 to 1"),
        ({"prepare": ("grayscle",)}, 'no step "grayscle"; did you mean "grayscale"'),
        ({"prepare": ("clahe=x",)}, 'expected a step such as clahe=2, .* found "clahe=x"'),
        ({"interpolation": "aera"}, 'interpolation "aera"; did you mean "area"'),
    ],
)
def test_bad_preprocessing(changes: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Preprocess(**({"size": (64, 64)} | changes))  # type: ignore[arg-type]
    stored = Preprocess((64, 64)).to_json() | {k: list(v) if isinstance(v, tuple) else v for k, v in changes.items()}
    with pytest.raises(DataError, match=message):
        Preprocess.from_json(stored)


def test_a_step_of_ones_own_is_stored_by_its_name_and_has_to_be_given_again() -> None:
    chosen = Preprocess((64, 64), prepare=(negative,))
    stored = chosen.to_json()
    assert stored["prepare"] == ["negative"]
    assert Preprocess.from_json(stored, {"negative": negative}) == chosen
    with pytest.raises(DataError, match='no step "negative"'):
        Preprocess.from_json(stored)


def negative(photo: ByteArray) -> ByteArray:
    return 255 - photo


@pytest.mark.parametrize("value", [None, [], {"size": [1, 2]}, {**Preprocess((1, 1)).to_json(), "more": 1}])
def test_what_is_no_stored_preprocessing(value: object) -> None:
    with pytest.raises(
        DataError,
        match="preprocessing: expected the keys crop, crop_at, interpolation, mean, prepare, size, std, window, found",
    ):
        Preprocess.from_json(value)
