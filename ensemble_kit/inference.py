"""Checkpoints on photos: every photo is decoded once, every checkpoint's probabilities are saved."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cache as cache_of_calls
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ensemble_kit.arrays import FloatArray
from ensemble_kit.backends.form import Forward
from ensemble_kit.backends.forms import Forms
from ensemble_kit.backends.photos import TrainingPhotos
from ensemble_kit.backends.table import BackendLike, find_backend
from ensemble_kit.card import Card, Head, read_card
from ensemble_kit.current import (
    photos_sha256,
    predictions_current,
    saved_agreement,
    saved_backend,
    saved_layers,
    saved_tta,
)
from ensemble_kit.data.decode import Preprocess
from ensemble_kit.data.preparers import Preparer
from ensemble_kit.data.samples import SampleTable
from ensemble_kit.errors import DataError, UsageError
from ensemble_kit.files import sha256_of_state
from ensemble_kit.graph import describe_expert
from ensemble_kit.leftovers import OWNER, owner, remove_leftovers
from ensemble_kit.loading.wanted import geometry
from ensemble_kit.models.backbones import Builder
from ensemble_kit.models.compute import Compute, num_threads, predict_probs
from ensemble_kit.models.heads import HeadBuilder
from ensemble_kit.models.memory import Fitting
from ensemble_kit.models.views import View, find_views
from ensemble_kit.predictions import Predictions, read_problems, save_predictions
from ensemble_kit.schema import Schema
from ensemble_kit.windows import photo_windows

SCRATCH = rf"\.predict-{OWNER}-[^-]*"
"""The folder in which a process fills its layers."""


class Progress(Protocol):
    """Who is told how far the work is."""

    def say(self, line: str) -> None: ...
    def begin(self, title: str, total: float) -> None: ...
    def advance(self, done: float, title: str | None = None) -> None: ...
    def end(self) -> None: ...


@dataclass(frozen=True, eq=False)
class Voter:
    """One head of one checkpoint; equal to itself alone."""

    path: Path
    card: Card
    head: Head
    name: str
    sha256: str

    @property
    def expert(self) -> str:
        return describe_expert(self.head.attributes, self.card.condition)

    @property
    def key(self) -> tuple[str, str]:
        return self.expert, self.sha256


def predict_table(
    table: SampleTable,
    checkpoints: Sequence[Path],
    out: Path,
    *,
    device: str = "auto",
    batch_size: int | None = None,
    precision: str | None = None,
    threads: int | None = None,
    cache: Path | None = None,
    watcher: Progress | None = None,
    backbones: Mapping[str, Builder] | None = None,
    heads: Mapping[str, HeadBuilder] | None = None,
    preparers: Mapping[str, Preparer] | None = None,
    tta: Sequence[str] = (),
    recipe_tta: Sequence[str] = (),
    backend: BackendLike | None = None,
    recipe_backend: str = "torch",
    trained_on: TrainingPhotos | None = None,
    accept_disagreement: bool = False,
    compiling: str = "off",
    command: str = "ens predict",
) -> Path:
    """Writes the prediction set `out`: each checkpoint's probabilities for each photo of `table`.

    Checkpoints of the same attributes and condition are the voters of one expert, named after their folds. Photos are
    prepared as each card says, in windows: memory does not grow with their number. Photos that cannot be read get NaN
    rows and a line in `errors.csv`. A set that is current (`predictions_current`) is left alone; of one of the same
    photos, only checkpoints that it lacks are run.

    Args:
        batch_size: photos a forward pass; what suits device and photos (`Compute.fitting_batch`) when left out.
        precision: of torch, in place of a back end: fp32, bf16, or auto (bf16 where it pays).
        threads: CPU threads of torch, and as many that decode; None leaves torch's alone and decodes on all cores.
        cache: folder of photo caches; one of these very photos and preparation spares the decoding.
        backbones, heads, preparers: backbones, heads and preparing steps of one's own, by the name in the card.
        tta: names of `VIEWS`; probabilities are the mean over the plain photo and these views of it.
        recipe_tta: the views that the run's recipe names; kept beside `tta`, see `current.wanted_tta`.
        backend: what runs the checkpoints: a name of `BACKENDS`, or a function of one's own; torch in float32 when left
            out. The same for `recipe_backend` and `current.wanted_backend`.
        trained_on: the samples that the checkpoints were trained on: every back end but torch in float32 is compared
            with it on some of them, once, and kept under `cache`.
        accept_disagreement: take a back end that gives other labels too often, or that cannot be compared. The set
            keeps what was accepted; a later call without this takes none of it.
        compiling: of torch: off, default or reduce-overhead (CUDA graphs): the modes of `torch.compile`.

    Raises:
        DataError: a checkpoint that cannot be read, or of another schema than the table or the other checkpoints; a
            back end that disagrees.
        UsageError: no checkpoint, no photo; a back end that is unknown, not installed, or without photos to try it on.
    """
    if not checkpoints or not len(table):
        raise UsageError(f"predict: expected photos and checkpoints, found {len(table)} and {len(checkpoints)}")
    if batch_size is not None and batch_size < 1:
        raise UsageError(f"batch size: expected at least 1, found {batch_size}")
    views, chosen = find_views(tta), find_backend(backend, precision, device, compiling)
    voters = find_voters(checkpoints, table.schema)
    out = Path(out)
    remove_leftovers(out, SCRATCH)
    is_told = saved_tta(out, "recipe_tta") == tuple(recipe_tta)
    is_told &= saved_backend(out, "recipe_backend") == recipe_backend
    agreement = {} if chosen.least_equal is None else saved_agreement(out)
    # what somebody accepted once is not accepted by everybody who comes after
    doubted = set() if chosen.least_equal is None or accept_disagreement else {voter.sha256 for voter in voters}
    doubted -= {sha256 for sha256, found in agreement.items() if found.get("enough") is True}
    if is_told and not doubted and predictions_current(out, table, {v.sha256 for v in voters}, tta, chosen.name):
        return out
    photos = photos_sha256(table)  # before they are looked at: photos that change meanwhile are predicted again
    saved = saved_layers(out, table, tta, chosen.name)
    layers = {voter: saved[voter.key] for voter in voters if voter.key in saved and voter.sha256 not in doubted}
    problems = read_problems(out) if layers else []
    forms = Forms(
        chosen,
        device,
        trained_on=trained_on,
        folder=None if cache is None else cache / "backends",
        photo_cache=cache,
        accept=accept_disagreement,
        backbones=backbones,
        heads=heads,
        preparers=preparers,
        say=None if watcher is None else watcher.say,
    )
    missing = {voter.path: voter for voter in voters if voter not in layers}

    @cache_of_calls
    def network(path: Path) -> Forward:
        return forms.load(path, missing[path].card, missing[path].sha256)

    # what may be refused is, before any work; torch's own are loaded when the first photos are there
    if chosen.least_equal is not None:
        with num_threads(threads):
            for path in missing:
                network(path)
    out.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        stack.enter_context(num_threads(threads))
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=f".predict-{owner()}-", dir=out)))
        fresh = {v: _layer(scratch / f"{i}.npy", len(table), v) for i, v in enumerate(voters) if v not in layers}
        if fresh:
            problems = _fill(
                fresh, table, network, forms.compute, batch_size, threads, cache, watcher, views, preparers
            )
        told: dict[str, Any] = {
            "tta": tta,
            "recipe_tta": recipe_tta,
            "backend": chosen.name,
            "recipe_backend": recipe_backend,
        }
        agreed = {v.sha256: agreement[v.sha256] for v in layers if v.sha256 in agreement}
        told |= {"agreement": agreed | forms.agreements}
        _save(out, table, voters, layers | fresh, problems, command, photos, told)
    return out


def find_voters(checkpoints: Sequence[Path], schema: Schema) -> list[Voter]:
    """Cards checked against the schema and each other; voters named by fold, and by seed where folds repeat."""
    found = []
    for path in map(Path, checkpoints):
        card = read_card(path)
        if card.schema != schema:
            expected, actual = _describe(schema, card.schema), _describe(card.schema, schema)
            raise DataError(f"{path}: expected a checkpoint of {expected}, found {actual}; predict with that schema")
        sha256 = sha256_of_state(path)
        found += [Voter(path, card, head, "", sha256) for head in card.heads]
    return _with_distinct_names(found)


def _describe(schema: Schema, other: Schema) -> str:
    """The schema in short, or in as much detail as it takes to tell it from the other one."""
    if repr(schema) != repr(other):
        return repr(schema)
    parts = []
    for attribute in schema.attributes:
        borders = "" if attribute.borders is None else f"; borders {', '.join(f'{b:g}' for b in attribute.borders)}"
        parts.append(f"{attribute.name}[{', '.join(attribute.classes)}{borders}]")
    return f"Schema({', '.join(parts)}; {schema.n_joint} joint)"


def _with_distinct_names(voters: Sequence[Voter]) -> list[Voter]:
    """Named by fold; an expert that has several seeds of a fold by seed too; by epoch where names are still alike."""
    seeds: dict[tuple[str, int], set[int]] = {}
    for voter in voters:
        seeds.setdefault((voter.expert, voter.card.train["fold"]), set()).add(voter.card.train["seed"])
    seeded = {expert for (expert, _), found in seeds.items() if len(found) > 1}
    named: dict[tuple[str, str], Voter] = {}
    for voter in voters:
        train = voter.card.train
        parts = (f"fold{train['fold']}", f"seed{train['seed']}", f"epoch{train['epoch']}")
        names = ["-".join(parts[:n]) for n in (1, 2, 3)][voter.expert in seeded :]
        twin = next((v for (e, _), v in named.items() if e == voter.expert and v.sha256 == voter.sha256), None)
        free = [name for name in names if (voter.expert, name) not in named]
        if twin is not None or not free:
            other = named[voter.expert, names[-1]] if twin is None else twin
            raise DataError(f"{voter.path}: the same voter of {voter.expert} as {other.path}; pass one of them")
        named[voter.expert, free[0]] = replace(voter, name=free[0])
    return list(named.values())


def _layer(path: Path, n_samples: int, voter: Voter) -> FloatArray:
    shape = (n_samples, len(voter.head.classes))
    layer: FloatArray = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
    return layer


def _fill(
    layers: Mapping[Voter, FloatArray],
    table: SampleTable,
    network: Callable[[Path], Forward],
    compute: Compute,
    batch_size: int | None,
    threads: int | None,
    cache: Path | None,
    watcher: Progress | None,
    views: Sequence[View],
    preparers: Mapping[str, Preparer] | None,
) -> list[tuple[str, str, str]]:
    """Fills the layers window by window; returns (id, path, problem) of the photos that cannot be read."""
    preprocess = {voter.path: Preprocess.from_json(voter.card.preprocess, preparers) for voter in layers}
    spans = {voter.path: [head.outputs for head in voter.card.heads] for voter in layers}
    problems: dict[int, str] = {}
    done, fitting = 0, Fitting(None if watcher is None else watcher.say)
    with ExitStack() as stack:
        if watcher is not None:
            watcher.begin("predicting", len(table) * len(spans))
            stack.callback(watcher.end)
        prepared = list(preprocess.values())
        for start, photos, found, _ in photo_windows(table, prepared, cache, threads=threads, device=compute.device):
            problems |= dict(found)
            bad = [row - start for row, _ in found]
            for path in spans:
                window = photos[geometry(preprocess[path])]
                how = (None, spans[path], views, fitting)
                probs = predict_probs(network(path), window, preprocess[path], compute, batch_size, *how)
                probs[bad] = np.nan
                for voter, layer in layers.items():
                    if voter.path == path:
                        layer[start : start + len(window)] = probs[:, slice(*voter.head.outputs)]
                done += len(window)
                if watcher is not None:
                    watcher.advance(done)
    ids, paths = table.ids, table.frame["path"].tolist()
    return [(str(ids[row]), paths[row], problem) for row, problem in sorted(problems.items())]


def _save(
    out: Path,
    table: SampleTable,
    voters: Sequence[Voter],
    layers: Mapping[Voter, FloatArray],
    problems: Sequence[tuple[str, str, str]],
    command: str,
    photos: str,
    told: Mapping[str, Any],
) -> None:
    experts, hashes = [], []
    for expert in dict.fromkeys(voter.expert for voter in voters):
        chosen = [voter for voter in voters if voter.expert == expert]
        first = chosen[0]
        experts.append(
            Predictions(
                [table.schema[name] for name in first.head.attributes],
                [layers[voter] for voter in chosen],
                table.ids,
                condition=first.card.condition,
                classes=first.head.classes,
                voters=[voter.name for voter in chosen],
                edges=first.head.edges,
                to=None if first.head.edges else first.head.collapse,
            )
        )
        hashes.append({voter.name: voter.sha256 for voter in chosen})
    save_predictions(
        out,
        experts,
        table.schema,
        checkpoints=hashes,
        problems=problems,
        command=command,
        photos_sha256=photos,
        **told,
    )
