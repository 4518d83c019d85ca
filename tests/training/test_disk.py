"""Disks that are full, limits on file size, folders that cannot be written: named in one line, and nothing is lost."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_training import draw_table, folds_of, make_job, make_photos, tiny_backbone

from ensemble_kit.data.samples import SampleTable
from ensemble_kit.files import new_array, replacing, write_array, write_bytes, write_json
from ensemble_kit.loading.cache import PhotoCache
from ensemble_kit.models.checkpoint import load_expert
from ensemble_kit.training import EpochLine, train_fold
from ensemble_kit.training.folder import FoldFolder

LIMIT = 50_000


@contextmanager
def file_size_limit(most: int) -> Iterator[None]:
    """What `ulimit -f` sets: a longer file is an error in the middle of writing it, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def write_state(path: Path) -> None:
    FoldFolder(path.parent, {}).save_state({"model": {"w": torch.zeros(LIMIT)}})


def write_new_array(path: Path) -> None:
    with replacing(path) as temporary:
        new_array(temporary, np.uint8, (2 * LIMIT,))


WRITERS: dict[str, Callable[[Path], None]] = {
    "state.pt": write_state,
    "bytes": lambda path: write_bytes(path, bytes(2 * LIMIT)),
    "values.json": lambda path: write_json(path, "x" * 2 * LIMIT),
    "array.npy": lambda path: write_array(path, np.zeros(LIMIT)),
    "mapped.npy": write_new_array,
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_file_that_does_not_fit_is_named_and_the_old_one_stays(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"old")
    with file_size_limit(LIMIT), pytest.raises(OSError, match=name) as found:
        WRITERS[name](path)
    assert found.value.filename == str(path)
    assert found.value.strerror
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == [name]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> SampleTable:
    return draw_table(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="module")
def photos(table: SampleTable, tmp_path_factory: pytest.TempPathFactory) -> PhotoCache:
    return make_photos(table, tmp_path_factory.mktemp("cache"))


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EDQUOT])
def test_a_training_whose_disk_fills_up_keeps_its_checkpoint_and_goes_on_later(
    table: SampleTable, photos: PhotoCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def train(folder: str, on_epoch: Callable[[EpochLine], None] | None = None) -> Any:
        return train_fold(
            make_job(), table=table, folds=folds_of(table), photos=photos, folder=tmp_path / folder, on_epoch=on_epoch
        )

    def fill(line: EpochLine) -> None:
        def full(handle: int) -> None:
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr(os, "fsync", full)  # where a full disk is heard of at the latest

    with pytest.raises(OSError, match=os.strerror(code)) as found:
        train("fold", fill)
    assert str(found.value.filename).startswith(str(tmp_path / "fold"))
    network, card = load_expert(tmp_path / "fold" / "best.safetensors", backbones={"tiny_backbone": tiny_backbone})
    assert card.train["epoch"] == 1
    assert all(torch.isfinite(p).all() for p in network.parameters())
    assert not list((tmp_path / "fold").glob(".*.tmp"))
    monkeypatch.undo()
    assert train("fold").resumed
    train("whole")
    assert (tmp_path / "fold" / "best.safetensors").read_bytes() == (
        tmp_path / "whole" / "best.safetensors"
    ).read_bytes()


COMMAND = """
import resource, sys
from ensemble_kit.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv.pop(1)), resource.RLIM_INFINITY))
main()
"""


def test_a_command_on_a_full_disk_or_in_a_folder_that_is_no_folder_ends_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for limit, out, told in ((100, tmp_path / "new", "File too large"), (10**9, tmp_path / "file" / "x", "directory")):
        words = [
            sys.executable,
            "-c",
            COMMAND,
            str(limit),
            "data",
            "generate",
            str(out),
            "--people",
            "6",
            "--size",
            "32",
        ]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert done.returncode == 3, done.stderr
        (line,) = done.stderr.splitlines()
        assert line.startswith(f"error: {tmp_path}")
        assert told in line
