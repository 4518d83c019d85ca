"""The shipped recipes build what they say: optimiser groups, frozen layers, transforms, losses, photos, stages."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from shipped import (
    FLAT,
    IMAGENET,
    SIX,
    ages,
    groups_of,
    job,
    network_of,
    prepared,
    rows_of,
    run_without_photos,
    steps_of,
)

from ensemble_kit.data.decode import prepare
from ensemble_kit.graph import describe_expert
from ensemble_kit.recipe.load import load_recipe
from ensemble_kit.recipe.starts import in_order
from ensemble_kit.runs import Run
from ensemble_kit.training.columns import heads_of
from ensemble_kit.training.job import ExpertJob
from ensemble_kit.training.losses import find_loss


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run_without_photos(tmp_path_factory.mktemp("nothing"))


def check_soft_margin(one: ExpertJob) -> None:
    """Adam at 1e-3 throughout, the multi-label soft margin, 300 x 200 of 512 x 384 around the centre, flips."""
    optimizer, groups, frozen = groups_of(one)
    assert type(optimizer) is torch.optim.Adam
    assert {(group["lr"], group["weight_decay"]) for group in groups.values()} == {(1e-3, 0.0)}
    assert (frozen, one.backbone, one.epochs, one.phases[0].batch_size) == (set(), "resnet18", 10, 64)
    logits = torch.randn(4, 3)
    targets = torch.eye(3)[[0, 1, 2, 0]]
    found = find_loss(one.loss)(logits, targets)
    assert torch.isclose(found, torch.nn.functional.multilabel_soft_margin_loss(logits, targets))
    assert one.label_smoothing == 0.0
    assert prepared(one) == (300, 200, 3)
    photo = np.arange(512 * 384, dtype=np.uint32).astype(np.uint8).reshape(512, 384, 1).repeat(3, axis=2)
    np.testing.assert_array_equal(prepare(photo, one.preprocess), photo[106:406, 92:292])
    assert [type(step).__name__ for step in steps_of(one)] == ["HorizontalFlip"]


def test_flat_18(run: Run) -> None:
    recipe = load_recipe("flat-18")
    assert (recipe.data.extra, dict(recipe.data.extra_where)) == ("older_faces", {"age": (">=60",)})
    assert recipe.settings_for(FLAT).weights == "imagenet"
    plain = load_recipe("flat-18", variant="own_photos").data
    assert (plain.extra, dict(plain.extra_where)) == (None, {})
    flat = job(run, "flat-18", FLAT)
    assert len(heads_of(flat)[0].classes) == 18
    optimizer, groups, frozen = groups_of(flat)
    assert type(optimizer) is torch.optim.Adam
    rates = {part: (group["lr"], group["weight_decay"]) for part, group in groups.items()}
    assert rates == {"backbone": (1e-4, 0.0), "head": (1e-3, 0.0)}
    logits, targets = torch.randn(4, 18), torch.eye(18)[[0, 5, 17, 0]]
    assert torch.isclose(find_loss(flat.loss)(logits, targets), torch.nn.functional.cross_entropy(logits, targets))
    assert (flat.label_smoothing, flat.preprocess.mean, flat.preprocess.std) == (0.0, *IMAGENET)
    assert [type(step).__name__ for step in steps_of(flat)] == ["HorizontalFlip"]
    assert (flat.epochs, flat.phases[0].batch_size, flat.phases[0].schedule) == (10, 64, "constant")
    assert {name.split(".")[1] for name in frozen} == {"layer1", "layer2"}
    assert sum(p.numel() for g in optimizer.param_groups for p in g["params"]) < 11_000_000
    assert not any(
        "layer1" in name or "layer2" in name for name, p in network_of(flat).named_parameters() if name not in frozen
    )
    assert prepared(flat) == (512, 384, 3)
    rows = rows_of(run, flat)
    assert ages(run, rows.train) == {a for a in range(18, 61) if not (27 <= a <= 29 or 57 <= a <= 59)}
    assert ages(run, rows.score) == {a for a in range(18, 61) if a % 5 in (0, 4)}


def test_three_models(run: Run) -> None:
    for names in (("mask",), ("gender",), ("age",)):
        check_soft_margin(job(run, "three-models", names))
    rows = rows_of(run, job(run, "three-models", ("age",)))
    assert ages(run, rows.train) == {a for a in range(18, 61) if (a < 30 or 41 <= a <= 49 or a == 60)}
    assert ages(run, rows.score) == {a for a in range(18, 61) if a % 5 in (0, 4)}
    assert len(ages(run, rows_of(run, job(run, "three-models", ("gender",))).train)) == 43


@pytest.mark.parametrize(
    ("variant", "states"),
    [
        ("three_way", [("worn",), ("incorrect",), ("not_worn",)]),
        ("worn_or_rest", [("worn",), ("incorrect", "not_worn")]),
        ("covered_or_bare", [("worn", "incorrect"), ("not_worn",)]),
    ],
)
def test_age_by_mask(run: Run, variant: str, states: list[tuple[str, ...]]) -> None:
    recipe = load_recipe("age-by-mask", variant=variant)
    assert [spec.condition["mask"] for spec in recipe.experts if spec.attributes == ("age",)] == states
    assert [spec.condition for spec in recipe.experts if spec.attributes != ("age",)] == [{}, {}]
    for state in states:
        one = job(run, "age-by-mask", ("age",), {"mask": state}, variant)
        rows = rows_of(run, one)
        check_soft_margin(one)
        assert one.leave_out == ()
        assert len(ages(run, rows.train)) == 43
        assert set(run.table.frame["mask"].to_numpy()[rows.train].tolist()) == set(state)


def test_gender_and_age_by_mask(run: Run) -> None:
    recipe = load_recipe("gender-age-by-mask")
    assert recipe.graph.to_json() == {"mask": [], "gender": ["mask"], "age": ["mask"]}
    assert len(recipe.experts) == 7
    for spec in recipe.experts[1::3]:
        check_soft_margin(job(run, "gender-age-by-mask", spec.attributes, spec.condition))
    two = load_recipe("gender-age-by-mask", variant="worn_or_rest").experts
    assert [len(spec.condition.get("mask", ())) for spec in two] == [0, 1, 2, 1, 2]


def test_gender_age_first(run: Run) -> None:
    recipe = load_recipe("gender-age-first")
    bare, rest = {"mask": ("not_worn",)}, {"mask": ("worn", "incorrect")}
    first = job(run, "gender-age-first", SIX, bare)
    optimizer, groups, _ = groups_of(first)
    assert type(optimizer) is torch.optim.Adam
    assert (groups["backbone"]["lr"], groups["head"]["lr"]) == (1e-5, 6e-4)
    assert {group["weight_decay"] for group in groups.values()} == {3e-5}
    assert (first.label_smoothing, first.smoothing, first.phases[0].batch_size, first.epochs) == (0.1, "all", 128, 50)
    assert (first.preprocess.crop, first.size, prepared(first)) == ((400, 256), (224, 224), (224, 224, 3))
    assert (first.mean, first.std, first.n_folds) == (*IMAGENET, 5)
    assert [len(head.classes) for head in heads_of(first)] == [6]
    contrast, flip, invert, holes = steps_of(first)
    assert [type(step).__name__ for step in (contrast, flip, invert)] == [
        "RandomBrightnessContrast", "HorizontalFlip", "InvertImg"
    ]  # fmt: skip
    assert (holes.num_holes_range, holes.hole_height_range, holes.hole_width_range) == ((4, 4), (50, 50), (50, 50))
    weights = [recipe.settings_for(s.attributes, condition=s.condition).weights for s in recipe.experts]
    start = "run:gender,age given mask=not_worn"
    assert weights == ["imagenet", "imagenet", start, start]
    assert [describe_expert(s.attributes, s.condition) for s in recipe.experts][1:] == [
        "gender,age given mask=not_worn", "gender,age given mask=worn,incorrect", "mask,gender,age"
    ]  # fmt: skip
    assert in_order(recipe.experts, weights) == [0, 1, 2, 3]
    assert [len(heads_of(job(run, "gender-age-first", SIX, rest))[0].classes)] == [6]
    assert [len(heads_of(job(run, "gender-age-first", FLAT))[0].classes)] == [18]
    rows = rows_of(run, first)
    assert set(run.table.frame["mask"].to_numpy()[rows.train].tolist()) == {"not_worn"}
    for backbone in ("resnet18", "resnet34", "resnet50", "resnet101"):
        changed = load_recipe("gender-age-first", [f"train.backbone={backbone}"])
        assert {changed.settings_for(s.attributes, condition=s.condition).backbone for s in changed.experts} == {
            backbone
        }
        assert load_recipe("gender-age-first", variant=backbone).settings_for(SIX).backbone == backbone


def test_adam_then_sgd(run: Run) -> None:
    both, alone = (job(run, "adam-then-sgd", FLAT, variant=v) for v in ("adam_then_sgd", "adam_alone"))
    assert [(phase.optimizer, phase.epochs, phase.schedule) for phase in both.phases] == [
        ("adam", 15, "constant"), ("sgd", 50, "cosine")
    ]  # fmt: skip
    built = [groups_of(both, number) for number in (0, 1)]
    assert [type(optimizer) for optimizer, _, _ in built] == [torch.optim.Adam, torch.optim.SGD]
    rates = [{part: (group["lr"], group["weight_decay"]) for part, group in groups.items()} for _, groups, _ in built]
    assert rates == [
        {"backbone": (1e-4, 1e-4), "head": (1e-3, 1e-4)}, {"backbone": (1e-3, 1e-4), "head": (1e-2, 1e-4)}
    ]  # fmt: skip
    assert built[1][1]["head"]["momentum"] == 0.9
    assert not built[0][2] | built[1][2]
    assert [type(step).__name__ for step in steps_of(both)] == ["HorizontalFlip", "RandomBrightnessContrast"]
    assert (both.loss, both.label_smoothing, prepared(both)) == ("cross_entropy", 0.0, (224, 224, 3))
    assert [(phase.optimizer, phase.epochs) for phase in alone.phases] == [("adam", 65)]
    assert both.epochs == alone.epochs


def test_losses(run: Run) -> None:
    logits, targets = torch.randn(6, 18), torch.eye(18)[:6]
    found = {}
    for variant in load_recipe("losses").variants:
        one = job(run, "losses", FLAT, variant=variant)
        found[variant] = (one.loss, one.class_weights, one.label_smoothing, one.smoothing)
        assert torch.isfinite(find_loss(one.loss)(logits, targets))
    assert found == {
        "cross_entropy": ("cross_entropy", "none", 0.0, "all"),
        "weighted": ("cross_entropy", "balanced", 0.0, "all"),
        "smoothing": ("cross_entropy", "none", 0.1, "all"),
        "smoothing_others": ("cross_entropy", "none", 0.1, "others"),
        "focal": ("focal=2", "none", 0.0, "all"),
        "macro_f1": ("macro_f1", "none", 0.0, "all"),
        "soft_margin": ("soft_margin", "none", 0.0, "all"),
        "sum": ("cross_entropy+0.5*macro_f1", "none", 0.0, "all"),
    }


def test_imbalance(run: Run) -> None:
    variants = load_recipe("imbalance").variants
    ways = ["natural", "weighted", "weighted_age", "oversample", "undersample", "schedule", "class_weights", "smote"]
    assert set(variants) == {*ways, *(f"{way}_plain" for way in ways)}
    for way in ways:
        one, plain = (job(run, "imbalance", FLAT, variant=name) for name in (way, f"{way}_plain"))
        assert [type(step).__name__ for step in steps_of(one)] == [
            "HorizontalFlip",
            "Affine",
            "RandomBrightnessContrast",
        ]
        assert steps_of(plain) == []
        same = ("sampler", "balance_by", "class_weights", "smote", "phases", "loss")
        assert all(getattr(one, key) == getattr(plain, key) for key in same)
    found = {way: job(run, "imbalance", FLAT, variant=way) for way in ways}
    assert [found[way].sampler for way in ways[:6]] == [
        "natural", "weighted", "weighted", "oversample", "undersample", "natural->balanced"
    ]  # fmt: skip
    assert (found["weighted_age"].balance_by, found["weighted"].balance_by) == (("age",), ())
    assert (found["class_weights"].class_weights, found["class_weights"].sampler) == ("balanced", "natural")
    assert (found["smote"].smote, found["smote"].feature_views) == (5, 4)
    assert {name.split(".")[0] for name in groups_of(found["smote"])[2]} == {"backbone"}


def test_three_heads(run: Run) -> None:
    one = job(run, "three-heads", FLAT)
    assert [(head.attributes, len(head.classes), head.outputs) for head in heads_of(one)] == [
        (("mask",), 3, (0, 3)), (("gender",), 2, (3, 5)), (("age",), 3, (5, 8))
    ]  # fmt: skip
    nets = load_recipe("three-heads", variant="three_nets").experts
    assert [spec.attributes for spec in nets] == [("mask",), ("gender",), ("age",)]
    for spec in nets:
        net = job(run, "three-heads", spec.attributes, variant="three_nets")
        assert (net.phases, net.loss, net.augment, net.size) == (one.phases, one.loss, one.augment, one.size)


@pytest.mark.parametrize("path", sorted(Path(load_recipe("losses").path).parent.glob("*.toml")), ids=lambda p: p.stem)
def test_every_recipe_opens_with_what_it_is_for_and_its_command(path: Path) -> None:
    head = [line for line in path.read_text().splitlines() if line.startswith("#")]
    assert head[0].startswith("# ")
    assert any(line.startswith("#   ens ") for line in head)
    if (
        load_recipe(path).settings_for(load_recipe(path).experts[0].attributes).weights == "imagenet"
        and path.stem != "face_mask"
    ):
        assert any(line.startswith("# assumes:") for line in head)
        assert any(line.startswith("# override:") for line in head)
