"""`ens fit`: its kinds in one table, and the file that `ens combine --fitted` applies."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ensemble_kit.errors import UsageError, nearest
from ensemble_kit.fitted import Fitted, as_combine_arguments, save_fitted
from ensemble_kit.recipe.cuts import fit_borders
from ensemble_kit.recipe.fitters import FitOptions, fit_stackings, fit_temperatures, fit_weights
from ensemble_kit.recipe.labelled import Labelled
from ensemble_kit.recipe.shifts import fit_shifts

__all__ = ["FITTERS", "FitOptions", "FitReport", "Kind", "find_fitter", "fit"]


@dataclass(frozen=True)
class FitReport:
    """What was fitted, and what to type next."""

    kind: str
    items: tuple[Fitted, ...]
    notes: tuple[str, ...]
    n_samples: int
    source: str
    file: Path
    following: str

    def text(self) -> str:
        head = f"{self.kind} fitted on {self.n_samples} photos: {self.source}"
        found = [_told(items) for items in _alike(self.items)]
        notes = [f"note: {note}" for note in self.notes]
        return "\n".join([head, *found, *notes, f"written: {self.file}", f"next: {self.following}"])

    def to_json(self) -> dict[str, Any]:
        items = [{"kind": item.kind, "where": item.where, "value": item.value.to_json()} for item in self.items]
        return {
            "kind": self.kind,
            "n_samples": self.n_samples,
            "source": self.source,
            "file": str(self.file),
            "items": items,
            "notes": list(self.notes),
        }


def _alike(items: Sequence[Fitted]) -> list[list[Fitted]]:
    """Neighbours that share one value, as the experts of a node share its shift."""
    found: list[list[Fitted]] = []
    for item in items:
        if found and found[-1][0].value is item.value:
            found[-1].append(item)
        else:
            found.append([item])
    return found


def _told(items: Sequence[Fitted]) -> str:
    text, where = str(items[0].value.text()), "; ".join(item.where for item in items)
    if "\n" in text and not text.startswith((where, "stacking")):
        return f"{where}:\n" + "\n".join(f"  {line}" for line in text.splitlines())
    return text if where in text.splitlines()[0] else f"{where}: {text}"


Fitter = Callable[[Labelled, FitOptions], tuple[list[Fitted], list[str]]]
"""Labelled predictions -> what was fitted, and notes."""


@dataclass(frozen=True)
class Kind:
    """One kind of `ens fit`.

    Attributes:
        fit: fits it.
        on: the places `--on` may name; None = it looks itself.
        uses: the options it uses.
    """

    fit: Fitter
    on: tuple[str, ...] | None
    uses: tuple[str, ...] = ()


FITTERS: Mapping[str, Kind] = {
    "weights": Kind(fit_weights, ("joint", "experts"), ("metric", "rounds", "start", "bags", "n_folds")),
    "temperature": Kind(fit_temperatures, ("joint", "experts"), ("fitted",)),
    "shift": Kind(fit_shifts, None, ("metric", "fitted")),
    "stacking": Kind(fit_stackings, ("joint", "experts"), ("metric", "n_folds", "fitted")),
    "borders": Kind(fit_borders, None, ("metric", "n_folds")),
}
"""What `ens fit` can fit; a further kind is one function and one row here."""

FLAGS = {"metric": "--metric", "rounds": "--rounds", "start": "start", "bags": "--bags", "n_folds": "--folds"}
FLAGS |= {"fitted": "--fitted"}


def find_fitter(kind: str) -> Kind:
    """The row of a kind.

    Raises:
        UsageError: there is none.
    """
    if kind not in FITTERS:
        raise UsageError(f'ens fit: cannot fit "{kind}"{nearest(kind, FITTERS)}')
    return FITTERS[kind]


def fit(
    kind: str,
    labelled: Labelled,
    options: FitOptions,
    file: Path,
    sources: Sequence[Path] = (),
    settings: Mapping[str, str] | None = None,
    fitted: Sequence[Path] = (),
) -> FitReport:
    """Fits and writes the file that `ens combine --fitted` reads.

    Args:
        kind: a name in FITTERS.
        file: to write.
        sources, settings, fitted: runs or sets, what was said about combining and the files of earlier fits, for the
            next command.

    Raises:
        UsageError: an unknown kind or place, options that the kind does not use, or what earlier fits hold already.
        DataError: too little to fit on.
    """
    row = find_fitter(kind)
    _check(kind, row, options)
    items, notes = row.fit(labelled, options)
    as_combine_arguments([*options.fitted, *items])  # refuses what would contradict
    save_fitted(file, items)
    told = [f'--{name.replace("_", "-")} "{value}"' for name, value in (settings or {}).items()]
    words = ["ens combine", *map(str, sources), *told, *(f"--fitted {path}" for path in [*fitted, file])]
    source = labelled.source
    if labelled.unlabelled is not None:
        source += f"; compared with {labelled.unlabelled.n_samples} photos of {labelled.unlabelled.source}"
    return FitReport(kind, tuple(items), tuple(notes), len(labelled.true_joint), source, file, " ".join(words))


def _check(kind: str, row: Kind, options: FitOptions) -> None:
    for name, flag in FLAGS.items():
        if getattr(options, name) not in (None, ()) and name not in row.uses:
            users = ", ".join(other for other, own in FITTERS.items() if name in own.uses)
            raise UsageError(f"{flag} is of {users}; {kind} has no use for it")
    if any(item.kind == "borders" for item in options.fitted):
        raise UsageError(f"--fitted holds borders, and {kind} is fitted on the classes as they are; leave the file out")
    if row.on is None:
        return
    for place in options.on:
        if place not in row.on:
            raise UsageError(f'--on "{place}"{nearest(place, row.on)}')
    if len(options.on) > 1:
        raise UsageError(f"--on: {kind} is fitted on {' or '.join(row.on)}, found {len(options.on)} places; name one")
