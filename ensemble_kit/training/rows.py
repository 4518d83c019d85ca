"""Which rows of the sample table one fold of one expert trains on, is scored on, and predicts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ensemble_kit.arrays import BoolArray, IntArray
from ensemble_kit.card import read_card
from ensemble_kit.data.samples import SampleTable
from ensemble_kit.errors import DataError
from ensemble_kit.files import sha256_json
from ensemble_kit.loading.cache import PhotoCache
from ensemble_kit.loading.samplers import epoch_batches, joint_keys
from ensemble_kit.models.heads import mix_seed
from ensemble_kit.training.job import ExpertJob
from ensemble_kit.training.phases import spans_of


@dataclass(frozen=True)
class FoldRows:
    """Row numbers into the sample table.

    Attributes:
        train, train_targets: rows outside the fold, of people who are not in it, under the condition, labelled;
            classes by the training borders.
        train_keys: what the sampler balances over, see `balance_keys`.
        score, score_targets: rows of the fold, under the condition, labelled; classes by the schema's borders.
        held_out: every row of the fold, whatever its labels: the rows of `oof.npy`.
        possible: `(n_possible,)` the head's classes that exist under the condition: in a taxonomy not all of them do.
        notices: what was left out and what may mislead, one line each.
    """

    train: IntArray
    train_targets: IntArray
    train_keys: IntArray
    score: IntArray
    score_targets: IntArray
    held_out: IntArray
    possible: IntArray
    notices: tuple[str, ...]


def choose_rows(job: ExpertJob, table: SampleTable, folds: IntArray, photos: PhotoCache) -> FoldRows:
    """The rows of one fold.

    Raises:
        DataError: nothing to train on or to score with, a class of the head without a training photo, or a label that
            the taxonomy does not have under the condition.
    """
    block = job.schema.block(job.attributes)
    trained = block.encode({name: table.numbers(name, _borders(job, name)) for name in job.attributes})
    scored = table.joint(job.attributes)
    given = under_condition(job, table)
    inside = given & photos.readable
    held_out_people = np.unique(table.groups[folds == job.fold])
    is_seen = (folds != job.fold) & ~np.isin(table.groups, held_out_people)  # an extra photo may show one of them
    is_train = is_seen & inside & (trained >= 0) & ~_left_out(job, table)
    is_score = (folds == job.fold) & inside & (scored >= 0)
    train, score = np.flatnonzero(is_train), np.flatnonzero(is_score)
    possible = possible_classes(job)
    _refuse_impossible(job, table, np.flatnonzero(given & (scored >= 0)), scored, possible)
    _check(job, train, score, trained, possible)
    held_out = np.flatnonzero(folds == job.fold)
    notices = [
        *_notices(job, trained[train], possible, photos),
        *_weights_notice(job, table, held_out),
    ]
    return FoldRows(
        train,
        trained[train],
        balance_keys(job, table, trained)[train],
        score,
        scored[score],
        held_out,
        possible,
        tuple(notices),
    )


def balance_keys(job: ExpertJob, table: SampleTable, trained: IntArray) -> IntArray:
    """`(n_samples,)` what `job.balance_by` names: one number for each combination of classes, -1 where one is missing.

    Args:
        trained: `(n_samples,)` the expert's own classes by its training borders: what "" balances over.
    """
    if not job.balance_by:
        return trained
    is_joint = job.balance_by == ("joint",) and "joint" not in job.schema.names
    names = job.schema.names if is_joint else job.balance_by
    return joint_keys([table.numbers(name, _borders(job, name)) for name in names])


def batches_of(job: ExpertJob, rows: FoldRows, epoch: int) -> list[IntArray]:
    """The batches of one epoch, as positions into `rows.train`: what is drawn depends on (seed, fold, epoch) alone."""
    phase = next(span.phase for span in spans_of(job.phases) if epoch <= span.last)
    progress = (epoch - 1) / max(1, job.epochs - 1)
    seed = mix_seed(job.seed, job.fold)
    return epoch_batches(job.sampler, rows.train_keys, phase.batch_size, seed, epoch, progress)


def under_condition(job: ExpertJob, table: SampleTable) -> BoolArray:
    """`(n_samples,)`: whether the true labels satisfy the condition; an unlabelled parent does not."""
    inside = np.ones(len(table), dtype=bool)
    for name, classes in job.condition.items():
        inside &= np.isin(table.numbers(name), [job.schema[name].index(c) for c in classes])
    return inside


def groups_sha256(table: SampleTable, rows: IntArray) -> str:
    """Hash of the set of groups (people) among some rows."""
    return sha256_json(sorted(set(table.groups[rows].tolist())))


def _borders(job: ExpertJob, attribute: str) -> tuple[float, ...] | None:
    return job.borders if attribute == job.bordered else None


def _left_out(job: ExpertJob, table: SampleTable) -> BoolArray:
    out = np.zeros(len(table), dtype=bool)
    if job.leave_out and job.bordered is not None and table.has(job.bordered):
        measured = table.frame[job.bordered].to_numpy(dtype=np.float64)
        for low, high in job.leave_out:
            out |= (measured >= low) & (measured <= high)
    return out


def possible_classes(job: ExpertJob) -> IntArray:
    """`(n_possible,)` classes of the expert's head that some path of the schema has under the condition, in order."""
    schema = job.schema
    keep = np.ones(schema.n_joint, dtype=bool)
    for parent, classes in job.condition.items():
        keep &= np.isin(schema.paths[:, schema.names.index(parent)], [schema[parent].index(c) for c in classes])
    columns = {name: schema.paths[keep, schema.names.index(name)] for name in job.attributes}
    return np.unique(schema.block(job.attributes).encode(columns))


