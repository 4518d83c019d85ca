"""A fold's scalars and pictures for TensorBoard, beside `metrics.jsonl`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ensemble_kit.arrays import ByteArray
from ensemble_kit.errors import UsageError
from ensemble_kit.training.job import EpochLine

SCORES = ("val_loss", "accuracy", "macro_f1")


def check_board() -> Any:
    """The class that writes events.

    Raises:
        UsageError: the package is not there.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise UsageError(
            'tensorboard is not installed; pip install "ensemble_kit[tensorboard]", or leave --tensorboard out'
        ) from None
    return SummaryWriter


class Board:
    """Writes each epoch's losses, rates and scores into a fold's folder: `tensorboard --logdir RUN` shows them."""

    def __init__(self, folder: Path):
        self.folder, self._writer = Path(folder), check_board()

    def add(self, line: EpochLine, pictures: Mapping[str, ByteArray] | None = None) -> None:
        """One event file an epoch: a kill costs none that was written.

        Args:
            pictures: name -> `(height, width, 3)`.
        """
        values = {"loss/train": line.train_loss, "seconds": line.seconds}
        values |= {f"rate/{part}": rate for part, rate in line.rates.items()}
        for name in SCORES:
            value = getattr(line, name)
            if value is not None:
                values["loss/validation" if name == "val_loss" else f"score/{name}"] = value
        with self._writer(str(self.folder), filename_suffix=f".epoch{line.epoch:04d}") as writer:
            for name, value in values.items():
                writer.add_scalar(name, value, line.epoch)
            for name, pixels in (pictures or {}).items():
                writer.add_image(name, pixels, line.epoch, dataformats="HWC")
