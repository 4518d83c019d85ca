"""From photos to joint classes in one pass: a photo is decoded once, and only the experts that its route needs run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ensemble_kit.arrays import BoolArray, FloatArray, IdArray, IntArray
from ensemble_kit.backends.form import Forward
from ensemble_kit.backends.forms import Forms
from ensemble_kit.backends.photos import TrainingPhotos
from ensemble_kit.backends.table import BackendLike, find_backend
from ensemble_kit.card import Card
from ensemble_kit.data.decode import Preprocess
from ensemble_kit.data.preparers import Preparer
from ensemble_kit.data.samples import SampleTable
from ensemble_kit.ensemble import Combined, ConditionalEnsemble, Fallback
from ensemble_kit.errors import DataError, UsageError
from ensemble_kit.graph import Graph
from ensemble_kit.inference import Progress, Voter, find_voters
from ensemble_kit.loading.wanted import Geometry, geometry
from ensemble_kit.models.backbones import Builder
from ensemble_kit.models.compute import num_threads, predict_probs
from ensemble_kit.models.heads import HeadBuilder
from ensemble_kit.models.memory import Fitting
from ensemble_kit.models.views import find_views
from ensemble_kit.predictions import Predictions
from ensemble_kit.schema import Schema
from ensemble_kit.windows import Photos, fitting_window, photo_windows

MAKING = frozenset(
    (
        *("borders", "fallback", "device", "batch_size", "precision", "window", "backbones", "heads", "preparers"),
        *("tta", "backend", "trained_on", "accept_disagreement", "compiling", "forms"),
    )
)
"""What an `Answerer` is made with; the rest is said when it is asked."""


@dataclass
class Counts:
    """What it took.

    Attributes:
        photos: of each expert, how many it was asked for.
        decoded: files decoded; none where a cache of these photos spares it.
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


def answer_table(table: SampleTable, checkpoints: Sequence[Path], graph: Graph, **options: Any) -> Answered:
    """Answers every photo of `table` once: `Answerer(checkpoints, table.schema, graph, ...).answer(table, ...)`.

    Args:
        options: those of `Answerer` and of its `answer`.
    """
    own = {name: options.pop(name) for name in list(options) if name in MAKING}
    return Answerer(checkpoints, table.schema, graph, **own).answer(table, **options)


