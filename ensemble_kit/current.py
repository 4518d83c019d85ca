"""Whether saved predictions are those of the checkpoints and photos that are there now. Without torch."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ensemble_kit.arrays import FloatArray
from ensemble_kit.errors import MALFORMED, DataError, UsageError
from ensemble_kit.files import sha256_json
from ensemble_kit.ids import ids_sha256
from ensemble_kit.predictions import load_predictions, read_prediction_json, read_problems

if TYPE_CHECKING:
    from ensemble_kit.data.samples import SampleTable


BACKEND = "torch"
"""What made the sets that do not say it."""


def predictions_current(
    folder: Path,
    table: SampleTable,
    checkpoint_sha256: Collection[str],
    tta: Sequence[str] | None = None,
    backend: str | None = None,
) -> bool:
    """Whether `folder` holds the predictions of exactly these checkpoints on exactly these photos, all of it whole.

    The one answer for every command: what is not current is predicted.

    Args:
        folder: may not exist.
        table: the samples, in the set's order.
        checkpoint_sha256: hashes of the checkpoint files.
        tta: the views that it must have averaged; None = whichever.
        backend: what must have run the checkpoints; None = whatever did.
    """
    found = {sha256 for _, sha256 in saved_layers(folder, table, tta, backend)}
    return bool(found) and found == set(checkpoint_sha256)


def wanted_tta(folder: Path, recipe_tta: Sequence[str]) -> tuple[str, ...]:
    """The views that the set in `folder` should average, where nobody types any.

    Those it has, typed or not, as long as the run's recipe names the views that it named then; else the recipe's.
    """
    is_as_then = (Path(folder) / "predictions.json").is_file() and saved_tta(folder, "recipe_tta") == tuple(recipe_tta)
    return saved_tta(folder) if is_as_then else tuple(recipe_tta)


def saved_tta(folder: Path, key: str = "tta") -> tuple[str, ...]:
    """The views that the predictions in `folder` averaged; none when there are no predictions.

    Args:
        key: "recipe_tta" for those that the run's recipe named then.
    """
    try:
        return tuple(str(name) for name in read_prediction_json(folder)["created"].get(key, ()))
    except (DataError, UsageError, *MALFORMED):
        return ()


def wanted_backend(folder: Path, recipe_backend: str) -> str:
    """The back end that should make the set in `folder`, where nobody types one; see `wanted_tta`."""
    is_there = (Path(folder) / "predictions.json").is_file()
    is_as_then = is_there and saved_backend(folder, "recipe_backend") == recipe_backend
    return saved_backend(folder) if is_as_then else recipe_backend


def saved_backend(folder: Path, key: str = "backend") -> str:
    """What ran the checkpoints whose predictions are in `folder`; torch when there are no predictions.

    Args:
        key: "recipe_backend" for the one that the run's recipe named then.
    """
    try:
        return str(read_prediction_json(folder)["created"].get(key, BACKEND))
    except (DataError, UsageError, *MALFORMED):
        return BACKEND


def saved_agreement(folder: Path) -> dict[str, dict[str, Any]]:
    """SHA-256 of a checkpoint -> how well the back end agreed on it, and whether that is `enough`, see `Forms`."""
    try:
        found = read_prediction_json(folder)["created"].get("agreement", {})
        return {str(sha256): dict(entry) for sha256, entry in found.items()}
    except (DataError, UsageError, *MALFORMED):
        return {}


def disagreement(folder: Path) -> str:
    """Of a set whose back end was taken although it disagrees, what was accepted, in words; else nothing."""
    taken = [entry for entry in saved_agreement(folder).values() if not entry.get("enough")]
    try:
        lowest = min(taken, key=lambda entry: float(entry["equal"]) if entry["n_photos"] else -1.0, default=None)
        if lowest is None:
            return ""
        found = (
            f"{100 * float(lowest['equal']):.1f} % of torch's labels" if lowest["n_photos"] else "compared on no photo"
        )
        which = lowest["checkpoint"] if len(taken) == 1 else f"{lowest['checkpoint']}, the lowest of {len(taken)}"
    except MALFORMED:
        found, which = "disagrees", "in a way that cannot be read"
    return f"{saved_backend(folder)}: {found} ({which}), accepted by --accept-disagreement"


def saved_layers(
    folder: Path, table: SampleTable, tta: Sequence[str] | None = None, backend: str | None = None
) -> dict[tuple[str, str], FloatArray]:
    """What `folder` holds of these very photos: (expert, hash of its checkpoint) -> `(n_samples, n_classes)`, mapped.

    Nothing when the set is missing or damaged, when its photos are others or changed since, or when it does not say
    which they were. Nothing, too, when `tta` or `backend` is given and other views were averaged, or another one ran.
    """
    try:
        content = read_prediction_json(folder)
        if not _same_photos(content, table) or (tta is not None and set(saved_tta(folder)) != set(tta)):
            return {}
        if backend is not None and saved_backend(folder) != backend:
            return {}
        read_problems(folder)
        experts = zip(load_predictions(folder), content["experts"], strict=True)
        return {
            (expert.describe(), str(voter["checkpoint_sha256"])): layer
            for expert, entry in experts
            for layer, voter in zip(expert.layers, entry["voters"], strict=True)
        }
    except (DataError, UsageError, *MALFORMED):
        return {}


def _same_photos(content: dict[str, Any], table: SampleTable) -> bool:
    if content["schema"] != table.schema.to_json() or content["ids_sha256"] != ids_sha256(table.ids):
        return False
    return bool(content["created"].get("photos_sha256") == photos_sha256(table))


def photos_sha256(table: SampleTable) -> str:
    """Hash of which photos these are: ids, paths below the root, and the files' sizes and times; none is opened."""
    stats = []
    for path in table.paths:
        try:
            found = path.stat()
            stats.append([found.st_size, found.st_mtime_ns])
        except OSError:
            stats.append([-1, -1])
    return sha256_json([table.ids.tolist(), table.frame["path"].tolist(), stats])
