"""Killed at any moment, a training ends with the same bits as one that was left alone."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_training import draw_table, folds_of, make_job, make_phase, make_photos, tiny_backbone
from torch import nn

from ensemble_kit.data.samples import SampleTable
from ensemble_kit.errors import DataError, StoppedError, UsageError
from ensemble_kit.loading.cache import PhotoCache
from ensemble_kit.training import EpochLine, ExpertJob, FoldResult, train_fold
from ensemble_kit.training.folder import difference

JOB = make_job(augment=("flip", "affine"), backbone_lr=0.03, head_lr=0.03)


class Kill(BaseException):
    """Stands for SIGKILL: nothing catches it."""


class World:
    """Drawn photos, their cache, and the finished fold of a training that was left alone."""

    def __init__(self, root: Path, job: ExpertJob = JOB) -> None:
        self.job = job
        self.table: SampleTable = draw_table(root / "photos")
        self.photos: PhotoCache = make_photos(self.table, root / "cache")
        self.whole = root / "whole"
        self.train(self.whole)

    def train(self, folder: Path, **options: Any) -> FoldResult:
        job = options.pop("job", self.job)
        return train_fold(
            job, table=self.table, folds=folds_of(self.table), photos=self.photos, folder=folder, **options
        )

    def check_same(self, folder: Path) -> None:
        for name in ("best.safetensors", "oof.npy"):
            assert (folder / name).read_bytes() == (self.whole / name).read_bytes()
        assert [p.name for p in sorted(folder.iterdir())] == [p.name for p in sorted(self.whole.iterdir())]
        assert history(folder) == history(self.whole)


def test_a_state_every_few_epochs_is_enough_to_go_on_from(tmp_path: Path) -> None:
    world = World(tmp_path, make_job(epochs=5, save_every=2))
    world.check_same(world.whole)

    def kill(line: EpochLine) -> None:
        if line.epoch == 4 - (folder.name == "early") * 3:
            raise Kill

    for name, redone in (("early", [1, 2, 3, 4, 5]), ("late", [5])):
        folder, seen = tmp_path / name, list[int]()
        with pytest.raises(Kill):
            world.train(folder, on_epoch=kill)
        world.train(folder, on_epoch=lambda line, seen=seen: seen.append(line.epoch))
        assert seen == redone
        world.check_same(folder)


def history(folder: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in ("seconds", "photos_per_second")} for line in lines]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("world"))


def killing(number: int, when: str, count: list[int]) -> Callable[[Any, Any], None]:
    """An `os.replace` that dies before or after its `number`-th call."""
    original = os.replace

    def replace(source: Any, target: Any) -> None:
        count[0] += 1
        if count[0] == number and when == "before":
            raise Kill
        original(source, target)
        if count[0] == number:
            raise Kill

    return replace


def test_a_kill_between_any_two_writes_changes_no_bit(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    number, total = 1, [0]
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killing(-1, "", total))
        world.train(tmp_path / "counted")
    assert total[0] >= 10
    for number in range(1, total[0] + 1):
        for when in ("before", "after"):
            folder = tmp_path / f"{number}-{when}"
            steps = [0]
            with monkeypatch.context() as patch:
                patch.setattr(os, "replace", killing(number, when, [0]))
                with pytest.raises(Kill):
                    world.train(folder, on_step=lambda done, _, steps=steps: steps.append(done))
            trained: list[EpochLine] = []
            result = world.train(folder, on_epoch=trained.append)
            world.check_same(folder)
            begun = steps[-1] // 3  # three steps an epoch
            assert [line.epoch for line in trained] in (list(range(begun, 4)), list(range(begun + 1, 4)))
            assert result.notices == ()


@pytest.mark.parametrize("settings", [{"score_every": 2}, {"score_every": 0, "keep": "last"}])
def test_a_stop_between_scored_epochs_changes_no_bit(tmp_path: Path, settings: dict[str, Any]) -> None:
    world = World(tmp_path / "world", make_job(**settings))
    scores = [line["macro_f1"] is not None for line in history(world.whole)]
    assert scores == [False, settings["score_every"] == 2, True]
    for epoch in (1, 2):
        stopped_after(world, tmp_path / str(epoch), epoch)
        assert world.train(tmp_path / str(epoch)).resumed
        world.check_same(tmp_path / str(epoch))


PHASES = (make_phase(epochs=1, optimizer="sgd", freeze=("0",)), make_phase(epochs=2, batch_size=4, accumulate=2))


@pytest.mark.parametrize(
    "settings",
    [{"phases": PHASES}, {"phases": PHASES, "ema": 0.9}, {"swa_epochs": 2, "schedule": "plateau", "optimizer": "adam"}],
)
def test_a_stop_at_a_switch_or_within_a_phase_changes_no_bit(tmp_path: Path, settings: dict[str, Any]) -> None:
    world = World(tmp_path / "world", make_job(**settings))
    for epoch in (1, 2):  # phases: at the switch, and in the middle of the second
        stopped_after(world, tmp_path / str(epoch), epoch)
        assert world.train(tmp_path / str(epoch)).resumed
        world.check_same(tmp_path / str(epoch))


@pytest.mark.parametrize("epoch", [1, 2])
def test_at_most_one_epoch_is_done_again(world: World, tmp_path: Path, epoch: int) -> None:
    def stop(line: EpochLine) -> None:
        if line.epoch == epoch:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        world.train(tmp_path, on_epoch=stop)
    assert {"state.pt", "best.safetensors", "metrics.jsonl"} <= {p.name for p in tmp_path.iterdir()}
    assert (tmp_path / "state.prev.pt").exists() == (epoch > 1)
    trained: list[EpochLine] = []
    result = world.train(tmp_path, on_epoch=trained.append)
    assert [line.epoch for line in trained] == list(range(epoch + 1, 4))
    assert result.resumed
    world.check_same(tmp_path)


def test_a_training_stopped_within_an_epoch_goes_on_from_the_last_whole_one(world: World, tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        if done == 5:  # of 9: the middle of the second epoch
            os.kill(os.getpid(), signal.SIGTERM)

    handler = signal.getsignal(signal.SIGTERM)
    with pytest.raises(StoppedError, match="mask, fold 0: stopped; the same command goes on"):
        world.train(tmp_path, on_step=stop)
    assert signal.getsignal(signal.SIGTERM) is handler
    trained: list[EpochLine] = []
    world.train(tmp_path, on_epoch=trained.append)
    assert [line.epoch for line in trained] == [2, 3]
    world.check_same(tmp_path)


def stopped_after(world: World, folder: Path, epoch: int) -> None:
    def stop(line: EpochLine) -> None:
        if line.epoch == epoch:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        world.train(folder, on_epoch=stop)


def test_a_damaged_state_falls_back_to_the_one_before(world: World, tmp_path: Path) -> None:
    stopped_after(world, tmp_path, 2)
    state = tmp_path / "state.pt"
    state.write_bytes(state.read_bytes()[: state.stat().st_size // 2])
    trained: list[EpochLine] = []
    world.train(tmp_path, on_epoch=trained.append)
    assert [line.epoch for line in trained] == [2, 3]
    world.check_same(tmp_path)


def test_two_damaged_states_are_an_error_that_says_what_to_do(world: World, tmp_path: Path) -> None:
    stopped_after(world, tmp_path, 2)
    for name in ("state.pt", "state.prev.pt"):
        (tmp_path / name).write_bytes(b"\x80\x04K\x01.")
    with pytest.raises(DataError, match=r"state\.pt: the training's state is damaged; train with --restart"):
        world.train(tmp_path)
    world.train(tmp_path, restart=True)
    world.check_same(tmp_path)


def test_a_state_is_never_unpickled_into_code(world: World, tmp_path: Path) -> None:
    stopped_after(world, tmp_path, 1)

    class Bomb:
        def __reduce__(self) -> Any:
            return (os.mkdir, (str(tmp_path / "exploded"),))

    content = torch.load(tmp_path / "state.pt", weights_only=True)
    torch.save(content | {"rng": Bomb()}, tmp_path / "state.pt")
    with pytest.raises(DataError, match="damaged"):
        world.train(tmp_path)
    assert not (tmp_path / "exploded").exists()


def test_a_finished_fold_is_skipped_without_training(world: World, tmp_path: Path) -> None:
    folder = tmp_path / "fold"
    shutil.copytree(world.whole, folder)
    before = {p.name: (p.stat().st_mtime_ns, p.stat().st_ino) for p in folder.iterdir()}
    trained: list[EpochLine] = []
    result = world.train(folder, on_epoch=trained.append)
    assert result.skipped
    assert trained == []
    assert result.metrics["macro_f1"] == max(line["macro_f1"] for line in history(folder))
    assert {p.name: (p.stat().st_mtime_ns, p.stat().st_ino) for p in folder.iterdir()} == before


def test_more_workers_or_threads_still_skip_and_other_settings_are_refused_by_name(
    world: World, tmp_path: Path
) -> None:
    folder = tmp_path / "fold"
    shutil.copytree(world.whole, folder)
    same = {"augment": ("flip", "affine"), "backbone_lr": 0.03, "head_lr": 0.03}
    assert world.train(folder, job=make_job(**same, workers=1, threads=2)).skipped
    other = make_job(**(same | {"head_lr": 0.01, "epochs": 4}))
    with pytest.raises(
        DataError, match=r"holds another training \(epochs: 3 there, 4 now; head_lr: 0\.03 there, 0\.01"
    ):
        world.train(folder, job=other)
    world.check_same(folder)


def test_settings_that_changed_before_a_resume_are_refused(world: World, tmp_path: Path) -> None:
    stopped_after(world, tmp_path, 1)
    with pytest.raises(DataError, match=r"holds another training \(seed: 0 there, 9 now\).*--restart"):
        world.train(tmp_path, job=make_job(augment=("flip", "affine"), backbone_lr=0.03, head_lr=0.03, seed=9))


def test_other_folds_or_labels_are_another_training(world: World, tmp_path: Path) -> None:
    folder = tmp_path / "fold"
    shutil.copytree(world.whole, folder)
    with pytest.raises(DataError, match=r"holds another training \(folds_sha256: "):
        train_fold(JOB, table=world.table, folds=1 - folds_of(world.table), photos=world.photos, folder=folder)
    data = {name: world.table.frame[name].tolist() for name in world.table.frame.columns}
    data["gender"] = ["male"] * len(world.table)
    other = SampleTable.from_columns(data, world.table.root, world.table.schema)
    with pytest.raises(DataError, match=r"holds another training \(samples_sha256: "):
        train_fold(JOB, table=other, folds=folds_of(other), photos=world.photos, folder=folder)


def test_a_function_that_changed_under_its_name_is_another_training(world: World, tmp_path: Path) -> None:
    def loss_with(power: float) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
        def own(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            return ((logits.softmax(dim=1) - targets) ** 2).sum(dim=1).mean() ** power

        return own

    first, again, other = (make_job(epochs=1, loss=loss_with(power)) for power in (1.0, 1.0, 2.0))
    assert first.settings_json() == other.settings_json()
    world.train(tmp_path, job=first)
    assert world.train(tmp_path, job=again).skipped
    with pytest.raises(DataError, match=r"holds another training \(code\.loss .*own: .* there, .* now\)"):
        world.train(tmp_path, job=other)
    named = make_job(augment=(np.fliplr,), phases=(make_phase(schedule=lambda moment: 1.0),), prepare=("clahe",))
    assert [key.split()[0] for key in named.code()] == ["backbone", "augment", "phase"]
    assert "code" not in make_job(backbone="resnet18").identity(world.table, folds_of(world.table))


def with_dropout() -> tuple[nn.Module, int]:
    inner, n_features = tiny_backbone()
    return nn.Sequential(inner, nn.Dropout(0.5)), n_features


def test_a_backbone_that_draws_random_numbers_resumes_bit_for_bit_too(world: World, tmp_path: Path) -> None:
    job = make_job(backbone=with_dropout)
    world.train(tmp_path / "whole", job=job)

    def stop(line: EpochLine) -> None:
        raise KeyboardInterrupt

    torch.rand(5)
    with pytest.raises(KeyboardInterrupt):
        world.train(tmp_path / "fold", job=job, on_epoch=stop)
    torch.rand(7)
    world.train(tmp_path / "fold", job=job)
    whole, resumed = (tmp_path / name / "best.safetensors" for name in ("whole", "fold"))
    assert whole.read_bytes() == resumed.read_bytes()


def test_restart_trains_anew(world: World, tmp_path: Path) -> None:
    folder = tmp_path / "fold"
    shutil.copytree(world.whole, folder)
    trained: list[EpochLine] = []
    result = world.train(folder, restart=True, on_epoch=trained.append)
    assert (result.skipped, len(trained)) == (False, 3)
    world.check_same(folder)


def test_a_restart_with_other_settings_that_is_stopped_can_be_resumed(world: World, tmp_path: Path) -> None:
    folder = tmp_path / "fold"
    shutil.copytree(world.whole, folder)
    job = make_job(keep="every 1")

    def stop(line: EpochLine) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        world.train(folder, job=job, restart=True, on_epoch=stop)
    assert not (folder / "DONE").exists()
    assert world.train(folder, job=job).resumed
    assert (folder / "epoch003.safetensors").exists()
    world.train(folder, restart=True)
    world.check_same(folder)


@pytest.mark.parametrize("name", ["best.safetensors", "oof.npy"])
def test_a_finished_fold_with_a_changed_file_is_trained_again(world: World, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "fold"
    shutil.copytree(world.whole, folder)
    (folder / name).write_bytes(b"changed")
    (folder / "epoch009.safetensors").write_bytes(b"of an earlier training")
    assert not world.train(folder).skipped
    world.check_same(folder)


def test_a_missing_best_checkpoint_cannot_be_resumed(world: World, tmp_path: Path) -> None:
    stopped_after(world, tmp_path, 2)
    (tmp_path / "best.safetensors").unlink()
    with pytest.raises(DataError, match=r"best\.safetensors: missing or changed since epoch \d; train with --restart"):
        world.train(tmp_path)


def test_a_resume_on_another_setup_says_that_bits_may_differ(world: World, tmp_path: Path) -> None:
    stopped_after(world, tmp_path, 1)
    job = make_job(augment=("flip", "affine"), backbone_lr=0.03, head_lr=0.03, threads=2)
    (notice,) = world.train(tmp_path, job=job).notices
    assert "1 threads" in notice
    assert "2 threads" in notice
    assert notice.endswith("the last bits may differ from an unbroken training")


HOLD = """
import fcntl, os, sys
handle = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
fcntl.flock(handle, fcntl.LOCK_EX)
os.write(handle, b"process 77")
print("held", flush=True)
sys.stdin.read()
"""


def test_a_fold_is_trained_by_one_process_at_a_time_and_a_dead_ones_lock_is_taken_over(
    world: World, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path / "lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(UsageError, match="being trained by process 77; wait for it or stop it"):
            world.train(tmp_path)
        holder.kill()
    assert (tmp_path / "lock").exists()
    (tmp_path / ".state.pt.77.tmp").write_bytes(b"half")
    world.train(tmp_path)
    world.check_same(tmp_path)


def test_differences_name_the_first_values_that_differ() -> None:
    old = {"settings": {"epochs": 3, "seed": 0, "a": 1, "b": [1]}, "init": "none"}
    new = {"settings": {"epochs": 4, "seed": 0, "a": 2, "b": [2]}, "init": "x" * 99}
    text = difference(old, new)
    assert text.startswith('init: "none" there, "xxx')
    assert text.endswith("a: 1 there, 2 now; b: [1] there, [2] now; ...")
    assert difference({}, {}) == "of another format"


def test_out_of_fold_rows_are_those_of_the_fold(world: World) -> None:
    oof = np.load(world.whole / "oof.npy")
    assert len(oof) == int((folds_of(world.table) == 0).sum())
