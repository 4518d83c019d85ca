"""Where the checkpoints of a run look: maps over whole photos, the mean of an expert's checkpoints."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ensemble_kit.arrays import ByteArray, FloatArray, IntArray
from ensemble_kit.card import Card, Head, read_card
from ensemble_kit.data.decode import PhotoError, Preprocess, decode_photo, prepare
from ensemble_kit.data.preparers import Preparer
from ensemble_kit.errors import UsageError
from ensemble_kit.explaining.cam import check_captum, class_maps, fine_stages, normalised, on_photo, placed, whole_map
from ensemble_kit.explaining.stages import Stage, find_stages
from ensemble_kit.graph import describe_expert, expert_key
from ensemble_kit.models.backbones import Builder
from ensemble_kit.models.checkpoint import load_expert
from ensemble_kit.models.compute import Compute, choose_compute, num_threads
from ensemble_kit.models.heads import HeadBuilder, Network
from ensemble_kit.predictions.fine import Fine
from ensemble_kit.schema import Schema

LOADED = 4
"""Networks kept in memory at a time."""


@dataclass(frozen=True)
class Wanted:
    """What a map is asked for.

    Args:
        path: the photo.
        expert: as `Predictions.describe()` says it, "age given mask=worn".
        attributes: of the expert, those that `classes` names a class of.
        classes: one class name for each; what speaks for their combination is looked for.
    """

    path: Path
    expert: str
    attributes: tuple[str, ...]
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Looked:
    """The maps of one expert for one photo, each 0 to 1 with NaN where no checkpoint sees the photo.

    Attributes:
        photo: `(height, width, 3)` upright, as it was decoded.
        heat: `(height, width)` where it looked, see `cam.whole_map`.
        stages: name of a stage -> its own Grad-CAM map `(height, width)`, the finest first; {} where not asked for.
        cells: of each stage its (height, width) in cells.
        fine: names of the stages that `heat` is the mean of.
        of: what the maps are for, in words.
        voters: names of the checkpoints that they are the mean of.
    """

    photo: ByteArray
    heat: FloatArray
    stages: dict[str, FloatArray]
    cells: dict[str, tuple[int, int]]
    fine: tuple[str, ...]
    of: str
    voters: tuple[str, ...]

    @property
    def says_nothing(self) -> bool:
        """Whether nothing in the photo speaks for the class."""
        return not bool(np.nanmax(self.heat, initial=0) > 0)


@dataclass(frozen=True)
class _Checkpoint:
    path: Path
    card: Card
    head: Head
    preprocess: Preprocess
    fold: str

    @property
    def expert(self) -> str:
        return describe_expert(self.head.attributes, self.card.condition)


class Looker:
    """Grad-CAM of the experts of some checkpoints.

    Args:
        checkpoints: of all experts; those of the same attributes and condition are the voters of one.
        schema: whose classes are asked for; its borders may be others than the checkpoints'.
        folds: of these folds alone; None = all.
        device, precision, threads, backbones, heads, preparers: as of `predict_table`.

    Raises:
        UsageError: captum is not installed; no checkpoint of these folds.
        DataError: a checkpoint that cannot be read.
    """

    def __init__(
        self,
        checkpoints: Iterable[Path],
        schema: Schema,
        *,
        folds: Sequence[int] | None = None,
        device: str = "auto",
        threads: int | None = None,
        backbones: Mapping[str, Builder] | None = None,
        heads: Mapping[str, HeadBuilder] | None = None,
        preparers: Mapping[str, Preparer] | None = None,
    ):
        check_captum()
        self.schema, self.threads, self.builders = schema, threads, (backbones, heads)
        self.compute: Compute = choose_compute(device, "fp32", channels_last=False)
        self.loaded: dict[Path, tuple[Network, list[Stage]]] = {}
        self.voters: dict[str, list[_Checkpoint]] = {}
        for path in map(Path, checkpoints):
            card = read_card(path)
            preprocess = Preprocess.from_json(card.preprocess, preparers)
            if folds is None or card.train["fold"] in folds:
                for head in card.heads:
                    one = _Checkpoint(path, card, head, preprocess, f"fold{card.train['fold']}")
                    self.voters.setdefault(expert_key(one.expert), []).append(one)
        if not self.voters:
            raise UsageError(f"explain: no checkpoint{'' if folds is None else f' of fold {folds}'}; train one first")

    def __call__(self, requests: Sequence[Wanted]) -> list[FloatArray | None]:
        """Maps `(height, width)` over the upright photos, 0 to 1 and 0 where nothing is seen; None = unreadable."""
        found = self.look(requests)
        return [None if isinstance(one, str) else np.nan_to_num(one.heat) for one in found]

    def look(self, requests: Sequence[Wanted], *, all_stages: bool = False) -> list[Looked | str]:
        """The maps of each request, or what is wrong with its photo.

        Args:
            all_stages: the maps of every stage by itself too.

        Raises:
            UsageError: an expert that is not there, or a class that it does not know.
        """
        groups: dict[tuple[str, tuple[str, ...], tuple[str, ...]], list[int]] = {}
        for number, one in enumerate(requests):
            groups.setdefault((one.expert, tuple(one.attributes), tuple(one.classes)), []).append(number)
        photos = [_decoded(path) for path in (one.path for one in requests)]
        found: list[Looked | str] = [photo if isinstance(photo, str) else "" for photo in photos]
        with num_threads(self.threads):
            for (expert, attributes, classes), numbers in groups.items():
                readable = [(n, photo) for n in numbers if not isinstance(photo := photos[n], str)]
                if readable:
                    wanted = dict(zip(attributes, classes, strict=True))
                    looked = self._look([photo for _, photo in readable], expert, wanted, all_stages)
                    for (number, _), maps in zip(readable, looked, strict=True):
                        found[number] = maps
        return found

    def _look(
        self, photos: Sequence[ByteArray], expert: str, wanted: Mapping[str, str], all_stages: bool
    ) -> list[Looked]:
        voters = self.voters.get(expert_key(expert))
        if not voters:
            known = ", ".join(sorted({one.expert for all_ in self.voters.values() for one in all_}))
            raise UsageError(f'no checkpoint of "{expert}" (found: {known})')
        heats: list[list[FloatArray]] = [[] for _ in photos]
        single: list[dict[str, list[FloatArray]]] = [{} for _ in photos]
        cells: dict[str, tuple[int, int]] = {}
        for voter in voters:
            network, stages = self._network(voter)
            columns = class_columns(voter.head, self.schema, wanted)
            ready = np.stack([prepare(photo, voter.preprocess) for photo in photos])
            how = (ready, voter.preprocess, columns, voter.head.outputs, self.compute)
            for own, photo, heat in zip(heats, photos, whole_map(network, stages, *how), strict=True):
                own.append(on_photo(heat, _sides(photo), voter.preprocess))
            fine = tuple(stage.name for stage in fine_stages(stages))
            if all_stages:
                cells |= {stage.name: stage.size for stage in stages}
                for stage, maps in zip(stages, class_maps(network, stages, *how), strict=True):
                    for each, photo, heat in zip(single, photos, normalised(maps), strict=True):
                        over = placed(heat, stage.grid, voter.preprocess.seen)
                        each.setdefault(stage.name, []).append(on_photo(over, _sides(photo), voter.preprocess))
        told = _of(voters[0].head, self.schema, wanted)
        names = tuple(voter.fold for voter in voters)
        return [
            Looked(photo, _mean(heat), {name: _mean(own) for name, own in each.items()}, cells, fine, told, names)
            for photo, heat, each in zip(photos, heats, single, strict=True)
        ]

    def _network(self, voter: _Checkpoint) -> tuple[Network, list[Stage]]:
        if voter.path not in self.loaded:
            if len(self.loaded) >= LOADED:
                self.loaded.pop(next(iter(self.loaded)))
            network, _ = load_expert(voter.path, backbones=self.builders[0], heads=self.builders[1])
            self.compute.place(network)
            self.loaded[voter.path] = network, find_stages(network, voter.preprocess.seen)
        return self.loaded[voter.path]


def class_columns(head: Head, schema: Schema, wanted: Mapping[str, str]) -> IntArray:
    """The network's columns that add up to some classes.

    Args:
        wanted: attribute -> class; attributes of a block that are not named may be any.

    Raises:
        UsageError: an attribute or class that the head does not predict.

    Examples:
        >>> from ensemble_kit.schema import Attribute
        >>> schema = Schema(Attribute("age", ["young", "old"], borders=[30]))
        >>> years = Head(("age",), (("<29",), ("29",), ("30",), (">=31",)), (5, 9), edges=(29.0, 30.0, 31.0))
        >>> class_columns(years, schema, {"age": "old"}).tolist()
        [7, 8]
    """
    for name, value in wanted.items():
        if name not in head.attributes:
            raise UsageError(f"this expert predicts {', '.join(head.attributes)}, not {name}")
        schema[name].index(value)
    rows = column_classes(head, schema)
    places = {name: head.attributes.index(name) for name in wanted}
    found = [n for n, row in enumerate(rows) if all(row[place] == wanted[name] for name, place in places.items())]
    if not found:
        raise UsageError(f"this expert knows no class {', '.join(wanted.values())}")
    return np.array(found, dtype=np.int64) + head.outputs[0]


def column_classes(head: Head, schema: Schema) -> list[tuple[str, ...]]:
    """The schema's classes that each column of a head belongs to."""
    names = head.attributes
    if head.edges is not None:
        attribute = schema[names[0]]
        numbers = Fine(edges=head.edges).classes_of(attribute, describe_expert(names, {}))
        return [(attribute.classes[number],) for number in numbers]
    if head.collapse is not None:
        rows = [(name,) for name in schema[names[0]].classes] if len(names) == 1 else schema.block(names).class_rows()
        return [tuple(rows[number]) for number in head.collapse]
    return [tuple(row) for row in head.classes]


