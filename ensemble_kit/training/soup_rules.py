"""Which checkpoints a soup averages, by their scores (Wortsman et al. 2022)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ensemble_kit.errors import UsageError, nearest

Rule = Callable[[Sequence[float], Callable[[Sequence[int]], float]], list[int]]
"""(score of each checkpoint, score of the average of some of them) -> which ones are averaged."""


def uniform(scores: Sequence[float], score_of: Callable[[Sequence[int]], float]) -> list[int]:  # noqa: ARG001
    """All of them."""
    return list(range(len(scores)))


def greedy(scores: Sequence[float], score_of: Callable[[Sequence[int]], float]) -> list[int]:
    """From the best one down, each that does not lower the score of the average so far.

    Examples:
        >>> greedy([0.5, 0.75, 0.5], lambda members: 0.5 if 0 in members else 0.75)
        [1, 2]
    """
    order = sorted(range(len(scores)), key=lambda i: (-scores[i], i))
    chosen, best = order[:1], scores[order[0]]
    for i in order[1:]:
        score = score_of([*chosen, i])
        if score >= best:
            chosen, best = [*chosen, i], score
    return chosen


SOUPS: Mapping[str, Rule] = {"greedy": greedy, "uniform": uniform}
"""A further rule is one function and one row here; a function is accepted wherever a name is."""


def find_soup(kind: str | Rule) -> Rule:
    """The rule of a name, or the function itself; UsageError for an unknown name."""
    if callable(kind):
        return kind
    if kind not in SOUPS:
        raise UsageError(f'no soup "{kind}"{nearest(kind, SOUPS)}')
    return SOUPS[kind]
