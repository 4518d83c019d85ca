"""A back end that disagrees and was taken all the same is named wherever its predictions are used."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from core_oracles import face_experts, face_schema

from ensemble_kit.predictions import save_predictions
from ensemble_kit.recipe.combine import combine_sets
from ensemble_kit.recipe.evaluate import Answered
from ensemble_kit.recipe.load import load_recipe


def test_combining_says_what_was_accepted(tmp_path: Path) -> None:
    experts, graph = face_experts(3, 20, ("fold0", "fold1")), load_recipe("face-mask").graph
    enough = {"checkpoint": "mask, fold 0", "n_photos": 512, "equal": 0.995, "enough": True}
    fewer = {"checkpoint": "mask, fold 1", "n_photos": 512, "equal": 0.912, "enough": False}
    fewest = {"checkpoint": "gender, fold 1", "n_photos": 512, "equal": 0.9, "enough": False}
    for name, agreement, expected in (
        ("good", {"a": enough}, []),
        ("one", {"a": enough, "b": fewer}, ["openvino-int8: 91.2 % of torch's labels (mask, fold 1), accepted by "]),
        (
            "two",
            {"b": fewer, "c": fewest},
            ["openvino-int8: 90.0 % of torch's labels (gender, fold 1, the lowest of 2)"],
        ),
    ):
        folder = tmp_path / name
        save_predictions(folder, experts, face_schema(), backend="openvino-int8", agreement=agreement)
        report = combine_sets([folder], graph, {"route": "soft"}, tmp_path / f"{name}-results")
        assert len(report.disagreements) == len(expected)
        for text, found in zip(expected, report.disagreements, strict=True):
            assert found.startswith(f"{folder}: {text}")
            assert f"note: {found}" in report.text().splitlines()
        written = json.loads((tmp_path / f"{name}-results" / "combine.json").read_text())
        assert written.get("disagreements", []) == list(report.disagreements)


def test_scores_say_it_too() -> None:
    found = Answered([], np.zeros(0, dtype=np.int64), None, is_held_out=False, disagreement="openvino-int8: 90.0 %")
    assert found.scored_on == "the evaluation photos (openvino-int8: 90.0 %)"
