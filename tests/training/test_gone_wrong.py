"""Numbers that are no numbers, memory that runs out, models that learn nothing: said in words, and nothing spoilt."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_training import draw_table, folds_of, make_job, make_photos
from torch import Tensor, nn

from ensemble_kit.data.samples import SampleTable
from ensemble_kit.errors import DivergedError, UsageError
from ensemble_kit.loading.cache import PhotoCache
from ensemble_kit.models.checkpoint import load_expert
from ensemble_kit.training import ExpertJob, FoldResult, train_fold
from ensemble_kit.training import session as session_module
from ensemble_kit.training.session import Session
from ensemble_kit.training.stage import Stage

STEPS = 9


def plain_backbone() -> tuple[nn.Module, int]:
    """No batch norm: pieces of a batch give the batch's gradient."""
    return nn.Sequential(nn.Conv2d(3, 8, 3, stride=4), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()), 32


BUILDERS = {"plain_backbone": plain_backbone}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> SampleTable:
    return draw_table(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="module")
def photos(table: SampleTable, tmp_path_factory: pytest.TempPathFactory) -> PhotoCache:
    return make_photos(table, tmp_path_factory.mktemp("cache"))


Train = Callable[..., FoldResult]


@pytest.fixture
def train(table: SampleTable, photos: PhotoCache, tmp_path: Path) -> Train:
    def run(folder: str, **options: Any) -> FoldResult:
        called = {name: options.pop(name) for name in list(options) if name.startswith("on_")}
        job: ExpertJob = make_job(backbone=plain_backbone, **options)
        return train_fold(
            job, table=table, folds=folds_of(table), photos=photos, folder=tmp_path / folder, restart=False, **called
        )

    return run


def spoil(where: str, step: int, value: float, patch: pytest.MonkeyPatch) -> None:
    """Puts a NaN or an infinity into what the network sees, into the loss, or into a gradient, at one step."""
    back, open_step = Session.back, Stage.close_step
    count = [0]

    def spoilt_back(self: Session, batch: Any, pieces: int) -> Tensor:
        count[0] += 1
        if count[0] == step and where == "input":
            with patch.context() as inner:
                compute = type(self.source.compute)
                inputs = compute.inputs
                inner.setattr(compute, "inputs", lambda *args: inputs(*args).index_fill(0, torch.tensor([0]), value))
                return back(self, batch, pieces)
        if count[0] == step and where == "loss":
            objective = self.objective
            with patch.context() as inner:
                inner.setattr(type(objective), "__call__", lambda self, logits, targets: logits.sum() * value)
                return back(self, batch, pieces)
        return back(self, batch, pieces)

    def spoilt_close(self: Any) -> None:
        if count[0] == step and where == "gradient":
            parameter = next(p for p in self.network.parameters() if p.grad is not None)
            assert parameter.grad is not None
            parameter.grad.view(-1)[0] = value
        open_step(self)

    patch.setattr(Session, "back", spoilt_back)
    patch.setattr(Stage, "close_step", spoilt_close)


def numbers_in(value: Any) -> Iterator[float]:
    if isinstance(value, float):
        yield value
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from numbers_in(item)


def refuse_constant(text: str) -> Any:
    raise AssertionError(f"{text} in a JSON file")


def check_nothing_spoilt(folder: Path, epoch: int) -> None:
    """What is there of the epochs before is whole: state, checkpoint, every JSON file."""
    for file in [*folder.rglob("*.json"), *folder.rglob("*.jsonl")]:
        for line in file.read_text().splitlines() if file.suffix == ".jsonl" else [file.read_text()]:
            json.loads(line, parse_constant=refuse_constant)
    for file in folder.glob("state*.pt"):
        state = torch.load(file, weights_only=True)
        assert all(torch.isfinite(t).all() for t in state["model"].values() if t.is_floating_point())
        assert state["next_epoch"] <= epoch
    assert (folder / "best.safetensors").exists() == (epoch > 1)
    if epoch > 1:
        network, card = load_expert(folder / "best.safetensors", backbones=BUILDERS)
        assert card.train["epoch"] < epoch
        assert all(torch.isfinite(p).all() for p in network.parameters())
    assert not (folder / "DONE").exists()


def diverge(train: Train, folder: Path, where: str, step: int, value: float, settings: dict[str, Any]) -> None:
    epoch = (step - 1) // 3 + 1
    with pytest.MonkeyPatch.context() as patch:
        spoil(where, step, value, patch)
        with pytest.raises(DivergedError, match=rf"epoch {epoch}: the (loss|weights) .*; try lower rates") as found:
            train(folder.name, **settings)
    assert found.value.exit_code == 4
    check_nothing_spoilt(folder, epoch)


