"""Every setting, its default and its help text, in one place.

Order of precedence: command-line flag > `ENS_*` environment variable > recipe > the defaults below. Functions further
down take plain arguments and have no defaults of their own.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from ensemble_kit.data.columns import check_columns
from ensemble_kit.errors import UsageError
from ensemble_kit.recipe.written import (
    as_by_node,
    as_classes_by_attribute,
    as_columns,
    as_names,
    as_names_or_none,
    as_none,
    as_numbers,
    as_pair,
    as_place,
    as_ranges,
    as_rule_or_numbers,
    as_sum,
    as_whole_numbers,
)

Share = Annotated[float, Field(gt=0, le=1)]
Part = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Channel = tuple[float, float, float]

IMAGENET_MEAN: Channel = (0.485, 0.456, 0.406)
IMAGENET_STD: Channel = (0.229, 0.224, 0.225)


class Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


Rule = Annotated[str | dict[str, str], BeforeValidator(as_by_node)]
"""A name in ROUTERS or VOTES for all, or one for each node or expert."""


class DataSettings(Settings):
    """`[data]`: where the photos are and how they are divided."""

    path: str | None = Field(None, description="the data set (or --data, or ENS_DATA)")
    layout: str = Field("auto", description="auto, competition, table or folders")
    fixes: str | None = Field(None, description="a label fix list, beside the recipe or shipped; none = no fixes")
    extra: Annotated[str | None, BeforeValidator(as_none)] = Field(
        None, description="a second data set, whose photos are trained on and never held out; none = none"
    )
    extra_where: Annotated[dict[str, tuple[str, ...]], BeforeValidator(as_classes_by_attribute)] = Field(
        default_factory=dict, description="attribute -> the classes whose extra photos are taken"
    )
    folds: int = Field(5, ge=1, le=100, description="folds, stratified by joint class, people kept together")
    val_ratio: float | None = Field(None, gt=0, lt=1, description="one validation share in place of folds")
    fold_seed: int = Field(0, ge=0, description="seed of the folds")
    cache_gb: Annotated[float | None, BeforeValidator(as_none)] = Field(
        None,
        ge=0,
        description="GB that decoded photos may take in the run's folder: the longest unused go first, and what has no "
        "room is decoded each time; none = as many as there are",
    )

    @model_validator(mode="after")
    def _one_way_to_divide(self) -> DataSettings:
        if self.extra_where and self.extra is None:
            raise ValueError("extra_where says which photos of extra are taken; name the data set with extra")
        if self.folds == 1 and self.val_ratio is None:
            raise ValueError("folds = 1 leaves nothing to train on; give val_ratio (0.1, say) or at least 2 folds")
        return self


class PhaseSettings(Settings):
    """One of `[[train.phases]]`: what is not written is as in `[train]`."""

    epochs: int | None = Field(None, ge=1)
    batch_size: int | None = Field(None, ge=2)
    accumulate: int | None = Field(None, ge=1)
    optimizer: str | None = None
    head_lr: float | None = Field(None, gt=0)
    backbone_lr: float | None = Field(None, gt=0)
    weight_decay: float | None = Field(None, ge=0)
    clip: float | None = Field(None, ge=0)
    schedule: str | None = None
    warmup_epochs: float | None = Field(None, ge=0)
    step_epochs: int | None = Field(None, ge=1)
    freeze: Annotated[tuple[str, ...] | None, BeforeValidator(as_names)] = None


OPEN_KEYS = (
    "workers",
    "window",
    "normalise",
    "augment_share",
    "backbone_lr",
    "feature_views",
    "channels_last",
    "threads",
    "borders",
)
"""Keys of `[train]` that may be left open; "none" leaves them open where a table above does not."""


class TrainSettings(Settings):
    """`[train]`, and `[train.<attribute>]` for one attribute alone."""

    backbone: str = Field("resnet18", description="feature network")
    weights: str = Field(
        "imagenet", description="imagenet, none, a checkpoint file, run:EXPERT, or runs/other/EXPERT (the same fold's)"
    )
    head: str = Field("linear", description="linear, deep=256 (two layers), or conv=128 (a convolution before pooling)")
    heads: Literal["joint", "separate"] = Field(
        "joint", description="of a block: one output a joint class, or a head an attribute on one backbone"
    )
    output: str = Field("classes", description="classes, ordinal or regression (of a measured attribute)")
    columns: Annotated[str | tuple[float, ...], BeforeValidator(as_columns)] = Field(
        "classes",
        description="of a measured attribute: classes, years, years=61, bins=11, or edges such as 20,30,60",
    )
    size: Annotated[tuple[int, int], BeforeValidator(as_pair)] = Field((224, 224), description="height, width")
    window: Annotated[tuple[int, int] | None, BeforeValidator(as_pair)] = Field(
        None, description="height, width of what is seen of size: anywhere in training, else its middle; none = all"
    )
    crop: Annotated[tuple[Positive, Positive], BeforeValidator(as_pair)] = Field(
        (1.0, 1.0), description="what is kept of height, width: shares of the photo up to 1, or whole pixels"
    )
    crop_at: Annotated[str | tuple[Part, Part], BeforeValidator(as_place)] = Field(
        "center", description="center, boxes (the faces' mean position in the training photos), or shares down,across"
    )
    prepare: Annotated[tuple[str, ...], BeforeValidator(as_names)] = Field(
        (), description="steps on every photo: grayscale, clahe=2, equalize, sharpen=0.5, blur=1, invert, rembg"
    )
    normalise: Literal["imagenet", "photos"] | None = Field(
        None, description="imagenet, or photos (mean and std of the fold's training photos); default mean and std"
    )
    mean: Annotated[Channel, BeforeValidator(as_numbers)] = Field(
        IMAGENET_MEAN, description="mean subtracted per channel, photos in 0 to 1"
    )
    std: Annotated[Channel, BeforeValidator(as_numbers)] = Field(
        IMAGENET_STD, description="deviation divided by per channel"
    )
    augment: Annotated[tuple[str, ...], BeforeValidator(as_names)] = Field(
        ("flip", "affine", "brightness_contrast"),
        description="augmentations in order, with probability and arguments: flip=0.5, rotate=0.3:15",
    )
    augment_share: float | None = Field(
        None, ge=0, le=1, description="one probability for the whole list of augmentations; default each its own"
    )
    epochs: int = Field(10, ge=1, description="passes over the training photos")
    min_steps: int = Field(0, ge=0, description="more epochs where so few photos drawn would make fewer steps")
    batch_size: int = Field(64, ge=2, description="photos a batch")
    accumulate: int = Field(1, ge=1, description="batches a step: their gradients are summed as one large batch's")
    optimizer: str = Field("adamw", description="adamw, adam (coupled L2), sgd, sgd=0.95, nesterov, or one of timm's")
    head_lr: float = Field(1e-3, gt=0, description="rate of the head")
    backbone_lr: float | None = Field(
        None, gt=0, description="rate of the backbone; default a tenth of head_lr when pretrained, else head_lr"
    )
    weight_decay: float = Field(
        0.05, ge=0, description="of weights, not of biases and norms; decoupled in adamw, else added to the gradient"
    )
    clip: float = Field(0.0, ge=0, description="largest norm of a step's gradient; 0 = unlimited")
    schedule: str = Field("cosine", description="cosine, constant, step=0.1, plateau=0.1 or one_cycle")
    ema: float = Field(0.0, ge=0, lt=1, description="decay of the weights' moving average, such as 0.999; 0 = none")
    swa_epochs: int = Field(0, ge=0, description="mean of the last so many epochs' weights; 0 = none")
    patience: int = Field(
        0, ge=0, description="scored epochs without a better macro F1 after which a phase ends; 0 = never"
    )
    loss: Annotated[str, BeforeValidator(as_sum)] = Field(
        "cross_entropy",
        description="cross_entropy, focal=2, macro_f1, soft_margin, or a sum: cross_entropy+0.5*macro_f1",
    )
    class_weights: Annotated[str | tuple[float, ...], BeforeValidator(as_rule_or_numbers)] = Field(
        "none", description="none, balanced, effective=0.999, or one number a class"
    )
    feature_views: int | None = Field(
        None,
        ge=0,
        description="with a frozen backbone: its features of so many augmented views, or of the plain photo (0), are "
        "computed once; none = photos go through it in every epoch",
    )
    smote: int = Field(0, ge=0, description="neighbours for samples made up between features of one class; 0 = none")
    label_smoothing: float = Field(0.1, ge=0, lt=1, description="share of the target taken from the true class")
    smoothing: Literal["all", "others"] = Field(
        "all", description="over all classes (eps/K), or over the others alone (eps/(K-1))"
    )
    mix: Annotated[tuple[str, ...], BeforeValidator(as_names_or_none)] = Field(
        (), description="photos mixed with each other: mixup=0.2, cutmix=1, half_cutmix"
    )
    mix_share: float = Field(1.0, ge=0, le=1, description="share of the batches that are mixed")
    warmup_epochs: float = Field(1.0, ge=0, description="linear warm-up before the schedule; one_cycle has its own")
    step_epochs: int = Field(
        5,
        ge=1,
        description="epochs between the steps of step; scored epochs without a better one that plateau waits for",
    )
    freeze: Annotated[tuple[str, ...], BeforeValidator(as_names)] = Field(
        (), description="layers that do not train, such as backbone or layer1,layer2"
    )
    phases: tuple[PhaseSettings, ...] = Field(
        (), description="phases one after the other, each a table of the keys above"
    )
    sampler: str = Field(
        "natural", description="natural, balanced, weighted, oversample, undersample, or two: natural->balanced"
    )
    balance_by: Annotated[tuple[str, ...], BeforeValidator(as_names)] = Field(
        (), description="attributes that the sampler balances, or joint; default the expert's own classes"
    )
    keep: str = Field("best", description="best (by validation macro F1), last, or every N")
    soup: str = Field(
        "none", description='none, greedy or uniform: average what keep = "every N" keeps, where no score is lost'
    )
    score_every: int = Field(
        1, ge=0, description="epochs between two looks at the held-out photos; 0 = only after the last epoch"
    )
    save_every: int = Field(1, ge=1, description="epochs between two states that a broken-off training goes on from")
    precision: Literal["auto", "fp32", "bf16"] = Field("auto", description="auto takes bf16 where it pays")
    channels_last: bool | None = Field(None, description="memory layout; default where it pays")
    device: str = Field("auto", description="auto, cpu or cuda")
    share_gpu: bool = Field(False, description="train on a GPU that another training is on, too, in place of waiting")
    workers: int | None = Field(
        None, ge=0, description="processes that augment photos; default none on a CPU, one a core beside an accelerator"
    )
    threads: int | None = Field(None, ge=1, description="CPU threads; default all cores")
    jobs: int = Field(
        1,
        ge=0,
        le=64,
        description="trainings at a time on a CPU, each in a process of its own; 0 = what cores and memory allow",
    )
    tensorboard: bool = Field(False, description="scalars and pictures for TensorBoard too, in each fold's folder")
    seed: int = Field(0, ge=0, description="seed of weights, order and augmentation")
    seeds: Annotated[tuple[Annotated[int, Field(ge=0)], ...], BeforeValidator(as_whole_numbers)] = Field(
        (), description="several seeds in place of one: each trains every fold, and votes"
    )
    borders: Annotated[tuple[float, ...] | None, BeforeValidator(as_numbers)] = Field(
        None, description="borders used for training only, such as 30,58"
    )
    leave_out: Annotated[tuple[tuple[float, float], ...], BeforeValidator(as_ranges)] = Field(
        (), description="values left out of training, such as 57-59"
    )
    people_share: float = Field(1.0, gt=0, le=1, description="share of the training people that are trained on")

    @field_validator(*OPEN_KEYS, mode="before")
    @classmethod
    def _left_open(cls, value: Any) -> Any:
        return as_none(value)

    @field_validator("size")
    @classmethod
    def _at_least_16(cls, size: tuple[int, int]) -> tuple[int, int]:
        if min(size) < 16:
            raise ValueError(f"expected at least 16 x 16 pixels, found {size[0]} x {size[1]}")
        return size

    @model_validator(mode="after")
    def _window_inside(self) -> TrainSettings:
        if self.window is not None and not all(1 <= w <= s for w, s in zip(self.window, self.size, strict=True)):
            raise ValueError(f"window: expected one inside the size {list(self.size)}, found {list(self.window)}")
        return self

    @field_validator("crop")
    @classmethod
    def _shares_or_pixels(cls, crop: tuple[float, float]) -> tuple[float, float]:
        if any(side > 1 and side != int(side) for side in crop):
            raise ValueError(f"expected shares up to 1, or whole numbers of pixels, found {crop[0]:g}, {crop[1]:g}")
        return crop

    @field_validator("crop_at")
    @classmethod
    def _known_place(cls, place: str | tuple[float, float]) -> str | tuple[float, float]:
        if isinstance(place, str) and place not in ("center", "boxes"):
            raise ValueError(f'expected center, boxes or two shares such as 0.4,0.5, found "{place}"')
        return place

    @field_validator("columns")
    @classmethod
    def _known_columns(cls, columns: str | tuple[float, ...]) -> str | tuple[float, ...]:
        try:
            check_columns(columns)
        except UsageError as error:
            raise ValueError(str(error).removeprefix("columns: ")) from None
        return columns

    @model_validator(mode="after")
    def _one_way_to_normalise(self) -> TrainSettings:
        if self.normalise is not None and {"mean", "std"} & self.model_fields_set:
            raise ValueError(f"normalise = {self.normalise} and mean or std rule each other out; give one of them")
        return self

    @field_validator("keep")
    @classmethod
    def _known_keep(cls, keep: str) -> str:
        if not re.fullmatch(r"best|last|every [1-9]\d*", keep):
            raise ValueError(f'expected best, last or "every N", found {keep!r}')
        return keep

    @field_validator("seeds")
    @classmethod
    def _each_seed_once(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) < len(seeds):
            raise ValueError(f"expected each seed once, found {list(seeds)}")
        return seeds

    def by_seed(self) -> dict[int | None, TrainSettings]:
        """The settings of each seed; None = the one there is, whose folders do not name it."""
        if not self.seeds:
            return {None: self}
        return {seed: self.model_copy(update={"seed": seed}) for seed in self.seeds}

    @property
    def resolved_backbone_lr(self) -> float:
        if self.backbone_lr is not None:
            return self.backbone_lr
        return self.head_lr if self.weights == "none" else self.head_lr / 10

    def resolved_phases(self) -> list[TrainSettings]:
        """The settings of each phase, with nothing left open; without `phases` they are the one phase."""
        written = [phase.model_dump(exclude_none=True) for phase in self.phases] or [{}]
        phases = [self.model_copy(update={**keys, "phases": ()}) for keys in written]
        return [phase.model_copy(update={"backbone_lr": phase.resolved_backbone_lr}) for phase in phases]


MEASURED = ("borders", "leave_out", "columns", "output")
"""Keys of `[train]` that say something of an attribute with borders alone."""

PHASE_KEYS = tuple(PhaseSettings.model_fields)
"""What a phase may say otherwise than `[train]`."""


def without_ruled_out(values: Mapping[str, Any]) -> dict[str, Any]:
    """All keys of `[train]` but those that another one rules out, so that they can be read again.

    Examples:
        >>> without_ruled_out({"normalise": "photos", "mean": (0, 0, 0), "epochs": 2})
        {'normalise': 'photos', 'epochs': 2}
    """
    ruled_out = ("mean", "std") if values.get("normalise") is not None else ()
    return {key: value for key, value in values.items() if key not in ruled_out}


def lay_over(
    settings: Mapping[str, Any], over: Mapping[str, Any], kept: Collection[tuple[str, ...]] = ()
) -> dict[str, Any]:
    """One layer of training settings over another: a key laid over a list of phases holds in every one of them.

    Args:
        kept: (number of the phase, key) that stay as they are in `settings`; () = all phases as they are.

    Examples:
        >>> lay_over({"phases": [{"epochs": 2, "head_lr": 0.1}, {"epochs": 3}]}, {"epochs": 1})
        {'phases': [{'head_lr': 0.1}, {}], 'epochs': 1}
    """
    merged = {**settings, **over}
    phases = merged.get("phases")
    if "phases" not in over and isinstance(phases, list | tuple):
        merged["phases"] = [
            {k: v for k, v in phase.items() if k not in over or not {(), (str(number), k)}.isdisjoint(kept)}
            if isinstance(phase, Mapping)
            else phase
            for number, phase in enumerate(phases)
        ]
    return merged


class PredictSettings(Settings):
    """`[predict]`: how the experts look at photos that are to be answered."""

    tta: Annotated[tuple[str, ...], BeforeValidator(as_names_or_none)] = Field(
        (), description="views averaged with the plain photo: flip, zoom, bright, dark; out-of-fold ones stay plain"
    )
    backend: str = Field(
        "torch",
        description="what runs the networks: torch (float32), torch-bf16, openvino, openvino-bf16, openvino-int8; each "
        "but torch is tried on training photos before it answers",
    )
    compile: Literal["off", "default", "reduce-overhead"] = Field(
        "off", description="torch.compile; reduce-overhead are CUDA graphs. It takes its time first: for many photos"
    )


class VoteSettings(Settings):
    """`[vote]`: what `ens run` does when its members are trained: their answers vote."""

    of: Annotated[tuple[str, ...], BeforeValidator(as_names)] = Field(
        (), description="variants of the recipe, shipped recipes (losses:focal), run folders, .csv answer files"
    )
    by: Literal["joint", "attribute"] = Field("joint", description="the joint class, or each attribute by itself")
    weights: Annotated[tuple[Annotated[float, Field(ge=0)], ...], BeforeValidator(as_numbers)] = Field(
        (), description="one number a member; default each counts once"
    )


class CombineSettings(Settings):
    """`[combine]`: how the experts' answers become joint classes."""

    route: Rule = Field(
        "hard",
        description="hard (one expert a photo), soft (the exact chain rule), threshold=0.9, top_k=2, sparse=0.01",
    )
    vote: Rule = Field("soft", description="across folds: soft (mean probability), hard (most votes), geometric, ...")
    vote_at: Literal["expert", "joint"] = Field("expert", description="vote then route, or route then vote")
    fallback: Literal["refuse", "pooled"] = Field("refuse", description="what answers for a missing expert")
    decide: Literal["joint", "attribute", "top_down"] = Field(
        "joint", description="the joint class, each attribute by itself, or along the graph"
    )
    borders: dict[str, tuple[float, ...]] = Field(
        default_factory=dict, description="attribute -> other borders, for experts with finer columns"
    )


class TuneSettings(Settings):
    """`[tune]`: what `ens tune` searches, and how."""

    trials: int = Field(20, ge=2, description="trials in all; the first is the recipe as it stands")
    objective: str = Field("joint", description="whose out-of-fold macro F1 is raised: joint, or an attribute")
    prune: str = Field("median", description="after a fold: median (below half of the earlier trials there), or none")
    prune_after: int = Field(4, ge=1, description="whole trials before any is pruned")
    sampler: str = Field("tpe", description="tpe (learns from the trials before), or random")
    startup: int = Field(5, ge=1, description="trials drawn at random before tpe learns from them")
    batch: int | None = Field(None, ge=1, description="trials asked for together; default as many as run at a time")
    seed: int = Field(0, ge=0, description="seed of the search; that of the trainings is [train]'s")
    keep: Literal["best", "all"] = Field(
        "best", description="whose checkpoints stay: the best's and the first's, or all"
    )
    space: dict[str, Any] = Field(
        default_factory=dict,
        description='key -> values: "train.head_lr" = { low = 1e-5, high = 1e-2, log = true }, or a list of choices',
    )
