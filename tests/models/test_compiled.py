"""Compiled networks: what is run, as how many photos, and what is said where it cannot be."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from tiny_training import tiny_backbone
from torch import Tensor, nn

from ensemble_kit.data.decode import Preprocess
from ensemble_kit.errors import StoppedError, UsageError
from ensemble_kit.models import compiled as module
from ensemble_kit.models.compiled import check_compiling, compiled, padded
from ensemble_kit.models.compute import choose_compute, predict_probs
from ensemble_kit.models.fused import ready
from ensemble_kit.models.heads import build_network
from ensemble_kit.models.memory import ran_out

Network = Callable[[Tensor], Tensor]
PREPROCESS = Preprocess(size=(16, 16), mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
PHOTOS = np.random.default_rng(0).integers(0, 256, (21, 16, 16, 3), dtype=np.uint8)
COMPUTE = choose_compute("cpu", "fp32", channels_last=True)
MODES = ["default", "reduce-overhead"]


class Graphs:
    """Stands in for `torch.compile`: remembers how it was asked, and writes each answer over the last, as graphs do."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.sizes: list[int] = []
        self.kept: Tensor = torch.zeros(64, 8)

    def __call__(self, network: Network, **asked: Any) -> Network:
        self.asked.append(asked)

        def run(photos: Tensor) -> Tensor:
            assert photos.is_contiguous(memory_format=torch.channels_last)
            self.sizes.append(len(photos))
            logits = network(photos)
            return self.kept[: len(photos), : logits.shape[1]].copy_(logits)

        return run


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> Graphs:
    made = Graphs()
    monkeypatch.setattr(torch, "compile", made)
    monkeypatch.setattr(module, "_known", {})
    return made


def network(columns: int = 3, seed: int = 0) -> nn.Module:
    return ready(build_network(tiny_backbone, "none", columns, (0, seed)), COMPUTE, (16, 16))


def probs(network: Network, batch_size: int) -> Any:
    return predict_probs(network, PHOTOS, PREPROCESS, COMPUTE, batch_size)


@pytest.mark.parametrize(("how", "sizes"), [("default", [8, 8, 5, 20, 2]), ("reduce-overhead", [16, 16, 16, 32, 16])])
def test_batches_of_every_size_are_answered_alike(graphs: Graphs, how: str, sizes: list[int]) -> None:
    plain = network()
    forward = compiled(plain, how, "mask fold 0")
    for batch_size in (8, 20):
        np.testing.assert_allclose(probs(forward, batch_size), probs(plain, batch_size), atol=1e-5)
    assert graphs.sizes == sizes
    assert [asked["mode"] for asked in graphs.asked] == [how]


@torch.inference_mode()
def test_what_a_cuda_graph_returned_outlives_its_next_run(graphs: Graphs) -> None:
    photos = [COMPUTE.inputs(torch.from_numpy(some), PREPROCESS) for some in (PHOTOS[:4], PHOTOS[4:8])]
    plain = network()
    forward = compiled(plain, "reduce-overhead", "mask fold 0")
    first, _ = [forward(some) for some in photos]
    torch.testing.assert_close(first, plain(photos[0]), atol=1e-5, rtol=0)


def test_graphs_are_of_few_sizes() -> None:
    assert all(padded(n, "reduce-overhead") >= n for n in range(1, 513))
    assert len({padded(n, "reduce-overhead") for n in range(1, 513)}) == 6
    assert len({padded(n, "default") for n in range(1, 513)}) == 511


def test_networks_of_one_form_are_one_class_and_what_takes_time_is_told_once(graphs: Graphs) -> None:
    said: list[str] = []
    nets = [network(seed=0), network(seed=1), network(columns=4)]
    plain = [probs(net, 8) for net in nets]
    found = [probs(compiled(net, "default", f"net {i}", said.append), 8) for i, net in enumerate(nets)]
    for one, other in zip(plain, found, strict=True):
        np.testing.assert_array_equal(one, other)
    assert type(nets[0]) is type(nets[1]) is not type(nets[2])
    assert [line.split()[0] for line in said] == ["compiling", "compiled"] * 2
    assert re.fullmatch(r"compiled net 2 in \d+ s", said[-1])


def test_off_is_the_network_itself(graphs: Graphs) -> None:
    plain = network()
    assert compiled(plain, "off", "mask") is plain
    assert not graphs.asked


@pytest.mark.parametrize("text", ["Unsupported: a call\nSet TORCH_LOGS for more", "", "a" * 1000])
def test_what_cannot_be_compiled_is_said_in_one_line(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_: Tensor) -> Tensor:
        raise torch._dynamo.exc.TorchDynamoException("and advice\nof many lines") from OSError(text)

    monkeypatch.setattr(torch, "compile", lambda network, **asked: fails)
    with pytest.raises(UsageError, match=r"^mask fold 0: cannot be compiled \(.+\); leave --compile out$") as found:
        probs(compiled(network(), "default", "mask fold 0"), 8)
    assert "\n" not in str(found.value)
    assert len(str(found.value)) < 300


def test_memory_that_runs_out_is_left_to_smaller_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_: Tensor) -> Tensor:
        raise torch._dynamo.exc.TorchDynamoException("not enough memory: you tried to allocate 5 bytes")

    monkeypatch.setattr(torch, "compile", lambda network, **asked: fails)
    with pytest.raises(RuntimeError) as found:
        compiled(network(), "default", "mask")(torch.zeros(2, 3, 16, 16))
    assert ran_out(found.value)


def test_a_stop_while_it_compiles_stays_a_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_: Tensor) -> Tensor:
        raise torch._dynamo.exc.TorchDynamoException("while compiling") from StoppedError("stopped")

    monkeypatch.setattr(torch, "compile", lambda network, **asked: fails)
    with pytest.raises(StoppedError, match=r"^stopped$"):
        compiled(network(), "default", "mask")(torch.zeros(2, 3, 16, 16))


def test_an_unknown_value() -> None:
    with pytest.raises(UsageError, match='--compile: no way "defalt"; did you mean "default"'):
        check_compiling("defalt")


@pytest.mark.slow
@pytest.mark.parametrize("how", MODES)
def test_really_compiled_networks_answer_the_same(how: str) -> None:
    """Kernels are compiled once for every size of a last batch, and on a CPU once more for small ones."""
    from torch._dynamo.utils import counters

    torch._dynamo.reset()
    counters.clear()
    nets = [network(seed=0), network(seed=1)]
    plain = [{n: probs(net, n) for n in (20, 6)} for net in nets]
    for net, expected in zip(nets, plain, strict=True):
        forward = compiled(net, how, "mask")
        for batch_size in (20, 6, 11, 16):
            found = probs(forward, batch_size)
            np.testing.assert_allclose(found, expected[20], atol=1e-5)
            np.testing.assert_array_equal(found.argmax(1), expected[6].argmax(1))
    assert counters["stats"]["unique_graphs"] <= 2


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:dynamo_pgo force disabled")
def test_without_a_compiler_it_says_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch._inductor.config as config

    torch._dynamo.reset()
    with (
        config.patch({"cpp.cxx": ("no-such-compiler",), "force_disable_caches": True}),
        pytest.raises(UsageError, match=r"^--compile: needs a C\+\+ compiler, found none; install one \(apt-get"),
    ):
        probs(compiled(network(), "default", "mask"), 8)
