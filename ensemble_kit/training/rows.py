"""Which rows of the sample table one fold of one expert trains on, is scored on, and predicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ensemble_kit.arrays import BoolArray, IdArray, IntArray
from ensemble_kit.card import Head, read_card
from ensemble_kit.conditions import under_condition
from ensemble_kit.data.samples import SampleTable
from ensemble_kit.errors import DataError
from ensemble_kit.files import sha256_json
from ensemble_kit.loading.cache import PhotoCache
from ensemble_kit.loading.samplers import epoch_batches, joint_keys
from ensemble_kit.models.heads import mix_seed
from ensemble_kit.training.columns import class_numbers, heads_of
from ensemble_kit.training.job import ExpertJob
from ensemble_kit.training.phases import spans_of

SHOWN = 10
"""Unreadable photos named by a training; the run's `errors.csv` has all."""

NAMED = 5
"""Classes that a notice names, at most."""


@dataclass(frozen=True)
class FoldRows:
    """Row numbers into the sample table.

    Attributes:
        train: rows outside the fold, of people who are not in it, under the condition, labelled (for at least one of
            several heads).
        train_targets: their columns, `(n,)`, by the training borders where the columns are classes; of several heads
            `(n, n_heads)`, each in its own columns, -1 where it has no label.
        train_classes: their classes by the training borders, of the same shape.
        train_keys: `(n,)` what the sampler balances over, see `balance_keys`.
        score, score_targets: rows of the fold, under the condition, labelled; classes by the schema's borders, of
            several heads `(n, n_heads)`.
        held_out: every row of the fold, whatever its labels: the rows of `oof.npy`.
        possible: `(n_open,)` the columns that exist under the condition, counted over all heads: in a taxonomy not all
            of them do.
        classes: of each head the classes that exist under the condition.
        notices: what was left out and what may mislead, one line each.
    """

    train: IntArray
    train_targets: IntArray
    train_classes: IntArray
    train_keys: IntArray
    score: IntArray
    score_targets: IntArray
    held_out: IntArray
    possible: IntArray
    classes: tuple[IntArray, ...]
    notices: tuple[str, ...]


def choose_rows(job: ExpertJob, table: SampleTable, folds: IntArray, photos: PhotoCache) -> FoldRows:
    """The rows of one fold.

    Raises:
        DataError: nothing to train on or to score with, a class of the head without a training photo, or a label that
            the taxonomy does not have under the condition.
    """
    heads = heads_of(job)
    labels = [labels_of(job, table, head) for head in heads]
    columns, trained, scored = (np.stack(part, axis=1) for part in zip(*labels, strict=True))
    given = table.under(job.condition)
    inside = given & photos.readable
    held_out_people = np.unique(table.groups[folds == job.fold])
    is_seen = (folds != job.fold) & ~np.isin(table.groups, held_out_people)  # an extra photo may show one of them
    is_seen &= chosen_people(job.people_share, table.groups, held_out_people, job.seed)
    is_train = is_seen & inside & (columns >= 0).any(axis=1)
    is_score = (folds == job.fold) & inside & (scored >= 0).any(axis=1)
    train, score = np.flatnonzero(is_train), np.flatnonzero(is_score)
    classes = tuple(possible_classes(job, head.attributes) for head in heads)
    notices = []
    for number, (head, possible) in enumerate(zip(heads, classes, strict=True)):
        labelled = np.flatnonzero(given & (scored[:, number] >= 0))
        _refuse_impossible(job, head, table, labelled, scored[:, number], possible)
        own = train[columns[train, number] >= 0]
        _check(job, head, own, score[scored[score, number] >= 0], trained[:, number], possible)
        notices += _notices(job, head, trained[own, number], possible)
    held_out = np.flatnonzero(folds == job.fold)
    notices = [*_unreadable(photos), *notices, *_weights_notice(job, table, held_out)]
    is_open = [np.isin(class_numbers(head), own) for head, own in zip(heads, classes, strict=True)]
    open_columns = np.flatnonzero(np.concatenate(is_open))
    keys = balance_keys(job, table, trained)
    if len(heads) == 1:
        columns, trained, scored = columns[:, 0], trained[:, 0], scored[:, 0]
    return FoldRows(
        train,
        columns[train],
        trained[train],
        keys[train],
        score,
        scored[score],
        held_out,
        open_columns,
        classes,
        tuple(notices),
    )


def chosen_people(share: float, groups: IdArray, held_out: IdArray, seed: int) -> BoolArray:
    """`(n_samples,)`: whether the photo's person is among the share that is trained on.

    One order of all people is drawn, and the first of those who are not held out are taken: a smaller share's are among
    a larger one's, in every expert and fold.

    Args:
        groups: `(n_samples,)` the person of each photo.
        held_out: people who do not train anyway.
    """
    if share >= 1:
        return np.ones(len(groups), dtype=bool)
    people = np.unique(groups)
    drawn = people[np.random.Generator(np.random.PCG64([seed, 5])).permutation(len(people))]
    free = drawn[~np.isin(drawn, held_out)]
    return np.isin(groups, free[: max(1, round(share * len(free)))])