class Answerer:
    """Answers photos by the experts that their routes ask for, and by no other.

    The answers are those of `predict_table` and `ConditionalEnsemble.combine` together, up to rounding, without the
    passes that no route needs: of K checkpoints and a hard route, three attributes take 3 K passes a photo, however
    many mask states have experts of their own. A checkpoint is loaded when a photo first needs it, and kept.

    Args:
        checkpoints: of all experts; those of the same attributes and condition are the voters of one.
        schema: the checkpoints' own.
        borders: other borders for experts of finer columns, by attribute.
        window: photos prepared at a time, of which the next ones are decoded meanwhile; as many as fit in 128 MB when
            left out, fewer in the first windows. Memory does not grow with the
            number of photos, but for their joint probabilities.
        fallback: as of `ConditionalEnsemble`.
        device, batch_size, precision, backbones, heads, preparers, tta, backend, trained_on, accept_disagreement,
            compiling: as of `predict_table`.
        forms: folder in which a back end's forms of the checkpoints are kept.

    Raises:
        DataError: a checkpoint that cannot be read, or of another schema.
        UsageError: no checkpoint; a state without an expert; an unknown view; a back end that is unknown, not
            installed, or without photos to try it on.
    """

    def __init__(
        self,
        checkpoints: Sequence[Path],
        schema: Schema,
        graph: Graph,
        *,
        borders: Mapping[str, Sequence[float]] | None = None,
        fallback: Fallback = "refuse",
        device: str = "auto",
        batch_size: int | None = None,
        precision: str | None = None,
        window: int | None = None,
        backbones: Mapping[str, Builder] | None = None,
        heads: Mapping[str, HeadBuilder] | None = None,
        preparers: Mapping[str, Preparer] | None = None,
        tta: Sequence[str] = (),
        backend: BackendLike | None = None,
        trained_on: TrainingPhotos | None = None,
        accept_disagreement: bool = False,
        compiling: str = "off",
        forms: Path | None = None,
    ):
        if not checkpoints:
            raise UsageError("answer: expected checkpoints, found none")
        for name, value in (("batch size", batch_size), ("window", window)):
            if value is not None and value < 1:
                raise UsageError(f"{name}: expected at least 1, found {value}")
        self.schema = schema.with_borders(borders or {})
        self.graph, self.fallback = graph, fallback
        self.batch_size, self.views = batch_size, find_views(tta)
        self.forms = Forms(
            find_backend(backend, precision, device, compiling),
            device,
            trained_on=trained_on,
            folder=forms,
            accept=accept_disagreement,
            backbones=backbones,
            heads=heads,
            preparers=preparers,
        )
        self.voters = {(voter.expert, voter.name): voter for voter in find_voters(checkpoints, schema)}
        self.hashes = {voter.path: voter.sha256 for voter in self.voters.values()}
        cards = {voter.path: voter.card for voter in self.voters.values()}
        self.preprocess = {path: Preprocess.from_json(card.preprocess, preparers) for path, card in cards.items()}
        self.window = window or fitting_window(list(self.preprocess.values()))
        self.loaded: dict[Path, Forward] = {}
        self.counts, self.fitting = Counts(), Fitting()
        self.photos: Mapping[Geometry, Photos] = {}
        self.readable: BoolArray = np.zeros(0, dtype=np.bool_)
        self.said: dict[Path, FloatArray] = {}
        names = dict.fromkeys(expert for expert, _ in self.voters)
        groups = [[voter for (expert, _), voter in self.voters.items() if expert == name] for name in names]
        experts = [self._predictions(group, np.zeros(0, dtype=np.str_), None, self.schema) for group in groups]
        self.ensemble = ConditionalEnsemble(self.schema, graph, experts, fallback=fallback)
        """On no photo: a state without an expert is said before any work, and the plan is made once."""

    def answer(
        self,
        table: SampleTable,
        *,
        threads: int | None = None,
        cache: Path | None = None,
        watcher: Progress | None = None,
        **how: Any,
    ) -> Answered:
        """Joint probabilities of every photo of `table`.

        Args:
            threads, cache: as of `predict_table`.
            how: route, vote, vote_at, voters, weights, adjust: as `ConditionalEnsemble.combine` takes them.

        Raises:
            UsageError: no photo; an unknown route or vote.
        """
        if not len(table):
            raise UsageError("answer: expected photos, found none")
        self.counts = Counts()
        self.forms.photo_cache, self.forms.say = cache, None if watcher is None else watcher.say
        self.fitting.say = self.forms.say
        joint = np.zeros((len(table), self.schema.n_joint), dtype=np.float32)
        problems: dict[int, str] = {}
        combined: Combined | None = None
        with ExitStack() as stack:
            stack.enter_context(num_threads(threads))
            if watcher is not None:
                watcher.begin("answering", len(table))
                stack.callback(watcher.end)
            size, device, preprocesses = self.window, self.forms.compute.device, list(self.preprocess.values())
            for window in photo_windows(table, preprocesses, cache, size, threads, device):
                start, photos, found, n_decoded = window
                problems |= dict(found)
                self.counts.decoded += n_decoded
                rows = slice(start, start + len(next(iter(photos.values()))))
                self._look_at(photos, rows.stop - rows.start, [row - start for row, _ in found])
                combined = self._ensemble(table.ids[rows], _unasked).combine(**how, missing="abstain", fill=self._fill)
                joint[rows] = combined.joint.layers[0]
                for expert, count in combined.counts.items():
                    self.counts.photos[expert] = self.counts.photos.get(expert, 0) + count
                if watcher is not None:
                    watcher.advance(rows.stop)
        assert combined is not None, "there are photos"
        first = combined.joint
        names = self.schema.attributes
        result = Predictions(names, joint, table.ids, classes=first.classes, voters=first.voters, checked=True)
        paths = table.frame["path"].tolist()
        named = [(str(table.ids[row]), paths[row], problem) for row, problem in sorted(problems.items())]
        return Answered(result, self.counts, named)

    def consider(
        self, table: SampleTable, *, threads: int | None = None, **how: Any
    ) -> Iterator[tuple[Combined, tuple[Predictions, ...]] | str]:
        """Each photo of `table` by itself: how its answer came about, or what is wrong with the photo.

        Args:
            how: as of `answer`.

        Yields:
            What combining gave for the one photo, and all experts on it, in classes; those that no route asked, and
            voters that do not count, are NaN.
        """
        with num_threads(threads):
            for row in range(len(table)):
                one = table.select([row])
                try:
                    ((_, photos, found, n_decoded),) = photo_windows(one, list(self.preprocess.values()), None, 1)
                except DataError as error:  # smaller than the crop
                    yield str(error).removeprefix(f"{one.paths[0]}: ")
                    continue
                self.counts.decoded += n_decoded
                if found:
                    yield found[0][1]
                    continue
                self._look_at(photos, 1, [])
                ensemble = self._ensemble(one.ids, _empty)
                yield ensemble.combine(**how, missing="abstain", fill=self._fill), ensemble.experts

    def _look_at(self, photos: Mapping[Geometry, Photos], n_photos: int, bad: Sequence[int]) -> None:
        self.photos, self.said = photos, {}
        self.readable = np.ones(n_photos, dtype=np.bool_)
        self.readable[list(bad)] = False

    def _ensemble(self, ids: IdArray, make: Callable[[tuple[int, int]], FloatArray]) -> ConditionalEnsemble:
        """The experts on photos of which nothing is computed yet.

        Args:
            make: an array of NaN of a shape, for each voter.
        """
        experts = self.ensemble.experts
        return self.ensemble.on(
            [one.on(ids, [make((len(ids), len(one.classes))) for _ in one.voters]) for one in experts]
        )

    def _predictions(
        self, voters: Sequence[Voter], ids: IdArray, layers: list[FloatArray] | None, schema: Schema
    ) -> Predictions:
        """Voters of one expert as predictions: these layers, or rows of NaN."""
        head, condition = voters[0].head, voters[0].card.condition
        shape = len(ids), len(head.classes)
        return Predictions(
            [schema[name] for name in head.attributes],
            [_empty(shape) for _ in voters] if layers is None else layers,
            ids,
            condition=condition,
            classes=head.classes,
            voters=[voter.name for voter in voters],
            edges=head.edges,
            to=None if head.edges else head.collapse,
            checked=True,
        )

    def _fill(self, expert: Predictions, names: Sequence[str], rows: IntArray) -> Predictions:
        """The expert with its voters run on rows of the window that are not computed yet."""
        if not expert.layers[0].flags.writeable:  # asked for the first time
            expert = expert.on(expert.ids, [_empty(layer.shape) for layer in expert.layers])
        for name in names:
            layer = expert.layers[expert.voters.index(name)]
            fresh = rows[np.isnan(layer[rows, 0]) & self.readable[rows]]
            if len(fresh):
                voter = self.voters[expert.describe(), name]
                probs = self._run(voter, fresh)[:, slice(*voter.head.outputs)]
                if voter.head.edges or voter.head.collapse:
                    schema = Schema(*expert.attributes)
                    own = self._predictions([voter], expert.ids[fresh], [probs], schema).in_classes_of(schema)
                    probs = own.layers[0]
                layer[fresh] = probs
        return expert

    def _run(self, voter: Voter, rows: IntArray) -> FloatArray:
        """`(len(rows), n_columns)` of all heads of the voter's checkpoint; what another head asked for is kept."""
        path, card = voter.path, voter.card
        said = self.said.get(path)
        if said is None:
            n_columns = max(head.outputs[1] for head in card.heads)
            said = self.said[path] = np.full((len(self.readable), n_columns), np.nan, dtype=np.float32)
        fresh = rows[np.isnan(said[rows, 0])]
        if len(fresh):
            said[fresh] = self._probs(path, card, fresh)
        return said[rows]

    def _probs(self, path: Path, card: Card, rows: IntArray) -> FloatArray:
        if path not in self.loaded:
            self.loaded[path] = self.forms.load(path, card, self.hashes[path])
            self.counts.loaded += 1
        self.counts.forwards += len(rows) * (1 + len(self.views))
        preprocess, spans = self.preprocess[path], [head.outputs for head in card.heads]
        window = self.photos[geometry(preprocess)]
        how = (self.batch_size, rows, spans, self.views, self.fitting)
        return predict_probs(self.loaded[path], window, preprocess, self.forms.compute, *how)


def _empty(shape: tuple[int, ...]) -> FloatArray:
    return np.full(shape, np.nan, dtype=np.float32)


def _unasked(shape: tuple[int, ...]) -> FloatArray:
    """The same without memory, to be read only: most experts are asked for none of the photos."""
    return np.broadcast_to(np.float32(np.nan), shape)
