"""Checkpoints in the form that a back end runs: built once, compared with float32, kept on disk.

FOLDER/<key>/agreement.json    what the comparison found, and the hashes of the files beside it
FOLDER/<key>/...               what the back end wrote
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ensemble_kit.arrays import ByteArray, FloatArray, IntArray
from ensemble_kit.backends.agreement import Agreement, compare_probs
from ensemble_kit.backends.cpu import instructions
from ensemble_kit.backends.form import Backend, Forward, Source
from ensemble_kit.backends.photos import TrainingPhotos
from ensemble_kit.backends.table import Torch, compute_of
from ensemble_kit.card import Card, Head
from ensemble_kit.data.decode import Preprocess
from ensemble_kit.data.preparers import Preparer
from ensemble_kit.errors import MALFORMED, DataError, UsageError
from ensemble_kit.files import read_json, sha256_file, sha256_json, write_json
from ensemble_kit.leftovers import OWNER, owner, remove_leftovers
from ensemble_kit.models.backbones import Builder
from ensemble_kit.models.checkpoint import load_expert, seen_size
from ensemble_kit.models.compute import predict_probs
from ensemble_kit.models.heads import HeadBuilder
from ensemble_kit.models.memory import told_of
from ensemble_kit.own_code import coded
from ensemble_kit.predictions import Predictions
from ensemble_kit.schema import Schema

VERSION = 1
"""Counted up whenever photos are chosen, or forms kept, in another way."""
FOUND = "agreement.json"
SCRATCH = rf"\.[0-9a-f]{{16}}\.{OWNER}\.tmp"
"""The folder in which a process builds a form."""
BATCH = 32


class Forms:
    """Loads checkpoints in the form of one back end.

    Args:
        device: auto, cpu or cuda.
        trained_on: the samples that the checkpoints were trained on, on which forms are tried; not needed for torch in
            float32.
        folder: where forms are kept; None = each is built anew.
        photo_cache: folder of photo caches, which spare the decoding.
        accept: take a form that disagrees, or that cannot be compared.
        backbones, heads, preparers: backbones, heads and preparing steps of one's own, by the name in the card.
        say: told what the comparison of a form found, and which form was taken that disagrees.

    Attributes:
        agreements: SHA-256 of a checkpoint that was loaded -> what was found, and whether it is enough.

    Raises:
        UsageError: the back end is not installed, or wants training photos and has none.
    """

    def __init__(
        self,
        backend: Backend,
        device: str = "auto",
        *,
        trained_on: TrainingPhotos | None = None,
        folder: Path | None = None,
        photo_cache: Path | None = None,
        accept: bool = False,
        backbones: Mapping[str, Builder] | None = None,
        heads: Mapping[str, HeadBuilder] | None = None,
        preparers: Mapping[str, Preparer] | None = None,
        say: Callable[[str], None] | None = None,
    ):
        self.backend, self.compute = backend, compute_of(backend, device)
        self.versions = dict(backend.versions())
        if backend.least_equal is not None and trained_on is None and not accept:
            raise UsageError(
                f"back end {backend.name}: tried on training photos before it answers, found none; give "
                "trained_on=TrainingPhotos(run.table, run.folds), or accept_disagreement=True"
            )
        self.trained_on, self.folder, self.photo_cache, self.accept = trained_on, folder, photo_cache, accept
        self.builders: dict[str, Any] = {"backbones": backbones, "heads": heads}
        self.preparers, self.say, self.is_noted = preparers, say, False
        self.agreements: dict[str, dict[str, Any]] = {}
        if folder is not None:
            remove_leftovers(folder, SCRATCH)

    def load(self, path: Path, card: Card, sha256: str) -> Forward:
        """One checkpoint, built and compared where that was not done yet.

        Args:
            sha256: of the file.

        Raises:
            DataError: a checkpoint that cannot be read or converted, of other samples, or a form that disagrees.
            UsageError: memory runs out.
        """
        with told_of(f"{path} was loaded"):
            return self._load(path, card, sha256)

    def _load(self, path: Path, card: Card, sha256: str) -> Forward:
        def network() -> nn.Module:
            return load_expert(path, **self.builders)[0]

        least = self.backend.least_equal
        if least is None:
            return self.backend.load(self._source(card, network, lambda: iter(())), Path())
        preprocess = Preprocess.from_json(card.preprocess, self.preparers)
        none = np.zeros(0, dtype=np.int64)
        calibrating, compared = (none, none) if self.trained_on is None else self.trained_on.rows_of(card, path)
        source = self._source(card, network, lambda: self._batches(card, calibrating, preprocess))
        described = self._describe(sha256, calibrating, compared, self._own_code(card, preprocess))
        with ExitStack() as stack:
            folder = self.folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ens-forms-")))
            place = folder / sha256_json(described)[:16]
            found = _read(place, described)
            if found is None:
                self._note()
                scratch = folder / f".{place.name}.{owner()}.tmp"
                stack.callback(shutil.rmtree, scratch, ignore_errors=True)
                found = self._build(source, card, preprocess, compared, scratch)
                content = {"checkpoint": card.describe(), "agreement": found.to_json(), "files": _hashes(scratch)}
                write_json(scratch / FOUND, {**described, **content})
                _take_place(scratch, place, described)
                if self.say is not None:
                    self.say(f"{self.backend.name}, {card.describe()}: {found.text()}")
            self._heed(found, least, card.describe(), sha256)
            return self.backend.load(source, place)

    def _heed(self, found: Agreement, least: float, checkpoint: str, sha256: str) -> None:
        """Refuses a form that disagrees, or says that it was taken all the same; keeps what was found."""
        enough = found.is_enough(least)
        if not self.accept:
            found.refuse_below(least, self.backend.name, checkpoint)
        if not enough and self.say is not None:
            self.say(f"note: back end {self.backend.name}: {checkpoint}: {found.text()}; taken, disagreement accepted")
        self.agreements[sha256] = {"checkpoint": checkpoint, **found.to_json(), "least": least, "enough": enough}

    def _source(self, card: Card, network: Callable[[], nn.Module], photos: Callable[[], Iterator[Tensor]]) -> Source:
        return Source(card.describe(), network, seen_size(card), self.compute, photos, self._tell)

    def _tell(self, line: str) -> None:
        if self.say is not None:
            self.say(line)

    def _own_code(self, card: Card, preprocess: Preprocess) -> list[Any]:
        """What tells functions of one's own, which the checkpoint knows by name alone, from changed ones."""
        backbone = (self.builders["backbones"] or {}).get(card.backbone["name"])
        head = (self.builders["heads"] or {}).get(card.backbone.get("head", "linear"))
        return [coded(part) for part in (backbone, head, *preprocess.prepare) if callable(part)]

    def _describe(self, sha256: str, calibrating: IntArray, compared: IntArray, own_code: list[Any]) -> dict[str, Any]:
        """Everything that decides what the form answers, and what comparing it finds."""
        ids: dict[str, Any] = {}
        if self.trained_on is not None:
            all_ids = self.trained_on.table.ids
            ids = {"calibrating": all_ids[calibrating].tolist(), "compared": all_ids[compared].tolist()}
        where = [self.compute.device.type, *sorted(instructions())]
        if self.compute.device.type == "cuda":
            where.append(torch.cuda.get_device_name())
        return {
            "format": "ensemble_kit.backend",
            "version": VERSION,
            "backend": self.backend.name,
            "versions": self.versions,
            "where": where,
            "checkpoint_sha256": sha256,
            "own_code": own_code,
            "ids_sha256": {name: sha256_json(some) for name, some in ids.items()},
        }

    def _note(self) -> None:
        note = self.backend.note(self.compute)
        if note is not None and self.say is not None and not self.is_noted:
            self.say(f"note: back end {self.backend.name}: {note}")
        self.is_noted = True

    def _photos(self, rows: IntArray, preprocess: Preprocess) -> ByteArray:
        assert self.trained_on is not None or not len(rows)
        if self.trained_on is None:
            return np.zeros((0, *preprocess.size, 3), dtype=np.uint8)
        return self.trained_on.prepared(rows, preprocess, self.photo_cache)

    def _batches(self, card: Card, rows: IntArray, preprocess: Preprocess) -> Iterator[Tensor]:
        photos = self._photos(rows, preprocess)
        if not len(photos):
            raise DataError(
                f"back end {self.backend.name}: {card.describe()}: found no training photo to calibrate it with; "
                "answer with --backend torch"
            )
        for start in range(0, len(photos), BATCH):
            yield self.compute.inputs(torch.from_numpy(photos[start : start + BATCH]), preprocess)

    def _build(self, source: Source, card: Card, preprocess: Preprocess, rows: IntArray, scratch: Path) -> Agreement:
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        self.backend.convert(source, scratch)
        photos = self._photos(rows, preprocess)
        if not len(photos):
            return Agreement(0, 0.0, 0.0)
        spans = [head.outputs for head in card.heads]
        forms = Torch().load(source, scratch), self.backend.load(source, scratch)
        expected, found = (predict_probs(f, photos, preprocess, self.compute, BATCH, None, spans) for f in forms)
        return compare_probs(_by_head(card, expected), _by_head(card, found))


