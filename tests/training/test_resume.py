"""Killed at any moment, a training ends with the same bits as one that was left alone."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_training import draw_table, folds_of, make_job, make_phase, make_photos, tiny_backbone
from torch import nn

from ensemble_kit.data.samples import SampleTable
from ensemble_kit.errors import DataError, StoppedError, UsageError
from ensemble_kit.leftovers import place
from ensemble_kit.loading.cache import PhotoCache
from ensemble_kit.training import EpochLine, ExpertJob, FoldResult, train_fold
from ensemble_kit.training import session as session_module
from ensemble_kit.training.folder import difference

FORK = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")  # Python 3.12+ about torch's own workers

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


SIGNALS = {signal.SIGTERM: StoppedError, signal.SIGINT: KeyboardInterrupt}
HANDLERS: dict[signal.Signals, Any] = {signal.SIGTERM: signal.SIG_DFL, signal.SIGINT: signal.default_int_handler}


def stopped_at(world: World, folder: Path, step: int, number: signal.Signals = signal.SIGTERM, **options: Any) -> None:
    """Sends the signal while that step is told; the training ends with a state of this very step."""

    def stop(done: int, total: int) -> None:
        assert done <= step, "went on after it was stopped"
        if done == step:
            os.kill(os.getpid(), number)

    # a shell without a terminal starts what it runs in the background with SIGINT ignored, and then it stays so
    before, handler = signal.getsignal(number), HANDLERS[number]
    signal.signal(number, handler)
    try:
        with pytest.raises(SIGNALS[number], match=f"{options.get('job', world.job).name}, fold 0: stopped in epoch"):
            world.train(folder, on_step=stop, **options)
        assert signal.getsignal(number) is handler
    finally:
        signal.signal(number, before)


def steps_of(world: World, folder: Path, **options: Any) -> list[int]:
    steps: list[int] = []
    world.train(folder, on_step=lambda done, _: steps.append(done), **options)
    return steps


@pytest.mark.parametrize("number", SIGNALS)
def test_a_stopped_training_goes_on_with_the_next_step(world: World, tmp_path: Path, number: signal.Signals) -> None:
    for step in (1, 3, 5, 9):  # of three epochs of three; 3 and 9 are their last
        folder = tmp_path / str(step)
        stopped_at(world, folder, step, number)
        assert steps_of(world, folder) == list(range(step + 1, 10))
        world.check_same(folder)


ACCUMULATED = make_job(
    phases=(
        make_phase(epochs=1, optimizer="sgd", freeze=("0",)),
        make_phase(epochs=2, batch_size=4, accumulate=2, schedule="one_cycle", clip=1.0),
    ),
    augment=("flip", "affine"),
    mix=("mixup",),
    mix_share=0.5,
    sampler="balanced",
    ema=0.9,
)
EVERY_PART = {
    "phases, accumulation, mixing, EMA": ACCUMULATED,
    "SWA, soup": make_job(swa_epochs=2, keep="every 1", soup="uniform", optimizer="adam", schedule="plateau"),
    "features": make_job(phases=(make_phase(freeze=("backbone",)),), feature_views=2, smote=2, keep="last"),
    "early stop": make_job(patience=1, backbone_lr=0.0, head_lr=1e-9, save_every=3),
}


@pytest.mark.parametrize("part", EVERY_PART)
def test_a_stop_at_any_step_changes_no_bit(tmp_path: Path, part: str) -> None:
    world = World(tmp_path / "world", EVERY_PART[part])
    folder = tmp_path / "fold"
    total = steps_of(world, tmp_path / "again")[-1]
    for step in range(1, total + 1):  # the same training, stopped after every single step of it
        stopped_at(world, folder, step)
    world.train(folder)
    world.check_same(folder)


@FORK
def test_the_number_of_workers_may_change_where_a_training_goes_on(world: World, tmp_path: Path) -> None:
    same = {"augment": ("flip", "affine"), "backbone_lr": 0.03, "head_lr": 0.03}
    for step, workers in ((2, 1), (4, 2), (5, 0), (8, 2)):
        stopped_at(world, tmp_path, step, job=make_job(**same, workers=workers))
    world.train(tmp_path, job=make_job(**same, workers=1))
    world.check_same(tmp_path)


def test_a_long_epoch_is_saved_in_its_middle(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "SAVE_SECONDS", 0.0)

    def kill(done: int, total: int) -> None:
        if done == 6:
            raise Kill

    with pytest.raises(Kill):
        world.train(tmp_path, on_step=kill)
    assert steps_of(world, tmp_path)[0] == 6
    world.check_same(tmp_path)


def test_a_stop_while_photos_are_scored_loses_no_step(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    score = session_module.Session.score

    def stopped(self: session_module.Session, network: Any, epoch: int) -> dict[str, float]:
        if epoch == 2 and not (tmp_path / "told").exists():
            (tmp_path / "told").touch()
            os.kill(os.getpid(), signal.SIGTERM)
        return score(self, network, epoch)

    monkeypatch.setattr(session_module.Session, "score", stopped)
    with pytest.raises(StoppedError, match="stopped in epoch 2, after batch 3; the same command goes on from there"):
        world.train(tmp_path / "fold")
    assert steps_of(world, tmp_path / "fold") == [7, 8, 9]
    world.check_same(tmp_path / "fold")


def test_a_second_signal_does_not_wait_for_the_step(world: World, tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)  # at once: the same request, sent to the group and to the process
        time.sleep(1.1)
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("the second signal waited")

    with pytest.raises(StoppedError, match="stopped at once"):
        world.train(tmp_path, on_step=stop)
    assert not (tmp_path / "state.pt").exists()
    world.train(tmp_path)
    world.check_same(tmp_path)


def test_a_signal_that_is_ignored_stays_ignored_and_other_threads_hear_none(world: World, tmp_path: Path) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        world.train(tmp_path / "1", on_step=lambda *_: os.kill(os.getpid(), signal.SIGINT))
    finally:
        signal.signal(signal.SIGINT, before)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(world.train, tmp_path / "2").result()
    for name in ("1", "2"):
        world.check_same(tmp_path / name)


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


def test_a_backbone_that_draws_random_numbers_resumes_bit_for_bit_too(tmp_path: Path) -> None:
    world = World(tmp_path / "world", make_job(backbone=with_dropout))
    for step in (3, 4, 8):
        torch.rand(step)
        stopped_at(world, tmp_path / "fold", step)
    torch.rand(7)
    world.train(tmp_path / "fold")
    world.check_same(tmp_path / "fold")


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
    assert "1 thread," in notice
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
    (tmp_path / f".state.pt.{holder.pid}-1-{place()}.tmp").write_bytes(b"half")
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
