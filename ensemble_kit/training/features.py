"""A frozen backbone's features, computed once: only the head is run while it trains."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from ensemble_kit.arrays import ByteArray, FloatArray, IntArray
from ensemble_kit.card import tensors_sha256
from ensemble_kit.data.decode import Preprocess
from ensemble_kit.files import new_array, replacing, sha256_json
from ensemble_kit.leftovers import OWNER, remove_leftovers
from ensemble_kit.loading.cache import PhotoCache
from ensemble_kit.loading.dataset import Key
from ensemble_kit.loading.samplers import joint_keys
from ensemble_kit.loading.sending import Getting, getting, mapped
from ensemble_kit.loading.smote import smote_between
from ensemble_kit.loading.transforms import Augment
from ensemble_kit.models.checkpoint import tensors_of
from ensemble_kit.models.compute import Compute
from ensemble_kit.models.heads import Linear, MapOnly, Network, Pool, mix_seed, pool
from ensemble_kit.models.memory import Fitting
from ensemble_kit.own_code import coded
from ensemble_kit.training.job import ExpertJob
from ensemble_kit.training.rows import FoldRows

BATCH = 64

TEMPORARY = rf"\.features-[0-9a-f]{{16}}\.npy\.{OWNER}\.tmp"
"""What `files.replacing` calls features that are being written."""


@dataclass(frozen=True)
class Source:
    """What the part of a network that trains is run on.

    Attributes:
        samples: `(n_samples, ...)` one entry a row of the sample table: photos, or features.
        compute: turns a batch of them into inputs.
        is_whole: the whole network reads photos, else its head reads features.
    """

    samples: Any
    compute: Compute
    is_whole: bool = True

    def part(self, network: Network) -> nn.Module:
        """The part of the network that reads the samples."""
        return network if self.is_whole else network.head


class OfFeatures(Compute):
    """Inputs that are features: they only move to the device."""

    def inputs(self, photos: Tensor, preprocess: Preprocess) -> Tensor:  # noqa: ARG002
        return photos.to(self.device, torch.float32)


@dataclass(frozen=True)
class Features:
    """The features of every photo of a table.

    Attributes:
        array: `(1 + n_views, n_samples, ...)` float32: those of the plain photo, then of augmented ones; rows of
            unreadable photos are zero.
    """

    array: FloatArray

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopened, (getting(self.array),)

    @property
    def plain(self) -> FloatArray:
        """`(n_samples, ...)`: what is scored."""
        plain: FloatArray = self.array[0]
        return plain

    def source(self, compute: Compute) -> Source:
        return Source(self.plain, OfFeatures(compute.device, compute.precision, compute.channels_last), is_whole=False)


def _reopened(how: Getting) -> Features:
    get, arguments = how
    return Features(get(*arguments))


def features_of(
    job: ExpertJob,
    network: Network,
    photos: PhotoCache,
    preprocess: Preprocess,
    compute: Compute,
    folder: Path,
    fitting: Fitting | None = None,
) -> Features:
    """The features of all photos, and of `job.feature_views` views of each, from `folder` where they are there already.

    They are named by what decides them: the backbone's weights, the pixels, their normalisation, the views, precision.
    A feature map is pooled where the head would pool it first.

    Args:
        network: on the device; it is put in eval mode and not changed.
        folder: the run's cache.
        fitting: how many photos fit in the memory; where it runs out, fewer pass at a time.
    """
    n_views = job.feature_views or 0
    # not the fold's seed: folds and experts whose backbones start alike share the features
    augment = Augment(job.augment, job.size, mix_seed(job.seed), job.augment_share, job.window)
    views = [[coded(item) for item in job.augment], job.augment_share, job.size, job.seed]
    augmented = views if n_views else None
    weights = {name: array for name, array in tensors_of(network).items() if name.startswith("backbone.")}
    how = [preprocess.to_json(), photos.ids_sha256, n_views, augmented, pools(network)]
    where = [compute.device.type, compute.precision]
    key = sha256_json([tensors_sha256(weights), _pixels_sha256(photos), *how, *where])[:16]
    path = Path(folder) / f"features-{key}.npy"
    remove_leftovers(path.parent, TEMPORARY)
    if not path.is_file():
        _fill(path, network, photos, preprocess, compute, augment, n_views, fitting or Fitting())
    return Features(mapped(str(path)))


def training_features(job: ExpertJob, features: Features, rows: FoldRows) -> TrainingFeatures:
    """What the head trains on, with made-up samples where the job asks for them."""
    seed = mix_seed(job.seed, job.fold)
    made_up = make_up(features, rows, seed, job.smote) if job.smote else features.plain[:0]
    return TrainingFeatures(features, rows.train, rows.train_targets, seed, made_up)


def pools(network: Network) -> bool:
    """Whether the head begins by pooling a feature map, so that pooled features give the same answer."""
    modules = list(network.head.modules())
    return any(isinstance(m, Linear | Pool) for m in modules) and not any(isinstance(m, MapOnly) for m in modules)


def _pixels_sha256(photos: PhotoCache) -> str:
    """The cache's file is named by its photos and their preparation."""
    return photos.place.name if photos.place else tensors_sha256({"photos": np.asarray(photos.photos)})