WAYS: tuple[dict[str, Any], ...] = (
    {},
    {"ema": 0.9},
    {"clip": 1.0, "optimizer": "sgd"},
    {"score_every": 3, "save_every": 2},
)


@pytest.mark.parametrize(
    ("where", "step", "value"), [("input", 2, np.nan), ("loss", 4, np.inf), ("gradient", 6, np.nan)]
)
def test_what_is_no_number_ends_a_training_and_spoils_nothing(
    train: Train, tmp_path: Path, where: str, step: int, value: float
) -> None:
    diverge(train, tmp_path / "fold", where, step, value, {})


@pytest.mark.slow
def test_fifty_numbers_that_are_none(train: Train, tmp_path: Path) -> None:
    rng = random.Random(0)
    done = dict.fromkeys(("input", "loss", "gradient"), 0)
    for number in range(50):
        where = list(done)[number % 3]
        value = rng.choice([np.nan, np.inf, -np.inf])
        way = dict(WAYS[0] if where != "gradient" else rng.choice(WAYS[:2]))
        diverge(train, tmp_path / str(number), where, rng.randint(1, STEPS), value, way)
        done[where] += 1
    print(f"\nnot a number: {done}, {sum(done.values())} of 50 ended with exit code 4 and nothing spoilt")


def starve(patch: pytest.MonkeyPatch, most: int, when: str = "forward") -> list[int]:
    """The network runs out of memory with more photos than this; returns how many came at a time."""
    call, back = nn.Conv2d.forward, Stage.backward
    seen: list[int] = []

    def forward(self: nn.Conv2d, x: Tensor) -> Tensor:
        if self.training:
            seen.append(len(x))
        if self.training and len(x) > most and when == "forward":
            raise torch.OutOfMemoryError("CUDA out of memory")
        return call(self, x)

    def backward(self: Any, loss: Tensor, share: float) -> None:
        back(self, loss, share)
        if seen[-1] > most and when == "backward":
            raise torch.OutOfMemoryError("CUDA out of memory")

    patch.setattr(nn.Conv2d, "forward", forward)
    patch.setattr(Stage, "backward", backward)
    return seen