def _by_head(card: Card, probs: FloatArray) -> list[FloatArray]:
    """Probabilities of the attributes' own classes, one array a head: finer columns are added up, as in answers."""
    return [_in_classes(card, head, probs[:, slice(*head.outputs)]) for head in card.heads]


def _in_classes(card: Card, head: Head, probs: FloatArray) -> FloatArray:
    attributes = [card.schema[name] for name in head.attributes]
    ids = np.arange(len(probs)).astype(np.str_)
    to = None if head.edges else head.collapse
    said = Predictions(attributes, [probs], ids, classes=head.classes, edges=head.edges, to=to, checked=True)
    return np.asarray(said.in_classes_of(Schema(*attributes)).layers[0])


def _read(place: Path, described: Mapping[str, Any]) -> Agreement | None:
    """What the comparison found, where the form is there and whole."""
    try:
        content = read_json(place / FOUND)
        is_this = all(content[key] == value for key, value in described.items())
        return Agreement.from_json(content["agreement"]) if is_this and content["files"] == _hashes(place) else None
    except (DataError, OSError, *MALFORMED):
        return None


def _hashes(folder: Path) -> dict[str, str]:
    return {path.name: sha256_file(path) for path in sorted(folder.iterdir()) if path.name != FOUND}


def _take_place(scratch: Path, place: Path, described: Mapping[str, Any]) -> None:
    """Moves a whole form to where it is kept. Where another process was first, that one stays."""
    for _ in range(2):
        try:
            scratch.rename(place)
            return
        except OSError:
            if _read(place, described) is not None:
                return
            shutil.rmtree(place, ignore_errors=True)  # damaged
    raise DataError(f"{place}: cannot be replaced; remove it and run the command again")
