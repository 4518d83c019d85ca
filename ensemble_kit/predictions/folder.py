"""A prediction set: several experts' probabilities on one set of photos, in one folder.

predictions.json                     written last; without it the folder is not a prediction set
ids.npy                              (n_samples,) UTF-8 bytes, unique
age-given-mask-worn/fold0.npy        (n_samples, n_classes) float32; a row of NaN = not computed
errors.csv                           sample_id, path, problem
"""

from __future__ import annotations

import csv
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from ensemble_kit.arrays import FloatArray, IdArray, IntArray
from ensemble_kit.errors import MALFORMED, DataError, UsageError
from ensemble_kit.files import (
    read_array,
    read_json,
    refuse_special,
    sha256_file,
    slug,
    write_array,
    write_csv,
    write_json,
)
from ensemble_kit.graph import check_condition
from ensemble_kit.ids import check_unique, decode_ids, encode_ids, ids_sha256, match_ids
from ensemble_kit.predictions.array import Predictions
from ensemble_kit.schema import Schema

FORMAT = "ensemble_kit.predictions"
VERSION = 1


def save_predictions(
    folder: Path,
    experts: Sequence[Predictions],
    schema: Schema,
    *,
    checkpoints: Sequence[Mapping[str, str]] | None = None,
    problems: Sequence[tuple[str, str, str]] = (),
    command: str = "",
    photos_sha256: str | None = None,
    tta: Sequence[str] = (),
    recipe_tta: Sequence[str] = (),
    backend: str = "torch",
    recipe_backend: str = "torch",
    agreement: Mapping[str, Mapping[str, Any]] | None = None,
) -> None:
    """Writes a prediction set; `predictions.json` comes last, and without it the folder is none.

    Args:
        experts: on the same photos; rows in another order are brought into the first one's.
        checkpoints: per expert, voter name -> SHA-256 of its checkpoint.
        problems: (sample_id, path, problem) of photos that could not be predicted, for `errors.csv`.
        command: what made the set.
        photos_sha256: which photos they are, see `current.photos_sha256`; None = not known.
        tta: the views that were averaged with the plain photo.
        recipe_tta: those that the run's recipe named then.
        backend: what ran the checkpoints.
        recipe_backend: the one that the run's recipe named then.
        agreement: SHA-256 of a checkpoint -> how well what ran it agreed with torch in float32, where it was compared.

    Raises:
        DataError: experts on different photos, or whose classes are not the schema's.
    """
    if not experts or (checkpoints is not None and len(checkpoints) != len(experts)):
        raise UsageError("a prediction set needs at least one expert, and checkpoints for each or for none")
    folder = Path(folder)
    ids = experts[0].ids
    check_unique(ids, f"ids of {experts[0].describe()}")
    joins = [_check_expert(expert, schema, ids) for expert in experts]
    (folder / "predictions.json").unlink(missing_ok=True)  # what is rewritten is no set until it is whole
    write_array(folder / "ids.npy", encode_ids(ids))
    taken: set[str] = set()
    entries = []
    for number, expert in enumerate(experts):
        hashes = {} if checkpoints is None else checkpoints[number]
        place = _free(slug(expert.describe()), taken)
        entries.append(_write_expert(folder, place, expert, joins[number], hashes))
    write_csv(folder / "errors.csv", [("sample_id", "path", "problem"), *problems])
    content = {"format": FORMAT, "version": VERSION, "n_samples": len(ids), "ids_sha256": ids_sha256(ids)}
    versions = {"python": platform.python_version(), "numpy": np.__version__}
    created: dict[str, Any] = {
        "command": command,
        "versions": versions,
        "photos_sha256": photos_sha256,
        "tta": list(tta),
    }
    created |= {"recipe_tta": list(recipe_tta), "backend": backend, "recipe_backend": recipe_backend}
    created |= {"agreement": {sha256: dict(found) for sha256, found in (agreement or {}).items()}}
    content |= {"schema": schema.to_json(), "experts": entries, "created": created}
    write_json(folder / "predictions.json", content)


def _check_expert(expert: Predictions, schema: Schema, ids: IdArray) -> IntArray | None:
    """The rows that bring the expert into the order of `ids`; refuses what does not fit before a file is touched."""
    for attribute in expert.attributes:
        if schema[attribute.name].classes != attribute.classes:
            raise DataError(
                f"{expert.describe()}: expected the schema's classes of {attribute.name}, "
                f"{list(schema[attribute.name].classes)}, found {list(attribute.classes)}"
            )
    check_condition(expert.condition, schema)
    return match_ids(expert.ids, ids, expert.describe())


def _write_expert(
    folder: Path, place: str, expert: Predictions, rows: IntArray | None, hashes: Mapping[str, str]
) -> dict[str, Any]:
    files: set[str] = set()
    voters = []
    for number, (name, layer) in enumerate(zip(expert.voters, expert.layers, strict=True)):
        file = f"{place}/{_free(slug(name), files)}.npy"
        values = np.asarray(layer if rows is None else layer[rows], dtype=np.float32)
        expert.check(values, number)
        write_array(folder / file, values)
        sha256 = sha256_file(folder / file)
        voters.append({"name": name, "file": file, "sha256": sha256, "checkpoint_sha256": hashes.get(name)})
    return {
        "attributes": list(expert.names),
        "condition": {name: list(classes) for name, classes in expert.condition.items()},
        "classes": [list(row) for row in expert.classes],
        "edges": None if expert.fine is None or expert.fine.edges is None else list(expert.fine.edges),
        "collapse": None if expert.fine is None or expert.fine.to is None else list(expert.fine.to),
        "voters": voters,
    }


