"""Fitting what `ens combine --fitted` applies: weights of voters, temperatures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ensemble_kit.arrays import FloatArray, IntArray
from ensemble_kit.calibration import fit_temperature
from ensemble_kit.ensemble import ConditionalEnsemble
from ensemble_kit.errors import DataError, UsageError, nearest
from ensemble_kit.fitted import Fitted, save_fitted
from ensemble_kit.ids import match_ids
from ensemble_kit.predictions import Predictions
from ensemble_kit.recipe.labelled import Labelled
from ensemble_kit.selection import Search, Selection, select_for_experts, select_for_joint, true_columns
from ensemble_kit.voting import find_vote

On = Literal["joint", "experts"]

FEW_ROUNDS = 5
"""Votes added to each expert for the joint: every one costs a pass through all experts."""


@dataclass(frozen=True)
class FitOptions:
    """What may be asked for; each kind refuses what it does not use.

    Attributes:
        on: "joint" = for the joint probabilities or their score, "experts" = each expert by itself.
        metric: of weights: a name, see `selection.Search`; None = macro F1.
        rounds, start, bags, n_folds: of weights; None = their defaults.
        seed: of folds, bags and draws.
    """

    on: On = "joint"
    metric: str | None = None
    rounds: int | None = None
    start: int | None = None
    bags: int | None = None
    n_folds: int | None = None
    seed: int = 0


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
        found = [_told(item) for item in self.items]
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


def _told(item: Fitted) -> str:
    text = str(item.value.text())
    return text if text.startswith(item.where) else f"{item.where}: {text}"


def fit_weights(labelled: Labelled, options: FitOptions) -> tuple[list[Fitted], list[str]]:
    """Voters selected greedily, for the joint or for each expert.

    Raises:
        DataError: the out-of-fold predictions of one run: each photo is predicted by one fold.
        UsageError: one voter only.
    """
    if labelled.n_out_of_fold == 1:
        raise DataError(
            "weights: out of fold each photo is predicted by one fold only, so its voters cannot be weighed; name "
            "several complete runs, or pass --answers of photos that all voters predict"
        )
    given = {name: getattr(options, name) for name in ("metric", "rounds", "start", "bags", "n_folds")}
    chosen = {name: value for name, value in given.items() if value is not None} | {"seed": options.seed}
    experts, groups = labelled.experts, labelled.groups
    if options.on == "experts":
        found = select_for_experts(
            experts, labelled.schema, labelled.true_joint, labelled.ids, groups=groups, search=Search(**chosen)
        )
    else:
        found = [
            select_for_joint(
                _ensemble(labelled),
                labelled.true_joint,
                groups=groups,
                ids=labelled.ids,
                route=labelled.combine["route"],
                vote_at=labelled.combine["vote_at"],
                **({"rounds": FEW_ROUNDS} | chosen),
            )
        ]
    single = [expert.describe() for expert in experts if len(expert.voters) == 1]
    notes = [f"{name} has one voter: nothing to weigh" for name in single]
    return [Fitted("weights", each.where, _spread(each, labelled)) for each in found], notes


def fit_temperatures(labelled: Labelled, options: FitOptions) -> tuple[list[Fitted], list[str]]:
    """A temperature for the joint probabilities, or for the vote of each expert on the photos of its condition."""
    for name in ("metric", "rounds", "start", "bags", "n_folds"):
        if getattr(options, name) is not None:
            raise UsageError(f"--{name.removeprefix('n_')} is of weights; a temperature maximises the likelihood")
    notes = []
    if labelled.n_out_of_fold:
        notes.append(
            "fitted on single checkpoints out of fold; a vote of several is less sure by itself, so check it on "
            "labelled evaluation photos where there are some"
        )
    if options.on == "joint":
        how = {name: labelled.combine[name] for name in ("route", "vote", "vote_at")}
        joint = _ensemble(labelled).combine(**how).joint
        rows = match_ids(labelled.ids, joint.ids, "labelled photos")
        true = labelled.true_joint if rows is None else labelled.true_joint[rows]
        return [Fitted("temperature", "joint", fit_temperature(joint.layers[0], true, who="joint"))], notes
    items = []
    for expert in labelled.experts:
        own = expert.in_classes_of(labelled.schema)
        columns = true_columns(own, labelled.schema, labelled.true_joint)
        inside = np.flatnonzero(columns >= 0)
        if len(inside) < 2:
            notes.append(f"{own.describe()}: {len(inside)} labelled photos, no temperature")
            continue
        some = own.select(inside).select_voters(sorted(own.voters))
        probs, true = _to_adjust(some, columns[inside], labelled)
        items.append(Fitted("temperature", own.describe(), fit_temperature(probs, true, who=own.describe())))
    if not items:
        raise DataError("temperature: no expert has 2 labelled photos of its condition; label more")
    return items, notes


def _to_adjust(expert: Predictions, true: IntArray, labelled: Labelled) -> tuple[FloatArray, IntArray]:
    """What an adjustment of the expert will be asked about: its vote, or, where chains vote, each voter's answer."""
    if labelled.combine["vote_at"] == "joint":
        return np.concatenate(list(expert.probs)), np.tile(true, len(expert.voters))
    rule = labelled.combine["vote"]
    if isinstance(rule, Mapping):
        node = labelled.graph.node_of(expert.names)
        rule = rule.get(expert.describe(), rule.get(node.name if node else "", "soft"))
    return find_vote(rule)(expert.probs, np.ones(len(expert.voters))), true


