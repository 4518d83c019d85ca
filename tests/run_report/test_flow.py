"""The picture of routes holds the numbers and names of its tables: read out of the SVG, against plain counts."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from html import unescape
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import ensemble_kit as ek
from ensemble_kit.diagnosis import Diagnosis, diagnose
from ensemble_kit.run_report.route_figures import MOST_STATES, _flow

MASK = ["worn", "incorrect", "not_worn"]


def world(n_states: int = 3) -> tuple[Diagnosis, NDArray[np.int64]]:
    """A router that errs in one direction more than in the other, and who was taken for what."""
    names = MASK[:n_states] if n_states <= 3 else [f"m{k}" for k in range(n_states)]
    schema = ek.Schema(ek.Attribute("mask", names), ek.Attribute("age", ["young", "old"]))
    wanted = np.arange(1, n_states * n_states + 1).reshape(n_states, n_states)
    wanted[0] += 7
    mask = np.repeat(np.arange(n_states), wanted.sum(axis=1))
    taken = np.concatenate([np.repeat(np.arange(n_states), row) for row in wanted])
    ids = [f"{k}.jpg" for k in range(len(mask))]
    sure = np.full((len(mask), n_states), 0.2 / n_states)
    sure[np.arange(len(mask)), taken] += 0.8
    half = np.full((len(mask), 2), 0.5)
    experts = [ek.Predictions(schema["mask"], sure, ids)]
    experts += [ek.Predictions(schema["age"], half, ids, {"mask": name}) for name in names]
    truth = schema.encode({"mask": mask, "age": np.zeros(len(mask), dtype=np.int64)})
    graph = ek.Graph({"mask": [], "age": ["mask"]})
    return diagnose(experts, schema, graph, truth, np.array(ids), n_boot=2), wanted


def titles(picture: Any) -> Counter[str]:
    """What pointing at a node or a band tells."""
    return Counter(unescape(one) for one in re.findall(r"<title[^>]*>(.*?)</title>", str(picture), re.DOTALL))


def photos(n: int) -> str:
    return f"{n:,} photo" + ("" if n == 1 else "s")


def test_bands_go_from_the_true_state_by_the_one_taken_to_its_own_expert() -> None:
    found, wanted = world()
    told = titles(_flow(found.routers[0], found).picture)
    expected = Counter[str]()
    for i, true in enumerate(MASK):
        expected[f"{true}: {photos(wanted[i].sum())}"] += 1
        expected[f"{true}: {photos(wanted[:, i].sum())}"] += 1
        expected[f"for mask={true}: {photos(wanted[:, i].sum())}"] += 1
        expected[f"{true} → for mask={true}: {photos(wanted[:, i].sum())}"] += 1
        for j, taken in enumerate(MASK):
            expected[f"{true} → {taken}: {photos(wanted[i, j])}"] += 1
    assert expected - told == Counter()
    assert sum((told - expected).values()) <= 1, told - expected  # the picture's own title


def test_rare_states_are_taken_together_and_none_is_lost() -> None:
    n = MOST_STATES + 3
    found, wanted = world(n)
    told = titles(_flow(found.routers[0], found).picture)
    kept = sorted(np.argsort(-(wanted.sum(axis=0) + wanted.sum(axis=1)), kind="stable")[:MOST_STATES].tolist())
    rest = [k for k in range(n) if k not in kept]
    for k in kept:
        assert told[f"m{k} → for mask=m{k}: {photos(wanted[:, k].sum())}"] == 1
        assert told[f"m{k} → 3 other states: {photos(wanted[k, rest].sum())}"] == 1
        assert told[f"3 other states → m{k}: {photos(wanted[rest, k].sum())}"] == 1
    assert told[f"3 other states → other experts: {photos(wanted[:, rest].sum())}"] == 1


@pytest.mark.parametrize("silent", [0, 4])
def test_photos_without_a_route_go_to_no_expert(silent: int) -> None:
    found, wanted = world()
    table = np.array(found.routers[0].confusion)
    table[1, -1] = silent
    router = replace(found.routers[0], confusion=tuple(map(tuple, table.tolist())))
    told = titles(_flow(router, found).picture)
    assert told[f"incorrect → not routed: {photos(4)}"] == told[f"not routed → none: {photos(4)}"] == bool(silent)
    assert told[f"for mask=worn: {photos(wanted[:, 0].sum())}"] == 1