def _fill(
    path: Path,
    network: Network,
    photos: PhotoCache,
    preprocess: Preprocess,
    compute: Compute,
    augment: Augment,
    n_views: int,
    fitting: Fitting,
) -> None:
    array: Any = None
    with replacing(path) as temporary:
        for view in range(1 + n_views):
            start = 0
            for batch in _views(photos, augment, view):
                pass_on = partial(_features_of, network, batch, preprocess, compute)
                for found in fitting.each(len(batch), len(batch), pass_on):
                    if array is None:
                        shape = (1 + n_views, len(photos.photos), *found.shape[1:])
                        array = new_array(temporary, np.float32, shape)
                    array[view, start : start + len(found)] = found
                    start += len(found)
            array[view, ~photos.readable] = 0
        array.flush()
        del array


def _views(photos: PhotoCache, augment: Augment, view: int) -> Iterator[ByteArray]:
    """The photos in batches: view 0 is the plain one."""
    for start in range(0, len(photos.photos), BATCH):
        batch = np.array(photos.photos[start : start + BATCH])
        yield batch if view == 0 else np.stack([augment(photo, view, start + i) for i, photo in enumerate(batch)])


@torch.inference_mode()
def _features_of(
    network: Network, photos: ByteArray, preprocess: Preprocess, compute: Compute, some: slice
) -> FloatArray:
    network.eval()
    with compute.autocast():
        features = network.backbone(compute.inputs(torch.from_numpy(photos[some]), preprocess))
    pooled: Tensor = pool(features) if pools(network) else features
    return np.asarray(pooled.float().cpu().numpy())


class TrainingFeatures(Dataset[tuple[FloatArray, IntArray]]):
    """Features of training photos by key; which of the views is drawn depends on (seed, epoch, draw) alone.

    Args:
        features: of the whole table.
        rows: `(n_samples,)` which of them are trained on.
        targets: `(n_samples, ...)`.
        made_up: `(n_new, ...)` features of samples that are no photo's; their targets follow those of the rows.
    """

    def __init__(self, features: Features, rows: IntArray, targets: IntArray, seed: int, made_up: FloatArray):
        self.features, self.rows, self.targets, self.seed, self.made_up = features, rows, targets, seed, made_up

    def __len__(self) -> int:
        return len(self.rows) + len(self.made_up)

    def __getitem__(self, key: Key) -> tuple[FloatArray, IntArray]:
        epoch, draw, position = key
        target = np.asarray(self.targets[position])
        if position >= len(self.rows):
            return np.asarray(self.made_up[position - len(self.rows)]), target
        n_views = len(self.features.array) - 1
        view = 0
        if n_views:
            view = 1 + int(np.random.Generator(np.random.PCG64([self.seed, epoch, draw, 3])).integers(n_views))
        return np.asarray(self.features.array[view, int(self.rows[position])]), target


def with_made_up(rows: FoldRows) -> FoldRows:
    """The rows with the targets and keys of the samples that `make_up` will make up, after those of the photos."""
    keys = _classes(rows.train_targets)
    classes, first, counts = np.unique(keys, return_index=True, return_counts=True)
    missing = np.where(classes >= 0, counts[classes >= 0].max(initial=0) - counts, 0)
    places = np.concatenate([np.arange(len(keys)), np.repeat(first, missing)])
    return replace(rows, train_targets=rows.train_targets[places], train_keys=rows.train_keys[places])


def make_up(features: Features, rows: FoldRows, seed: int, k: int) -> FloatArray:
    """SMOTE on the plain features of the training rows, every class up to the largest: `(n_new, ...)`.

    Args:
        rows: from `with_made_up`.
        k: neighbours that a made-up sample may lie towards.
    """
    plain = np.asarray(features.plain[rows.train])
    flat = plain.reshape(len(plain), -1)
    generator = np.random.Generator(np.random.PCG64([seed, 4]))
    between = smote_between(flat, _classes(rows.train_targets[: len(plain)]), generator, k)
    return between.of(flat).reshape(-1, *plain.shape[1:])


def _classes(targets: IntArray) -> IntArray:
    """One number a sample, also where it has a target for each of several heads."""
    return targets if targets.ndim == 1 else joint_keys(list(targets.T))
