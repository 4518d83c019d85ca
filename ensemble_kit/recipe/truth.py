"""What the right answers are, from the evaluation samples of a data set or from a file of answers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ensemble_kit.arrays import IdArray, IntArray
from ensemble_kit.errors import DataError
from ensemble_kit.ids import match_ids
from ensemble_kit.schema import Schema
from ensemble_kit.submission import read_submission

if TYPE_CHECKING:
    from ensemble_kit.data.samples import SampleTable


@dataclass(frozen=True)
class Truth:
    """The true joint classes of some photos, and who is on them.

    Attributes:
        joint: `(n_samples,)` joint index.
        groups: `(n_samples,)` the person of each photo; None = nobody knows, so there are no intervals.
        source: where they come from, for messages.
    """

    ids: IdArray
    joint: IntArray
    groups: IdArray | None
    source: str

    def of(self, ids: IdArray, who: str) -> tuple[IntArray, IdArray | None]:
        """Joint classes and people of the photos of `who`, joined by id.

        Raises:
            DataError: photos that are not answered, or answers to other photos.
        """
        unanswered = sorted(set(self.ids.tolist()) - set(ids.tolist()))
        unknown = sorted(set(ids.tolist()) - set(self.ids.tolist()))
        for names, fault in ((unanswered, "have no row here"), (unknown, f"are not in {self.source}")):
            if names:
                n_all = len(self.ids) if names is unanswered else len(ids)
                raise DataError(
                    f"{who}: {len(names)} of {n_all} photos {fault}, the first is {names[0]}; score the same ones"
                )
        rows = match_ids(self.ids, ids, self.source)
        if rows is None:
            return self.joint, self.groups
        return self.joint[rows], None if self.groups is None else self.groups[rows]


def truth_of_table(table: SampleTable) -> Truth | None:
    """The labels of a sample table; None when some photo lacks one, as in the task's own evaluation set."""
    if not all(table.has(name) for name in table.schema.names):
        return None
    joint = table.joint()
    return Truth(table.ids, joint, table.groups, str(table.root)) if len(joint) and (joint >= 0).all() else None


def truth_of_answers(answers: Path, people: Path | None, schema: Schema) -> Truth:
    """Answers as submissions are written (ImageID, ans), with the people of `people.csv` where it lies beside them.

    Raises:
        DataError: a file that was named is missing, or not what it should be.
    """
    from ensemble_kit.data.answers import read_people

    ids, joint = read_submission(answers, schema)
    file = people or answers.with_name("people.csv")
    if people is not None and not file.is_file():
        raise DataError(f"{file}: expected a table with ImageID and person, found no file")
    return Truth(ids, joint, read_people(file, ids) if file.is_file() else None, str(answers))
