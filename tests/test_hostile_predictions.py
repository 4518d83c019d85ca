"""A prediction set whose `predictions.json` was altered: one error when it is read, or it combines; never a crash.

`pytest -m slow -s tests/test_hostile_predictions.py` puts every value of the pool into every place.
"""

from __future__ import annotations

import copy
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from core_oracles import FACE_GRAPH, face_experts, face_schema
from hostile_json import POOL, places

from ensemble_kit.ensemble import ConditionalEnsemble
from ensemble_kit.errors import DataError, UsageError
from ensemble_kit.predictions import load_predictions, save_predictions

GONE = object()


def put(value: Any, place: tuple[Any, ...], new: Any) -> Any:
    """A copy with another value in one place, or without it."""
    changed = copy.deepcopy(value)
    *way, last = place
    inside = changed
    for key in way:
        inside = inside[key]
    if new is GONE:
        del inside[last]
    else:
        inside[last] = copy.deepcopy(new)
    return changed


def alterations(value: Any) -> Iterator[tuple[tuple[Any, ...], Any]]:
    for place in places(value):
        yield from ((place, new) for new in (*POOL, GONE))


@pytest.mark.parametrize("every", [37, pytest.param(1, marks=pytest.mark.slow)])
def test_it_is_refused_or_combines(tmp_path: Path, every: int) -> None:
    schema = face_schema()
    save_predictions(tmp_path, face_experts(4, 6, ("fold0", "fold1"), pooled=True), schema)
    file = tmp_path / "predictions.json"
    written = json.loads(file.read_text())
    expected = answers(tmp_path)
    counts: Counter[str] = Counter()
    for place, new in list(alterations(written))[::every]:
        file.write_text(json.dumps(put(written, place, new)))
        try:
            found = answers(tmp_path)
        except DataError:
            counts["refused"] += 1
        except UsageError:  # an expert is missing, or of other people
            counts["no such ensemble"] += 1
        else:
            counts["read"] += 1
            assert len(found) == len(expected), (place, new)
    print(f"\n{counts.total()} altered prediction sets: {dict(counts)}")


def answers(folder: Path) -> Any:
    ensemble = ConditionalEnsemble(face_schema(), FACE_GRAPH, load_predictions(folder), fallback="pooled")
    ensemble.describe()
    return ensemble.combine(route="hard", vote="soft").labels("joint")


@pytest.mark.parametrize(
    ("place", "new"),
    [
        (("experts", 0, "voters", 0, "name"), None),
        (("experts", 0, "voters", 1, "name"), 3),
        (("experts", 0, "classes", 0), 7),
        (("experts", 2, "condition", "mask"), "worn"),
        (("experts", 2, "condition", "mask", 0), 1),
    ],
)
def test_what_is_no_text_is_named(tmp_path: Path, place: tuple[Any, ...], new: Any) -> None:
    experts = sorted(face_experts(4, 6, ("fold0", "fold1")), key=lambda expert: len(expert.condition))
    save_predictions(tmp_path, experts, face_schema())
    file = tmp_path / "predictions.json"
    file.write_text(json.dumps(put(json.loads(file.read_text()), place, new)))
    with pytest.raises(DataError, match=f"predictions.json: not readable .*{np.asarray(new).item()!r}"):
        load_predictions(tmp_path)
