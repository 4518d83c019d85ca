"""All facts of a data report, from tables, looks and answers to what the page and `--json` tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ensemble_kit.arrays import IntArray
from ensemble_kit.data.check import DataReport
from ensemble_kit.data.fixes import Fix
from ensemble_kit.data_report.answers import Answers
from ensemble_kit.data_report.doubts import (
    Contradiction,
    LabelDoubts,
    find_contradictions,
    find_doubts,
    suggested,
)
from ensemble_kit.data_report.duplicates import Duplicates, find_duplicates
from ensemble_kit.data_report.looks import Looks
from ensemble_kit.data_report.measures import Sizes, Spread, sizes_of, spreads_of
from ensemble_kit.data_report.photos import Photos
from ensemble_kit.data_report.sheets import Sheet, sheets_of
from ensemble_kit.data_report.suspects import Cut
from ensemble_kit.schema import near_border

PARTS = ("training", "evaluation", "extra")


@dataclass(frozen=True)
class Measured:
    """One measured attribute (an age) of the training part.

    Attributes:
        counts: number, rounded down -> photos.
        people: the same of people (photos where nobody is known).
        borders: of its classes.
        n_near: people whose number would be in another class if off by `NEAR_BORDER`.
        n_people: people that have a number.
        cap: the highest number when it stands for itself and above, as a count far above its neighbours says.
    """

    counts: dict[float, int]
    people: dict[float, int]
    borders: tuple[float, ...]
    n_near: int
    n_people: int
    cap: float | None

    def to_json(self) -> dict[str, Any]:
        return {
            "photos": {f"{number:g}": n for number, n in self.counts.items()},
            "people": {f"{number:g}": n for number, n in self.people.items()},
            "borders": list(self.borders),
            "people_near_a_border": self.n_near,
            "people_with_a_number": self.n_people,
            "cap": self.cap,
        }


BELOW_CAP = 5
"""A highest number with more people than so many numbers below it together is taken for a cap."""


@dataclass(frozen=True)
class DataFacts:
    """What a page about a data set says, before it is said.

    Attributes:
        check: what `ens data check` finds.
        photos: every photo with its labels.
        measured: attribute -> its numbers.
        sizes, spreads: what the photos are like; None and empty where none could be read.
        duplicates: photos of different people that are one.
        contradictions: their labels that differ.
        run: the run whose answers were asked; None = none was.
        cut: how the list of doubts was ended.
        doubts: an entry for each attribute asked; empty without a run.
        sheets: photos by class.
        listed: rows of the fix list in force on these data.
        n_shared_people: people of the training part whose name occurs in the evaluation part.
    """

    check: DataReport
    photos: Photos
    measured: dict[str, Measured]
    sizes: Sizes | None
    spreads: tuple[Spread, ...]
    duplicates: Duplicates
    contradictions: tuple[Contradiction, ...]
    run: str | None
    cut: str
    doubts: tuple[LabelDoubts, ...]
    sheets: tuple[Sheet, ...]
    listed: tuple[Fix, ...]
    n_shared_people: int

    @property
    def suggested(self) -> list[Fix]:
        """The list in force and behind it all that is suggested: a whole list, to be used in its place."""
        return [*self.listed, *suggested(self.doubts, self.contradictions)]

    def to_json(self) -> dict[str, Any]:
        return {
            **self.check.to_json(),
            "measured": {name: one.to_json() for name, one in self.measured.items()},
            "photo_sizes": None if self.sizes is None else self.sizes.to_json(),
            "photo_measures": {one.name: one.to_json() for one in self.spreads},
            "duplicates": self.duplicates.to_json(),
            "run": self.run,
            "suspects": self.cut if self.run is not None else None,
            "doubts": [one.to_json() for one in self.doubts],
            "contact_sheets": [one.to_json() for one in self.sheets],
            "suggested_fixes": [list(fix.cells) for fix in self.suggested],
            "people_in_both_parts": self.n_shared_people,
        }


def gather_facts(
    check: DataReport,
    looks: Looks,
    folds: IntArray,
    *,
    answers: Answers | None = None,
    run: str | None = None,
    cut: tuple[str, Cut],
    listed: Sequence[Fix] = (),
) -> DataFacts:
    """Facts from what was read and seen.

    Args:
        check: of the same data.
        looks: filled by `check_data`; its first table is the training part.
        folds: `(n_train,)`, -1 = never held out; empty where the data cannot be divided.
        answers: a run's, out of fold; None = no doubts are looked for.
        run: what the run is called.
        cut: name and function, see `suspects.CUTS`.
        listed: rows of the fix list that was applied.
    """
    names = [PARTS[0], *(PARTS[1:2] if check.eval is not None else ()), PARTS[2]]
    photos = Photos(looks, tuple(names[: len(looks.tables)]), folds)
    duplicates = find_duplicates(photos)
    return DataFacts(
        check=check,
        photos=photos,
        measured=_measured(photos),
        sizes=sizes_of(photos),
        spreads=spreads_of(photos),
        duplicates=duplicates,
        contradictions=find_contradictions(photos, duplicates.pairs, answers, listed),
        run=run,
        cut=cut[0],
        doubts=() if answers is None else find_doubts(photos, answers, cut[1], listed),
        sheets=sheets_of(photos),
        listed=tuple(listed),
        n_shared_people=_shared(photos),
    )


def _measured(photos: Photos) -> dict[str, Measured]:
    table, found = photos.train, {}
    _, person = np.unique(table.groups, return_inverse=True)
    for attribute in table.schema.attributes:
        if attribute.borders is None or not table.has(attribute.name):
            continue
        values = table.frame[attribute.name].to_numpy(dtype=np.float64)
        has = ~np.isnan(values)
        whole = np.floor(values[has])
        each = np.unique(np.stack([person.ravel()[has], whole], axis=1), axis=0)[:, 1]
        near = near_border(each, attribute.borders)
        people = _counted(each)
        found[attribute.name] = Measured(
            _counted(whole), people, attribute.borders, int(near.sum()), len(each), cap_of(people)
        )
    return found


def _counted(values: Any) -> dict[float, int]:
    numbers, counts = np.unique(values, return_counts=True)
    return dict(zip(numbers.tolist(), counts.tolist(), strict=True))


def cap_of(people: dict[float, int]) -> float | None:
    """The highest number, when it has more people than the `BELOW_CAP` below it together, and at least 5.

    Examples:
        >>> cap_of({58.0: 2, 59.0: 3, 60.0: 40}), cap_of({58.0: 2, 59.0: 3, 60.0: 5}), cap_of({})
        (60.0, None, None)
    """
    if len(people) < 3:
        return None
    highest = max(people)
    below = sum(people.get(highest - step, 0) for step in range(1, BELOW_CAP + 1))
    return highest if people[highest] >= 5 and people[highest] > below else None


def _shared(photos: Photos) -> int:
    if PARTS[1] not in photos.names or not all(photos.has_people[:2]):
        return 0
    train, other = (set(table.groups.tolist()) for table in photos.looks.tables[:2])
    return len(train & other)
