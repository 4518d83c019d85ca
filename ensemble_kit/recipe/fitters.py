"""The kinds of `ens fit` that need labelled photos alone: weights, temperatures, stacked votes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ensemble_kit.arrays import FloatArray, IntArray
from ensemble_kit.calibration import fit_temperature
from ensemble_kit.ensemble import ConditionalEnsemble
from ensemble_kit.errors import DataError, UsageError
from ensemble_kit.fitted import JOINT, Fitted, as_combine_arguments, votes_with
from ensemble_kit.ids import match_ids
from ensemble_kit.predictions import Predictions
from ensemble_kit.recipe.chains import Chains
from ensemble_kit.recipe.labelled import Labelled
from ensemble_kit.selection import Search, Selection, select_for_experts, select_for_joint, true_columns
from ensemble_kit.stacking import Stacking, fit_stacking
from ensemble_kit.voting import find_vote

FEW_ROUNDS = 5
"""Votes added to each expert for the joint: every one costs a pass through all experts."""

OUT_OF_FOLD_NOTE = (
    "fitted on single checkpoints out of fold; a vote of several is less sure by itself, so check it on labelled "
    "evaluation photos where there are some"
)


@dataclass(frozen=True)
class FitOptions:
    """What may be asked for; each kind refuses what it does not use.

    Attributes:
        on: "joint" = for the joint probabilities or their score, "experts" = each expert by itself, of shifts also
            "attributes" = each node of the graph, or names of nodes and experts; () = the kind's own default.
        metric: of weights, stacking and shifts: a name; None = macro F1.
        rounds, start, bags: of weights; None = their defaults.
        n_folds: of weights and stacking.
        seed: of folds, bags and draws.
        fitted: what `combine` will be given besides.
    """

    on: tuple[str, ...] = ()
    metric: str | None = None
    rounds: int | None = None
    start: int | None = None
    bags: int | None = None
    n_folds: int | None = None
    seed: int = 0
    fitted: tuple[Fitted, ...] = ()

    def given(self, *names: str) -> dict[str, Any]:
        """Those of the named options that were set, and the seed."""
        values = {name: getattr(self, name) for name in names}
        return {name: value for name, value in values.items() if value is not None} | {"seed": self.seed}


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
    chosen = options.given("metric", "rounds", "start", "bags", "n_folds")
    experts, groups = labelled.experts, labelled.groups
    if options.on == ("experts",):
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
    _refuse_other_voters(labelled, options)
    notes = [OUT_OF_FOLD_NOTE] if labelled.n_out_of_fold else []
    if options.on != ("experts",):
        arguments = as_combine_arguments(options.fitted)
        arguments["vote"] = _votes(labelled, arguments.pop("vote", {}))
        how = {name: labelled.combine[name] for name in ("route", "vote_at")}
        joint = _ensemble(labelled).combine(**how, **arguments).joint
        rows = match_ids(labelled.ids, joint.ids, "labelled photos")
        true = labelled.true_joint if rows is None else labelled.true_joint[rows]
        return [Fitted("temperature", JOINT, fit_temperature(joint.layers[0], true, who=JOINT))], notes
    items = []
    for expert in labelled.experts:
        own = expert.in_classes_of(labelled.schema)
        columns = true_columns(own, labelled.schema, labelled.true_joint)
        inside = np.flatnonzero(columns >= 0)
        if len(inside) < 2:
            notes.append(f"{own.describe()}: {len(inside)} labelled photos, no temperature")
            continue
        some = own.select(inside).select_voters(sorted(own.voters))
        probs, true = _to_adjust(some, columns[inside], labelled, options)
        items.append(Fitted("temperature", own.describe(), fit_temperature(probs, true, who=own.describe())))
    if not items:
        raise DataError("temperature: no expert has 2 labelled photos of its condition; label more")
    return items, notes


def _to_adjust(
    expert: Predictions, true: IntArray, labelled: Labelled, options: FitOptions
) -> tuple[FloatArray, IntArray]:
    """What an adjustment of the expert will be asked about: its vote, or, where chains vote, each voter's answer."""
    if labelled.combine["vote_at"] == "joint":
        return np.concatenate(list(expert.probs)), np.tile(true, len(expert.voters))
    node = labelled.graph.node_of(expert.names)
    places = (expert.describe(), node.name if node else "")
    arguments = as_combine_arguments(options.fitted)
    votes = _votes(labelled, arguments.get("vote", {}))
    weights = arguments.get("weights", {})
    if isinstance(votes, Mapping):
        votes = next((votes[place] for place in places if place in votes), "soft")
    own: Mapping[str, float] = next((weights[place] for place in places if place in weights), {})
    return find_vote(votes)(expert.probs, np.array([own.get(voter, 1.0) for voter in expert.voters])), true


