"""What our users built besides: each recipe's numbers, read from the jobs, transforms and optimisers it makes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from shipped import FLAT, IMAGENET, ages, job, prepared, rows_of, run_without_photos, steps_of

from ensemble_kit.data.decode import prepare
from ensemble_kit.data.preparers import run_steps
from ensemble_kit.loading.samplers import epoch_batches
from ensemble_kit.models.heads import Network, find_head
from ensemble_kit.recipe.load import load_recipe
from ensemble_kit.recipe.votes import members_of
from ensemble_kit.runs import Run
from ensemble_kit.training.columns import heads_of, n_columns, parts_of_job
from ensemble_kit.training.losses import find_loss
from ensemble_kit.training.optimizers import make_optimizer

SIDES = [("mask",), ("gender",), ("age",)]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run_without_photos(tmp_path_factory.mktemp("nothing"))


def names_of(steps: list[Any]) -> list[tuple[str, float]]:
    return [(type(step).__name__, step.p) for step in steps]


def optimizer_of(one: Any) -> torch.optim.Optimizer:
    """The first phase's, for a network of three weights: what it is does not depend on the network."""
    return make_optimizer(Network(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2), 2), one.phases[0])


def test_final_vote() -> None:
    recipe = load_recipe("final-vote")
    assert (len(recipe.vote.of), recipe.vote.by, recipe.vote.weights) == (5, "joint", ())
    assert len({one.recipe.path for one in members_of(recipe) if one.recipe}) == 5


def test_gray_crop(run: Run) -> None:
    recipe = load_recipe("gray-crop")
    assert recipe.vote.of == ("half", "most", "always")
    for variant, p in (("half", 0.5), ("most", 0.7)):
        one = job(run, "gray-crop", FLAT, variant=variant)
        assert (one.backbone, one.size, one.mean, one.std) == ("efficientnet_b0", (224, 224), *IMAGENET)
        assert names_of(steps_of(one)) == [
            ("ToGray", p), ("Sequential", p), ("ColorJitter", 0.5), ("GaussianBlur", 0.3), ("HorizontalFlip", 0.5)
        ]  # fmt: skip
        crop, resize = steps_of(one)[1].transforms
        assert ((crop.height, crop.width), (resize.height, resize.width)) == ((175, 150), (224, 224))
        shared = job(run, "gray-crop", FLAT, variant=f"{variant}_shared")
        assert (shared.augment_share, {step.p for step in steps_of(shared)}) == (p, {1.0})
        assert len(steps_of(shared)) == 5
    always = job(run, "gray-crop", FLAT, variant="always")
    assert names_of(steps_of(always)) == [("ColorJitter", 0.5), ("GaussianBlur", 0.3), ("HorizontalFlip", 0.5)]
    photo = np.random.default_rng(0).integers(0, 256, (512, 384, 3), dtype=np.uint8)
    seen = prepare(photo, always.preprocess)  # validation and test see what training sees: grey, 399 x 257 of 512 x 384
    assert seen.shape == (224, 224, 3)
    assert (seen == seen[..., :1]).all()
    assert (always.preprocess.crop, always.preprocess.prepare) == ((0.78, 0.67), ("grayscale",))
    others = {"resnext50", "regnetx_032", "resnet34", "resnet50", "convnext_small", "vit_small"}
    assert others < set(recipe.variants)
    assert all(job(run, "gray-crop", FLAT, variant=name).backbone == name for name in others)


def test_checkpoint_soup(run: Run) -> None:
    greedy, uniform, last = (job(run, "checkpoint-soup", FLAT, variant=name) for name in ("greedy", "uniform", "last"))
    assert [one.soup for one in (greedy, uniform, last)] == ["greedy", "uniform", "none"]
    assert {one.keep for one in (greedy, uniform, last)} == {"every 3"}
    assert greedy.phases == uniform.phases == last.phases
    assert (greedy.epochs, greedy.phases[0].schedule) == (15, "constant")


def test_vgg19_with_focal_loss(run: Run) -> None:
    recipe = load_recipe("vgg19-focal")
    assert recipe.data.val_ratio == 0.1
    one = job(run, "vgg19-focal", FLAT)
    assert (one.backbone, one.preprocess.crop, prepared(one)) == ("vgg19", (355, 355), (224, 224, 3))
    assert names_of(steps_of(one)) == [("HorizontalFlip", 0.5), ("ColorJitter", 0.5), ("Rotate", 0.5)]
    assert steps_of(one)[2].limit == (-10, 10)
    assert {group["lr"] for group in optimizer_of(one).param_groups} == {1e-5}
    logits, targets = torch.randn(6, 18), torch.eye(18)[:6]
    log_p = torch.log_softmax(logits, dim=1)[torch.arange(6), torch.arange(6)]
    focal = -((1 - log_p.exp()) ** 2 * log_p).mean()
    assert torch.isclose(find_loss(one.loss)(logits, targets), focal)
    warped = {"optical": "OpticalDistortion", "grid": "GridDistortion", "elastic": "ElasticTransform"}
    for variant, kind in warped.items():
        steps = steps_of(job(run, "vgg19-focal", FLAT, variant=variant))
        assert names_of(steps)[3:] == [(kind, 0.5)]


