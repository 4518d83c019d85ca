"""Cases with every fitted quantity fixed, all numbers of a result, and one hash over many of them.

Run as a program it prints that hash, which may depend neither on the hash seed nor on the order that conditions are
written in.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from core_oracles import ROUTE_GATES, Case, random_case, random_probs, sample_ids
from numpy.typing import NDArray

from ensemble_kit.calibration import Temperature
from ensemble_kit.ensemble import Combined, ConditionalEnsemble
from ensemble_kit.graph import Graph
from ensemble_kit.predictions import Predictions
from ensemble_kit.routing import ROUTERS
from ensemble_kit.schema import Attribute, Schema
from ensemble_kit.shift import PriorShift
from ensemble_kit.stacking.model import Stacking
from ensemble_kit.voting import FIXED_VOTES

ROUTES = tuple(ROUTE_GATES)
RULES = (*FIXED_VOTES, "stacking")
VOTE_AT = ("expert", "joint")
VOTERS = ("fold0", "fold1", "fold2")


def crowd(case: Case, seed: int, voters: Sequence[str] = VOTERS, dtype: str = "float64", silent: float = 0.1) -> Case:
    """The same case with several voters, some rows of which abstain."""
    random = np.random.default_rng(seed)
    experts = []
    for expert in case.experts:
        probs = random_probs(random, len(voters), case.n_samples, len(expert.classes)).astype(dtype)
        probs[random.random(probs.shape[:2]) < silent] = 0
        experts.append(_with(expert, list(probs), expert.ids, voters))
    return Case(case.schema, case.graph, experts, case.fallback, case.n_samples, case.edges)


def rows_of(case: Case, rows: Any) -> Case:
    """Some of the photos, in any order and number, under new ids."""
    ids = sample_ids(len(rows))
    experts = [_with(e, [layer[rows] for layer in e.layers], ids, e.voters) for e in case.experts]
    return Case(case.schema, case.graph, experts, case.fallback, len(rows), case.edges)


def _with(expert: Predictions, layers: list[Any], ids: Any, voters: Sequence[str]) -> Predictions:
    return Predictions(expert.attributes, layers, ids, expert.condition, expert.classes, voters)


def combine(case: Case, **options: Any) -> Combined:
    return ConditionalEnsemble(case.schema, case.graph, case.experts, fallback=case.fallback).combine(**options)


def fixed_options(case: Case, seed: int, route: str, rule: str, vote_at: str) -> dict[str, Any]:
    """Options with fixed temperatures, prior shifts, weights and, for "stacking", a stacked vote for every place."""
    random = np.random.default_rng(seed)
    sizes = {expert.describe(): len(expert.classes) for expert in case.experts}
    adjust = {name: _adjust(random, size) for name, size in sizes.items()}  # all, or a node's pooled one would do
    if random.random() < 0.5:
        adjust["joint"] = _adjust(random, case.schema.n_joint)
    options: dict[str, Any] = {"route": route, "vote_at": vote_at, "adjust": adjust, "dtype": "float64"}
    voters = case.experts[0].voters
    if rule != "stacking":
        return options | {"vote": rule, "weights": dict(zip(voters, (0.3, 1.0, 2.5), strict=True))}
    if vote_at == "joint":
        sizes = {"joint": case.schema.n_joint}
    return options | {"vote": {name: fixed_stack(random, voters, name, size) for name, size in sizes.items()}}


def _adjust(random: np.random.Generator, n_classes: int) -> Temperature | PriorShift:
    if n_classes == 1 or random.random() < 0.5:
        return Temperature(float(random.choice([0.4, 1.0, 2.3])))
    shares = random.random((2, n_classes)) + 0.1
    old, new = shares / shares.sum(axis=1, keepdims=True)
    return PriorShift.known([str(number) for number in range(n_classes)], old, new)


def fixed_stack(random: np.random.Generator, voters: Sequence[str], where: str, n_classes: int) -> Stacking:
    """Any coefficients; a class may not have been seen in the fit."""
    seen = random.random(n_classes) < 0.8
    seen[random.integers(n_classes)] = True
    present = np.flatnonzero(seen).astype(np.int64)
    intercept = random.normal(size=len(present))
    coefficients = random.normal(size=(len(voters), n_classes, len(present))) / 2
    return Stacking(tuple(sorted(voters)), None, n_classes, present, intercept, coefficients, 1.0, where)


def numbers_of(result: Combined) -> dict[str, NDArray[Any]]:
    """All that a result says of each photo `(n_samples, ...)`."""
    found: dict[str, NDArray[Any]] = {"joint": np.asarray(result.joint.layers[0]), "distance": result.distance}
    found["n_answered"] = result.trace.n_answered
    for what, by_node in (("gate", result.gates), ("confidence", result.confidence), ("kept", result.kept)):
        found |= {f"{what} of {node.name}": values for node, values in by_node.items()}
    return found | {decide: result.labels(decide) for decide in ("joint", "attribute", "top_down")}


def written_in(order: int) -> Case:
    """Sets of classes and several parents in conditions; order 1 writes all of them the other way round."""
    step = 1 - 2 * order
    mask, sex = Attribute("mask", ["worn", "incorrect", "not_worn"]), Attribute("sex", ["male", "female"])
    schema = Schema(mask, sex, Attribute("age", ["<30", "30-59", ">=60"]))
    covered: list[Mapping[str, list[str]]] = [
        {"mask": ["worn", "incorrect"], "sex": ["male"]},
        {"mask": ["worn", "incorrect", "not_worn"], "sex": ["female"]},
        {"mask": ["not_worn"]},
        {},
    ]
    random, ids = np.random.default_rng(3), sample_ids(30)
    experts = [Predictions(schema[name], random_probs(random, 3, 30, len(schema[name].classes)), ids) for name in ("mask", "sex")]  # fmt: skip
    for condition in covered:
        turned = {name: condition[name][::step] for name in list(condition)[::step]}
        experts.append(Predictions(schema["age"], random_probs(random, 3, 30, 3), ids, turned))
    graph = Graph({"mask": [], "sex": [], "age": ["mask", "sex"]})
    return Case(schema, graph, experts[::step], "pooled", 30)


def digest_of(case: Case, choices: Sequence[tuple[str, str]]) -> str:
    """SHA-256 over all that results say, by (route, vote) at both places."""
    found = hashlib.sha256()
    for route, rule in choices:
        for vote_at in VOTE_AT:
            result = combine(case, **fixed_options(case, 7, route, rule, vote_at))
            for name, values in numbers_of(result).items():
                found.update(name.encode() + str(values.dtype).encode() + np.ascontiguousarray(values).tobytes())
            found.update(repr(sorted(result.counts.items())).encode())
    return found.hexdigest()


def main() -> None:
    cases = [random_case(15, taxonomy=taxonomy, rich=True, n_samples=9) for taxonomy in (False, True)]
    product, taxonomy = (crowd(case, 8) for case in cases)
    print(digest_of(product, [(route, "soft") for route in ROUTERS]))
    print(digest_of(taxonomy, [("top_k", rule) for rule in RULES]))
    print(digest_plain(written_in(0)), digest_plain(written_in(1)))


def digest_plain(case: Case) -> str:
    """As a user would combine: no option depends on the order of the experts."""
    found = hashlib.sha256()
    for route in ROUTERS:
        for vote_at in VOTE_AT:
            found.update(np.ascontiguousarray(combine(case, route=route, vote_at=vote_at).joint.layers[0]).tobytes())
    return found.hexdigest()


if __name__ == "__main__":
    main()
