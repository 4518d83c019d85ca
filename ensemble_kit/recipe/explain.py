"""Explaining a run's answers: for each photo the way through the graph, and a sheet of where the experts looked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ensemble_kit.errors import DataError, UsageError
from ensemble_kit.explaining.account import Account, text
from ensemble_kit.recipe.combine import borders_of_settings, combine_arguments, graph_as
from ensemble_kit.recipe.explain_account import account_of, recorders_of
from ensemble_kit.recipe.explain_sheet import draw_sheet
from ensemble_kit.recipe.load import validated
from ensemble_kit.recipe.predict import machine_of, read_part_of
from ensemble_kit.recipe.run import Watcher
from ensemble_kit.recipe.settings import CombineSettings
from ensemble_kit.runs import Run

if TYPE_CHECKING:
    from ensemble_kit.data.samples import SampleTable
    from ensemble_kit.explaining.looking import Looker, Wanted


@dataclass(frozen=True)
class Explained:
    """What was found out about one photo.

    Attributes:
        account: None where the photo could not be explained; `problem` says why.
        sheet: the picture, where one was drawn.
    """

    photo: str
    account: Account | None = None
    sheet: Path | None = None
    problem: str = ""

    def to_json(self) -> dict[str, Any]:
        if self.account is None:
            return {"photo": self.photo, "problem": self.problem}
        return {**self.account.to_json(), "sheet": None if self.sheet is None else str(self.sheet)}

    def text(self) -> str:
        if self.account is None:
            return f"{self.photo}\n  not explained: {self.problem}"
        return text(self.account) + (f"\n  sheet: {self.sheet}" if self.sheet else "")


@dataclass(frozen=True)
class ExplainReport:
    """All photos that were asked about."""

    photos: tuple[Explained, ...]

    @property
    def n_explained(self) -> int:
        return sum(one.account is not None for one in self.photos)

    def to_json(self) -> dict[str, Any]:
        return {"photos": [one.to_json() for one in self.photos]}

    def text(self) -> str:
        return "\n\n".join(one.text() for one in self.photos)


def explain_photos(
    run: Run,
    photos: Sequence[str],
    settings: Mapping[str, Any],
    out: Path,
    watcher: Watcher,
    *,
    folds: Sequence[int] = (),
    wanted: Mapping[str, str] | None = None,
    attributes: Sequence[str] = (),
    structure: str = "conditional",
    fitted: Sequence[Path] = (),
    draw: bool = True,
    options: Mapping[str, Any] | None = None,
    backbones: Mapping[str, Any] | None = None,
) -> ExplainReport:
    """Explains how a run answers photos, and draws a sheet for each into `out`.

    Args:
        photos: files anywhere, or ids of the run's training or evaluation photos.
        settings: see `CombineSettings`.
        folds: the checkpoints of these folds alone; all when left out.
        wanted: attribute -> class that its maps are for, in place of the one that is answered.
        attributes: those whose experts are drawn; all when left out.
        structure, fitted: as of `combine_sets`.
        draw: False = no sheets, and captum is not needed.
        options: device, precision, threads, tta; as in the training where left out.
        backbones: backbones of one's own, by the name in the card.

    Raises:
        UsageError: no such attribute, class, fold or structure; `out` is a file; captum is not installed.
        DataError: no finished checkpoint, or a changed one.
    """
    _refuse_file(out)
    watcher.begin("reading the experts", len(photos))
    chosen = validated(CombineSettings, settings, "combine")
    _check_names(run, wanted or {}, attributes)
    run.verify()
    checkpoints = _of_folds(run, folds)
    borders = borders_of_settings(chosen, fitted)
    schema = run.schema.with_borders(borders)
    graph = graph_as(structure, schema, run.graph)
    machine = {"tta": run.tta, **machine_of(run), **(options or {})}
    threads = machine.pop("threads", None)

    from ensemble_kit.answering import Answerer

    answerer = Answerer(
        checkpoints, run.schema, graph, borders=borders, fallback=chosen.fallback, backbones=backbones, **machine
    )
    arguments = {"route": chosen.route, **combine_arguments(chosen, fitted, graph)}
    looker = _looker(checkpoints, schema, machine, threads, backbones) if draw else None
    found: list[Explained] = []
    for done, (photo, table, row) in enumerate(_found(run, photos)):
        watcher.advance(done, _progress("asking the experts", done, len(photos)))
        if isinstance(table, str):
            found.append(Explained(photo, problem=table))
        else:
            one = table.select([row])
            recorders = recorders_of(answerer, arguments.get("adjust") or {})
            with_recorders = {**arguments, "adjust": {**(arguments.get("adjust") or {}), **recorders}}
            (told,) = answerer.consider(one, threads=threads, **with_recorders)
            if isinstance(told, str):
                found.append(Explained(photo, problem=told))
            else:
                account = account_of(photo, *told, recorders, arguments, chosen.decide, _known(run, one, folds))
                sheet = None
                if looker is not None:
                    watcher.advance(done + 0.3, _progress("finding where they looked", done, len(photos)))
                    sheet = draw_sheet(looker, one.paths[0], account, wanted or {}, attributes, out, done, len(photos))
                found.append(Explained(photo, account, sheet))
        watcher.advance(done + 1)
    watcher.end()
    return ExplainReport(tuple(found))


def heat_of(run: Run, *, threads: int | None = None, device: str = "auto") -> Callable[[Sequence[Wanted]], Any]:
    """Where a run's experts look: requests (path, expert, attributes, classes) -> maps `(height, width)` of 0 to 1 over
    the upright photos, None for an unreadable one.

    Raises:
        UsageError: captum is not installed.
        DataError: no finished checkpoint.
    """
    from ensemble_kit.explaining.looking import Looker

    return Looker(run.checkpoints(), run.schema, threads=threads, device=device)


def _refuse_file(out: Path) -> None:
    there = next((path for path in (out, *out.parents) if path.exists()), None)
    if there is not None and not there.is_dir():
        raise UsageError(f"-o {there}: expected a folder, found a file")


def _progress(what: str, done: int, n_photos: int) -> str:
    return what if n_photos == 1 else f"photo {done + 1:,} of {n_photos:,}: {what}"


def _check_names(run: Run, wanted: Mapping[str, str], attributes: Sequence[str]) -> None:
    for name in attributes:
        run.schema[name]  # refuses an unknown one
    for name, value in wanted.items():
        run.schema[name].index(value)


def _of_folds(run: Run, folds: Sequence[int]) -> list[Path]:
    checkpoints = run.checkpoints()
    if not folds:
        return checkpoints
    chosen = [fold.checkpoint for fold in run.finished() if fold.fold in folds]
    known = sorted({fold.fold for fold in run.finished()})
    unknown = [fold for fold in folds if fold not in known]
    if unknown:
        raise UsageError(f"--fold {unknown[0]}: this run has the folds {', '.join(map(str, known))}")
    return chosen


def _looker(
    checkpoints: Sequence[Path], schema: Any, machine: Mapping[str, Any], threads: int | None, backbones: Any
) -> Looker:
    from ensemble_kit.explaining.looking import Looker

    return Looker(checkpoints, schema, device=machine.get("device", "auto"), threads=threads, backbones=backbones)


def _found(run: Run, photos: Sequence[str]) -> Iterator[tuple[str, SampleTable | str, int]]:
    """Each photo with the table and row that it is in; a file of neither part makes a table of its own."""
    tables = [run.table]
    with suppress(DataError):  # the data set has been moved, or has no such part
        tables.append(read_part_of(run, None, "eval"))
    for photo in photos:
        yield photo, *_place(run, photo, tables)


def _place(run: Run, photo: str, tables: Sequence[SampleTable]) -> tuple[SampleTable | str, int]:
    from ensemble_kit.data.samples import SampleTable

    path = Path(photo)
    for table in tables:
        rows = np.flatnonzero(table.ids == photo)
        if len(rows):
            return table, int(rows[0])
    if path.exists():
        real = path.resolve()
        for table in tables:
            names = [row for row, name in enumerate(table.frame["path"]) if name.endswith(real.name)]
            for row in names:
                if table.paths[row].resolve() == real:
                    return table, row
        single = {"sample_id": [photo], "path": [real.name], "group_id": [photo]}
        return SampleTable.from_columns(single, real.parent, run.schema), 0
    known = [name for table in tables for name in table.ids.tolist()]
    near = get_close_matches(photo, known, n=1)
    return f"no such file, and no photo of the run has this id{f' (the nearest: {near[0]})' if near else ''}", 0


def _known(run: Run, one: SampleTable, folds: Sequence[int]) -> tuple[dict[str, str], list[str]]:
    """The true classes that are known, and which checkpoints trained on the photo."""
    truth = {}
    for attribute in run.schema.attributes:
        numbered = int(one.numbers(attribute.name)[0])
        if numbered >= 0:
            truth[attribute.name] = attribute.classes[numbered]
    rows = np.flatnonzero(run.table.ids == one.ids[0])
    if not len(rows) or run.table.paths[int(rows[0])] != one.paths[0]:
        return truth, []
    fold = int(run.folds[int(rows[0])])
    if fold < 0:
        return truth, ["every checkpoint was trained on this photo"]
    others = sorted({done.fold for done in run.finished() if done.fold != fold and (not folds or done.fold in folds)})
    if not others:
        return truth, []
    named = ", ".join(f"fold{other}" for other in others)
    return truth, [f"{named} trained on this photo; --fold {fold} asks those that never saw its person"]