def _refuse_impossible(
    job: ExpertJob, table: SampleTable, rows: IntArray, labels: IntArray, possible: IntArray
) -> None:
    wrong = rows[~np.isin(labels[rows], possible)]
    if len(wrong):
        found = job.schema.block(job.attributes).joint_names()[labels[wrong[0]]]
        raise DataError(
            f"{job.name}: sample {table.ids[wrong[0]]} is labelled {found}, which the schema does not have there; "
            "mend the label or add the path"
        )


def _check(job: ExpertJob, train: IntArray, score: IntArray, targets: IntArray, possible: IntArray) -> None:
    where = f"{job.name}, fold {job.fold}"
    for name in job.attributes:
        present = _numbers_of(job, targets[train], name)
        missing = [job.schema[name].classes[i] for i in sorted(_numbers_of(job, possible, name) - present)]
        if len(train) and missing:
            raise DataError(
                f"{where}: no training photo of {name}={', '.join(missing)}; add photos of it, use other folds, "
                "or check the borders and what is left out"
            )
    if len(train) < 2:
        raise DataError(
            f"{where}: expected at least 2 labelled training photos, found {len(train)}; "
            'see what the data holds with "ens data check"'
        )
    if not len(score):
        raise DataError(f"{where}: no validation photo to score with; use fewer folds or add photos")


def _numbers_of(job: ExpertJob, targets: IntArray, name: str) -> set[int]:
    return set(job.schema.block(job.attributes).decode(targets)[name].tolist())


def _notices(job: ExpertJob, targets: IntArray, possible: IntArray, photos: PhotoCache) -> list[str]:
    notices = [f"{problem.path}: {problem.problem}; left out" for problem in photos.problems]
    if len(job.attributes) > 1:
        names = job.schema.block(job.attributes).joint_names()
        missing = [names[number] for number in np.setdiff1d(possible, targets)]
        if missing:
            notices.append(f"{job.name}, fold {job.fold}: no training photo of {'; '.join(missing)}")
    return notices


def _weights_notice(job: ExpertJob, table: SampleTable, held_out: IntArray) -> list[str]:
    """First weights out of another fold of the same samples have learnt from people that this fold holds out."""
    try:
        train = read_card(Path(job.weights)).train
    except DataError:
        return []  # "none", "imagenet", or weights that do not say what they were trained on
    same_samples = train["samples_sha256"] == table.sha256()
    if not same_samples or train["held_out_groups_sha256"] == groups_sha256(table, held_out):
        return []
    return [
        f"{job.name}, fold {job.fold}: the weights {job.weights} were trained on people held out by this fold: "
        "its out-of-fold scores are too good"
    ]