def _of(head: Head, schema: Schema, wanted: Mapping[str, str]) -> str:
    """What the maps are for: the class, and how it comes out of the head where that is not one column."""
    named = " / ".join(wanted.values())
    n_columns = len(class_columns(head, schema, wanted))
    how = {"classes": "", "ordinal": ", from an ordinal score", "regression": ", from a regression"}[head.output]
    if n_columns == 1 and not how:
        return named
    summed = f", the sum of {n_columns} columns" if n_columns > 1 else ""
    return f"{named} (its probability{summed}{how})"


def _decoded(path: Path) -> ByteArray | str:
    try:
        return decode_photo(Path(path))
    except PhotoError as error:
        return str(error).removeprefix(f"{path}: ")


def _sides(photo: ByteArray) -> tuple[int, int]:
    return photo.shape[0], photo.shape[1]


def _mean(maps: Sequence[FloatArray]) -> FloatArray:
    """Of the checkpoints that see a pixel, 0 to 1 again; NaN where none does."""
    values: NDArray[np.float32] = np.stack(maps)
    is_seen = np.isfinite(values)
    n_seen = is_seen.sum(axis=0)
    total = np.where(is_seen, values, 0).sum(axis=0)
    mean = np.divide(total, n_seen, out=np.full(total.shape, np.nan, dtype=np.float32), where=n_seen > 0)
    highest = np.nanmax(mean, initial=0)
    return np.asarray(mean / highest if highest > 0 else mean, dtype=np.float32)