@pytest.mark.parametrize("when", ["forward", "backward"])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_out_of_memory_halves_the_batch_and_keeps_the_step(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str, accumulate: int
) -> None:
    settings = {"batch_size": 8, "accumulate": accumulate, "optimizer": "sgd", "epochs": 1, "augment": ()}
    whole = load_expert(train("whole", **settings).checkpoint, backbones=BUILDERS)[0]
    seen = starve(monkeypatch, 2, when)
    told: list[str] = []
    steps: list[tuple[int, int]] = []
    result = train("starved", **settings, on_notice=told.append, on_step=lambda *at: steps.append(at))
    assert told[:2] == [
        "mask, fold 0: out of memory: from here on a batch of 8 photos goes through in "
        f"{pieces} pieces, whose gradients are added up, so that a step is over as many photos as before"
        for pieces in (2, 4)
    ]
    assert seen[0] == 8
    assert max(seen[2 + 2 * accumulate :]) == 2
    assert len(steps) == steps[-1][1]
    starved = load_expert(result.checkpoint, backbones=BUILDERS)[0]
    for a, b in zip(whole.parameters(), starved.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_pieces_are_kept_where_a_training_goes_on(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(session_module, "SAVE_SECONDS", 0.0)
    whole, seen = "whole", starve(monkeypatch, 3)
    train(whole)
    with pytest.raises(KeyboardInterrupt):
        train("fold", on_step=stop)
    seen.clear()
    result = train("fold")
    assert max(seen) == 3, "tried whole batches again"
    assert result.checkpoint.read_bytes() == (tmp_path / whole / "best.safetensors").read_bytes()


def test_memory_that_is_too_small_for_two_photos_is_said(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    starve(monkeypatch, 0)
    with pytest.raises(UsageError, match="out of memory with 3 photos at a time; choose a smaller size or backbone"):
        train("fold")


def starve_step(patch: pytest.MonkeyPatch, times: int, after: int = 0) -> None:
    """Memory runs out in the optimiser, as often, after so many steps; half of what a step does was done by then."""
    step, count = torch.optim.AdamW.step, [0]

    def broken_off(self: torch.optim.AdamW, closure: Any = None) -> Any:
        count[0] += 1
        if not after < count[0] <= after + times:
            return step(self, closure)
        step(self, closure)
        with torch.no_grad():
            for p in self.param_groups[-1]["params"]:
                p.add_(7)
        raise torch.OutOfMemoryError("CUDA out of memory")

    patch.setattr(torch.optim.AdamW, "step", broken_off)


def test_memory_that_runs_out_in_the_optimisers_first_step_halves_the_batch_and_spoils_nothing(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"batch_size": 8, "accumulate": 2, "optimizer": "adamw", "epochs": 1, "augment": (), "clip": 1.0}
    whole = load_expert(train("whole", **settings).checkpoint, backbones=BUILDERS)[0]
    told: list[str] = []
    starve_step(monkeypatch, 2)
    result = train("starved", **settings, on_notice=told.append)
    assert [text.partition(" in ")[2].partition(" pieces")[0] for text in told[:2]] == ["2", "4"]
    starved = load_expert(result.checkpoint, backbones=BUILDERS)[0]
    for a, b in zip(whole.parameters(), starved.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)


def test_memory_that_always_runs_out_in_the_optimiser_is_said(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    starve_step(monkeypatch, 100)
    with pytest.raises(UsageError, match="out of memory with 3 photos at a time; choose a smaller size or backbone"):
        train("fold", optimizer="adamw")


def test_memory_that_runs_out_in_a_later_step_ends_the_training_which_goes_on_from_its_state(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings: dict[str, Any] = {"optimizer": "adamw", "epochs": 2}
    train("whole", **settings)
    n_steps: list[int] = []
    with monkeypatch.context() as patch:
        starve_step(patch, 1, after=4)
        with pytest.raises(UsageError, match=r"out of memory in a step of the optimiser; .* the same command goes on"):
            train("fold", **settings, on_step=lambda done, _: n_steps.append(done))
    assert n_steps == [1, 2, 3, 4]
    result = train("fold", **settings)
    assert result.resumed
    assert result.checkpoint.read_bytes() == (tmp_path / "whole" / "best.safetensors").read_bytes()


def test_memory_that_runs_out_while_a_training_begins_or_its_state_is_loaded_is_said(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(nn.Module, "to", full)
        with pytest.raises(UsageError, match="out of memory while mask, fold 0 was begun; choose a smaller size"):
            train("fold")

    def stop(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(session_module, "SAVE_SECONDS", 0.0)
    with pytest.raises(KeyboardInterrupt):
        train("fold", on_step=stop)
    kept = (tmp_path / "fold" / "state.pt").read_bytes()
    for error in (MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")):
        with monkeypatch.context() as patch:
            patch.setattr(torch, "load", lambda *_, error=error, **__: (_ for _ in ()).throw(error))
            with pytest.raises(UsageError, match=r"out of memory while .*state\.pt was loaded"):
                train("fold")
    assert (tmp_path / "fold" / "state.pt").read_bytes() == kept
    assert train("fold").resumed


def test_a_model_that_collapses_is_told_while_it_trains(train: Train) -> None:
    heard: list[str] = []
    train(
        "fold",
        head_lr=1e-9,
        backbone_lr=1e-9,
        on_epoch=lambda line: heard.append(f"epoch {line.epoch}"),
        on_notice=heard.append,
    )
    assert heard[:2] == ["epoch 1", heard[1]]
    assert heard[1].startswith("mask, fold 0: every held-out photo is called ")
    assert (
        'collapsed to one class; try other rates (head_lr 1e-09, backbone_lr 1e-09), class_weights = "balanced"'
        in (heard[1])
    )
    assert heard[2] == "epoch 2"
    assert heard[3].startswith("mask, fold 0: the validation loss has stayed at 1.")
    assert heard[4:] == ["epoch 3"]


def test_a_training_that_learns_is_told_nothing(train: Train) -> None:
    heard: list[str] = []
    assert train("fold", head_lr=0.03, backbone_lr=0.03, epochs=6, on_notice=heard.append).notices == ()
    assert heard == []


def test_a_class_without_a_held_out_photo_is_told_at_the_start(
    table: SampleTable, photos: PhotoCache, tmp_path: Path
) -> None:
    folds = np.where(table.numbers("age") == 2, 1, folds_of(table))
    heard: list[str] = []
    train_fold(
        make_job(attributes=("age",), epochs=1, fold=0),
        table=table,
        folds=folds,
        photos=photos,
        folder=tmp_path,
        on_step=lambda done, _: heard.append(str(done)),
        on_notice=heard.append,
    )
    assert heard[:2] == [
        "age, fold 0: no held-out photo of age=>=60: its scores say nothing about it; use fewer folds or add photos",
        "1",
    ]