Fitter = Callable[[Labelled, FitOptions], tuple[list[Fitted], list[str]]]
"""Labelled predictions -> what was fitted, and notes."""

FITTERS: Mapping[str, Fitter] = {"weights": fit_weights, "temperature": fit_temperatures}
"""What `ens fit` can fit; a further kind is one function and one row here."""


def find_fitter(kind: str) -> Fitter:
    """The function of a kind.

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
) -> FitReport:
    """Fits and writes the file that `ens combine --fitted` reads.

    Args:
        kind: a name in FITTERS.
        file: to write.
        sources, settings: runs or sets and what was said about combining, for the next command.

    Raises:
        UsageError: an unknown kind or place, options that the kind does not use.
        DataError: too little to fit on.
    """
    fitter = find_fitter(kind)
    if options.on not in ("joint", "experts"):
        raise UsageError(f'--on "{options.on}"{nearest(options.on, ("joint", "experts"))}')
    items, notes = fitter(labelled, options)
    save_fitted(file, items)
    told = [f'--{name.replace("_", "-")} "{value}"' for name, value in (settings or {}).items()]
    words = ["ens combine", *map(str, sources), *told, f"--fitted {file}"]
    return FitReport(kind, tuple(items), tuple(notes), len(labelled.true_joint), labelled.source, file, " ".join(words))


def _ensemble(labelled: Labelled) -> ConditionalEnsemble:
    return ConditionalEnsemble(labelled.schema, labelled.graph, labelled.experts, fallback=labelled.combine["fallback"])


def _spread(selection: Selection, labelled: Labelled) -> Selection:
    """Weights of voters that stand for several, divided among these."""
    if not labelled.stands_for:
        return selection
    nested = {name: own for name, own in selection.weights.items() if isinstance(own, Mapping)}
    if nested:
        return replace(selection, weights={name: _divided(own, labelled, name) for name, own in nested.items()})
    where = selection.where if selection.where in labelled.stands_for else next(iter(labelled.stands_for))
    flat = {name: own for name, own in selection.weights.items() if not isinstance(own, Mapping)}
    return replace(selection, weights=_divided(flat, labelled, where))


def _divided(weights: Mapping[str, float], labelled: Labelled, expert: str) -> dict[str, float]:
    members = labelled.stands_for[expert]
    return {name: weight / len(members[voter]) for voter, weight in weights.items() for name in members[voter]}