def labels_of(job: ExpertJob, table: SampleTable, head: Head) -> tuple[IntArray, IntArray, IntArray]:
    """Of one head `(n_samples,)` each, -1 where unlabelled.

    Returns:
        Columns and classes to train on (-1, too, where left out), by the training borders; classes by the schema's.
    """
    block = job.schema.block(head.attributes)
    trained = block.encode({name: table.numbers(name, _borders(job, name)) for name in head.attributes})
    scored = table.joint(head.attributes)
    columns = trained
    if head.edges is not None and table.has(head.attributes[0]):
        measured = table.frame[head.attributes[0]].to_numpy(dtype=np.float64)
        columns = np.searchsorted(np.array(head.edges), measured, side="right")
    is_left_out = _left_out(job, table) if job.bordered in head.attributes else np.zeros(len(table), dtype=bool)
    is_known = (trained >= 0) & ~is_left_out
    return np.where(is_known, columns, -1).astype(np.int64), np.where(is_known, trained, -1), scored


def balance_keys(job: ExpertJob, table: SampleTable, trained: IntArray) -> IntArray:
    """`(n_samples,)` what `job.balance_by` names: one number for each combination of classes, -1 where one is missing.

    Args:
        trained: `(n_samples, n_heads)` the expert's own classes by its training borders: what () balances over; of
            several heads every combination that occurs, with labels missing or not.
    """
    if not job.balance_by:
        own: IntArray = trained[:, 0] if trained.shape[1] == 1 else np.unique(trained, axis=0, return_inverse=True)[1]
        return own.ravel()
    is_joint = job.balance_by == ("joint",) and "joint" not in job.schema.names
    names = job.schema.names if is_joint else job.balance_by
    return joint_keys([table.numbers(name, _borders(job, name)) for name in names])


def batches_of(job: ExpertJob, rows: FoldRows, epoch: int) -> list[IntArray]:
    """The batches of one epoch, as positions into `rows.train`: what is drawn depends on (seed, fold, epoch) alone."""
    phase = next(span.phase for span in spans_of(job.phases) if epoch <= span.last)
    progress = (epoch - 1) / max(1, job.epochs - 1)
    seed = mix_seed(job.seed, job.fold)
    return epoch_batches(job.sampler, rows.train_keys, phase.batch_size, seed, epoch, progress)


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


def possible_classes(job: ExpertJob, names: Sequence[str]) -> IntArray:
    """`(n_possible,)` classes of a head that some path of the schema has under the condition, in order."""
    schema = job.schema
    keep = under_condition(job.condition, schema, dict(zip(schema.names, schema.paths.T, strict=True)))
    columns = {name: schema.paths[keep, schema.names.index(name)] for name in names}
    return np.unique(schema.block(names).encode(columns))


def _refuse_impossible(
    job: ExpertJob, head: Head, table: SampleTable, rows: IntArray, labels: IntArray, possible: IntArray
) -> None:
    wrong = rows[~np.isin(labels[rows], possible)]
    if len(wrong):
        found = job.schema.block(head.attributes).joint_names()[labels[wrong[0]]]
        raise DataError(
            f"{job.name}: sample {table.ids[wrong[0]]} is labelled {found}, which the schema does not have there; "
            "mend the label or add the path"
        )


def _check(job: ExpertJob, head: Head, train: IntArray, score: IntArray, labels: IntArray, possible: IntArray) -> None:
    where = f"{job.name}, fold {job.fold}"
    for name in head.attributes:
        present = _numbers_of(job, head, labels[train], name)
        missing = [job.schema[name].classes[i] for i in sorted(_numbers_of(job, head, possible, name) - present)]
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


def not_scored(job: ExpertJob, rows: FoldRows) -> str:
    """The classes that exist under the condition and no held-out photo shows, in words; "" when each is shown."""
    heads, absent = heads_of(job), []
    truth = rows.score_targets.reshape(len(rows.score), len(heads))
    for head, own, possible in zip(heads, truth.T, rows.classes, strict=True):
        for name in head.attributes:
            missing = _numbers_of(job, head, possible, name) - _numbers_of(job, head, own[own >= 0], name)
            absent += [f"{name}={job.schema[name].classes[number]}" for number in sorted(missing)]
    more = f" and {len(absent) - NAMED} more classes" if len(absent) > NAMED else ""
    return ", ".join(absent[:NAMED]) + more


def _numbers_of(job: ExpertJob, head: Head, labels: IntArray, name: str) -> set[int]:
    return set(job.schema.block(head.attributes).decode(labels)[name].tolist())


def _unreadable(photos: PhotoCache) -> list[str]:
    named = [f"{problem.path}: {problem.problem}; left out" for problem in photos.problems[:SHOWN]]
    more = len(photos.problems) - SHOWN
    return [*named, f"and {more:,} more photos that cannot be read; left out"] if more > 0 else named


def _notices(job: ExpertJob, head: Head, labels: IntArray, possible: IntArray) -> list[str]:
    missing = np.setdiff1d(possible, labels)
    if len(head.attributes) == 1 or not len(missing):
        return []
    names = job.schema.block(head.attributes).joint_names()
    return [f"{job.name}, fold {job.fold}: no training photo of {'; '.join(names[number] for number in missing)}"]


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