def test_b4_with_adamp(run: Run) -> None:
    one = job(run, "b4-adamp", FLAT, variant="one")
    assert (one.backbone, one.preprocess.crop, one.size, one.window) == (
        "efficientnet_b4", (355, 355), (260, 260), (224, 224)
    )  # fmt: skip
    assert (one.epochs, one.mean, one.std) == (40, *IMAGENET)
    optimizer = optimizer_of(one)
    assert type(optimizer).__name__ == "AdamP"
    assert {group["lr"] for group in optimizer.param_groups} == {1e-4, 1e-3}
    assert (one.phases[0].schedule, one.phases[0].step_epochs) == ("step=0.5", 10)
    window, rest = steps_of(one)
    assert (type(window).__name__, window.height, window.width, window.p) == ("RandomCrop", 224, 224, 1.0)
    assert names_of(list(rest.transforms)) == [("HorizontalFlip", 0.5), ("ColorJitter", 0.5), ("Rotate", 0.5)]
    three = [job(run, "b4-adamp", names, variant="three") for names in SIDES]
    assert [each.backbone for each in three] == ["efficientnet_b0", "resnet34", "efficientnet_b4"]
    assert all((each.phases, each.window, each.augment) == (one.phases, one.window, one.augment) for each in three)
    assert load_recipe("b4-adamp", variant="one").graph.to_json() == {"mask,gender,age": []}


def test_age_columns(run: Run) -> None:
    found = {}
    for variant in load_recipe("age-columns").variants:
        one = job(run, "age-columns", ("age",), variant=variant)
        numbers = parts_of_job(one)[0].n_numbers
        found[variant] = (n_columns(one), one.output, numbers)
        (head,) = heads_of(one)
        assert head.edges is None or {30, 60} <= set(head.edges)
        plain = job(run, "age-columns", ("mask",), variant=variant)
        assert (n_columns(plain), plain.output, plain.phases) == (3, "classes", one.phases)
    years = 60 - 18 + 1
    assert found == {
        "classes": (3, "classes", 3),
        "years": (61, "classes", 61),
        "bins": (11, "classes", 11),
        "ordinal": (11, "ordinal", 1),
        "regression": (years, "regression", 2),
    }


def test_heads_on_efficientnets(run: Run) -> None:
    jobs = {name: job(run, "heads-b4", FLAT, variant=name) for name in load_recipe("heads-b4").variants}
    assert {name: (str(one.backbone)[-2:], one.head) for name, one in jobs.items()} == {
        f"{net}_{short}": (net, head)
        for net in ("b4", "b0")
        for short, head in (("linear", "linear"), ("deep", "deep=256"), ("conv", "conv=128"))
    }
    for one in jobs.values():
        assert [(h.attributes, h.outputs) for h in heads_of(one)] == [
            (("mask",), (0, 3)), (("gender",), (3, 5)), (("age",), (5, 8))
        ]  # fmt: skip
    numbers = [part.n_numbers for part in parts_of_job(jobs["b0_conv"])]
    head = find_head(jobs["b0_conv"].head)(16, numbers).eval()
    assert [type(m).__name__ for m in head.modules()].count("Conv2d") == 3
    assert head(torch.zeros(2, 16, 4, 4)).shape == (2, 8)


def test_frozen_heads(run: Run) -> None:
    for variant in ("many_far", "few_far", "many_near", "few_near"):
        recipe = load_recipe("frozen-heads", variant=variant)
        many, far = variant.startswith("many"), variant.endswith("far")
        for names in SIDES:
            settings = recipe.settings_for(names)
            assert settings.weights == ("imagenet" if far else "run:gender,age")
            assert (settings.people_share, settings.feature_views) == (1.0 if many else 0.2, 4)
            one = job(run, "frozen-heads", names, variant=variant)
            assert one.phases[0].freeze == ("backbone",)
        rows = rows_of(run, job(run, "frozen-heads", ("gender",), variant=variant))
        assert len(set(run.table.groups[rows.train])) == (68 if many else 14)  # of 86 people 18 are held out
        assert len(rows.score) == 18 * 3
        if not far:
            near = job(run, "frozen-heads", ("gender", "age"), variant=variant)
            assert (near.phases[0].freeze, near.feature_views, near.people_share) == ((), None, 1.0)
            assert recipe.settings_for(("gender", "age")).weights == "imagenet"


