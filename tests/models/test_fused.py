"""Folded batch norms: the same answers, fewer layers; what cannot be folded stays as it is."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import densenet121, resnet18

from ensemble_kit.models.compute import choose_compute
from ensemble_kit.models.fused import fold_batch_norms, ready
from ensemble_kit.models.heads import build_network
from ensemble_kit.models.outputs import Part

SIZE = (32, 32)


def n_norms(network: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())


def shaken(network: nn.Module) -> nn.Module:
    """With batch norms that do something."""
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.2)
    return network.eval()


class Shared(nn.Module):
    """One batch norm after two convolutions, and a convolution whose output is used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.norm = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.c, self.last = nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        both = self.norm(self.a(x)) + self.norm(self.b(x))
        y = self.c(both)
        out: Tensor = (self.last(y) + y).mean((2, 3))
        return out


class Branching(nn.Module):
    """Looks at values, so it cannot be traced."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm(self.a(x))
        return y.mean((2, 3)) if float(x.sum()) > 0 else y.amax((2, 3))


def map_backbone() -> tuple[nn.Module, int]:
    return nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU()), 4


class Asked(nn.Module):
    """Cannot be traced, and its head asks its backbone for more than its answer."""

    def __init__(self) -> None:
        super().__init__()
        self.body = Body()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.body(x)
        return y * self.body.scale() if float(x.sum()) > 0 else y


class Body(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten())

    def scale(self) -> float:
        return 2.0


@pytest.mark.parametrize("head", ["linear", "deep=8", "conv=8"])
@pytest.mark.parametrize("parts", [[Part(3)], [Part(3), Part(4, "ordinal")]], ids=["one head", "two heads"])
def test_networks_as_they_are_trained_are_folded(head: str, parts: list[Part]) -> None:
    """Heads ask what shape the features have, which cannot be traced."""
    plain = shaken(build_network(map_backbone, "none", parts, (0, 0), head=head))
    folded = fold_batch_norms(plain, SIZE)
    photos = torch.randn(3, 3, *SIZE)
    with torch.inference_mode():
        torch.testing.assert_close(folded(photos), plain(photos), atol=1e-4, rtol=1e-4)
    assert n_norms(folded) == 0 < n_norms(plain)


@pytest.mark.parametrize(
    ("network", "left"),
    [
        (resnet18(weights=None, num_classes=5), 0),
        (densenet121(weights=None, num_classes=5), 62),  # in half of its places the norm comes before the convolution
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.BatchNorm2d(4), nn.Flatten()), 1),
        (Shared(), 2),
        (Branching(), 1),
        (Asked(), 1),
    ],
    ids=["resnet18", "densenet121", "norm after relu", "shared", "branching", "asked"],
)
def test_a_folded_network_answers_the_same(network: nn.Module, left: int) -> None:
    plain = shaken(network)
    before = {name: tensor.clone() for name, tensor in plain.state_dict().items()}
    photos = torch.randn(3, 3, *SIZE)
    with torch.inference_mode():
        expected = plain(photos)
        folded = fold_batch_norms(plain, SIZE)
        found = folded(photos)
        fast = ready(plain, choose_compute("cpu", "fp32", channels_last=True), SIZE)(photos)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(fast, expected, atol=1e-4, rtol=1e-4)
    assert n_norms(folded) == left
    assert all(torch.equal(tensor, before[name]) for name, tensor in plain.state_dict().items())


def test_without_a_size_nothing_is_folded() -> None:
    plain = shaken(resnet18(weights=None, num_classes=2))
    assert n_norms(ready(plain, choose_compute("cpu", "fp32"), None)) == n_norms(plain) > 0
