"""Where the drawing code shows an attribute, and that trained experts look there."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ensemble_kit.data.drawing.population import STATES, draw_people
from ensemble_kit.data.drawing.portrait import draw_photo
from ensemble_kit.data.drawing.regions import cue_region
from ensemble_kit.errors import UsageError

SIZE = (64, 48)
PEOPLE = draw_people(30, "training", (3, 1))[:2]


@pytest.mark.parametrize("state", STATES)
def test_a_cue_lies_where_it_is_drawn(state: str) -> None:
    """By the rows of the face: a mask over its lower half; the age above a worn mask, in the middle, or below."""
    regions = {name: [cue_region(name, one, state, 4, SIZE) for one in PEOPLE] for name in ("mask", "age", "gender")}
    middle = {name: np.mean([one.nonzero()[0].mean() for one in found]) for name, found in regions.items()}
    assert middle["mask"] > 32
    order = {"worn": -1, "incorrect": 0, "not_worn": 1}
    assert np.sign(round((middle["age"] - 36) / 7)) == order[state]
    shares = [one.mean() for found in regions.values() for one in found]
    assert min(shares) > 0.01
    assert max(shares) < 0.6


def test_the_mask_is_within_its_region() -> None:
    """The pixels of one strong colour that only the mask has."""
    for person in PEOPLE:
        bare, worn = (draw_photo(person, state, 0, SIZE).astype(float) for state in ("not_worn", "worn"))
        region = cue_region("mask", person, "worn", 0, SIZE)
        same_pose = cue_region("mask", person, "not_worn", 0, SIZE)
        differs = np.abs(bare - worn).mean(axis=2) > 60
        assert (differs & region).sum() >= 0.5 * differs.sum()
        assert (region & same_pose).sum() >= 0.6 * region.sum()


def test_another_attribute_is_told() -> None:
    with pytest.raises(UsageError, match='no drawn cue of "hat"'):
        cue_region("hat", PEOPLE[0], "worn", 0, SIZE)


@pytest.mark.slow
def test_experts_of_a_quickstart_look_at_the_cue(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of all rightly answered photos at least 80 % have the peak on the cue, and each expert that has learnt its question
    (nine in ten right) looks there far more than by chance. Within half a cell: where in its cell a peak lies a map of
    16 x 12 cannot tell."""
    pytest.importorskip("captum")
    sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
    try:
        import explain  # type: ignore[import-not-found, unused-ignore]
    finally:
        sys.path.pop(0)
    from ensemble_kit.cli.progress import TerminalWatcher
    from ensemble_kit.recipe.quickstart import run_quickstart

    run_quickstart(tmp_path / "q", TerminalWatcher(), people=160, seed=1, flags={"threads": 1})
    found: dict[str, Any] = explain.count(tmp_path / "q", 40)
    with capsys.disabled():
        for name, row in found.items():
            print(f"\n{name}: " + ", ".join(f"{what} {value:.2f}" for what, value in row.items()))
    assert found[explain.TOGETHER]["within 2 pixels"] >= 0.8
    learnt = {name: row for name, row in found.items() if row["right"] >= 0.9}
    assert {"mask", "gender", "age given mask=worn"} <= set(learnt)
    for near in ("", "within 2 pixels "):
        seen = {name: row[near.strip() or "peak on the cue"] - row[f"{near}by chance"] for name, row in learnt.items()}
        assert min(seen.values()) > 0.15, seen