def test_undersampled_and_rotated(run: Run) -> None:
    plain, rotated = (job(run, "undersample-rotate", FLAT, variant=name) for name in ("plain", "rotated"))
    assert (plain.n_folds, plain.epochs, plain.sampler) == (5, 4, "undersample")
    assert load_recipe("undersample-rotate").data.folds == 5
    keys = np.repeat([0, 1, 2], [50, 20, 5])
    drawn = np.concatenate(epoch_batches(plain.sampler, keys, 4, 0, 1, 0.0))
    assert np.bincount(keys[drawn]).tolist() == [5, 5, 5]
    turn = steps_of(rotated)[1]
    assert (names_of(steps_of(rotated)), turn.limit) == ([("HorizontalFlip", 0.5), ("Rotate", 1.0)], (-30, 30))
    assert turn.border_mode == 4  # mirrored at the edge
    assert names_of(steps_of(plain)) == [("HorizontalFlip", 0.5)]
    assert plain.phases == rotated.phases


def test_mixing(run: Run) -> None:
    jobs = {name: job(run, "mixing", FLAT, variant=name) for name in load_recipe("mixing").variants}
    assert {name: one.mix for name, one in jobs.items()} == {
        "none": (),
        "mixup": ("mixup=0.2",),
        "cutmix": ("cutmix=1",),
        "half_cutmix": ("half_cutmix",),
        "all": ("mixup=0.2", "cutmix=1", "half_cutmix"),
    }
    assert len({(one.phases, one.augment, one.mix_share, one.seed) for one in jobs.values()}) == 1


def test_wrinkles(run: Run) -> None:
    jobs = {name: job(run, "wrinkles", ("age",), variant=name) for name in load_recipe("wrinkles").variants}
    photo = np.random.default_rng(0).integers(60, 160, (8, 8, 3), dtype=np.uint8)
    spread = {name: float(run_steps(photo, jobs[name].prepare).std()) for name in ("none", "contrast", "sharpness")}
    assert spread["contrast"] == pytest.approx(1.5 * spread["none"], rel=0.02)
    assert spread["sharpness"] > 1.2 * spread["none"]
    bright = run_steps(photo, jobs["brightness"].prepare)
    assert (bright == np.rint(photo * np.float32(1.2))).all()
    assert jobs["all"].prepare == ("contrast=1.5", "sharpen=1", "brightness=1.2")
    assert (jobs["drawn"].prepare, names_of(steps_of(jobs["drawn"]))) == (
        (), [("HorizontalFlip", 0.5), ("RandomBrightnessContrast", 0.5), ("Sharpen", 0.5)]
    )  # fmt: skip


def test_highest_published(run: Run) -> None:
    recipe = load_recipe("highest-published")
    assert (recipe.vote.of, recipe.data.val_ratio) == (("b4", "resnext50", "vit_small"), 0.2)
    jobs = {}
    for name in recipe.vote.of:
        chosen = load_recipe("highest-published", ["train.crop_at=center"], variant=name)
        assert load_recipe("highest-published", variant=name).settings_for(FLAT).crop_at == "boxes"
        jobs[name] = job(run, chosen, FLAT)
    b4 = jobs["b4"]
    assert [(one.backbone, one.size) for one in jobs.values()] == [
        ("efficientnet_b4", (380, 380)), ("resnext50", (224, 224)), ("vit_small", (224, 224))
    ]  # fmt: skip
    assert (b4.sampler, b4.borders, b4.leave_out) == ("weighted", (30, 59), ((27, 29), (57, 59)))
    rows = rows_of(run, b4)
    assert ages(run, rows.train) == {a for a in range(18, 61) if not (27 <= a <= 29 or 57 <= a <= 59)}
    assert ages(run, rows.score) == {a for a in range(18, 61) if a % 5 in (0, 4)}
    logits, targets = torch.randn(12, 18), torch.eye(18)[torch.arange(12) % 18]
    assert torch.isclose(find_loss(b4.loss)(logits, targets), find_loss("macro_f1")(logits, targets))
    assert (b4.mix, names_of(steps_of(b4))) == (("half_cutmix",), [("HorizontalFlip", 0.5), ("Erasing", 0.5)])
    assert len({(one.loss, one.sampler, one.mix, one.leave_out) for one in jobs.values()}) == 1
