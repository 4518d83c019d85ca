"""Greedy selection with replacement (Caruana, Niculescu-Mizil, Crew and Ksikes 2004, "Ensemble selection")."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from ensemble_kit.selection.panel import Panel, State

Key = TypeVar("Key", int, str)

TIE = 1e-12
"""Scores this near are equal: sums of losses differ by rounding."""

BAG_SHARE = 0.5
"""Of each block's voters, in a bag (their p)."""


def select(panel: Panel, fold: int, *, rounds: int, start: int, bags: int, seed: int) -> State:
    """How often each voter counts, by the photos outside `fold`.

    Args:
        rounds: votes added to each block.
        start: begin with the N best voters of each block, each once.
        bags: 0 = one climb with all voters; else so many, each with a random half, their counts added.
        seed: of the bags.
    """
    everyone = [list(range(len(names))) for names in panel.voters]
    if bags == 0:
        return _climb(panel, fold, everyone, rounds, start)
    random = np.random.default_rng(seed)
    found = []
    for _ in range(bags):
        chosen = [
            sorted(random.permutation(len(block))[: max(1, round(BAG_SHARE * len(block)))].tolist())
            for block in everyone
        ]
        found.append(_climb(panel, fold, chosen, rounds, start))
    return tuple(tuple(sum(counts) for counts in zip(*block, strict=True)) for block in zip(*found, strict=True))


def rank(panel: Panel, fold: int, block: int, allowed: Sequence[int]) -> list[int]:
    """Some voters of a block, the best alone first, equal ones by name; other blocks keep their plain vote."""
    scores = {voter: panel.score(_with(panel.all(), block, [voter], panel), fold) for voter in allowed}
    ranked: list[int] = []
    while scores:
        best = _first_best(scores)
        ranked.append(best)
        del scores[best]
    return ranked


def singles(voters: Sequence[Sequence[str]]) -> dict[str, State]:
    """The voters that every block has, each alone, by name."""
    common = [name for name in voters[0] if all(name in names for names in voters)]
    return {name: tuple(tuple(int(n == name) for n in names) for names in voters) for name in common}


def best_single(panel: Panel, fold: int) -> tuple[str, State]:
    """The best voter alone by the photos outside `fold`; where blocks share none, the best of each."""
    alone = singles(panel.voters)
    if alone:
        name = _first_best({name: panel.score(state, fold) for name, state in alone.items()})
        return name, alone[name]
    places = [rank(panel, fold, block, range(len(names)))[0] for block, names in enumerate(panel.voters)]
    state = panel.all()
    for block, place in enumerate(places):
        state = _with(state, block, [place], panel)
    return "each expert's best", state


def _climb(panel: Panel, fold: int, allowed: Sequence[Sequence[int]], rounds: int, start: int) -> State:
    """The best state on the way, the earliest of equal ones."""
    state = panel.all()
    for block, voters in enumerate(allowed):
        state = _with(state, block, rank(panel, fold, block, voters)[:start], panel)
    best, best_score = state, panel.score(state, fold)
    for _ in range(rounds):
        for block, voters in enumerate(allowed):
            if len(voters) == 1:
                continue
            panel.answers.base(state)
            longer = {voter: _added(state, block, voter) for voter in voters}
            voter = _first_best({voter: panel.score(longer[voter], fold) for voter in voters})
            state = longer[voter]
            score = panel.score(state, fold)
            if score > best_score + TIE:
                best, best_score = state, score
    return best


def _first_best(scores: dict[Key, float]) -> Key:
    highest = max(scores.values())
    return next(key for key, score in scores.items() if score >= highest - TIE)


def _with(state: State, block: int, voters: Sequence[int], panel: Panel) -> State:
    counts = tuple(int(voter in voters) for voter in range(len(panel.voters[block])))
    return (*state[:block], counts, *state[block + 1 :])


def _added(state: State, block: int, voter: int) -> State:
    counts = tuple(count + (place == voter) for place, count in enumerate(state[block]))
    return (*state[:block], counts, *state[block + 1 :])
