"""One fold while it trains: epochs, scores, the files after each, and the out-of-fold predictions at the end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from ensemble_kit.arrays import ByteArray, FloatArray, IntArray
from ensemble_kit.data.samples import SampleTable
from ensemble_kit.errors import DivergedError
from ensemble_kit.files import write_array
from ensemble_kit.loading.cache import PhotoCache
from ensemble_kit.loading.dataset import EpochLoader, TrainingPhotos, workers_for
from ensemble_kit.loading.transforms import Augment
from ensemble_kit.models.backbones import load_weights
from ensemble_kit.models.compute import Compute, predict_probs
from ensemble_kit.models.heads import Network, build_network, close_outputs, mix_seed
from ensemble_kit.models.memory import Fitting
from ensemble_kit.stopping import Stop
from ensemble_kit.training.averaging import Average, average_for, plain_batches, refresh_batch_norm
from ensemble_kit.training.board import Board
from ensemble_kit.training.board_pictures import Pictures, is_drawn
from ensemble_kit.training.columns import heads_of, in_classes, parts_of_job
from ensemble_kit.training.features import (
    Features,
    Source,
    TrainingFeatures,
    features_of,
    training_features,
    with_made_up,
)
from ensemble_kit.training.folder import FoldFolder
from ensemble_kit.training.job import EpochLine, ExpertJob
from ensemble_kit.training.kept import Best, Kept
from ensemble_kit.training.normalising import normalised_by
from ensemble_kit.training.objective import Objective
from ensemble_kit.training.passes import LEAST, Batch, Passes, cut
from ensemble_kit.training.phases import Span, spans_of
from ensemble_kit.training.rows import FoldRows, batches_of, not_scored
from ensemble_kit.training.scoring import mean_scores, out_of_patience, scores
from ensemble_kit.training.signs import has_stood_still, only_answer
from ensemble_kit.training.stage import Stage
from ensemble_kit.training.underway import Underway

CHECK_EVERY = 16
"""Steps between two looks at the loss: each look makes an accelerator wait."""

SCORE_BATCH = 64

SAVE_SECONDS = 600.0
"""An epoch that takes longer has its state saved in its middle as well."""


class Session:
    """The state of one fold while it trains; everything random is derived from (seed, fold, epoch).

    Args:
        rows: see `choose_rows`.
        files: where the fold's files are.
        stop: looked at after every step and every batch that is scored; None = nobody asks.
        on_notice: told in words, while it trains, what goes wrong; None = the result tells it in the end.
    """

    def __init__(
        self,
        job: ExpertJob,
        table: SampleTable,
        photos: PhotoCache,
        files: FoldFolder,
        rows: FoldRows,
        compute: Compute,
        stop: Stop | None = None,
        on_notice: Callable[[str], None] | None = None,
    ):
        self.job, self.table, self.photos, self.files, self.compute = job, table, photos, files, compute
        self.stop = stop or Stop()
        self.underway: Underway | None = None
        self.only_answer: str | None = None
        self.only_answers: list[str | None] = []  # of the epochs scored so far the one class answered, if only one was
        self.saved = time.monotonic()
        self.rows = rows = with_made_up(rows) if job.smote else rows
        self.source = Source(photos.photos, compute)
        self.features: Features | None = None
        n = torch.get_num_threads()
        self.where = f"{compute.describe()}, {n} thread{'' if n == 1 else 's'}, torch {torch.__version__}"
        self.preprocess = job.preprocess
        if job.normalise == "photos":
            self.preprocess = normalised_by(job.preprocess, photos, rows.train)
        self.heads = heads_of(job)
        self.network = build_network(
            job.backbone, "none", parts_of_job(job), (job.seed, job.fold), head=job.head, size=job.preprocess.seen
        )
        close_outputs(self.network, rows.possible)
        self.objective = Objective(job, rows, compute.device)
        compute.place(self.network)
        self.trainable = frozenset(name for name, p in self.network.named_parameters() if p.requires_grad)
        self.augment = Augment(job.augment, job.size, mix_seed(job.seed, job.fold), job.augment_share, job.window)
        self.spans = spans_of(job.phases)
        stages = [self.stage_of(span) for span in reversed(self.spans)]  # all: no later one may fail by its settings
        self.stage = stages[-1]
        self.n_steps = [stage.n_steps for stage in reversed(stages)]
        self.average: Average | None = None
        self.next_epoch = 1
        self.kept = Kept(job, table, files, rows, self.heads, self.preprocess, self.where)
        self.history: list[dict[str, Any]] = []
        self.held_out: tuple[int, FloatArray] | None = None  # of an epoch sure to be kept, its predictions
        self.notices = list(rows.notices)
        self.on_notice = on_notice or self.notices.append
        self.told: set[str] = set()
        self.passes = Passes(self.back, lambda: self.stage.forget(), self.say)
        self.fitting = Fitting(self.say)
        self.board = Board(files.path) if job.tensorboard else None
        self.scored: tuple[list[FloatArray], IntArray] | None = None  # for the board's pictures
        self.pictures: Pictures | None = None

    def batches(self, epoch: int) -> list[IntArray]:
        return batches_of(self.job, self.rows, epoch)

    def stage_of(self, span: Span) -> Stage:
        """The phase on the network: a fresh optimiser, and its layers frozen."""
        sizes = [[len(batch) for batch in self.batches(epoch)] for epoch in span.epochs]
        return Stage(self.network, span, sizes, self.trainable)

    def begin(self) -> None:
        """Puts in the first weights, then forgets what the folder holds: from here on nothing is checked any more."""
        load_weights(self.network.backbone, self.job.backbone, self.job.weights, self.job.preprocess.seen)
        self.average = average_for(self.job.ema, self.job.swa_epochs, self.network)
        self.files.clear()
        self.use_features()

    def resume(self) -> bool:
        """Takes up the folder's state, if it has one."""
        state = self.files.load_state()
        if state is None:
            return False
        self.network.load_state_dict(state["model"])
        self.next_epoch = state["next_epoch"]
        self.stage = self.stage_of(next((span for span in self.spans if self.next_epoch <= span.last), self.spans[-1]))
        if state["phase"] == self.stage.span.number:  # else it was broken off at a switch: the phase begins afresh
            self.stage.optimizer.load_state_dict(state["optimizer"])
        self.average = average_for(self.job.ema, self.job.swa_epochs, self.network)
        if self.average is not None:
            self.average.load(state["ema"])
        self.kept.best = Best(**state["best"]) if state["best"] else None
        self.history = state["history"]
        self.passes.pieces = state.get("pieces", 1)
        if state.get("underway") is not None:
            self.underway = Underway.load(state["underway"], self.compute.device)
        begun = state.get("where")
        if begun != self.where:
            self.notices.append(
                f"{self.job.name}, fold {self.job.fold}: begun on {begun}, going on with {self.where}; "
                "the last bits may differ from an unbroken training"
            )
        self.files.put_back()
        self.kept.check()
        self.use_features()
        return True

    def use_features(self) -> None:
        """Where the job asks for it, computes the frozen backbone's features once; from then on the head alone runs."""
        if self.job.feature_views is not None:
            folder = self.files.path if self.photos.place is None else self.photos.place.parent
            how = (self.preprocess, self.compute, folder, self.fitting)
            self.features = features_of(self.job, self.network, self.photos, *how)
            self.source = self.features.source(self.compute)

    def training_data(self) -> TrainingPhotos | TrainingFeatures:
        if self.features is not None:
            return training_features(self.job, self.features, self.rows)
        return TrainingPhotos(self.photos.photos, self.rows.train, self.rows.train_targets, self.augment)

    def run(self, on_epoch: Callable[[EpochLine], None] | None, on_step: Callable[[int, int], None] | None) -> None:
        """Trains the epochs that are left, phase by phase."""
        absent = not_scored(self.job, self.rows)
        if absent and self.next_epoch <= self.job.epochs:
            self.say(f"no held-out photo of {absent}: its scores say nothing about it; use fewer folds or add photos")
        for span in self.spans:
            if self.next_epoch <= span.last:
                if self.stage.span != span:
                    self.stage = self.stage_of(span)
                self.run_phase(on_epoch, on_step)
        self.stage.release()

    def run_phase(
        self, on_epoch: Callable[[EpochLine], None] | None, on_step: Callable[[int, int], None] | None
    ) -> None:
        data = self.training_data()
        epochs = range(self.next_epoch, self.stage.span.last + 1)
        begin = self.underway.batches if self.underway else 0
        device = self.compute.device
        # features lie in memory: nothing is to be augmented
        workers = workers_for(self.job.workers, device) if self.features is None else self.job.workers or 0
        pinned = device.type == "cuda"
        with EpochLoader(data, self.batches, epochs, workers, begin, self.photo_at, pinned) as loader:
            for epoch in epochs:
                line = self.close_epoch(self.train_epoch(loader, epoch, on_step))
                if on_epoch is not None:
                    on_epoch(line)
                if self.next_epoch > epoch + 1:
                    self.notices.append(
                        f"{self.job.name}, fold {self.job.fold}: stopped early after epoch {epoch}, "
                        f"{self.job.patience} scored epochs in a row without a better macro F1"
                    )
                    break

    def photo_at(self, position: int) -> str:
        """The file of a training photo."""
        return str(self.table.paths[self.rows.train[position]]) if position < len(self.rows.train) else "made up"

    def train_epoch(self, loader: EpochLoader, epoch: int, on_step: Callable[[int, int], None] | None) -> Underway:
        """One pass over the training photos, or what is left of it."""
        stage, scored = self.stage, self.phase_scores()
        underway = self.open_epoch(epoch)
        done = sum(self.n_steps[: stage.span.number - 1]) + stage.before(epoch)
        portions = stage.portions_of(epoch)
        loss_sum, n_photos, started = underway.loss_sum, underway.photos, time.perf_counter() - underway.seconds
        batches = zip(portions[underway.batches :], loader.epoch(epoch), strict=True)
        for batch, (portion, (photos, targets)) in enumerate(batches, underway.batches):
            if portion.opens:
                stage.open_step(epoch, portion.step, scored)
                step: list[Batch] = []
            step.append(Batch(photos, targets, batch, portion.share))
            loss_sum = loss_sum + self.passes.add(step) * len(targets)
            n_photos += len(targets)
            if portion.closes:
                self.passes.close(step, stage.close_step, stage.take_back)
                self.take_average(epoch, is_last=batch + 1 == len(portions))
                self.underway = Underway(epoch, loss_sum, batch + 1, n_photos, time.perf_counter() - started)
                if portion.step % CHECK_EVERY == 0:
                    self.refuse_infinite(float(loss_sum), epoch)
                if on_step is not None:
                    on_step(done + portion.step + 1, sum(self.n_steps))
                self.look()
        assert self.underway is not None
        self.refuse_infinite(float(self.underway.loss_sum), epoch)
        self.refuse_infinite_weights(epoch)
        return self.underway

    def open_epoch(self, epoch: int) -> Underway:
        """Seeds what dropout draws from, or goes on with it where the epoch is under way already."""
        if self.underway is None:
            torch.manual_seed(mix_seed(self.job.seed, self.job.fold, epoch))
            self.underway = Underway(epoch, torch.zeros((), device=self.compute.device))
        else:
            self.underway.go_on()
        self.stage.train_mode()
        return self.underway

    def take_average(self, epoch: int, *, is_last: bool) -> None:
        """Takes the weights after a step into the mean: EMA always, SWA after an epoch's last one."""
        if self.average is not None and (self.job.ema or (is_last and epoch > self.job.epochs - self.job.swa_epochs)):
            self.average.add(self.network)

    def look(self) -> None:
        """Saves a state when it is asked to stop, or long after the last one; then stops if asked to."""
        is_asked, under = self.stop.signal is not None, self.underway
        if under is not None and under.batches and (is_asked or time.monotonic() - self.saved > SAVE_SECONDS):
            self.save_state()
        if is_asked:
            where = f"{self.job.name}, fold {self.job.fold}: stopped"
            within = f" in epoch {under.epoch}, after batch {under.batches}" if under else ""
            self.stop.heed(f"{where}{within}; the same command goes on from there")

    def save_state(self) -> None:
        if self.underway is not None:
            self.refuse_infinite(float(self.underway.loss_sum), self.underway.epoch)
            self.refuse_infinite_weights(self.underway.epoch)
        self.files.save_state(self.state())
        self.saved = time.monotonic()

    def phase_scores(self) -> tuple[float, ...]:
        """Macro F1 of the scored epochs of the phase so far."""
        lines = [line for line in self.history if line["epoch"] >= self.stage.span.first]
        return tuple(line["macro_f1"] for line in lines if line["macro_f1"] is not None)

    def back(self, batch: Batch, pieces: int) -> Tensor:
        """A batch through the network and back, in so many pieces; returns its mean loss.

        Photos are `(n, height, width, 3)` uint8. Targets become distributions over the classes that exist under the
        condition, are smoothed, then mixed, over the whole batch.
        """
        inputs = self.source.compute.inputs(batch.photos, self.preprocess)
        targets = self.objective.targets_of(batch.targets)
        inputs, targets = self.objective.mixed(inputs, targets, self.next_epoch, batch.number)
        mean = torch.zeros((), device=self.compute.device)
        for piece in cut(len(inputs), pieces):
            with self.compute.autocast():
                logits = self.source.part(self.network)(inputs[piece])
            loss = self.objective(logits, targets[piece])
            share = (piece.stop - piece.start) / len(inputs)
            self.stage.backward(loss, share * batch.share)
            mean = mean + (loss.detach() if share == 1 else loss.detach() * share)
        return mean

    def say(self, text: str) -> None:
        """Tells in words what goes wrong, once."""
        if text not in self.told:
            self.told.add(text)
            self.on_notice(f"{self.job.name}, fold {self.job.fold}: {text}")

    def refuse_infinite(self, value: float, epoch: int, what: str = "the loss is no longer a finite number") -> None:
        if not np.isfinite(value):
            job, phase = self.job, self.stage.phase
            raise DivergedError(
                f"{job.name}, fold {job.fold}, epoch {epoch}: {what}; "
                f"try lower rates (head_lr {phase.head_lr / 10:g}, backbone_lr {phase.backbone_lr / 10:g}), "
                "a longer warm-up, or precision fp32"
            )

    def refuse_infinite_weights(self, epoch: int) -> None:
        """Before anything is written: a gradient may spoil the weights while the loss before it was still finite."""
        tensors = [tensor for tensor in self.network.state_dict().values() if tensor.is_floating_point()]
        if not bool(torch.stack([torch.isfinite(tensor).all() for tensor in tensors]).all()):  # one look for all
            self.refuse_infinite(float("nan"), epoch, "the weights are no longer finite numbers")

    def probs(self, network: Network, rows: IntArray, source: Source) -> FloatArray:
        part, spans = source.part(network), [head.outputs for head in self.heads]
        found = []
        for start in range(0, len(rows), SCORE_BATCH):
            self.look()
            some = rows[start : start + SCORE_BATCH]
            how = (SCORE_BATCH, some, spans, (), self.fitting)
            found.append(predict_probs(part, source.samples, self.preprocess, source.compute, *how))
        return np.concatenate(found)

    def score(self, network: Network, epoch: int) -> dict[str, float]:
        if epoch == self.job.epochs and self.job.keep != "best" and self.source.is_whole:
            # this epoch is kept, and in the end all held-out photos are needed
            self.held_out = epoch, self.probs(network, self.rows.held_out, self.source)
            probs = self.held_out[1][np.searchsorted(self.rows.held_out, self.rows.score)]
        else:
            probs = self.probs(network, self.rows.score, self.source)
        self.refuse_infinite(float(probs.sum()), epoch)
        truth = self.rows.score_targets.reshape(len(probs), len(self.heads))
        parts = [in_classes(probs, head, self.job.schema) for head in self.heads]
        self.scored = (parts, truth) if self.board is not None else None
        only = [only_answer(*two) for two in zip(parts, truth.T, strict=True)]
        named = [(h.attributes, n) for h, n in zip(self.heads, only, strict=True) if n is not None]
        self.only_answer = "; ".join(self.job.schema.block(names).joint_names()[n] for names, n in named) or None
        return mean_scores([scores(*three) for three in zip(parts, truth.T, self.rows.classes, strict=True)])

    def answering(self, epoch: int) -> Network:
        """The network that is scored and kept after an epoch: the one that trains, or the mean of its weights."""
        if self.average is None or not self.average.n:
            return self.network
        average = self.average

        def refreshed() -> Network:
            with self.compute.autocast():
                return average.answering(self.network, self.stage.frozen, self.plain_inputs(epoch))

        return self.passes.fitted(refreshed, self.stage.phase.batch_size)

    def refresh(self, network: Network, norms: Sequence[_BatchNorm], epoch: int) -> None:
        """Fresh statistics for some batch norms of an averaged network, see `refresh_batch_norm`."""

        def done() -> bool:
            refresh_batch_norm(network, norms, self.plain_inputs(epoch))
            return True

        self.passes.fitted(done, self.stage.phase.batch_size)

    def plain_inputs(self, epoch: int) -> Iterable[Tensor]:
        """The training photos, not augmented, in batches: what batch-norm statistics are computed over.

        Where memory ran out, they are the pieces of a batch, as a norm saw them in training.
        """
        batch_size = max(LEAST, self.stage.phase.batch_size // self.passes.pieces)
        seed = mix_seed(self.job.seed, self.job.fold, epoch)
        photos = self.photos.photos
        for batch in plain_batches(photos, self.rows.train, self.preprocess, self.compute, batch_size, seed):
            self.look()
            yield batch

    def close_epoch(self, trained: Underway) -> EpochLine:
        """Scores the epoch where that is asked for, writes its checkpoints, then the state, then the history."""
        epoch, started = trained.epoch, time.perf_counter()
        is_needed = self.job.is_scored(epoch)
        network = self.answering(epoch) if is_needed else self.network
        metrics = self.score(network, epoch) if is_needed else {}
        is_over = bool(metrics) and out_of_patience([*self.phase_scores(), metrics["macro_f1"]], self.job.patience)
        self.next_epoch = self.stage.span.last + 1 if is_over else epoch + 1
        is_best = self.kept.keep(network, epoch, metrics, is_last=self.next_epoch > self.job.epochs)
        line = EpochLine(
            expert=self.job.name,
            fold=self.job.fold,
            epoch=epoch,
            epochs=self.job.epochs,
            train_loss=float(trained.loss_sum) / trained.photos,
            seconds=trained.seconds + time.perf_counter() - started,
            photos_per_second=trained.photos / trained.seconds,
            best=is_best,
            rates=self.stage.rates(),
            val_loss=metrics.get("val_loss"),
            accuracy=metrics.get("accuracy"),
            macro_f1=metrics.get("macro_f1"),
        )
        self.history.append(line.to_json())
        self.underway = None
        if metrics:
            self.tell_signs()
        if epoch % self.job.save_every == 0 or self.next_epoch > self.job.epochs:
            self.save_state()
        self.files.write_history(self.history)
        if self.board is not None:
            self.board.add(line, self.drawn(network, epoch) if metrics else None)
        return line

    def drawn(self, network: Network, epoch: int) -> dict[str, ByteArray]:
        """The pictures of a scored epoch."""
        if self.scored is None or not is_drawn(epoch, self.job.epochs):
            return {}
        if self.pictures is None:
            rows, job = self.rows.score, self.job
            self.pictures = Pictures(
                job.schema, self.heads, self.photos.photos, rows, self.preprocess, self.compute, self.say
            )
        return self.pictures.draw(network, *self.scored)

    def tell_signs(self) -> None:
        """Says after a scored epoch what its scores look like, where they look wrong."""
        before, self.only_answers = self.only_answers[-1:], [*self.only_answers, self.only_answer]
        rates = f"rates (head_lr {self.stage.phase.head_lr:g}, backbone_lr {self.stage.phase.backbone_lr:g})"
        if self.only_answer is not None and (before == [self.only_answer] or self.next_epoch > self.job.epochs):
            self.say(
                f"every held-out photo is called {self.only_answer}: the model has collapsed to one class; try other "
                f'{rates}, class_weights = "balanced" or sampler = "balanced"'
            )
        if has_stood_still(self.history):
            self.say(
                f"the validation loss has stayed at {self.history[-1]['val_loss']:.3f} since the first epoch: nothing "
                f"is learnt that helps; see the {rates}, what is frozen, and whether the labels belong to the photos"
            )

    def state(self) -> dict[str, Any]:
        return {
            "next_epoch": self.next_epoch,
            "model": self.network.state_dict(),
            "phase": self.stage.span.number,
            "optimizer": self.stage.optimizer.state_dict(),
            "scheduler": None,  # the rate is a function of the step and the scores so far
            "scaler": None,  # bf16 needs none
            "ema": None if self.average is None else self.average.state(),
            "pieces": self.passes.pieces,
            "underway": None if self.underway is None else self.underway.state(),
            "best": None if self.kept.best is None else vars(self.kept.best),
            "history": self.history,
            "where": self.where,
        }

    def finish(self) -> None:
        """Predicts every held-out photo with the kept weights, then writes DONE."""
        if self.held_out is not None and self.kept.best is not None and self.held_out[0] == self.kept.best.epoch:
            probs = self.held_out[1]
        else:
            network, _ = self.kept.load(self.files.best)
            self.compute.place(network)
            probs = self.probs(network, self.rows.held_out, Source(self.photos.photos, self.compute))
        probs[~self.photos.readable[self.rows.held_out]] = np.nan
        write_array(self.files.oof, probs)
        self.files.write_history(self.history)
        self.files.finish(self.job.fold, self.heads)
