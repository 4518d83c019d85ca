"""Grad-CAM against gradients worked out by hand, and maps brought back to the photo."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from ensemble_kit.card import Head
from ensemble_kit.data.decode import Preprocess, prepare
from ensemble_kit.errors import UsageError
from ensemble_kit.explaining.cam import check_captum, class_maps, fine_stages, on_photo, placed, whole_map
from ensemble_kit.explaining.looking import class_columns
from ensemble_kit.explaining.stages import Grid, Stage, find_stages, not_in_place
from ensemble_kit.models.backbones import find_backbone
from ensemble_kit.models.compute import choose_compute
from ensemble_kit.models.heads import Network, make_network
from ensemble_kit.models.outputs import Part
from ensemble_kit.schema import Attribute, Schema

pytest.importorskip("captum")
COMPUTE = choose_compute("cpu", "fp32", channels_last=False)
PLAIN = Preprocess((16, 16), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


class Tiny(nn.Module):
    """Four channels at half the size, then pooled."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 2, stride=2)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, photos: Tensor) -> Tensor:
        found: Tensor = self.relu(self.conv(photos))
        return found


def tiny(seed: int = 0, n_columns: int = 3) -> Network:
    torch.manual_seed(seed)
    return make_network(Tiny(), 4, [Part(n_columns)]).eval()


def photos(n: int = 2, seed: int = 0) -> Any:
    return np.random.default_rng(seed).integers(0, 256, (n, 16, 16, 3), dtype=np.uint8)


@pytest.mark.parametrize("columns", [[0], [2], [0, 2]])
def test_grad_cam_is_the_gradient_worked_out_by_hand(columns: list[int]) -> None:
    """The network is relu(conv), a mean over places, and W: the gradient of the log-odds by the map is the same at each
    place, (d logodds / d logits) W / n_places, with d logodds / d logit = the share within the class or less it."""
    network, shown = tiny(), photos()
    (stage,) = find_stages(network, (16, 16))
    (found,) = class_maps(network, [stage], shown, PLAIN, np.array(columns), (0, 3), COMPUTE)
    inputs = torch.from_numpy(shown).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        maps = torch.relu(network.backbone.conv(inputs)).double().numpy()  # type: ignore[operator]
    weight, bias = (p.detach().double().numpy() for p in (network.head.weight, network.head.bias))
    for photo, heat in zip(maps, found, strict=True):
        logits = weight @ photo.mean(axis=(1, 2)) + bias
        slope = np.zeros(3)
        others = [column for column in range(3) if column not in columns]
        for group, sign in ((columns, 1), (others, -1)):
            slope[group] = sign * np.exp(logits[group]) / np.exp(logits[group]).sum()
        alpha = slope @ weight / photo[0].size
        expected = np.maximum((alpha[:, None, None] * photo).sum(axis=0), 0)
        np.testing.assert_allclose(heat, expected, atol=1e-6)


class Corner(nn.Module):
    """Looks at the upper left corner alone."""

    def __init__(self, down: int, across: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 1, 2, stride=2, bias=False)
        self.mix = nn.Conv2d(1, 1, 1, bias=False)
        self.place = down, across
        with torch.no_grad():
            self.conv.weight.fill_(0.1)
            self.mix.weight.fill_(1.0)

    def forward(self, photos: Tensor) -> Tensor:
        found = self.mix(torch.relu(self.conv(photos)))
        keep = torch.zeros_like(found)
        keep[:, :, self.place[0], self.place[1]] = 1
        masked: Tensor = found * keep
        return masked


@pytest.mark.parametrize("place", [(0, 0), (7, 0), (3, 6)])
def test_a_network_that_looks_at_one_place_peaks_there(place: tuple[int, int]) -> None:
    network = Network(Corner(*place), nn.Sequential(nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(1, 2)), 2).eval()
    with torch.no_grad():
        network.head[2].weight.copy_(torch.tensor([[1.0], [-1.0]]))
    shown = np.full((1, 16, 16, 3), 200, dtype=np.uint8)
    stages = [stage for stage in find_stages(network, (16, 16)) if stage.size == (8, 8)]
    (heat,) = whole_map(network, stages, shown, PLAIN, np.array([0]), (0, 2), COMPUTE)
    assert heat.shape == (16, 16)
    assert heat.max() == 1
    # moved and mirrored views look at mirrored places: the plain view and its like are where the place is
    down, across = (int(i) for i in np.unravel_index(int(heat.argmax()), heat.shape))
    columns = [2 * place[1], 14 - 2 * place[1]]
    assert abs(down - 2 * place[0]) <= 2
    assert min(abs(across - column) for column in columns) <= 2
    nothing = whole_map(network, stages, shown, PLAIN, np.array([1]), (0, 2), COMPUTE)
    assert not nothing.any()


