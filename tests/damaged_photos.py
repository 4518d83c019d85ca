"""Photos that are broken, hostile or unusual, made of bytes: what the tests of decoding and the campaigns share."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Mapping

import numpy as np
from PIL import Image

from ensemble_kit.arrays import ByteArray


def encoded_as(photo: ByteArray, form: str, **options: object) -> bytes:
    data = io.BytesIO()
    Image.fromarray(photo).save(data, format=form, **options)
    return data.getvalue()


FORMATS: Mapping[str, Mapping[str, object]] = {"JPEG": {"quality": 90}, "PNG": {}, "WEBP": {"quality": 80}}


def cut_short(data: bytes, rng: np.random.Generator) -> bytes:
    return data[: int(rng.integers(len(data)))]


def flipped(data: bytes, rng: np.random.Generator) -> bytes:
    at = int(rng.integers(len(data)))
    return data[:at] + bytes([data[at] ^ 1 << int(rng.integers(8))]) + data[at + 1 :]


def zeroed(data: bytes, rng: np.random.Generator) -> bytes:
    """A run of zeros, as a hole in a file; never what was there already."""
    start = int(rng.integers(len(data) // 2))
    end = start + int(rng.integers(16, len(data) // 4))
    return data[:start] + bytes(len(data[start:end])) + data[end:]


def pieces_lost(data: bytes, rng: np.random.Generator) -> bytes:
    start = int(rng.integers(len(data) - 16))
    return data[:start] + data[start + int(rng.integers(1, len(data) // 4)) :]


CORRUPTIONS: Mapping[str, Callable[[bytes, np.random.Generator], bytes]] = {
    "cut short": cut_short,
    "one bit": flipped,
    "a hole": zeroed,
    "a piece lost": pieces_lost,
}


def cannot_be_decoded(form: str, corruption: str) -> bool:
    """Whether every such file is broken for certain: what is cut short lacks its end, and PNG has checksums, which
    leave nothing out but the end mark's own."""
    return corruption == "cut short" or (form == "PNG" and corruption != "one bit")


# --- headers that claim many pixels --------------------------------------------------------------------------------

SMALL = np.full((16, 16, 3), 90, dtype=np.uint8)


def png_of(width: int, height: int) -> bytes:
    data = encoded_as(SMALL, "PNG")
    head = b"IHDR" + struct.pack(">II", width, height) + data[24:29]
    return data[:12] + head + struct.pack(">I", zlib.crc32(head)) + data[33:]


def jpeg_of(width: int, height: int) -> bytes:
    data = encoded_as(SMALL, "JPEG")
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + struct.pack(">HH", height, width) + data[at + 4 :]


def webp_of(width: int, height: int) -> bytes:
    """An animation's canvas: the kind of WebP that may be larger than 16,383 pixels a side."""
    inner = encoded_as(SMALL, "WEBP")[12:]
    frame = bytes(6) + struct.pack("<I", 15)[:3] * 2 + bytes(4) + inner
    parts = {b"VP8X": bytes([2, 0, 0, 0]) + struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]}
    parts |= {b"ANIM": bytes(6), b"ANMF": frame}
    body = b"WEBP" + b"".join(name + struct.pack("<I", len(part)) + part for name, part in parts.items())
    return b"RIFF" + struct.pack("<I", len(body)) + body


def lossless_webp_of(width: int, height: int) -> bytes:
    data = encoded_as(SMALL, "WEBP", lossless=True)
    at = data.index(b"VP8L") + 9
    sides = struct.unpack("<I", data[at : at + 4])[0] & 0xF0000000 | (width - 1) | ((height - 1) << 14)
    return data[:at] + struct.pack("<I", sides) + data[at + 4 :]


BOMBS: Mapping[str, Callable[[int, int], bytes]] = {
    "png": png_of,
    "jpeg": jpeg_of,
    "webp": webp_of,
    "lossless webp": lossless_webp_of,
}
"""Format -> a file of a few hundred bytes whose header claims (width, height)."""
