"""Which photos a picture shows: an honest sample, not the prettiest answers."""

from __future__ import annotations

import numpy as np

from ensemble_kit.arrays import BoolArray, IdArray, IntArray
from ensemble_kit.errors import UsageError


def choose_rows(
    states: IntArray, is_right: BoolArray, *, per_state: int, seed: int, groups: IdArray | None = None
) -> IntArray:
    """Chooses photos spread over the states, with as large a share of wrong answers as among all photos.

    The wrong ones are shared out among the states by the states' own error rates (largest remainder); within a state
    the choice is random. Photos of people not shown yet come first.

    Args:
        states: `(n_samples,)` the state each photo was routed to; -1 = leave the photo out.
        is_right: `(n_samples,)` whether the joint answer is right.
        per_state: photos wanted for each state that occurs; fewer where there are not as many.
        seed: of the random choice.
        groups: `(n_samples,)` who is on the photo.

    Returns:
        Row numbers, by state, at most `per_state` each; random order within a state.
    """
    if states.shape != is_right.shape or per_state < 1:
        raise UsageError(f"choose_rows: {states.shape} states, {is_right.shape} answers, {per_state} photos a state")
    rng = np.random.default_rng(seed)
    found = np.unique(states[states >= 0])
    rows_of = [np.flatnonzero(states == state) for state in found]
    room = np.array([min(per_state, len(rows)) for rows in rows_of], dtype=np.int64)
    wrong_of = np.array([int((~is_right[rows]).sum()) for rows in rows_of], dtype=np.int64)
    n_wrong = _share_out(room, wrong_of, np.array([len(rows) for rows in rows_of], dtype=np.int64))
    people = np.arange(len(states)).astype(np.str_) if groups is None else groups
    shown: set[str] = set()
    chosen: list[int] = []
    for rows, n_places, n_bad in zip(rows_of, room, n_wrong, strict=True):
        order = rng.permutation(rows)
        picked = _pick(order[~is_right[order]], int(n_bad), people, shown)
        picked += _pick(order[is_right[order]], int(n_places - n_bad), people, shown)
        chosen += rng.permutation(np.array(picked, dtype=np.int64)).tolist()
    return np.array(chosen, dtype=np.int64)


def _share_out(room: IntArray, n_wrong: IntArray, n_rows: IntArray) -> IntArray:
    """How many wrong answers each state shows: in all the overall share of the places, by the states' error rates."""
    if not len(room):
        return room
    total = round(int(room.sum()) * int(n_wrong.sum()) / int(n_rows.sum()))
    wish = room * n_wrong / n_rows
    wish = wish * (total / wish.sum()) if wish.sum() else wish
    most = np.minimum(room, n_wrong)
    least = np.maximum(0, room - (n_rows - n_wrong))
    given = np.clip(np.floor(wish).astype(np.int64), least, most)
    for _ in range(max(0, total - int(given.sum()))):
        lack = np.where(given < most, wish - given, -np.inf)
        if not np.isfinite(lack).any():
            break
        given[int(lack.argmax())] += 1
    return given


def _pick(rows: IntArray, n: int, people: IdArray, shown: set[str]) -> list[int]:
    """The first `n` of the rows, those of people not shown yet before the others; notes who is shown."""
    picked: list[int] = []
    for again in (False, True):
        for row in rows.tolist():
            if len(picked) < n and row not in picked and (again or str(people[row]) not in shown):
                picked.append(row)
                shown.add(str(people[row]))
    return picked
