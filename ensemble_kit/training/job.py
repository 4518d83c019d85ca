"""What one training is: its settings, its identity, one epoch's line, and its result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch

from ensemble_kit.arrays import Condition, IntArray
from ensemble_kit.data.decode import Preprocess
from ensemble_kit.data.preparers import Preparer, find_preparer
from ensemble_kit.data.samples import SampleTable
from ensemble_kit.errors import UsageError, nearest
from ensemble_kit.files import sha256_json
from ensemble_kit.graph import check_condition, describe_expert
from ensemble_kit.loading.samplers import Sampler, find_sampler
from ensemble_kit.loading.transforms import Augmentation, check_transforms
from ensemble_kit.models.backbones import Builder, check_backbone, describe_weights
from ensemble_kit.models.heads import HeadBuilder, find_head
from ensemble_kit.models.outputs import find_output
from ensemble_kit.named import name_of
from ensemble_kit.own_code import code_sha256
from ensemble_kit.schema import Schema
from ensemble_kit.training.losses import Loss, check_class_weights, check_smoothing, find_loss, loss_name, needs_scores
from ensemble_kit.training.losses.class_weights import Weigh
from ensemble_kit.training.mixing import Mixer, find_mixer
from ensemble_kit.training.phases import Phase, check_together
from ensemble_kit.training.soup_rules import Rule, find_soup

HEADS_KINDS = ("joint", "separate")
NORMALISE = ("given", "photos")

LATER: Mapping[str, Any] = {"window": None, "people_share": 1.0, "soup": "none"}
"""Fields that came later, and what they were before: such a training is the one that it was, its fingerprint too."""

NOT_SETTINGS = ("schema", "save_every", "device", "share_gpu", "workers", "threads", "tensorboard")
"""Fields that change where and how fast a training runs, not what it is (the schema enters the identity by itself)."""


@dataclass(frozen=True)
class ExpertJob:
    """The resolved settings of one fold of one expert. No defaults: they live in `recipe`.

    Attributes:
        schema: all attributes of the task.
        attributes: what the expert predicts; several make a block with one output a joint class.
        condition: the parents' classes it is for; {} = pooled.
        backbone: a name of `BACKBONES`, or a builder of one's own.
        weights: "imagenet", "none", or a `.safetensors` file.
        head: a name of `HEADS` (`deep=256`), or a builder of one's own.
        heads: "joint": one output a joint class of the attributes; "separate": a head an attribute on one backbone.
        output: a name of `OUTPUTS`: how the head's numbers become columns.
        columns: edges of columns finer than the measured attribute's classes; None = the classes.
        size, window, crop, crop_at, prepare, mean, std: see `Preprocess`.
        normalise: "given" (mean and std as they are), or "photos" (those of the fold's training photos).
        augment: names of `TRANSFORMS` with probabilities and arguments, or functions of one's own, in order.
        augment_share: one probability for all of them at once; None = each its own.
        phases: one after the other, each with its optimiser, rates, schedule, frozen layers and batches, see `Phase`.
        ema: decay of a moving average of the weights, after each step; it is what is scored and kept. 0 = none.
        swa_epochs: from so many epochs before the end on, the mean of each epoch's weights is what is scored and kept;
            0 = none. The batch norms of averaged weights get fresh statistics over the training photos, not augmented.
        patience: a phase ends after so many scored epochs in a row without a better macro F1; 0 = never.
        loss: a name of `LOSSES`, a sum of them, or a function; see `find_loss`.
        class_weights: a name of `CLASS_WEIGHTS`, numbers, or a function of the classes' counts.
        label_smoothing, smoothing: the share, and where it goes: a name of `SMOOTHINGS`.
        mix, mix_share: names of `MIXERS` or functions, and the share of batches that are mixed by one of them.
        feature_views: the frozen backbone's features are computed once, of the plain photo (0) or of so many augmented
            views, and the head trains on them; None = photos go through the backbone in every epoch.
        smote: neighbours for samples made up between a class's features, every class up to the largest; 0 = none.
        sampler: a name of `SAMPLERS`, a schedule ("natural->balanced"), or a function.
        balance_by: attributes whose combinations the sampler balances, ("joint",) = all; () = the expert's own classes.
        keep: "best" (the epoch with the highest validation macro F1), "last", or "every N" (the last, and beside it
            each N-th as `epochNNN.safetensors`).
        soup: "none", or a name of `SOUPS` or a rule of one's own: which of the checkpoints that "every N" keeps are
            averaged in the end; the average is kept where it scores no lower than the best of them, see `soup_fold`.
        score_every: the held-out photos are scored after each such epoch, after the last one and after those that
            "every N" keeps; 0 = only those. "best" chooses among the epochs that are scored.
        save_every: epochs between two states that a broken-off training goes on from; the last epoch has one too.
        precision, channels_last, device: see `choose_compute`.
        share_gpu: do not wait for another training on the same GPU, see `alone_on`.
        workers: processes that augment photos; 0 = none, None = see `workers_for`. Does not change a bit of the result.
        threads: torch's CPU threads; None leaves them alone.
        tensorboard: write each epoch's scalars for TensorBoard too.
        borders: class borders for training only, of the one attribute that has borders; None = the schema's.
        leave_out: closed ranges of that attribute's number that are not trained on.
        people_share: share of the people outside the fold that are trained on; a smaller one's are a larger one's too.
    """

    schema: Schema
    attributes: tuple[str, ...]
    condition: Condition
    backbone: str | Builder
    weights: str
    head: str | HeadBuilder
    heads: str
    output: str
    columns: tuple[float, ...] | None
    size: tuple[int, int]
    window: tuple[int, int] | None
    crop: tuple[float, float]
    crop_at: tuple[float, float]
    prepare: tuple[str | Preparer, ...]
    normalise: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    augment: tuple[str | Augmentation, ...]
    augment_share: float | None
    phases: tuple[Phase, ...]
    ema: float
    swa_epochs: int
    patience: int
    feature_views: int | None
    smote: int
    loss: str | Loss
    class_weights: str | tuple[float, ...] | Weigh
    label_smoothing: float
    smoothing: str
    mix: tuple[str | Mixer, ...]
    mix_share: float
    sampler: str | Sampler
    balance_by: tuple[str, ...]
    keep: str
    soup: str | Rule
    score_every: int
    save_every: int
    precision: str
    channels_last: bool | None
    device: str
    share_gpu: bool
    workers: int | None
    threads: int | None
    tensorboard: bool
    seed: int
    fold: int
    n_folds: int
    borders: tuple[float, ...] | None
    leave_out: tuple[tuple[float, float], ...]
    people_share: float

    def __post_init__(self) -> None:
        if not self.attributes:
            raise UsageError("expert: expected at least one attribute to predict, found none")
        self.schema.block(self.attributes)
        object.__setattr__(self, "condition", check_condition(self.condition, self.schema))
        check_soup(self.soup, self.keep, self.name)
        check_job_names(self.backbone, self.sampler, self.augment, self.head, self.output, self.prepare)
        self._check_columns()
        check_objective(self.loss, self.class_weights, self.smoothing, self.mix)
        if self.output != "classes" and needs_scores(self.loss):
            raise UsageError(
                f'{self.name}: the loss "{loss_name(self.loss)}" reads each output by itself, and output = '
                f'"{self.output}" gives log-probabilities; choose cross_entropy, focal or macro_f1'
            )
        check_balance(self.schema, self.sampler, self.balance_by)
        if not 0 <= self.label_smoothing < 1:
            raise UsageError(f"label_smoothing: expected a share from 0, below 1, found {self.label_smoothing}")
        if not 0 <= self.mix_share <= 1:
            raise UsageError(f"mix_share: expected a share from 0 to 1, found {self.mix_share}")
        if not 0 < self.people_share <= 1:
            raise UsageError(f"people_share: expected a share above 0, at most 1, found {self.people_share}")
        if not self.phases:
            raise UsageError(f"{self.name}: expected at least one phase, found none")
        check_together(self, self.phases, self.name)
        if self.save_every < 1:
            raise UsageError(f"save_every: expected at least 1 epoch, found {self.save_every}")
        if self.score_every < 0:
            raise UsageError(f"score_every: expected 0 or more epochs, found {self.score_every}")
        if set(self.attributes) & set(self.condition):
            raise UsageError(f"{self.name}: an attribute cannot be predicted and given at once")
        if (self.borders or self.leave_out) and self.bordered is None:
            raise UsageError(f"{self.name}: borders and left-out ranges need exactly one attribute with borders")

    @property
    def name(self) -> str:
        return describe_expert(self.attributes, self.condition)

    @property
    def epochs(self) -> int:
        """Of all phases together."""
        return sum(phase.epochs for phase in self.phases)

    def is_scored(self, epoch: int) -> bool:
        """Whether the held-out photos are scored after this epoch, counted from 1."""
        kind, kept = parse_keep(self.keep)
        periods = [period for period in (self.score_every, kept if kind == "every" else 0) if period]
        return epoch == self.epochs or any(epoch % period == 0 for period in periods)

    @property
    def bordered(self) -> str | None:
        """The one attribute of the expert that has borders."""
        found = [name for name in self.attributes if self.schema[name].borders is not None]
        return found[0] if len(found) == 1 else None

    @property
    def preprocess(self) -> Preprocess:
        """How photos are prepared; with `normalise` "photos" the training puts in its own mean and std."""
        return Preprocess(
            size=self.size,
            crop=self.crop,
            mean=self.mean,
            std=self.std,
            crop_at=self.crop_at,
            prepare=self.prepare,
            window=self.window,
        )

    def _check_columns(self) -> None:
        for key, known in (("heads", HEADS_KINDS), ("normalise", NORMALISE)):
            if getattr(self, key) not in known:
                raise UsageError(f'no {key} "{getattr(self, key)}"{nearest(getattr(self, key), known)}')
        if self.borders and self.columns is not None:
            raise UsageError(f"{self.name}: training borders have no meaning for finer columns; leave one of them out")

    def to_json(self) -> dict[str, Any]:
        """Every field, ready for JSON."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        values |= {"schema": self.schema.to_json(), "backbone": name_of(self.backbone)}
        values |= {"loss": loss_name(self.loss), "sampler": name_of(self.sampler)}
        values["soup"] = name_of(self.soup)
        values["mix"] = [name_of(mixer) for mixer in self.mix]
        if callable(self.class_weights):
            values["class_weights"] = name_of(self.class_weights)
        values |= {"head": name_of(self.head), "prepare": [name_of(step) for step in self.prepare]}
        values["augment"] = [name_of(item) for item in self.augment]
        values["condition"] = {name: list(classes) for name, classes in self.condition.items()}
        values["phases"] = [phase.to_json() for phase in self.phases]
        return {key: _plain(value) for key, value in values.items()}

    def settings_json(self) -> dict[str, Any]:
        """What decides the result: enters the fingerprint."""
        settings = {key: value for key, value in self.to_json().items() if key not in NOT_SETTINGS}
        settings = {key: value for key, value in settings.items() if key not in LATER or value != LATER[key]}
        if self.weights not in ("imagenet", "none"):
            settings["weights"] = "file"  # which one, its hash says, wherever it lies
        return settings

    def code(self) -> dict[str, str]:
        """Functions of one's own, by key and name, and the hash of what they do: another one is another training."""
        found = _code({f.name: getattr(self, f.name) for f in fields(self)})
        for number, phase in enumerate(self.phases, 1):
            found |= _code({f"phase {number} {f.name}": getattr(phase, f.name) for f in fields(phase)})
        return found

    def identity(self, table: SampleTable, folds: IntArray) -> dict[str, Any]:
        """Settings, schema, samples, folds and first weights; its hash is the fingerprint."""
        code = self.code()
        return {
            "settings": self.settings_json(),
            **({"code": code} if code else {}),
            "schema": self.schema.to_json(),
            "samples_sha256": table.sha256(),
            "folds_sha256": sha256_json([int(fold) for fold in folds]),
            "init": describe_weights(self.backbone, self.weights),
        }


def _code(parts: Mapping[str, Any]) -> dict[str, str]:
    listed = [(key, part) for key, value in parts.items() for part in (value if isinstance(value, tuple) else (value,))]
    return {f"{key} {name_of(part)}": code_sha256(part) for key, part in listed if callable(part)}


def _plain(value: Any) -> Any:
    return [_plain(item) for item in value] if isinstance(value, tuple | list) else value


def check_job_names(
    backbone: str | Builder,
    sampler: str | Sampler,
    augment: Sequence[str | Augmentation],
    head: str | HeadBuilder = "linear",
    output: str = "classes",
    prepare: Sequence[str | Preparer] = (),
) -> None:
    """Refuses names that no table knows: cheap, so that it can come before any photo is decoded.

    Raises:
        UsageError: an unknown backbone, sampler, augmentation, head, output or step, with the nearest known one.
    """
    check_backbone(backbone)
    find_head(head)
    find_output(output)
    for step in prepare:
        find_preparer(step)
    find_sampler(sampler)
    check_transforms(augment)


def check_objective(loss: Any, class_weights: Any, smoothing: str, mix: Sequence[str | Mixer]) -> None:
    """Refuses losses, class weights, smoothings and mixers that no table knows, and class weights that no term takes.

    Raises:
        UsageError: naming the nearest known one, or what to leave out.
    """
    check_class_weights(class_weights)
    find_loss(loss, None if class_weights == "none" else torch.ones(1))
    check_smoothing(smoothing)
    for mixer in mix:
        find_mixer(mixer)


def check_balance(schema: Schema, sampler: str | Sampler, balance_by: Sequence[str]) -> None:
    """Raises UsageError when what is balanced over is no attribute, or nothing is balanced."""
    for name in balance_by:
        if name not in schema.names and tuple(balance_by) != ("joint",):
            raise UsageError(f'balance_by: no attribute "{name}"{nearest(name, [*schema.names, "joint"])}')
    if balance_by and sampler == "natural":
        raise UsageError(
            f'balance_by: the sampler "natural" balances nothing; choose sampler = "balanced", say, or leave out '
            f'balance_by = "{",".join(balance_by)}"'
        )


def check_soup(soup: str | Rule, keep: str, name: str) -> None:
    """Raises UsageError for an unknown soup, or one of checkpoints that are not kept.

    Args:
        name: the expert's, for messages.
    """
    kind, _ = parse_keep(keep)
    if soup == "none":
        return
    find_soup(soup)
    if kind != "every":
        raise UsageError(
            f'{name}: soup = "{name_of(soup)}" averages the checkpoints that a training keeps; give keep = "every 1", '
            f'say, in place of keep = "{keep}"'
        )


def parse_keep(keep: str) -> tuple[str, int]:
    """`"every 5"` -> ("every", 5); "best" and "last" come with 0.

    Raises:
        UsageError: anything else.
    """
    words = keep.split()
    if keep in ("best", "last"):
        return keep, 0
    if len(words) == 2 and words[0] == "every" and words[1].isdigit() and int(words[1]) > 0:
        return "every", int(words[1])
    raise UsageError(f'keep: expected best, last or "every N", found "{keep}"')


@dataclass(frozen=True)
class EpochLine:
    """One epoch, as told to the watcher and kept in `metrics.jsonl`.

    Attributes:
        epoch: counted from 1.
        val_loss, accuracy, macro_f1: on the held-out photos under the expert's condition, with the schema's borders;
            None after an epoch that was not scored.
        best: whether this is the best epoch so far.
        rates: part of the network (backbone, head) -> its rate at the epoch's last step.
    """

    expert: str
    fold: int
    epoch: int
    epochs: int
    train_loss: float
    val_loss: float | None
    accuracy: float | None
    macro_f1: float | None
    seconds: float
    photos_per_second: float
    best: bool
    rates: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        named = {"validation loss": self.val_loss, "accuracy": self.accuracy, "macro F1": self.macro_f1}
        scored = "".join(f", {name} {value:.3f}" for name, value in named.items() if value is not None)
        return (
            f"{self.expert}, fold {self.fold}, epoch {self.epoch}/{self.epochs}: loss {self.train_loss:.3f}{scored}"
            f"{' *' if self.best else '  '} ({self.seconds:.0f} s, {self.photos_per_second:.0f} photos/s)"
        )


@dataclass(frozen=True)
class FoldResult:
    """What `train_fold` leaves behind.

    Attributes:
        folder: holds `best.safetensors`, `oof.npy`, `metrics.jsonl`, `DONE`.
        epoch: the epoch whose weights are kept, counted from 1.
        metrics: `accuracy`, `macro_f1`, `val_loss` of that epoch on the held-out photos under the condition.
        skipped: it was done before.
        resumed: it went on from an earlier, broken-off call.
        notices: what the user should be told, one line each.
    """

    folder: Path
    epoch: int
    metrics: Mapping[str, float]
    skipped: bool = False
    resumed: bool = False
    notices: tuple[str, ...] = field(default=())

    @property
    def checkpoint(self) -> Path:
        return self.folder / "best.safetensors"
