"""The run folder: one set of samples and folds that several commands fill with experts, predictions and results.

run.json                       what every expert in it shares; written once, later commands must agree
samples.csv                    the sample table, label fixes applied, with the fold of each sample
experts/<slug>/expert.json     what the expert predicts and for whom
experts/<slug>/fold0/          its checkpoint, out-of-fold predictions, history; DONE last
predictions/<name>/            prediction sets
results/                       submission, joint probabilities, scores
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ensemble_kit.arrays import Condition, FloatArray, IntArray
from ensemble_kit.card import Head, read_card
from ensemble_kit.errors import DataError, UsageError, nearest
from ensemble_kit.files import (
    read_array,
    read_json,
    sha256_bytes,
    sha256_file,
    sha256_json,
    sha256_of_state,
    slug,
    taking_apart,
    write_json,
)
from ensemble_kit.graph import Graph, check_condition, describe_expert
from ensemble_kit.predictions import Predictions
from ensemble_kit.schema import Schema
from ensemble_kit.threads import side_by_side

if TYPE_CHECKING:
    from ensemble_kit.data.samples import SampleTable

FORMAT = "ensemble_kit.run"
VERSION = 1
IDENTITY = ("schema", "graph", "n_folds", "fold_seed", "val_ratio", "samples_sha256")
"""What every expert of a run shares; a later command must agree."""
OTHERS = ("data", "layout", "photo_root", "combine", "versions")
"""What may change: the data set may have been moved, the recipe's way of combining edited."""
LATER = ("predict", "extra")
"""What may change as well, and what older runs do not say."""
KEYS = ("format", "version", *IDENTITY, *OTHERS)


@dataclass(frozen=True)
class FinishedFold:
    """One trained fold of one expert; its files have been there and whole when DONE was written.

    `heads` says what the columns of its out-of-fold predictions are; empty = one a joint class of the attributes.
    """

    attributes: tuple[str, ...]
    condition: Condition
    fold: int
    folder: Path
    checkpoint_sha256: str
    heads: tuple[Head, ...] = ()
    seed: int = 0
    oof_sha256: str = ""

    def answers(self, attributes: tuple[str, ...], condition: Condition) -> bool:
        """Whether it, or one of its heads, is an expert of these attributes under this condition."""
        blocks = [head.attributes for head in self.heads] or [self.attributes]
        return attributes in blocks and dict(condition) == dict(self.condition)

    @property
    def checkpoint(self) -> Path:
        return self.folder / "best.safetensors"

    @property
    def trained(self) -> Path:
        """The checkpoint that its training kept, also where a soup has taken its place since."""
        before = self.folder / "trained.safetensors"
        return before if before.is_file() else self.checkpoint

    @property
    def epochs(self) -> list[Path]:
        """What `keep = "every N"` left beside it."""
        return sorted(self.folder.glob("epoch*.safetensors"))


def held_out_probs(fold: FinishedFold) -> FloatArray:
    """What a finished fold answers for the photos that it held out, `(n_held_out, n_columns)`."""
    file = fold.folder / "oof.npy"
    probs = read_array(file)
    if fold.oof_sha256 and sha256_file(file) != fold.oof_sha256:
        raise DataError(f"{file}: changed since its training (hash differs); restore it or train with --restart")
    return probs


