"""Backbones by name, and where their first weights come from."""

from __future__ import annotations

import sys
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from safetensors.torch import save_file
from tiny_training import tiny_backbone
from torch import nn

from ensemble_kit.errors import DataError, UsageError
from ensemble_kit.models import backbones
from ensemble_kit.models.backbones import BACKBONES, Backbone, describe_weights, find_backbone, load_weights
from ensemble_kit.models.heads import build_network, pool

TORCHVISION = {
    "resnet18": 512,
    "resnet34": 512,
    "resnet50": 2048,
    "resnet101": 2048,
    "resnext50": 2048,
    "vgg19": 512,
    "densenet121": 1024,
}
TIMM = {"efficientnet_b0": 1280, "efficientnet_b4": 1792, "regnetx_032": 1008, "convnext_small": 768, "vit_small": 384}


@pytest.mark.parametrize("name", TORCHVISION)
def test_a_torchvision_row_is_the_network_without_its_end(name: str) -> None:
    import torchvision

    with torch.device("meta"):
        network, found = BACKBONES[name].build()
        whole = getattr(torchvision.models, "resnext50_32x4d" if name == "resnext50" else name)(weights=None)
        features = network.eval()(torch.zeros(1, 3, 64, 96))
    assert found == TORCHVISION[name] == features.shape[1]
    assert features.shape[2:] == (2, 3)
    published = {key: tensor.shape for key, tensor in whole.state_dict().items()}
    assert all(published[key] == tensor.shape for key, tensor in network.state_dict().items())
    left_out = {key.partition(".")[0] for key in set(published) - set(network.state_dict())}
    assert len(left_out) == 1
    assert left_out <= {"fc", "classifier"}


def test_features_pooled_are_those_of_the_whole_network() -> None:
    import torchvision

    torch.manual_seed(0)
    for name in ("resnet18", "densenet121"):
        whole = getattr(torchvision.models, name)(weights=None).eval()
        network, _ = BACKBONES[name].build()
        network.load_state_dict({key: whole.state_dict()[key] for key in network.state_dict()})
        x = torch.rand(2, 3, 40, 40)
        setattr(whole, "fc" if name == "resnet18" else "classifier", nn.Identity())
        with torch.inference_mode():
            assert torch.allclose(pool(network.eval()(x)), whole(x), atol=1e-5)


@pytest.mark.parametrize("name", TIMM)
def test_a_timm_row_gives_a_map_or_vectors(name: str) -> None:
    pytest.importorskip("timm")
    with torch.device("meta"):
        network, found = find_backbone(name, size=(64, 96)).build()
        features = network.eval()(torch.zeros(1, 3, 64, 96))
    assert found == TIMM[name] == features.shape[1]
    assert features.ndim == (2 if name == "vit_small" else 4)


def test_any_network_of_timm_by_its_name_and_a_transformer_of_the_photos_size() -> None:
    pytest.importorskip("timm")
    network, n_features = find_backbone("timm:resnet10t", size=(32, 48)).build()
    assert network.eval()(torch.zeros(1, 3, 32, 48)).shape == (1, n_features, 1, 2)
    network, n_features = find_backbone("timm:vit_tiny_patch16_224", size=(32, 48)).build()
    assert network.eval()(torch.zeros(1, 3, 32, 48)).shape == (1, n_features)
    with pytest.raises(UsageError, match='timm has no network "resnet10q"; did you mean'):
        find_backbone("timm:resnet10q", size=(32, 32))


def test_without_timm_one_line_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UsageError, match=r'efficientnet_b0.* comes from timm.*; pip install "ensemble_kit\[timm\]"'):
        find_backbone("efficientnet_b0").build()


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match='no backbone "resnet81"; did you mean "resnet18"'):
        find_backbone("resnet81")


def failing(error: Exception) -> Backbone:
    def download() -> dict[str, torch.Tensor]:
        raise error

    return Backbone(tiny_backbone, download, "test")