def test_a_bright_spot_is_found_where_it_is() -> None:
    """A network that reads brightness anywhere: the peak follows the spot, also of a mirrored and moved photo."""
    network = Network(Tiny(), nn.Sequential(nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(4, 2)), 2).eval()
    with torch.no_grad():
        network.backbone.conv.weight.fill_(0.1)  # type: ignore[union-attr, operator]
        network.head[2].weight.copy_(torch.tensor([[1.0] * 4, [-1.0] * 4]))
    for down, across in ((2, 3), (11, 12), (5, 9)):
        shown = np.zeros((1, 16, 16, 3), dtype=np.uint8)
        shown[0, down : down + 3, across : across + 3] = 250
        (heat,) = whole_map(network, find_stages(network, (16, 16)), shown, PLAIN, np.array([0]), (0, 2), COMPUTE)
        found = np.unravel_index(int(heat.argmax()), heat.shape)
        assert abs(found[0] - down - 1) <= 2
        assert abs(found[1] - across - 1) <= 2
        rows, columns = np.indices(heat.shape)
        far = (abs(rows - down - 1) > 4) | (abs(columns - across - 1) > 4)
        assert heat[far].max() < 0.1  # nothing where a moved or mirrored photo has it


@given(
    st.tuples(st.integers(20, 60), st.integers(20, 60)),
    st.tuples(st.sampled_from([1.0, 0.5, 0.7]), st.sampled_from([1.0, 0.6, 18.0])),
    st.tuples(st.floats(0, 1), st.floats(0, 1)),
    st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_a_map_goes_back_to_where_its_pixels_came_from(
    sides: tuple[int, int], crop: tuple[float, float], at: tuple[float, float], windowed: bool
) -> None:
    """The photo holds its own coordinates; prepared and brought back, each pixel names its own place again."""
    preprocess = Preprocess((24, 20), crop=crop, crop_at=at, window=(16, 16) if windowed else None)
    down, across = np.indices(sides)
    photo = np.stack([down * 4, across * 4, 0 * down], axis=2).astype(np.uint8)
    ready = prepare(photo, preprocess)
    rows, columns = preprocess.seen
    top, left = (24 - rows) // 2, (20 - columns) // 2
    seen = ready[top : top + rows, left : left + columns]
    for channel, place in ((0, down), (1, across)):
        back = on_photo(seen[..., channel].astype(np.float32) / 4, sides, preprocess)
        assert back.shape == sides
        is_seen = np.isfinite(back)
        inner = is_seen & ~_edge(is_seen)
        assert is_seen.any()
        cell = max(1.0, sides[channel] / (24, 20)[channel])
        assert np.abs(back - place)[inner].max(initial=0) <= cell + 1


def _edge(is_seen: Any) -> Any:
    """Within three pixels of the seen part's border, where resizing repeats what is there."""
    down, across = (np.flatnonzero(is_seen.any(axis=axis)) for axis in (1, 0))
    edge = np.ones(is_seen.shape, dtype=bool)
    edge[down[0] + 3 : down[-1] - 2, across[0] + 3 : across[-1] - 2] = False
    return edge


@pytest.mark.parametrize(
    ("backbone", "names"),
    [
        ("resnet18", ["layer1", "layer2", "layer3", "layer4"]),
        ("timm:test_vit", None),
        ("timm:test_convnext", None),
        ("timm:test_efficientnet", None),
    ],
)
def test_stages_of_a_backbone(backbone: str, names: list[str] | None) -> None:
    if backbone.startswith("timm"):
        pytest.importorskip("timm")
    torch.manual_seed(0)
    size = (160, 160) if backbone == "timm:test_vit" else (64, 48)
    module, n_features = find_backbone(backbone).build()
    network = make_network(module, n_features, [Part(2)]).eval()
    before = network(torch.ones(1, 3, *size)).detach()
    stages = find_stages(network, size)
    torch.testing.assert_close(network(torch.ones(1, 3, *size)).detach(), before)
    assert 1 <= len(stages) <= 4
    assert names is None or [stage.name for stage in stages] == names
    assert find_stages(network, size) == stages
    for stage in stages:  # padded layers of stride 2 begin at the edge; the others lie within the photo
        for first, step, count, side in zip(stage.grid.first, stage.grid.step, stage.size, size, strict=True):
            assert abs(step * count - side) < step
            assert first == (0 if backbone in ("resnet18", "timm:test_efficientnet") else (step - 1) / 2)
    shown = np.random.default_rng(0).integers(0, 256, (1, *size, 3), dtype=np.uint8)
    maps = class_maps(network, stages, shown, Preprocess(size), np.array([1]), (0, 2), COMPUTE)
    assert [one.shape for one in maps] == [(1, *stage.size) for stage in stages]
    assert all(np.isfinite(one).all() and (one >= 0).all() for one in maps)


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 3), st.integers(0, 2)), min_size=1, max_size=3))
@settings(max_examples=30, deadline=None)
def test_a_cell_lies_in_the_middle_of_what_it_sees(layers: list[tuple[int, int, int]]) -> None:
    """Of layers (kernel, stride, padding) that weigh all alike: the middle of the pixels that move a middle cell."""
    sliding = [(kernel, stride, min(padding, (kernel - 1) // 2)) for kernel, stride, padding in layers]
    backbone = nn.Sequential(*(nn.Conv2d(3 if n == 0 else 1, 1, *layer) for n, layer in enumerate(sliding)))
    for parameter in backbone.parameters():
        nn.init.ones_(parameter)
    network = Network(backbone, nn.Identity(), 1).eval()
    shown = torch.zeros(1, 3, 96, 120, requires_grad=True)
    stage = find_stages(network, (96, 120))[-1]
    maps = backbone(shown)
    row, column = (count // 2 for count in stage.size)
    assert stage.size == tuple(maps.shape[2:])
    (slope,) = torch.autograd.grad(maps[0, 0, row, column], shown)
    down, across = (slope[0].sum((0, axis)).double().numpy() for axis in (2, 1))
    middle = [float(np.average(np.arange(len(line)), weights=line)) for line in (down, across)]
    expected = [
        first + step * n for first, step, n in zip(stage.grid.first, stage.grid.step, (row, column), strict=True)
    ]
    np.testing.assert_allclose(middle, expected, atol=1e-6)
    cells = np.zeros(stage.size)
    cells[row, column] = 1
    heat = placed(cells, stage.grid, (96, 120))
    found = np.unravel_index(int(heat.argmax()), heat.shape)
    np.testing.assert_allclose(found, middle, atol=0.5)


def test_stages_that_are_too_coarse_do_not_count() -> None:
    def stage(*size: int) -> Stage:
        return Stage(str(size), nn.Identity(), (size[0], size[1]), Grid.even((64, 64), (size[0], size[1])))

    assert [one.size for one in fine_stages([stage(32, 24), stage(16, 12), stage(8, 6)])] == [(32, 24), (16, 12)]
    assert [one.size for one in fine_stages([stage(4, 4), stage(2, 2)])] == [(4, 4)]


def test_a_backbone_without_maps_is_told() -> None:
    network = Network(nn.Sequential(nn.Flatten(), nn.Linear(768, 4)), nn.Linear(4, 2), 2).eval()
    with pytest.raises(UsageError, match="no feature map"):
        find_stages(network, (16, 16))


def test_overwriting_layers_are_as_before_afterwards() -> None:
    network = tiny()
    relu: Any = network.backbone.relu
    with not_in_place(network):
        assert not relu.inplace
    assert relu.inplace


def test_a_missing_package_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "captum", None)
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    with pytest.raises(UsageError, match=r'captum is not installed; pip install "ensemble_kit\[explain\]"'):
        check_captum()


SCHEMA = Schema(Attribute("gender", ["male", "female"]), Attribute("age", ["<30", "30-59", ">=60"], borders=[30, 60]))
BLOCK = Head(("gender", "age"), SCHEMA.class_rows(), (3, 9))
YEARS = Head(("age",), (("<29",), ("29",), ("30",), ("31-60",), (">=60",)), (0, 5), edges=(29.0, 30.0, 31.0, 60.0))


@pytest.mark.parametrize(
    ("head", "wanted", "columns"),
    [
        (BLOCK, {"gender": "female", "age": "<30"}, [6]),
        (BLOCK, {"age": ">=60"}, [5, 8]),
        (YEARS, {"age": "<30"}, [0, 1]),
        (YEARS, {"age": "30-59"}, [2, 3]),
    ],
)
def test_the_columns_of_a_class(head: Head, wanted: dict[str, str], columns: list[int]) -> None:
    assert class_columns(head, SCHEMA, wanted).tolist() == columns


@pytest.mark.parametrize(
    ("wanted", "message"),
    [({"age": "old"}, "30-59"), ({"mask": "worn"}, "not mask"), ({"gender": "male"}, "not gender")],
)
def test_a_class_that_is_not_there_is_told(wanted: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        class_columns(YEARS, SCHEMA, wanted)