@dataclass(frozen=True)
class Run:
    """An opened run folder.

    Raises:
        DataError: from `open`, when the folder is no run; from `create`, when it holds another one.
    """

    folder: Path
    info: Mapping[str, Any]

    @classmethod
    def open(cls, folder: Path) -> Run:
        info_file = Path(folder) / "run.json"
        if not info_file.is_file():
            raise DataError(
                f'{folder}: expected a run (a folder with run.json), found none; train one with "ens train"'
            )
        info = read_json(info_file)
        _check_info(info_file, info)
        missing = [key for key in KEYS if not isinstance(info, dict) or key not in info]
        if missing or info["format"] != FORMAT or info["version"] != VERSION:
            found = f"no {missing[0]}" if missing else f"{info['format']} version {info['version']}"
            raise DataError(f"{info_file}: expected {FORMAT} version {VERSION}, found {found}; name another with --run")
        return cls(Path(folder), info)

    @classmethod
    def create(
        cls,
        folder: Path,
        table: SampleTable,
        folds: IntArray,
        *,
        data: Path,
        layout: str,
        schema: Schema,
        graph: Graph,
        division: Mapping[str, Any],
        combine: Mapping[str, Any],
        predict: Mapping[str, Any] | None = None,
        extra: Mapping[str, Any] | None = None,
        write: bool = True,
    ) -> Run:
        """Opens the run, or begins it when the folder has none.

        Args:
            table: the training samples, fixes applied.
            data, layout: where and how they were read, for the evaluation samples later.
            folds: `(n_samples,)`, -1 = training only.
            division: how the folds were made: n_folds, fold_seed, val_ratio.
            combine: how the recipe combines: route, vote, vote_at, fallback.
            predict: how it predicts: tta, backend, compile.
            extra: which photos of a second data set are in the table, as it was named.
            write: False = only look: the run as it would be, held in memory.
        """
        info = {
            "format": FORMAT,
            "version": VERSION,
            "schema": schema.to_json(),
            "graph": graph.to_json(),
            **division,
            "samples_sha256": table.sha256(),
            "data": str(data.resolve()),
            "layout": layout,
            "photo_root": str(table.root.resolve()),
            "combine": dict(combine),
            "predict": dict(predict or {}),
            "extra": None if extra is None else {**extra, "roots": _texts(table.other_roots)},
            "versions": {"python": platform.python_version(), "numpy": np.__version__},
        }
        if (Path(folder) / "run.json").exists():
            run = cls.open(folder)
            run._must_agree(info)
            if write and any(run.info.get(key) != info[key] for key in (*OTHERS, *LATER)):
                write_json(Path(folder) / "run.json", info)
            return cls(Path(folder), info)
        if not write:
            planned = cls(Path(folder), info)
            planned.__dict__.update(table=table, folds=folds)  # what would be read from samples.csv
            return planned
        table.to_csv(Path(folder) / "samples.csv", fold=folds)
        write_json(Path(folder) / "run.json", info)
        return cls(Path(folder), info)

    def _must_agree(self, wanted: Mapping[str, Any]) -> None:
        """The data may have moved; everything that decides which photo is in which fold may not have."""
        differing = [key for key in IDENTITY if self.info[key] != wanted[key]]
        if differing:
            shown = ", ".join(f"{k} ({_short(self.info[k])} there, {_short(wanted[k])} now)" for k in differing)
            raise DataError(f"{self.folder}: this run was begun with another {shown}; name a new folder with --run")

    @cached_property
    def schema(self) -> Schema:
        return Schema.from_json(self.info["schema"])

    @cached_property
    def graph(self) -> Graph:
        return Graph.from_json(self.info["graph"])

    @property
    def combine(self) -> Mapping[str, Any]:
        """How the run's recipe combines: route, vote, vote_at, fallback."""
        combine: Mapping[str, Any] = self.info["combine"]
        return combine

    @property
    def tta(self) -> tuple[str, ...]:
        """The views that the run's recipe averages over when predicting."""
        predict = self.info.get("predict") or {}
        return tuple(str(name) for name in predict.get("tta", ()))

    @property
    def backend(self) -> str:
        """What runs the networks when predicting, as the run's recipe has it."""
        predict = self.info.get("predict") or {}
        return str(predict.get("backend", "torch"))

    @property
    def compiling(self) -> str:
        """How torch's networks are compiled when predicting, as the run's recipe has it."""
        predict = self.info.get("predict") or {}
        return str(predict.get("compile", "off"))

    @property
    def layout(self) -> str:
        """How its data set was read: a name of `LAYOUTS`, or "auto".

        Raises:
            DataError: there is no such layout.
        """
        from ensemble_kit.data.layouts import LAYOUTS

        found, known = str(self.info["layout"]), ("auto", *LAYOUTS)
        if found not in known:
            raise DataError(f'{self.folder / "run.json"}: no layout "{found}"{nearest(found, known)}')
        return found

    @property
    def extra(self) -> Mapping[str, Any] | None:
        """The second data set whose photos are trained on: its path, the classes taken, and the roots by prefix."""
        extra: Mapping[str, Any] | None = self.info.get("extra")  # runs before 0.3 do not say
        return extra

    @property
    def n_folds(self) -> int:
        return int(self.info["n_folds"])

    @property
    def data(self) -> Path:
        """The data set as it was named."""
        return Path(self.info["data"])

    @cached_property
    def table(self) -> SampleTable:
        """The training samples; `folds` has the same rows."""
        from ensemble_kit.data.samples import SampleTable

        roots = {prefix: Path(root) for prefix, root in (self.extra or {}).get("roots", {}).items()}
        return SampleTable.from_csv(self.folder / "samples.csv", Path(self.info["photo_root"]), self.schema, roots)

    @cached_property
    def folds(self) -> IntArray:
        from ensemble_kit.data.rows import read_rows

        file = self.folder / "samples.csv"
        column = read_rows(file, ["fold"])["fold"]
        with taking_apart(file):
            return np.array([int(text) for text in column], dtype=np.int64)

    def expert_folder(self, attributes: Sequence[str], condition: Condition) -> Path:
        return self.folder / "experts" / expert_slug(attributes, condition)

    def write_expert(self, attributes: Sequence[str], condition: Condition, settings: Mapping[str, Any]) -> None:
        """Describes an expert, once a fold of it has been trained with these settings."""
        described = {"attributes": list(attributes), "condition": {k: list(v) for k, v in condition.items()}}
        content = {**described, "settings": dict(settings), "samples_sha256": self.info["samples_sha256"]}
        file = self.expert_folder(attributes, condition) / "expert.json"
        write_json(file, {**content, "fingerprint": sha256_json(content)})

    def described(self) -> list[tuple[tuple[str, ...], Condition, str]]:
        """Attributes, condition and kind of heads ("joint" or "separate") of every expert of the run."""
        found: list[tuple[tuple[str, ...], Condition, str]] = []
        for expert_file in sorted((self.folder / "experts").glob("*/expert.json")):
            expert = read_json(expert_file)
            with taking_apart(expert_file):
                condition = check_condition(expert["condition"], self.schema)
                names = tuple(self.schema[name].name for name in expert["attributes"])
                found.append((names, condition, str(expert["settings"].get("heads", "joint"))))
        return found

    def finished(self) -> list[FinishedFold]:
        """The folds that are done, in the schema's order of attributes, then by condition and fold."""
        found = []
        for expert_file in sorted((self.folder / "experts").glob("*/expert.json")):
            expert = read_json(expert_file)
            with taking_apart(expert_file):
                condition = check_condition(expert["condition"], self.schema)
                names = tuple(self.schema[name].name for name in expert["attributes"])
            for done_file in sorted(expert_file.parent.glob("fold*/DONE")):
                done = read_json(done_file)
                if not isinstance(done, dict) or not {"fold", "best_sha256"} <= set(done):
                    raise DataError(f"{done_file}: not what a finished fold leaves; train it anew with --restart")
                with taking_apart(done_file):
                    heads = tuple(Head.from_json(head) for head in done.get("heads", ()))
                    seed = int(done.get("identity", {}).get("settings", {}).get("seed", 0))
                    number, sha256 = int(done["fold"]), str(done["best_sha256"])
                    oof_sha256 = str(done.get("oof_sha256", ""))
                found.append(FinishedFold(names, condition, number, done_file.parent, sha256, heads, seed, oof_sha256))
        return sorted(found, key=self._order)

    def _order(self, fold: FinishedFold) -> tuple[Any, ...]:
        numbers = [tuple(self.schema[k].index(c) for c in v) for k, v in fold.condition.items()]
        return [self.schema.names.index(n) for n in fold.attributes], len(fold.condition), numbers, fold.fold, fold.seed

    def checkpoints(self) -> list[Path]:
        """Every finished checkpoint; DataError when there is none yet."""
        paths = [fold.checkpoint for fold in self.finished()]
        if not paths:
            raise DataError(f'{self.folder}: no finished expert in this run; train one with "ens train ATTRIBUTE"')
        return paths

    def kept_checkpoints(self) -> list[Path]:
        """Of every finished training the epochs that `keep = "every N"` left, and the one that it ended with.

        Raises:
            DataError: none is finished, or one left no epoch.
        """
        self.checkpoints()  # refuses a run without any
        found: list[Path] = []
        for fold in self.finished():
            epochs = {int(read_card(path).train["epoch"]): path for path in [fold.trained, *fold.epochs]}
            if not fold.epochs:
                raise DataError(f'{fold.folder}: kept no epochs; train with keep = "every 1"')
            found += [epochs[epoch] for epoch in sorted(epochs)]
        return found

    def predictions_made_by(self, name: str, checkpoints: Collection[str]) -> bool:
        """Whether the prediction set `name` was made by exactly these checkpoints (their SHA-256)."""
        described = self.predictions_folder(name) / "predictions.json"
        if not described.is_file():
            return False
        experts = read_json(described)
        with taking_apart(described):
            return self._made_by(experts["experts"], checkpoints)

    @staticmethod
    def _made_by(experts: Sequence[Any], checkpoints: Collection[str]) -> bool:
        return {str(voter["checkpoint_sha256"]) for expert in experts for voter in expert["voters"]} == set(checkpoints)

    def predictions_folder(self, name: str) -> Path:
        """Raises UsageError when the name would lead out of the run."""
        if Path(name).name != name or name in ("", ".", "..") or "\0" in name:
            raise UsageError(f'a prediction set has a plain name such as eval, found "{name}"; leave out / and ..')
        return self.folder / "predictions" / name

    def out_of_fold(
        self, seed: int | None = None, read: Callable[[FinishedFold], FloatArray] = held_out_probs
    ) -> list[Predictions]:
        """Per expert, each held-out sample predicted by the fold that never saw its group; the mean over its seeds.

        Rows of folds that are not finished, or of samples that are in training only, are NaN (not computed).

        Args:
            seed: only the trainings with this seed; all when left out.
            read: gives a fold's probabilities `(n_held_out, n_columns)`.
        """
        experts: dict[Path, tuple[FinishedFold, FloatArray, IntArray]] = {}
        for fold in self.finished():
            if seed is not None and fold.seed != seed:
                continue
            values = read(fold)
            rows = np.flatnonzero(self.folds == fold.fold)
            if len(values) != len(rows):
                raise DataError(f"{fold.folder / 'oof.npy'}: expected {len(rows)} rows, found {len(values)}")
            nothing = np.zeros((len(self.folds), values.shape[1]), dtype=np.float64)
            empty = (fold, nothing, np.zeros(len(self.folds), dtype=np.int64))
            _, total, n_seeds = experts.setdefault(fold.folder.parent, empty)
            if values.shape[1] != total.shape[1]:
                raise DataError(
                    f"{fold.folder / 'oof.npy'}: {values.shape[1]} columns, in another fold {total.shape[1]}; train "
                    "the folds of an expert with the same columns"
                )
            total[rows] += values
            n_seeds[rows] += 1
        return [
            found
            for fold, total, n_seeds in experts.values()
            for found in self._predictions(fold, _mean(total, n_seeds))
        ]

    def _predictions(self, fold: FinishedFold, probs: np.ndarray[Any, Any]) -> list[Predictions]:
        """One a head of the expert, in the columns that it predicts."""
        return [
            Predictions(
                [self.schema[name] for name in head.attributes],
                [probs[:, slice(*head.outputs)]],
                self.table.ids,
                fold.condition,
                head.classes,
                ["out-of-fold"],
                edges=head.edges,
                to=None if head.edges else head.collapse,
            )
            for head in fold.heads or (self._whole(fold),)
        ]

    def _whole(self, fold: FinishedFold) -> Head:
        block = self.schema.block(fold.attributes)
        return Head(fold.attributes, block.class_rows(), (0, block.n_joint))

    def verify(self) -> None:
        """Raises DataError when a finished checkpoint is not the one that was written."""
        folds = self.finished()
        hashes = side_by_side(lambda fold: sha256_of_state(fold.checkpoint), folds)
        for fold, sha256 in zip(folds, hashes, strict=True):
            if sha256 != fold.checkpoint_sha256:
                raise DataError(f"{fold.checkpoint}: changed since its training; restore it or train with --restart")


