"""What a data report is made from: the data set as a recipe or a run reads it, and the run's out-of-fold answers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from ensemble_kit.arrays import IntArray
from ensemble_kit.data.check import DataReport, Progress, check_data
from ensemble_kit.data.fixes import Fix, read_fixes
from ensemble_kit.data_report.answers import Answers, answers_of
from ensemble_kit.data_report.facts import DataFacts, gather_facts
from ensemble_kit.data_report.looks import Looks
from ensemble_kit.data_report.suspects import find_cut
from ensemble_kit.errors import DataError
from ensemble_kit.recipe.load import Recipe
from ensemble_kit.recipe.run import Silent, data_root, divided_as, folds_of, read_extra_part
from ensemble_kit.runs import Run


def report_data(
    recipe: Recipe,
    data: Path | None,
    *,
    run: Path | None = None,
    suspects: str = "cleanlab",
    progress: Progress | None = None,
) -> DataFacts:
    """Looks at a data set before training, every photo decoded once.

    Args:
        recipe: schema, layout, division and fix list.
        data: the data set; default the recipe's, with a run the run's.
        run: a run on these photos, whose out-of-fold answers tell labels in doubt; schema and division are its own.
        suspects: how the list of doubts ends, a name of `suspects.CUTS`.
        progress: called with (photos decoded, photos in all).

    Raises:
        UsageError: no data named, an unknown way of ending the list, or one that needs what is not installed.
        DataError: the data cannot be read, or the run is about other photos.
    """
    cut = find_cut(suspects)
    opened = None if run is None else Run.open(run)
    answers = None
    if opened is not None:
        cut(np.array([0, 1] * 5), np.full((10, 2), 0.5))  # what is not installed is said before photos are decoded
        recipe = divided_as(opened, replace(recipe, schema=opened.schema, graph=opened.graph), Silent())
        data = data or opened.data
        answers = _answers(opened)
    looks, fixes = Looks(), recipe.fixes_file()
    check = check_data(
        data_root(recipe, data),
        recipe.schema,
        layout=recipe.data.layout,
        folds=recipe.data.folds,
        seed=recipe.data.fold_seed,
        val_ratio=recipe.data.val_ratio,
        fixes=fixes,
        extra=read_extra_part(recipe),
        look=looks,
        progress=progress,
    )
    if opened is not None and answers is not None:
        _same_photos(opened, answers, looks)
    return gather_facts(
        check,
        looks,
        _folds(check, looks, recipe, opened),
        answers=answers,
        run=None if opened is None else str(opened.folder),
        cut=(suspects, cut),
        listed=_in_force(check, fixes),
    )


def _answers(run: Run) -> Answers:
    experts = run.out_of_fold()
    if not experts:
        raise DataError(f'{run.folder}: no finished expert to ask; train one with "ens train ATTRIBUTE --run ..."')
    return answers_of(experts, run.schema, run.graph)


def _same_photos(run: Run, answers: Answers, looks: Looks) -> None:
    ids = looks.tables[0].ids.tolist()
    if not any(name in answers.row_of for name in ids):
        raise DataError(
            f"{run.folder}: none of its photos is in these data; its first is {answers.ids[0]}, the data's {ids[0]}"
        )


def _folds(check: DataReport, looks: Looks, recipe: Recipe, run: Run | None) -> IntArray:
    """The fold that holds out each photo of the training part; empty where they cannot be cut."""
    table = looks.tables[0]
    if run is not None:
        fold_of = dict(zip(run.table.ids.tolist(), run.folds.tolist(), strict=True))
        return np.array([fold_of.get(name, -1) for name in table.ids.tolist()], dtype=np.int64)
    if check.folds is None:
        return np.zeros(0, dtype=np.int64)
    return folds_of(table, recipe.data)


def _in_force(check: DataReport, fixes: Path | None) -> list[Fix]:
    """The rows of a list that is about these data: a list of accepted fixes takes its place, so it repeats them."""
    if fixes is None or check.fixes is None or not check.fixes.applied:
        return []
    return read_fixes(fixes)
