"""Steps do not read numbers back from the device: on an accelerator each such look waits until all is computed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_training import draw_table, folds_of, make_job, make_photos
from torch.utils._python_dispatch import TorchDispatchMode

from ensemble_kit.loading import dataset
from ensemble_kit.loading.dataset import workers_for
from ensemble_kit.training import session, train_fold

READS = "_local_scalar_dense"


class Looks(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts operations by name."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.counted: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.counted[func._schema.name.rpartition("::")[2]] += 1
        return func(*args, **(kwargs or {}))


def reads_of(tmp_path: Path, batch_size: int, **changed: Any) -> tuple[int, int]:
    """Numbers read back in an epoch, and its steps."""
    table = draw_table(tmp_path / "photos", people=12)
    job = make_job(epochs=1, batch_size=batch_size, score_every=0, keep="last", augment=(), **changed)
    folder = tmp_path / f"{batch_size}"
    steps: list[int] = []
    photos = make_photos(table, tmp_path / "cache")
    counting = Looks()
    inner = session.Session.train_epoch

    def counted(*args: Any) -> Any:
        with counting:
            return inner(*args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session.Session, "train_epoch", counted)
        told: Any = lambda done, total: steps.append(done)  # noqa: E731
        train_fold(job, table=table, folds=folds_of(table), photos=photos, folder=folder, on_step=told)
    assert counting.counted["convolution"] > 0
    return counting.counted[READS], len(steps)


@pytest.mark.parametrize("changed", [{}, {"ema": 0.9, "mix": ("mixup",), "clip": 1.0, "class_weights": "balanced"}])
def test_more_steps_read_no_more_numbers_back(tmp_path: Path, changed: dict[str, Any]) -> None:
    few, n_few = reads_of(tmp_path, 9, **changed)
    many, n_many = reads_of(tmp_path, 2, **changed)
    assert (n_few, n_many) == (2, 9)
    assert many == few, "a step reads numbers back"
    assert few <= 4  # the loss after the first step, the loss and the weights after the last one


def test_workers_are_as_asked_or_follow_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    for cores, expected in ((1, 1), (2, 1), (6, 5), (64, 8)):
        monkeypatch.setattr(dataset, "available_cores", lambda cores=cores: cores)
        assert workers_for(None, gpu) == expected
        assert workers_for(None, cpu) == 0
        assert (workers_for(0, gpu), workers_for(5, cpu)) == (0, 5)
