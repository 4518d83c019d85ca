"""A run's answers for photos, straight: no predictions are kept, and no expert runs that no route asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ensemble_kit.columns import WIDTH, fitted
from ensemble_kit.decisions import decide_labels
from ensemble_kit.errors import DataError
from ensemble_kit.files import write_json
from ensemble_kit.predictions import save_predictions
from ensemble_kit.recipe.combine import (
    borders_of_settings,
    combine_arguments,
    graph_as,
    refuse_overwriting,
    write_answers,
)
from ensemble_kit.recipe.load import validated
from ensemble_kit.recipe.predict import settings_of
from ensemble_kit.recipe.rules import check_predict_of
from ensemble_kit.recipe.run import Watcher
from ensemble_kit.recipe.settings import CombineSettings
from ensemble_kit.runs import Run

if TYPE_CHECKING:
    from ensemble_kit.answering import Counts
    from ensemble_kit.data.samples import SampleTable


@dataclass(frozen=True)
class AnswerReport:
    """What was answered, where it lies, and what it took.

    Attributes:
        checkpoints: of the run; `counts.loaded` of them were needed.
        n_filled: photos without an answer, answered as `missing` says.
    """

    n_samples: int
    counts: Counts
    checkpoints: int
    submission: Path
    joint: Path
    n_unread: int
    n_filled: int

    def to_json(self) -> dict[str, Any]:
        counts = asdict(self.counts)
        found: dict[str, Any] = {"n_samples": self.n_samples, "photos_per_expert": counts.pop("photos"), **counts}
        found |= {"checkpoints": self.checkpoints, "n_unread": self.n_unread, "n_filled": self.n_filled}
        return found | {"submission": str(self.submission), "joint": str(self.joint)}

    def text(self) -> str:
        counts = self.counts
        rows = [[name, str(n)] for name, n in counts.photos.items()]
        lines = [fitted(["expert", "photos"], rows, WIDTH)]
        lines.append(
            f"{counts.decoded} photos decoded, {counts.forwards} passes through {counts.loaded} of "
            f"{self.checkpoints} checkpoints"
        )
        if self.n_unread:
            lines.append(f"{self.n_unread} photos could not be read, see {self.joint / 'errors.csv'}")
        if self.n_filled:
            lines.append(f"{self.n_filled} photos without an answer got the one named")
        return "\n".join([*lines, f"submission: {self.submission}", f"joint probabilities: {self.joint}"])


def answer_run(
    run: Run,
    table: SampleTable,
    settings: Mapping[str, Any],
    out: Path,
    watcher: Watcher,
    *,
    structure: str = "conditional",
    template: Path | None = None,
    missing: int | None = None,
    fitted: Sequence[Path] = (),
    options: Mapping[str, Any] | None = None,
) -> AnswerReport:
    """Answers photos by a run's checkpoints and writes `submission.csv`, `joint/` and `answer.json` under `out`.

    Args:
        settings: see `CombineSettings`.
        structure, template, missing, fitted: as of `combine_sets`.
        options: device, threads, batch_size, window; as in the training where left out. backend or precision, and tta;
            as in the run's recipe where left out. accept_disagreement, compiling.

    Raises:
        UsageError: an unknown structure, route or vote; a state without an expert.
        DataError: no finished checkpoint, a changed one, or photos without an answer while `missing` is None.
    """
    from ensemble_kit.answering import answer_table

    chosen = validated(CombineSettings, settings, "combine")
    refuse_overwriting(out, [template] if template else [])
    if missing is not None:
        run.schema.decode([missing])  # refuses what is no joint class
    checkpoints = run.checkpoints()
    run.verify()
    check_predict_of(run)
    borders = borders_of_settings(chosen, fitted)
    schema = run.schema.with_borders(borders)
    graph = graph_as(structure, schema, run.graph)
    answered = answer_table(
        table,
        checkpoints,
        graph,
        borders=borders,
        fallback=chosen.fallback,
        cache=run.folder / "cache",
        watcher=watcher,
        route=chosen.route,
        **combine_arguments(chosen, fitted, graph),
        forms=run.folder / "cache" / "backends",
        **settings_of(run, run.backend, {"tta": run.tta, **(options or {})}),
    )
    labels = decide_labels(answered.joint, schema, graph, chosen.decide)
    n_silent = int((labels < 0).sum())
    save_predictions(out / "joint", [answered.joint], schema, command="ens answer", problems=answered.problems)
    if n_silent and missing is None:
        raise DataError(
            f"{n_silent} of {len(table)} photos have no answer ({len(answered.problems)} could not be read, see "
            f"{out / 'joint' / 'errors.csv'}); mend them, or answer them with --missing JOINT_CLASS"
        )
    n_filled = write_answers(out / "submission.csv", table.ids, labels, table.ids, schema, template, missing)
    report = AnswerReport(
        n_samples=len(table),
        counts=answered.counts,
        checkpoints=len(checkpoints),
        submission=out / "submission.csv",
        joint=out / "joint",
        n_unread=len(answered.problems),
        n_filled=n_filled,
    )
    more = {"structure": structure, "missing": missing, **chosen.model_dump(), "fitted": [str(p) for p in fitted]}
    write_json(out / "answer.json", {**report.to_json(), **more})
    return report