@pytest.mark.parametrize(
    "error",
    [URLError("no route"), TimeoutError("timed\nout"), RuntimeError('invalid hash value (expected "f37072fd")')],
)
def test_a_failed_download_is_one_line_with_the_next_command(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    monkeypatch.setitem(BACKBONES, "resnet18", failing(error))
    with pytest.raises(DataError) as caught:
        build_network("resnet18", "imagenet", 3, (0, 0))
    text = str(caught.value)
    assert text.startswith("could not download the ImageNet weights of resnet18 (")
    assert text.endswith("); pass --weights none or --weights FILE")
    assert "\n" not in text


def test_a_backbone_of_ones_own_has_no_imagenet_weights() -> None:
    with pytest.raises(UsageError, match=r"no ImageNet weights for tiny_backbone; pass --weights none"):
        build_network(tiny_backbone, "imagenet", 3, (0, 0))


def weights_of(network: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in network.parameters()])


def test_downloaded_weights_fill_the_backbone_and_leave_the_head_random(monkeypatch: pytest.MonkeyPatch) -> None:
    given, _ = tiny_backbone()
    monkeypatch.setitem(BACKBONES, "tiny", Backbone(tiny_backbone, given.state_dict, "test"))
    network = build_network("tiny", "imagenet", 3, (0, 0))
    assert torch.equal(weights_of(network.backbone), weights_of(given))
    assert torch.equal(network.head.weight, build_network("tiny", "none", 3, (0, 0)).head.weight)


@pytest.mark.parametrize("prefix", ["", "backbone."])
def test_a_file_gives_the_backbone_its_weights(tmp_path: Path, prefix: str) -> None:
    given, _ = tiny_backbone()
    extra = {"head.weight": torch.zeros(9, 9)}
    state = {f"{prefix}{name}": tensor for name, tensor in given.state_dict().items()} | extra
    save_file(state, tmp_path / "w.safetensors")
    network, _ = tiny_backbone()
    load_weights(network, tiny_backbone, str(tmp_path / "w.safetensors"))
    assert torch.equal(weights_of(network), weights_of(given))


def test_files_that_do_not_fit_say_why(tmp_path: Path) -> None:
    network, _ = tiny_backbone()
    state = dict(network.state_dict())
    save_file({k: v for k, v in state.items() if k != "1.weight"}, tmp_path / "lacks.safetensors")
    save_file(state | {"0.weight": torch.zeros(8, 3, 5, 5)}, tmp_path / "shape.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"PK")
    for name, message in [
        ("lacks", 'lacks the tensor "1.weight"'),
        ("shape", r'tensor "0.weight" has shape \(8, 3, 5, 5\), the backbone expects \(8, 3, 3, 3\)'),
        ("bad", "not readable as safetensors weights"),
        ("missing", "not readable as safetensors weights"),
    ]:
        with pytest.raises(DataError, match=message):
            load_weights(network, tiny_backbone, str(tmp_path / f"{name}.safetensors"))


def test_the_description_of_first_weights_follows_a_files_content(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(b"a")
    first = describe_weights("resnet18", str(path))
    path.write_bytes(b"b")
    assert describe_weights("resnet18", str(path)) != first
    assert describe_weights("resnet18", "none") == "none"
    assert describe_weights("resnet18", "imagenet") == BACKBONES["resnet18"].imagenet_name
    with pytest.raises(DataError, match=r'no weights "imagenett": expected "imagenet", "none" or a \.safetensors file'):
        describe_weights("resnet18", "imagenett")


def test_fresh_weights_depend_on_the_seed_alone_and_leave_the_random_state_as_it_was() -> None:
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    networks = [build_network(tiny_backbone, "none", 3, seed) for seed in [(0, 0), (0, 0), (0, 1), (1, 0)]]
    assert torch.equal(torch.rand(1), expected)
    assert torch.equal(weights_of(networks[0]), weights_of(networks[1]))
    assert len({weights_of(network).numpy().tobytes() for network in networks}) == 3


def test_the_module_does_not_import_torchvision_by_itself() -> None:
    assert not hasattr(backbones, "torchvision")