def _free(name: str, taken: set[str]) -> str:
    """Two experts may share a slug (`<30` and `>30` do), never a folder."""
    free, number = name, 2
    while free in taken:
        free, number = f"{name}-{number}", number + 1
    taken.add(free)
    return free


def read_prediction_json(folder: Path) -> dict[str, Any]:
    """The content of `predictions.json`, format and version checked."""
    path = Path(folder) / "predictions.json"
    if not path.is_file():
        raise DataError(f'{folder}: not a prediction set (no predictions.json); write one with "ens predict"')
    content = read_json(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise DataError(f'{path}: not a prediction set (format is not "{FORMAT}"); write one with "ens predict"')
    if content.get("version") != VERSION:
        raise DataError(
            f"{path}: expected version {VERSION}, found {content.get('version')}; use the newer ensemble_kit"
        )
    return content


def read_prediction_schema(folder: Path) -> Schema:
    """The schema a prediction set was made with."""
    try:
        return Schema.from_json(read_prediction_json(folder).get("schema"))
    except (DataError, UsageError) as error:
        raise DataError(f"{Path(folder) / 'predictions.json'}: {error}") from None


def load_predictions(folder: Path, *, memory_map: bool = True, verify: bool = True) -> list[Predictions]:
    """Reads a prediction set.

    Args:
        memory_map: leave the probabilities on disk until they are used.
        verify: compare every file with its stored hash (about a second per 1.5 GB).

    Raises:
        DataError: no prediction set, or a file that is missing, cut short or changed; it names the file.
    """
    folder = Path(folder)
    content = read_prediction_json(folder)
    schema = read_prediction_schema(folder)
    ids = _read_ids(folder / "ids.npy", content.get("ids_sha256"))
    try:
        return [_read_expert(folder, entry, schema, ids, memory_map, verify) for entry in content["experts"]]
    except (UsageError, *MALFORMED) as error:
        raise DataError(f"{folder / 'predictions.json'}: not readable ({type(error).__name__}: {error})") from None


def read_problems(folder: Path) -> list[tuple[str, str, str]]:
    """(sample_id, path, problem) of the photos that could not be predicted.

    Raises:
        DataError: `errors.csv` is missing or not readable.
    """
    path = Path(folder) / "errors.csv"
    refuse_special(path)
    try:
        with open(path, encoding="utf-8", newline="") as handle:
            rows = list(csv.reader(handle))[1:]
        return [(name, photo, problem) for name, photo, problem in rows]
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{path}: not readable as a list of photos ({error}); predict again") from None


def _read_ids(path: Path, sha256: Any) -> IdArray:
    raw = read_array(path)
    if raw.dtype.kind != "S" or raw.ndim != 1:
        raise DataError(f"{path}: expected ids as bytes, shape (n_samples,), found {raw.dtype} {raw.shape}")
    ids = decode_ids(raw)
    if ids_sha256(ids) != sha256:
        raise DataError(f"{path}: not the ids of predictions.json (hash differs); predict again")
    return ids


def _read_expert(
    folder: Path, entry: Mapping[str, Any], schema: Schema, ids: IdArray, memory_map: bool, verify: bool
) -> Predictions:
    _refuse_other_kinds(entry)
    shape = (len(ids), len(entry["classes"]))
    layers = [_read_layer(folder, voter, shape, memory_map, verify) for voter in entry["voters"]]
    attributes = [schema[name] for name in entry["attributes"]]
    names = [voter["name"] for voter in entry["voters"]]
    fine = {"edges": entry["edges"], "to": entry["collapse"]}
    return Predictions(attributes, layers, ids, entry["condition"], entry["classes"], names, **fine)


def _refuse_other_kinds(entry: Mapping[str, Any]) -> None:
    """Raises TypeError where a name is no text: what names are compared with or sorted among later is."""
    condition, columns = entry["condition"], entry["classes"]
    if not isinstance(condition, dict) or not all(isinstance(classes, list) for classes in condition.values()):
        raise TypeError(f"condition {condition!r}")
    parts = [part for column in columns for part in (column if isinstance(column, list) else [column])]
    texts = {
        "classes": parts,
        "condition": [name for classes in condition.values() for name in classes],
        "voters": [text for voter in entry["voters"] for text in (voter["name"], voter["file"], voter["sha256"])],
    }
    for key, found in texts.items():
        wrong = [text for text in found if not isinstance(text, str)]
        if wrong:
            raise TypeError(f"{key}: expected text, found {wrong[0]!r}")


def _read_layer(
    folder: Path, voter: Mapping[str, Any], shape: tuple[int, int], memory_map: bool, verify: bool
) -> FloatArray:
    inside = PurePosixPath(voter["file"])
    if inside.is_absolute() or ".." in inside.parts:
        raise DataError(f"{folder / 'predictions.json'}: {voter['file']} lies outside the folder")
    path = folder / inside
    array = read_array(path, memory_map=memory_map and shape[0] > 0)  # an empty file cannot be mapped
    if array.shape != shape or array.dtype != np.float32:
        raise DataError(f"{path}: expected float32 {shape}, found {array.dtype} {array.shape}; predict again")
    if verify and sha256_file(path) != voter["sha256"]:
        raise DataError(f"{path}: changed since it was written (hash differs); predict again")
    return array