def fold_name(fold: int, seed: int | None) -> str:
    """The folder of one training of an expert, which is its voter's name too; seed None = there is only one."""
    return f"fold{fold}" if seed is None else f"fold{fold}-seed{seed}"


def voter_names(folds: Sequence[FinishedFold]) -> list[str]:
    """What the voters of one expert are called: by fold, by seed too where a fold has several."""
    several = len({fold.fold for fold in folds}) < len(folds)
    return [fold_name(fold.fold, fold.seed if several else None) for fold in folds]


def _mean(total: FloatArray, n: IntArray) -> FloatArray:
    """Sums `(n_samples, n_classes)` of so many predictions each `(n_samples,)`, divided; NaN where there is none."""
    probs = np.full(total.shape, np.nan, dtype=np.float32)
    probs[n > 0] = total[n > 0] / n[n > 0, None]
    return probs


def expert_slug(attributes: Sequence[str], condition: Condition) -> str:
    """A folder name for an expert; names that a slug would blur ("a+b", "a-b") get a hash to stay apart."""
    text = describe_expert(attributes, condition)
    words = [*attributes, *condition, *(name for classes in condition.values() for name in classes)]
    plain = all(word == slug(word) for word in words)
    return slug(text) if plain else f"{slug(text)}-{sha256_bytes(text.encode())[:6]}"


