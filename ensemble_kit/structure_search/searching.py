"""The search: every structure scored on held-out answers, the choice scored on samples that had no part in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ensemble_kit.arrays import FloatArray, IdArray, IntArray
from ensemble_kit.errors import DataError, UsageError, nearest
from ensemble_kit.joint import best_columns, forward, make_plan
from ensemble_kit.metrics import METRICS, Drawn, People, Tally, View, interval
from ensemble_kit.routing import Route, find_route
from ensemble_kit.structure_report import Gain
from ensemble_kit.structure_search.candidates import Candidate, Role
from ensemble_kit.structure_search.choosing import LEVEL, choose_simplest
from ensemble_kit.structure_search.result import Scored, StructureSearch, Unscored
from ensemble_kit.structure_search.sources import Source

INNER_DRAWS = 300
"""Draws of people for each choice without a fold; its score has all the draws asked for."""

MIN_PEOPLE = 10
"""With fewer, resampled people say little about new ones (as in `diagnose`)."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Settings:
    """How to score and choose.

    Attributes:
        metric: a name in METRICS.
        route: of every node with parents.
        n_boot: draws of people.
        seed: of the draws.
        level: of the rule, see `choose_simplest`.
    """

    metric: str = "macro_f1"
    route: str | Route = "soft"
    n_boot: int = 1000
    seed: int = 0
    level: float = LEVEL

    def __post_init__(self) -> None:
        if self.metric not in METRICS:
            raise UsageError(f'unknown metric "{self.metric}"{nearest(self.metric, METRICS)}')
        if self.n_boot < 100:
            raise UsageError(f"draws: expected 100 or more, found {self.n_boot}; fewer say nothing of rare chances")
        if not 0.5 < self.level < 1:
            raise UsageError(f"level: expected more than 0.5 and less than 1, found {self.level}")
        find_route(self.route)


def search(
    source: Source, candidates: Sequence[Candidate], settings: Settings, progress: Progress | None = None
) -> StructureSearch:
    """Scores every candidate that the source has the experts for, chooses, and scores the choosing.

    On all samples the rule of `choose_simplest` names a structure. The same rule chooses again without each fold, and
    what it chose answers that fold: the score of these answers, over all folds, is the search's own, and is held
    against the independent and the flat structure in the same draws of people.

    Args:
        candidates: in the order of simplicity.
        progress: called with (roles answered, in all).

    Raises:
        DataError: no candidate can be scored, or fewer than `MIN_PEOPLE` people.
    """
    can = [all(source.has(role) for role in candidate.roles) for candidate in candidates]
    scorable = [candidate for candidate, is_there in zip(candidates, can, strict=True) if is_there]
    unscored = [
        Unscored(candidate, tuple(role for role in candidate.roles if not source.has(role)))
        for candidate, is_there in zip(candidates, can, strict=True)
        if not is_there
    ]
    if not scorable:
        raise DataError("no structure has all of its experts yet; train those of one first")
    scoring = _Scoring(source, scorable, settings, progress)
    labels = scoring.labels(None)
    everyone = np.arange(len(source.truth))
    values, draws = scoring.scores(labels, everyone, settings.n_boot)
    chosen, beaten_by = scoring.choose(values, draws, scoring.n_people)
    picks = []
    nested = np.full(len(source.truth), -1, dtype=np.int64)
    for fold in range(int(source.folds.max()) + 1):
        inside = source.folds == fold
        others = np.flatnonzero(~inside)
        seen = scoring.scores(scoring.labels(fold), others, INNER_DRAWS)
        pick, _ = scoring.choose(*seen, len(np.unique(scoring.people[others])))
        nested[inside] = labels[pick][inside]
        picks.append(scorable[pick])
    own_value, own_draws = scoring.scores([nested], everyone, settings.n_boot)  # the same draws: the same seed
    values, draws = np.concatenate([values, own_value]), np.concatenate([draws, own_draws])
    independent = next((i for i, c in enumerate(scorable) if c.is_independent), None)
    flat = next((i for i, c in enumerate(scorable) if c.is_flat), None)

    def gain(one: int, other: int | None) -> Gain | None:
        if other is None:
            return None
        return Gain(float(values[one] - values[other]), interval(draws[one] - draws[other]))

    return StructureSearch(
        schema=source.schema,
        metric=settings.metric,
        n_samples=len(source.truth),
        n_people=None if source.groups is None else scoring.n_people,
        n_folds=len(picks),
        n_boot=settings.n_boot,
        is_refitted=source.is_refitted,
        scored=tuple(
            Scored(c, Gain(float(values[i]), interval(draws[i])), gain(i, independent)) for i, c in enumerate(scorable)
        ),
        unscored=tuple(unscored),
        chosen=scorable[chosen],
        beaten_by={scorable[i].name: scorable[j].name for i, j in beaten_by.items()},
        picks=tuple(picks),
        nested=Gain(float(values[-1]), interval(draws[-1])),
        over_independent=gain(-1, independent),
        over_flat=gain(-1, flat),
    )


