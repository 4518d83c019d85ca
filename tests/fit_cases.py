"""What the tests of `ens fit` share: runs as training leaves them, without photos or networks, and the command."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from core_oracles import FACE_GRAPH, face_schema
from typer.testing import CliRunner

from ensemble_kit.cli import app
from ensemble_kit.data.samples import SampleTable
from ensemble_kit.files import write_array, write_json, write_text
from ensemble_kit.predictions import Predictions, save_predictions
from ensemble_kit.runs import Run

SCHEMA = face_schema()


def make_run(
    folder: Path, joint: Any, people: Sequence[str], experts: Sequence[Predictions], new: Sequence[Predictions]
) -> Path:
    """A run of two folds; voter `fold<f>` of `experts` answers the photos that fold f held out; `new` is its "eval"."""
    true = SCHEMA.decode(joint)
    ids = experts[0].ids.tolist()
    columns: dict[str, Any] = {"sample_id": ids, "path": ids, "group_id": people}
    columns |= {name: [SCHEMA[name].classes[i] for i in true[name]] for name in ("mask", "gender")}
    columns["age"] = [(20.0, 45.0, 70.0)[i] for i in true["age"]]
    table = SampleTable.from_columns(columns, folder, SCHEMA)
    folds = np.array([int(person[1:]) % 2 for person in people], dtype=np.int64)
    run = Run.create(
        folder, table, folds, data=folder, layout="auto", schema=SCHEMA, graph=FACE_GRAPH,
        division={"n_folds": 2, "fold_seed": 0, "val_ratio": None},
        combine={"route": "soft", "vote": "soft", "vote_at": "expert", "fallback": "refuse"},
    )  # fmt: skip
    for expert in experts:
        place = run.expert_folder(expert.names, expert.condition)
        run.write_expert(expert.names, expert.condition, {})
        for fold in range(2):
            write_array(place / f"fold{fold}" / "oof.npy", expert.layers[fold][folds == fold].astype(np.float32))
            write_json(place / f"fold{fold}" / "DONE", {"fold": fold, "best_sha256": f"{fold}"})
    checkpoints = [{f"fold{fold}": f"{fold}" for fold in range(2)}] * len(new)
    save_predictions(run.predictions_folder("eval"), new, SCHEMA, checkpoints=checkpoints)
    return folder


def write_table(file: Path, column: str, ids: Iterable[str], values: Iterable[Any]) -> None:
    rows = "".join(f"{name},{value}\n" for name, value in zip(ids, values, strict=True))
    write_text(file, f"ImageID,{column}\n{rows}")


def ens_fit(*words: object, command: str = "fit") -> str:
    """What the command prints; an error of its own is raised."""
    done = CliRunner().invoke(app, [command, *map(str, words)])
    if isinstance(done.exception, Exception):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output
