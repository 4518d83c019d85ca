"""The hash against its formula bit by bit, the pairs against two loops."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from looked_at_data import picture

from ensemble_kit.arrays import ByteArray
from ensemble_kit.data_report import hashing
from ensemble_kit.data_report.hashing import FAR, NEAR, near_pairs, nearest_other, photo_hash
from ensemble_kit.data_report.looks import _shrunk, to_grey


def bits(words: np.ndarray) -> str:
    return "".join(f"{byte:08b}" for byte in words.view(np.uint8))


def hashed(photo: ByteArray) -> np.ndarray:
    return photo_hash(_shrunk(to_grey(photo), 32, 32))


def signs(grey: ByteArray) -> dict[tuple[int, int], bool]:
    """The cosine transform as it is written down, a sum for every coefficient."""
    u = np.arange(32)
    waves = [[math.cos(math.pi * (2 * x + 1) * k / 64) for x in u] for k in range(16)]
    return {
        (row, column): float(np.outer(waves[row], waves[column]).ravel() @ grey.astype(float).ravel()) > 0
        for row in range(16)
        for column in range(16)
    }


def test_a_bit_is_the_sign_of_a_coefficient() -> None:
    grey = _shrunk(to_grey(picture(1)), 32, 32)
    wanted = signs(grey) | {(0, 0): False}
    even = [wanted[row, column] for row in range(16) for column in range(0, 16, 2)]
    odd = [wanted[row, column] for row in range(16) for column in range(1, 16, 2)]
    assert bits(photo_hash(grey)) == "".join("01"[bit] for bit in even + odd)


def test_mirroring_turns_the_odd_half_and_nothing_else() -> None:
    grey = _shrunk(to_grey(picture(2)), 32, 32)
    straight, mirrored = bits(photo_hash(grey)), bits(photo_hash(np.ascontiguousarray(grey[:, ::-1])))
    assert mirrored[:128] == straight[:128]
    assert all(a != b for a, b in zip(mirrored[128:], straight[128:], strict=True))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 14), st.integers(1, 200))
def test_pairs_are_those_of_two_loops(seed: int, n: int, block: int) -> None:
    rng = np.random.default_rng(seed)
    base = rng.integers(0, 2, (3, 256))
    rows = base[rng.integers(0, 3, n)] ^ (rng.random((n, 256)) < rng.choice([0.02, 0.1, 0.2], (n, 1)))
    turned = rng.random(n) < 0.4
    rows[turned, 128:] ^= 1
    words = np.packbits(rows.astype(bool), axis=1).view(np.uint64)
    code = rng.integers(0, 4, n)
    wanted, nearest = [], np.full(n, FAR)
    for a in range(n):
        for b in range(n):
            even, odd = (rows[a, :128] != rows[b, :128]).sum(), (rows[a, 128:] != rows[b, 128:]).sum()
            distance = int(even + min(odd, 128 - odd))
            if code[a] != code[b]:
                nearest[a] = min(nearest[a], distance)
                if a < b and distance <= NEAR:
                    wanted.append((distance, a, b, odd > 64))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hashing, "BLOCK_PAIRS", block)
        found = near_pairs(words, code)
        near = nearest_other(words, code, np.arange(n))
    told = zip(found.distance.tolist(), *found.rows.T.tolist(), found.is_mirrored.tolist(), strict=True)
    assert sorted(told) == sorted(wanted)
    assert found.distance.tolist() == sorted(found.distance.tolist())
    assert near.tolist() == nearest.tolist()
    assert not found.is_cut


def test_a_search_that_finds_too_much_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashing, "MOST_PAIRS", 10)
    monkeypatch.setattr(hashing, "BLOCK_PAIRS", 8)
    found = near_pairs(np.zeros((30, 4), dtype=np.uint64), np.arange(30))
    assert found.is_cut
    assert len(found.rows) == 10


@pytest.mark.parametrize("quality", [40, 90])
def test_the_same_photo_saved_otherwise_is_near_and_others_are_far(quality: int) -> None:
    for seed in range(8):
        photo = picture(seed, 96)
        done, data = cv2.imencode(".jpg", photo, [cv2.IMWRITE_JPEG_QUALITY, quality])
        assert done
        again = cv2.imdecode(data, cv2.IMREAD_COLOR)
        others = [
            again,
            cv2.resize(photo, (61, 70), interpolation=cv2.INTER_AREA),
            photo[:, ::-1],
            (photo * 0.7).astype(np.uint8),
        ]
        for other in others:
            words = np.stack([hashed(photo), hashed(np.ascontiguousarray(other)), hashed(picture(seed + 100, 96))])
            found = near_pairs(words, np.arange(3))
            assert found.rows.tolist() == [[0, 1]]
