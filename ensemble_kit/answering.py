"""From photos to joint classes in one pass: a photo is decoded once, and only the experts that its route needs run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ensemble_kit.arrays import BoolArray, ByteArray, FloatArray, IntArray
from ensemble_kit.card import Card
from ensemble_kit.data.decode import Preprocess
from ensemble_kit.data.preparers import Preparer
from ensemble_kit.data.samples import SampleTable
from ensemble_kit.ensemble import Combined, ConditionalEnsemble, Fallback
from ensemble_kit.errors import UsageError
from ensemble_kit.graph import Graph
from ensemble_kit.inference import Progress, Voter, find_voters, load_ready, photo_windows
from ensemble_kit.loading.cache import Geometry, geometry
from ensemble_kit.models.backbones import Builder
from ensemble_kit.models.compute import Compute, choose_compute, num_threads, predict_probs
from ensemble_kit.models.heads import HeadBuilder
from ensemble_kit.models.views import View, find_views
from ensemble_kit.predictions import Predictions
from ensemble_kit.schema import Schema

WINDOW_BYTES = 256 * 2**20
"""Prepared photos held at a time: a large window, so that rare routes fill their batches."""
WINDOW_PHOTOS = 4096


@dataclass
class Counts:
    """What it took.

    Attributes:
        photos: of each expert, how many it was asked for.
        decoded: files decoded.
        forwards: photos through networks, each network's passes counted.
        loaded: checkpoints loaded.
    """

    photos: dict[str, int] = field(default_factory=dict)
    decoded: int = 0
    forwards: int = 0
    loaded: int = 0


@dataclass(frozen=True)
class Answered:
    """Joint probabilities of every photo, and what it took.

    Attributes:
        joint: one voter, columns = the schema's joint classes; a row of zeros = no answer.
        problems: (id, path, problem) of each photo that cannot be read.
    """

    joint: Predictions
    counts: Counts
    problems: list[tuple[str, str, str]]


def answer_table(
    table: SampleTable,
    checkpoints: Sequence[Path],
    graph: Graph,
    *,
    schema: Schema | None = None,
    fallback: Fallback = "refuse",
    device: str = "auto",
    batch_size: int = 32,
    precision: str = "auto",
    threads: int | None = None,
    window: int | None = None,
    cache: Path | None = None,
    watcher: Progress | None = None,
    backbones: Mapping[str, Builder] | None = None,
    heads: Mapping[str, HeadBuilder] | None = None,
    preparers: Mapping[str, Preparer] | None = None,
    tta: Sequence[str] = (),
    **how: Any,
) -> Answered:
    """Answers every photo of `table` by the experts that its route asks for, and by no other.

    The answers are those of `predict_table` and `ConditionalEnsemble.combine` together, up to rounding, without the
    passes that no route needs: of K checkpoints and a hard route, three attributes take 3 K passes a photo, however
    many mask states have experts of their own.

    Args:
        schema: with other borders than the checkpoints', for experts of finer columns; theirs when left out.
        window: photos prepared at a time; as many as fit in 256 MB when left out. Memory does not grow with the
            number of photos, but for their joint probabilities.
        how: route, vote, vote_at, voters, weights, adjust: as `ConditionalEnsemble.combine` takes them.
        device, batch_size, precision, threads, cache, backbones, heads, preparers, tta: as of `predict_table`.

    Raises:
        DataError: a checkpoint that cannot be read, or of another schema than the table's.
        UsageError: no checkpoint, no photo; a state without an expert; an unknown route, vote or view.
    """
    if not checkpoints or not len(table):
        raise UsageError(f"answer: expected photos and checkpoints, found {len(table)} and {len(checkpoints)}")
    for name, value in (("batch size", batch_size), ("window", 1 if window is None else window)):
        if value < 1:
            raise UsageError(f"{name}: expected at least 1, found {value}")
    compute = choose_compute(device, precision, channels_last=True)
    networks = _Networks(find_voters(checkpoints, table), compute, batch_size, find_views(tta), backbones, heads)
    networks.prepare(preparers)
    schema = schema or table.schema
    networks.ensemble(schema, graph, fallback, table.ids[:0])  # a state without an expert is said before any work
    joint = np.zeros((len(table), schema.n_joint), dtype=np.float32)
    problems: dict[int, str] = {}
    with ExitStack() as stack:
        stack.enter_context(num_threads(threads))
        if watcher is not None:
            watcher.begin("answering", len(table))
            stack.callback(watcher.end)
        combined: Combined | None = None
        for start, photos, found in photo_windows(table, networks.preprocesses, cache, window or networks.window()):
            problems |= dict(found)
            rows = slice(start, start + len(next(iter(photos.values()))))
            readable = np.ones(rows.stop - rows.start, dtype=np.bool_)
            readable[[row - start for row, _ in found]] = False
            networks.look_at(photos, readable)
            ensemble = networks.ensemble(schema, graph, fallback, table.ids[rows])
            combined = ensemble.combine(**how, missing="abstain", fill=networks.fill)
            joint[rows] = combined.joint.layers[0]
            networks.note(combined)
            if watcher is not None:
                watcher.advance(rows.stop)
    assert combined is not None, "there are photos"
    networks.counts.decoded = len(table)
    first = combined.joint
    result = Predictions(schema.attributes, joint, table.ids, classes=first.classes, voters=first.voters, checked=True)
    paths = table.frame["path"].tolist()
    named = [(str(table.ids[row]), paths[row], problem) for row, problem in sorted(problems.items())]
    return Answered(result, networks.counts, named)


class _Networks:
    """The checkpoints, loaded when a photo first needs them, and what they said of the photos of this window."""

    def __init__(
        self,
        voters: Sequence[Voter],
        compute: Compute,
        batch_size: int,
        views: Sequence[View],
        backbones: Mapping[str, Builder] | None,
        heads: Mapping[str, HeadBuilder] | None,
    ):
        self.voters = {(voter.expert, voter.name): voter for voter in voters}
        self.compute, self.batch_size, self.views = compute, batch_size, views
        self.builders = backbones, heads
        self.loaded: dict[Path, Any] = {}
        self.preprocess: dict[Path, Preprocess] = {}
        self.counts = Counts()
        self.photos: Mapping[Geometry, ByteArray] = {}
        self.readable: BoolArray = np.zeros(0, dtype=np.bool_)
        self.said: dict[Path, FloatArray] = {}

    @property
    def preprocesses(self) -> list[Preprocess]:
        return list(self.preprocess.values())

    def prepare(self, preparers: Mapping[str, Preparer] | None) -> None:
        for voter in self.voters.values():
            if voter.path not in self.preprocess:
                self.preprocess[voter.path] = Preprocess.from_json(voter.card.preprocess, preparers)

    def window(self) -> int:
        """Photos that fit, prepared in every way that some checkpoint wants them."""
        distinct = {geometry(one): one for one in self.preprocesses}.values()
        photo = sum(3 * one.size[0] * one.size[1] for one in distinct)
        return max(1, min(WINDOW_PHOTOS, WINDOW_BYTES // photo))

    def ensemble(self, schema: Schema, graph: Graph, fallback: Fallback, ids: Any) -> ConditionalEnsemble:
        """The experts on photos of which nothing is computed yet."""
        names = dict.fromkeys(expert for expert, _ in self.voters)
        groups = [[voter for (expert, _), voter in self.voters.items() if expert == name] for name in names]
        experts = [self.predictions(group, ids, None, schema) for group in groups]
        return ConditionalEnsemble(schema, graph, experts, fallback=fallback)

    def predictions(
        self, voters: Sequence[Voter], ids: Any, layers: list[FloatArray] | None, schema: Schema
    ) -> Predictions:
        """Voters of one expert as predictions: these layers, or rows of NaN."""
        head, condition = voters[0].head, voters[0].card.condition
        shape = len(ids), len(head.classes)
        return Predictions(
            [schema[name] for name in head.attributes],
            [np.full(shape, np.nan, dtype=np.float32) for _ in voters] if layers is None else layers,
            ids,
            condition=condition,
            classes=head.classes,
            voters=[voter.name for voter in voters],
            edges=head.edges,
            to=None if head.edges else head.collapse,
            checked=True,
        )

    def look_at(self, photos: Mapping[Geometry, ByteArray], readable: BoolArray) -> None:
        self.photos, self.readable, self.said = photos, readable, {}

    def note(self, combined: Combined) -> None:
        for expert, count in combined.counts.items():
            self.counts.photos[expert] = self.counts.photos.get(expert, 0) + count

    def fill(self, expert: Predictions, names: Sequence[str], rows: IntArray) -> None:
        """Runs the voters of an expert on rows of the window that are not computed yet."""
        for name in names:
            layer = expert.layers[expert.voters.index(name)]
            fresh = rows[np.isnan(layer[rows, 0]) & self.readable[rows]]
            if len(fresh):
                voter = self.voters[expert.describe(), name]
                probs = self.run(voter, fresh)[:, slice(*voter.head.outputs)]
                schema = Schema(*expert.attributes)
                own = self.predictions([voter], expert.ids[fresh], [probs], schema).in_classes_of(schema)
                layer[fresh] = own.layers[0]

    def run(self, voter: Voter, rows: IntArray) -> FloatArray:
        """`(len(rows), n_columns)` of all heads of the voter's checkpoint; what another head asked for is kept."""
        path, card = voter.path, voter.card
        said = self.said.get(path)
        if said is None:
            n_columns = max(head.outputs[1] for head in card.heads)
            said = self.said[path] = np.full((len(self.readable), n_columns), np.nan, dtype=np.float32)
        fresh = rows[np.isnan(said[rows, 0])]
        if len(fresh):
            said[fresh] = self.probs(path, card, fresh)
        return said[rows]

    def probs(self, path: Path, card: Card, rows: IntArray) -> FloatArray:
        if path not in self.loaded:
            self.loaded[path] = load_ready(path, self.compute, *self.builders)
            self.counts.loaded += 1
        self.counts.forwards += len(rows) * (1 + len(self.views))
        preprocess, spans = self.preprocess[path], [head.outputs for head in card.heads]
        window = self.photos[geometry(preprocess)]
        network = self.loaded[path]
        return predict_probs(network, window, preprocess, self.compute, self.batch_size, rows, spans, self.views)