def _check_info(file: Path, info: Any) -> None:
    """Refuses a `run.json` whose entries are of another kind than the ones that were written."""
    with taking_apart(file):
        if not isinstance(info, dict):
            raise TypeError(f"expected a table, found {type(info).__name__}")
        kinds = {"n_folds": int, "data": str, "layout": str, "photo_root": str, "combine": dict, "samples_sha256": str}
        for key, kind in kinds.items():
            if key in info and not isinstance(info[key], kind):
                raise TypeError(f"{key} is {info[key]!r}")
        later = [info.get("predict") or {}, info.get("extra") or {}]
        views, roots = later[0].get("tta", []), later[1].get("roots", {})
        if not isinstance(views, list) or not all(isinstance(text, str) for text in [*views, *roots.values()]):
            raise TypeError(f"predict and extra are {later!r}")


def _texts(roots: Mapping[str, Path]) -> dict[str, str]:
    return {prefix: str(root.resolve()) for prefix, root in roots.items()}


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 24 else f"{text[:20]}..."


def latest_run(root: Path = Path("runs")) -> Path:
    """The run under `root` that was last worked on.

    Raises:
        UsageError: there is none.
    """
    runs = [path.parent for path in root.glob("*/run.json")]
    if not runs:
        raise UsageError(f'no run under "{root}"; train one ("ens train-mask") or name a run folder')
    return max(
        runs, key=lambda folder: max(p.stat().st_mtime for p in [folder / "run.json", *folder.glob("experts/*/*/DONE")])
    )
