"""Photos on a GPU, without one: what is copied, who waits for what, and when memory is given back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from tiny_training import tiny_backbone
from torch import Tensor

from ensemble_kit import windows
from ensemble_kit.arrays import ByteArray
from ensemble_kit.data.decode import Preprocess
from ensemble_kit.errors import StoppedError
from ensemble_kit.models import compute, uploaded
from ensemble_kit.models.compute import choose_compute, predict_probs, whole_float32
from ensemble_kit.models.heads import build_network
from ensemble_kit.models.uploaded import PIECE, Uploaded, on_device, pinned

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
PHOTOS = np.random.default_rng(0).integers(0, 256, (2 * PIECE + 44, 16, 16, 3), dtype=np.uint8)


class Stream:
    """Stands in for a CUDA stream; every call of any of them goes to one list."""

    def __init__(self, name: str, log: list[Any]):
        self.name, self.log = name, log

    def wait_stream(self, other: Stream) -> None:
        self.log.append((self.name, "waits for", other.name))

    def wait_event(self, event: Event) -> None:
        self.log.append((self.name, "waits for", event.number))

    def record_event(self) -> Event:
        number = sum(entry[1] == "copied" for entry in self.log)
        self.log.append((self.name, "copied", number))
        return Event(number, self.log)


class Event:
    def __init__(self, number: int, log: list[Any]):
        self.number, self.log = number, log

    def synchronize(self) -> None:
        self.log.append(("host", "waits for", self.number))


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What a GPU would be told; the memory of "the GPU" is the CPU's."""
    calls: list[Any] = []
    computing, copying = Stream("computing", calls), Stream("copying", calls)
    current = [computing]

    @contextmanager
    def stream(chosen: Stream) -> Iterator[None]:
        current.append(chosen)
        yield
        current.pop()

    def copy_(there: Tensor, here: Tensor, non_blocking: bool = False, copy: Callable[..., Any] = Tensor.copy_) -> Any:
        calls.append((current[-1].name, "copies", non_blocking))
        return copy(there, here)

    monkeypatch.setattr(uploaded, "_copying", lambda device: copying)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: current[-1])
    monkeypatch.setattr(torch.cuda, "stream", stream)
    monkeypatch.setattr(Tensor, "copy_", copy_)
    monkeypatch.setattr(Tensor, "pin_memory", lambda self: self)
    monkeypatch.setattr(Tensor, "record_stream", lambda self, stream: calls.append((stream.name, "uses", len(self))))
    return calls


def test_photos_are_copied_in_pieces_beside_what_is_computed(log: list[Any]) -> None:
    held = Uploaded(PHOTOS, CPU)
    n_pieces = -(-len(PHOTOS) // PIECE)
    assert log[0] == ("copying", "waits for", "computing")  # the memory may have been another tensor's
    assert log[1:-1] == [
        entry for i in range(n_pieces) for entry in (("copying", "copies", True), ("copying", "copied", i))
    ]
    assert log[-1] == ("copying", "uses", len(PHOTOS))
    assert len(held) == len(PHOTOS)


@pytest.mark.parametrize("rows", [[0], [5, 3, 4], [PIECE - 1], [1, PIECE], [2 * PIECE + 43, 0], range(300)])
def test_who_uses_rows_waits_for_the_piece_of_the_last_of_them(log: list[Any], rows: Any) -> None:
    held, chosen = Uploaded(PHOTOS, CPU), np.array(list(rows))
    log.clear()
    np.testing.assert_array_equal(held.rows(chosen).numpy(), PHOTOS[chosen])
    assert log == [("computing", "waits for", max(rows) // PIECE)]


def test_the_hosts_memory_is_held_until_the_copies_are_done(log: list[Any]) -> None:
    held = Uploaded(PHOTOS, CPU)
    log.clear()
    del held
    assert log == [("host", "waits for", 2)]


@pytest.mark.parametrize("rows", [None, np.array([7, 3, 290, 150])])
def test_networks_answer_the_same(log: list[Any], rows: Any) -> None:
    network = build_network(tiny_backbone, "none", 3, (0, 0))
    how = (Preprocess(size=(16, 16)), choose_compute("cpu", "fp32"), 64, rows)
    expected = predict_probs(network, PHOTOS, *how)
    np.testing.assert_array_equal(predict_probs(network, Uploaded(PHOTOS, CPU), *how), expected)


def test_without_a_gpu_or_room_on_it_photos_stay_where_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(photos: ByteArray, device: torch.device) -> Uploaded:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(uploaded, "Uploaded", full)
    assert on_device(PHOTOS, CPU) is PHOTOS
    assert on_device(PHOTOS, CUDA) is PHOTOS
    assert on_device(PHOTOS[:0], CUDA).shape == (0, 16, 16, 3)  # type: ignore[union-attr]


def test_pinned_memory_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def empty(shape: Any, pin_memory: bool, dtype: torch.dtype, make: Callable[..., Tensor] = torch.empty) -> Tensor:
        asked.append((shape, pin_memory))
        return make(shape, dtype=dtype)

    monkeypatch.setattr(torch, "empty", empty)
    found = pinned((2, 3))
    found[:] = 7
    assert (found.shape, asked) == ((2, 3), [((2, 3), True)])


def test_for_a_gpu_windows_are_decoded_into_pinned_memory_and_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []

    def new(shape: tuple[int, ...]) -> ByteArray:
        made.append(np.empty(shape, dtype=np.uint8))
        return np.asarray(made[-1])

    def decoded(*asked: Any, new: Any = None, **more: Any) -> Iterator[Any]:
        yield 0, [np.zeros((2, 4, 4, 3), np.uint8) if new is None else new((2, 4, 4, 3))], []

    class Table:
        paths = ()

    monkeypatch.setattr(windows, "pinned", new)
    monkeypatch.setattr(windows, "decode_windows", decoded)
    monkeypatch.setattr(windows, "on_device", lambda photos, device: (photos, device))
    for device in (CPU, CUDA):
        ((_, photos, _, n_decoded),) = windows.photo_windows(Table(), [Preprocess(size=(4, 4))], None, device=device)  # type: ignore[arg-type]
        ((found, on),) = photos.values()  # type: ignore[misc]
        assert (on, n_decoded, any(found is array for array in made)) == (device, 2, device is CUDA)


def test_float32_is_float32_and_what_it_was_afterwards() -> None:
    operations: tuple[Any, ...] = torch.backends.cuda.matmul, getattr(torch.backends.cudnn, "conv")  # noqa: B009
    before = [operation.fp32_precision for operation in operations]
    assert "tf32" in before
    with whole_float32(CPU):
        assert [operation.fp32_precision for operation in operations] == before

    def stopped() -> None:
        with whole_float32(CUDA):
            assert [operation.fp32_precision for operation in operations] == ["ieee", "ieee"]
            raise StoppedError("stopped")

    with pytest.raises(StoppedError):
        stopped()
    assert [operation.fp32_precision for operation in operations] == before
    assert torch.backends.cudnn.allow_tf32 is True
    assert torch.backends.cuda.matmul.allow_tf32 is False


def test_networks_run_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    within: list[Any] = []

    @contextmanager
    def noted(device: torch.device) -> Iterator[None]:
        within.append(device)
        yield
        within.clear()

    def network(photos: Tensor) -> Tensor:
        assert within == [CPU]
        return photos.mean((2, 3))

    monkeypatch.setattr(compute, "whole_float32", noted)
    predict_probs(network, PHOTOS, Preprocess(size=(16, 16)), choose_compute("cpu", "fp32"))
    assert not within