def _votes(labelled: Labelled, fitted: Mapping[str, Any]) -> Any:
    names = [node.name for node in labelled.graph.nodes]
    return votes_with(fitted, labelled.combine["vote"], labelled.combine["vote_at"], names)


def _refuse_other_voters(labelled: Labelled, options: FitOptions) -> None:
    kinds = sorted({item.kind for item in options.fitted if item.kind != "temperature"})
    if labelled.n_out_of_fold and kinds:
        raise UsageError(
            f"--fitted holds {' and '.join(kinds)} of the checkpoints' votes on other photos, which out-of-fold "
            "predictions are not; pass --answers of predicted photos, or leave --fitted out"
        )


def fit_stackings(labelled: Labelled, options: FitOptions) -> tuple[list[Fitted], list[str]]:
    """A stacked vote for each expert, or for whole chains: where `combine` is told to vote.

    Raises:
        DataError: the out-of-fold predictions of one run; too few people or classes at every place.
        UsageError: no place with several voters, or a place where nothing will vote.
    """
    if labelled.n_out_of_fold == 1:
        raise DataError(
            "stacking: out of fold each photo is predicted by one fold only, so there are no voters to stack; name "
            "several complete runs, or pass --answers of photos that all voters predict"
        )
    at = {"expert": "experts", "joint": JOINT}[labelled.combine["vote_at"]]
    if options.on not in ((), (at,)):
        raise UsageError(
            f"--on {options.on[0]}: with vote_at={labelled.combine['vote_at']} nothing votes there; add "
            f"--vote-at {'joint' if at == 'experts' else 'expert'}, or fit --on {at}"
        )
    if at == JOINT:
        chains = Chains.of(labelled.experts, labelled.schema, labelled.graph, labelled.combine, _adjusts(options))
        places = [(JOINT, chains.joint(labelled.combine["route"]), labelled.true_joint)]
    else:
        own = [expert.in_classes_of(labelled.schema) for expert in labelled.experts]
        places = [(e.describe(), e, true_columns(e, labelled.schema, labelled.true_joint)) for e in own]
    items, notes, faults = [], [OUT_OF_FOLD_NOTE] if labelled.n_out_of_fold else [], []
    for where, predictions, true in places:
        if len(predictions.voters) == 1:
            notes.append(f"{where} has one voter: nothing to stack")
            continue
        try:
            chosen = options.given("metric", "n_folds")
            stacking = fit_stacking(predictions, true, labelled.groups, where=where, **chosen)
        except DataError as fault:
            faults.append(fault)
            notes.append(f"no stacked vote: {fault}")
            continue
        items.append(Fitted("stacking", where, _stand_in(stacking, labelled)))
    if not items and faults:
        raise faults[0]
    if not items:
        raise UsageError(
            "stacking: every expert has one voter only, so there is nothing to stack; predict with several"
        )
    return items, notes


def _adjusts(options: FitOptions) -> dict[str, Any]:
    """The functions at the experts, which come before a vote of chains."""
    found: dict[str, Any] = as_combine_arguments(options.fitted).get("adjust", {})
    return {place: function for place, function in found.items() if place != JOINT}


def _stand_in(stacking: Stacking, labelled: Labelled) -> Stacking:
    """Coefficients of voters that stand for several, divided among these: what counts is their geometric mean."""
    if not labelled.stands_for:
        return stacking
    known = labelled.stands_for
    members = known[stacking.where] if stacking.where in known else next(iter(known.values()))
    shares = {
        name: own / len(members[voter])
        for voter, own in zip(stacking.voters, stacking.coefficients, strict=True)
        for name in members[voter]
    }
    names = sorted(shares)
    return replace(stacking, voters=tuple(names), coefficients=np.stack([shares[name] for name in names]))


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
