"""`ens quickstart`: the whole job on photos it draws itself, ending in a table and a picture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ensemble_kit.data.decode import decode_photo
from ensemble_kit.errors import DataError
from ensemble_kit.files import read_json, write_json
from ensemble_kit.ids import match_ids
from ensemble_kit.predictions import load_predictions
from ensemble_kit.recipe.evaluate import answered_photos, structures_on
from ensemble_kit.recipe.load import load_recipe
from ensemble_kit.recipe.predict import read_part_of
from ensemble_kit.recipe.run import Watcher
from ensemble_kit.recipe.whole import run_recipe
from ensemble_kit.report.choose import choose_rows
from ensemble_kit.report.picture import draw_predictions
from ensemble_kit.runs import Run

PHOTOS_A_STATE = 5


def run_quickstart(
    out: Path, watcher: Watcher, *, people: int, seed: int, flags: Mapping[str, Any]
) -> Mapping[str, Any]:
    """Draws photos, trains, combines, compares the structures; a second call on the same folder skips what is done.

    Returns:
        What `metrics.json` holds: `joint.<structure>.accuracy` and `.macro_f1` on the evaluation photos, and more.

    Raises:
        DataError: the folder holds a quickstart with other settings.
    """
    recipe = load_recipe("quickstart").with_train({**flags, "seed": seed}).with_data({"fold_seed": seed})
    size = recipe.settings_for(recipe.experts[0].attributes).size
    drawn = {"people": people, "eval_people": max(people * 3 // 8, 30), "size": list(size), "seed": seed}
    photos = _draw(out, watcher, drawn)
    metrics = run_recipe(recipe, photos, out / "run", watcher)
    write_json(out / "metrics.json", metrics)
    (out / "submission.csv").write_bytes((out / "run" / "results" / "submission.csv").read_bytes())
    picture = draw_run(Run.open(out / "run"), out / "picture.png", seed=seed)
    watcher.say(f"\nphotos (generated): {photos}\nsubmission: {out / 'submission.csv'}")
    watcher.say(f"figures: {out / 'metrics.json'}\npicture: {picture}")
    return metrics


def _draw(out: Path, watcher: Watcher, wanted: Mapping[str, Any]) -> Path:
    """Draws the photos once; `photos.json` is written first, so that a call that was killed begins again."""
    from ensemble_kit.data.generated import generate_faces

    photos, note = out / "photos", out / "photos.json"
    if note.is_file() and read_json(note) != wanted:
        raise DataError(f"{photos}: drawn with other settings ({read_json(note)}); name a new folder with --out")
    if note.is_file() and photos.is_dir():
        return photos
    watcher.say(f"drawing {wanted['people']} + {wanted['eval_people']} people, 7 photos each -> {photos}")
    write_json(note, dict(wanted))
    watcher.begin("drawing", 1)
    generate_faces(
        photos,
        people=wanted["people"],
        eval_people=wanted["eval_people"],
        size=tuple(wanted["size"]),
        seed=wanted["seed"],
        progress=lambda done, total: watcher.advance(done / total),
    )
    watcher.end()
    return photos


def draw_run(run: Run, out: Path, *, seed: int) -> Path:
    """The picture of a run on photos whose answers are known: an honest sample of them, with the structures' scores."""
    table = read_part_of(run, None, "eval")
    (joint,) = load_predictions(run.folder / "results" / "joint")
    rows_of = match_ids(table.ids, joint.ids, str(run.data))
    table = table if rows_of is None else table.select(rows_of)
    predicted, truth = joint.labels(), table.joint()
    parent = next(node.parents[0] for node in run.graph.nodes if node.parents)
    states = run.schema.decode(predicted)[parent]
    rows = choose_rows(states, predicted == truth, per_state=PHOTOS_A_STATE, seed=seed, groups=table.groups)
    names = [name.split(" / ") for name in run.schema.joint_names()]
    return draw_predictions(
        out,
        [decode_photo(table.paths[row]) for row in rows],
        predicted=[names[predicted[row]] for row in rows],
        true=[names[truth[row]] for row in rows],
        confidence=[float(np.asarray(joint.layers[0])[row].max()) for row in rows],
        schema=run.schema,
        graph=run.graph,
        report=structures_on(run, answered_photos(run)),
        title="One photo, three attributes: the mask decides which age expert answers",
        notes=f"Generated photos: a random sample with the overall share of errors, {np.mean(predicted != truth):.0%}.",
    )
