"""Counts how often each photo is decoded for a cache."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from ensemble_kit.arrays import ByteArray
from ensemble_kit.data.decode import decode_photo
from ensemble_kit.loading import decoding


def count_decodes(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """File name -> times decoded from now on, in this process."""
    counted: Counter[str] = Counter()

    def decode(path: Path) -> ByteArray:
        counted[path.name] += 1
        return decode_photo(path)

    monkeypatch.setattr(decoding, "decode_photo", decode)
    return counted
