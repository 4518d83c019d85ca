"""The training of one fold: epochs, scores, the files after each, and the out-of-fold predictions at the end."""

from __future__ import annotations

import platform
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from ensemble_kit.arrays import FloatArray, IntArray
from ensemble_kit.card import Card
from ensemble_kit.data.samples import SampleTable
from ensemble_kit.errors import DataError, DivergedError, StoppedError
from ensemble_kit.files import write_array
from ensemble_kit.loading.cache import PhotoCache
from ensemble_kit.loading.dataset import EpochLoader, TrainingPhotos
from ensemble_kit.loading.samplers import epoch_batches
from ensemble_kit.loading.transforms import Augment
from ensemble_kit.metrics import accuracy, macro_f1
from ensemble_kit.models.backbones import backbone_name
from ensemble_kit.models.checkpoint import load_expert, save_checkpoint
from ensemble_kit.models.compute import Compute, choose_compute, num_threads, predict_probs
from ensemble_kit.models.heads import block_head, build_network, mix_seed
from ensemble_kit.training.job import EpochLine, ExpertJob, FoldResult, parse_keep
from ensemble_kit.training.optim import make_optimizer, rate_factor, set_rates
from ensemble_kit.training.rows import FoldRows, choose_rows, groups_sha256
from ensemble_kit.training.state import FoldFolder

CHECK_EVERY = 16
"""Steps between two looks at the loss: each look makes an accelerator wait."""

SCORE_BATCH = 64