class _Scoring:
    """The candidates' labels, with and without a fold, and their scores in draws of people."""

    def __init__(self, source: Source, candidates: Sequence[Candidate], settings: Settings, progress: Progress | None):
        self.source, self.settings, self.progress = source, settings, progress
        self.people: IdArray = np.arange(len(source.truth)).astype(np.str_) if source.groups is None else source.groups
        self.n_people = len(np.unique(self.people))
        if self.n_people < MIN_PEOPLE:
            raise DataError(f"structures: expected {MIN_PEOPLE} people or more to tell by, found {self.n_people}")
        self.plans = [make_plan(source.schema, c.graph, c.experts(source.schema)) for c in candidates]
        self.roles = [candidate.roles for candidate in candidates]
        self.sizes = [candidate.size for candidate in candidates]
        self.independent = [candidate.is_independent for candidate in candidates]
        self.needed = list(dict.fromkeys(role for own in self.roles for role in own))
        self.route = find_route(settings.route)
        self._n_done, self._n_steps = 0, len(self.needed) * (int(source.folds.max()) + 2)
        self._whole: list[IntArray] | None = None

    def labels(self, without: int | None) -> list[IntArray]:
        """Of every candidate `(n_samples,)`; in the fold that is left out they mean nothing."""
        if self._whole is not None and not self.source.is_refitted:
            return self._whole
        answers: dict[Role, FloatArray] = {}
        for role in self.needed:
            answers[role] = self.source.answers(role, without)
            self._n_done += 1
            if self.progress is not None:
                self.progress(self._n_done, self._n_steps)
        found = [self._label(number, answers) for number in range(len(self.plans))]
        if without is None:
            self._whole = found
        return found

    def _label(self, number: int, answers: dict[Role, FloatArray]) -> IntArray:
        plan, roles = self.plans[number], self.roles[number]

        def read(expert: int, rows: IntArray) -> FloatArray:
            probs = answers[roles[expert]]
            return probs if len(rows) == len(probs) else probs[rows]

        routes = {step.node: self.route for step in plan.steps if step.node.parents}
        return best_columns(forward(plan, len(self.source.truth), read, routes).joint)

    def scores(self, labels: Sequence[IntArray], rows: IntArray, n_boot: int) -> tuple[FloatArray, FloatArray]:
        """Of each answer `(n_answers,)` on some samples, and in each draw of their people `(n_answers, n_boot)`."""
        views = [View.all(self.source.schema.n_joint)]
        tallies = [Tally(self.source.truth[rows], own[rows], views) for own in labels]
        place, once = list(METRICS).index(self.settings.metric), Drawn.once(len(rows))
        values = np.array([tally.scores(once)[0, place, 0] for tally in tallies])
        drawn = People(self.people[rows], n_boot, self.settings.seed).scores(tallies)
        return values, np.stack([found[0, place] for found in drawn])

    def choose(self, values: FloatArray, draws: FloatArray, n_people: int) -> tuple[int, dict[int, int]]:
        """By scores: the candidate, and for each simpler one the candidate that beat it."""
        order = sorted(range(len(values)), key=lambda i: (self.sizes[i], not self.independent[i], -values[i]))
        found = choose_simplest(values[order], draws[order], n_people, self.settings.level)
        return order[found.number], {order[i]: order[j] for i, j in enumerate(found.beaten_by)}