def train_fold(
    job: ExpertJob,
    *,
    table: SampleTable,
    folds: IntArray,
    photos: PhotoCache,
    folder: Path,
    restart: bool = False,
    on_epoch: Callable[[EpochLine], None] | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> FoldResult:
    """Trains one fold of one expert, or goes on with it, or skips it when it is done.

    Args:
        job: the settings.
        table: all samples of the run.
        folds: `(n_samples,)` the fold that holds each sample out; -1 = none.
        photos: the cache of `table`, prepared as `job.preprocess` says.
        folder: gets `best.safetensors`, `oof.npy` (`(n_held_out, n_classes)` float32, the fold's rows in table order,
            NaN where a photo is unreadable), `metrics.jsonl`, `DONE`; while it runs also `state.pt`, `state.prev.pt`
            and `lock`.
        restart: train anew, whatever the folder holds.
        on_epoch: told each epoch's line after its files are written.
        on_step: told (steps done, steps in all).

    Raises:
        DataError: nothing to train on, or the folder holds another training (it says what differs).
        DivergedError: the loss stopped being finite; the files are those of the epoch before.
        StoppedError: SIGTERM; the same call goes on from the last whole epoch.
    """
    photos.check(table, job.preprocess)
    files = FoldFolder(folder, job.identity(table, folds))
    with files.locked(), _stoppable(job):
        if restart:
            files.clear()
        rows = choose_rows(job, table, folds, photos)
        if files.is_done():
            card = files.best_card()
            assert card is not None
            return FoldResult(files.path, card.train["epoch"], card.metrics, skipped=True, notices=rows.notices)
        with ExitStack() as stack:
            stack.enter_context(num_threads(job.threads))
            compute = choose_compute(job.device, job.precision, job.channels_last)
            devices = [torch.cuda.current_device()] if compute.device.type == "cuda" else []
            stack.enter_context(torch.random.fork_rng(devices=devices))
            training = _Training(job, table, photos, files, rows, compute)
            resumed = training.resume()
            training.run(on_epoch, on_step)
            return training.finish(resumed)


@contextmanager
def _stoppable(job: ExpertJob) -> Iterator[None]:
    """Turns SIGTERM into StoppedError while the block runs; only the main thread may set a handler."""

    def stop(number: int, frame: object) -> None:  # noqa: ARG001
        raise StoppedError(f"{job.name}, fold {job.fold}: stopped; the same command goes on from the last whole epoch")

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@dataclass
class _Best:
    epoch: int
    macro_f1: float
    tensors_sha256: str


class _Training:
    """The state of one fold while it trains; everything random is derived from (seed, fold, epoch)."""

    def __init__(
        self,
        job: ExpertJob,
        table: SampleTable,
        photos: PhotoCache,
        files: FoldFolder,
        rows: FoldRows,
        compute: Compute,
    ):
        self.job, self.table, self.photos, self.files, self.rows, self.compute = (
            job,
            table,
            photos,
            files,
            rows,
            compute,
        )
        self.head = block_head(job.schema, job.attributes)
        self.network = build_network(job.backbone, job.weights, len(self.head.classes), (job.seed, job.fold))
        compute.place(self.network)
        self.optimizer = make_optimizer(self.network, job)
        self.next_epoch = 1
        self.best: _Best | None = None
        self.history: list[dict[str, Any]] = []
        self.notices = list(rows.notices)
        self.samples_sha256 = table.sha256()

    def batches(self, epoch: int) -> list[IntArray]:
        seed = mix_seed(self.job.seed, self.job.fold)
        return epoch_batches(self.job.sampler, self.rows.train_targets, self.job.batch_size, seed, epoch)

    def resume(self) -> bool:
        """Takes up the folder's state, if it has one."""
        state = self.files.load_state()
        if state is None:
            self.files.clear()  # what a call left behind that was killed before its first state
            return False
        self.network.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.next_epoch = state["next_epoch"]
        self.best = _Best(**state["best"]) if state["best"] else None
        self.history = state["history"]
        if state["compute"] != self.compute.describe():
            self.notices.append(
                f"{self.job.name}, fold {self.job.fold}: begun on {state['compute']}, going on with "
                f"{self.compute.describe()}; the last bits may differ from an unbroken training"
            )
        card = self.files.best_card()
        if self.best is not None and (card is None or card.train["epoch"] < self.best.epoch):
            raise DataError(
                f"{self.files.best}: missing or changed since epoch {self.best.epoch}; train with --restart"
            )
        return True

    def run(self, on_epoch: Callable[[EpochLine], None] | None, on_step: Callable[[int, int], None] | None) -> None:
        job = self.job
        per_epoch = len(self.batches(1))
        total = per_epoch * job.epochs
        augment = Augment(job.augment, job.size, mix_seed(job.seed, job.fold))
        data = TrainingPhotos(self.photos.photos, self.rows.train, self.rows.train_targets, augment)
        epochs = range(self.next_epoch, job.epochs + 1)
        loader = EpochLoader(data, self.batches, epochs, job.workers)
        try:
            for epoch in epochs:
                started = time.perf_counter()
                done = (epoch - 1) * per_epoch
                told = None if on_step is None else lambda step, before=done: on_step(before + step, total)
                train_loss = self.train_epoch(loader, epoch, done, total, told)
                trained = time.perf_counter() - started
                line = self.close_epoch(epoch, train_loss, started, len(self.rows.train) / trained)
                if on_epoch is not None:
                    on_epoch(line)
        finally:
            loader.close()

    def train_epoch(
        self, loader: EpochLoader, epoch: int, done: int, total: int, told: Callable[[int], None] | None
    ) -> float:
        """One pass over the training photos; returns the mean loss."""
        job = self.job
        torch.manual_seed(mix_seed(job.seed, job.fold, epoch))  # dropout, if the backbone has any
        self.network.train()
        warmup = job.warmup_epochs * total / job.epochs
        loss_sum = torch.zeros((), device=self.compute.device)
        n_photos = 0
        for step, (photos, targets) in enumerate(loader.epoch(epoch)):
            set_rates(self.optimizer, rate_factor(done + step, total, warmup))
            with self.compute.autocast():
                logits = self.network(self.compute.inputs(photos, self.photos_preprocess))
            target = targets.to(self.compute.device)
            loss = F.cross_entropy(logits.float(), target, label_smoothing=job.label_smoothing)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.optimizer.step()
            loss_sum += loss.detach() * len(targets)
            n_photos += len(targets)
            if step % CHECK_EVERY == 0:
                self.refuse_infinite(float(loss_sum), epoch)
            if told is not None:
                told(step + 1)
        self.refuse_infinite(float(loss_sum), epoch)
        return float(loss_sum) / n_photos

    @property
    def photos_preprocess(self) -> Any:
        return self.job.preprocess

    def refuse_infinite(self, value: float, epoch: int) -> None:
        if not np.isfinite(value):
            job = self.job
            raise DivergedError(
                f"{job.name}, fold {job.fold}, epoch {epoch}: the loss is no longer a finite number; "
                f"try lower rates (head_lr {job.head_lr / 10:g}, backbone_lr {job.backbone_lr / 10:g}), "
                "a longer warm-up, or precision fp32"
            )

    def probs(self, network: torch.nn.Module, rows: IntArray) -> FloatArray:
        return predict_probs(network, _Rows(self.photos.photos, rows), self.job.preprocess, self.compute, SCORE_BATCH)

    def score(self, epoch: int) -> dict[str, float]:
        probs = self.probs(self.network, self.rows.score)
        truth, n_classes = self.rows.score_targets, probs.shape[1]
        self.refuse_infinite(float(probs.sum()), epoch)
        likelihood = np.maximum(probs[np.arange(len(truth)), truth], np.finfo(np.float32).tiny)
        labels = probs.argmax(axis=1)
        return {
            "val_loss": float(-np.log(likelihood.astype(np.float64)).mean()),
            "accuracy": accuracy(truth, labels, n_classes),
            "macro_f1": macro_f1(truth, labels, n_classes),
        }

    def close_epoch(self, epoch: int, train_loss: float, started: float, speed: float) -> EpochLine:
        """Scores the epoch and writes best (when better), then the state, then the history."""
        job = self.job
        metrics = self.score(epoch)
        kind, every = parse_keep(job.keep)
        better = kind == "best" and (self.best is None or metrics["macro_f1"] > self.best.macro_f1)
        if better or (kind != "best" and epoch == job.epochs):
            card = save_checkpoint(self.files.best, self.network, self.card(epoch, metrics))
            self.best = _Best(epoch, metrics["macro_f1"], card.tensors_sha256)
        if kind == "every" and epoch % every == 0:
            extra = self.files.path / f"epoch{epoch:03d}.safetensors"
            save_checkpoint(extra, self.network, self.card(epoch, metrics))
        line = EpochLine(
            expert=job.name,
            fold=job.fold,
            epoch=epoch,
            epochs=job.epochs,
            train_loss=train_loss,
            seconds=time.perf_counter() - started,
            photos_per_second=speed,
            best=better,
            **metrics,
        )
        self.history.append(line.to_json())
        self.next_epoch = epoch + 1
        self.files.save_state(self.state())
        self.files.write_history(self.history)
        return line

    def state(self) -> dict[str, Any]:
        return {
            "next_epoch": self.next_epoch,
            "model": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": None,  # the rate is a function of the step
            "scaler": None,  # bf16 needs none
            "ema": None,
            "rng": None,  # drawn anew from (seed, fold, epoch)
            "best": None if self.best is None else vars(self.best),
            "history": self.history,
            "compute": self.compute.describe(),
        }

    def card(self, epoch: int, metrics: dict[str, float]) -> Card:
        job = self.job
        train = {
            "settings": job.settings_json(),
            "borders": None if job.borders is None else list(job.borders),
            "left_out": [list(pair) for pair in job.leave_out],
            "seed": job.seed,
            "fold": job.fold,
            "n_folds": job.n_folds,
            "epoch": epoch,
            "kept": job.keep,
            "compute": self.compute.describe(),
            "samples_sha256": self.samples_sha256,
            "train_groups_sha256": groups_sha256(self.table, self.rows.train),
            "held_out_groups_sha256": groups_sha256(self.table, self.rows.held_out),
        }
        return Card(
            schema=job.schema,
            condition=job.condition,
            heads=(self.head,),
            backbone={"name": backbone_name(job.backbone), "init": self.files.identity["init"]},
            preprocess=job.preprocess.to_json(),
            train=train,
            metrics=metrics,
            versions={"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__},
        )

    def finish(self, resumed: bool) -> FoldResult:
        """Predicts every held-out photo with the kept weights, then writes DONE."""
        builder = self.job.backbone
        own = None if isinstance(builder, str) else {backbone_name(builder): builder}
        network, card = load_expert(self.files.best, backbones=own)
        self.compute.place(network)
        probs = self.probs(network, self.rows.held_out)
        probs[~self.photos.readable[self.rows.held_out]] = np.nan
        write_array(self.files.oof, probs)
        self.files.write_history(self.history)
        self.files.finish(self.job.fold)
        return FoldResult(
            self.files.path, card.train["epoch"], card.metrics, resumed=resumed, notices=tuple(self.notices)
        )


class _Rows(Sequence[Any]):
    """Some rows of a memory map, fetched batch by batch."""

    def __init__(self, photos: Any, rows: IntArray):
        self._photos, self._rows = photos, rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, part: Any) -> Any:
        return self._photos[self._rows[part]]
