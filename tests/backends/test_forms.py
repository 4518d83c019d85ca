"""Forms of checkpoints: built once, kept, compared, refused; and answers that come from them."""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from forms_cases import Shifted, World, load
from tiny_training import BACKBONES, SCHEMA, tiny_backbone
from torch import Tensor, nn

from ensemble_kit.answering import Answerer
from ensemble_kit.backends import forms as forms_module
from ensemble_kit.backends.form import Forward, Source
from ensemble_kit.backends.forms import Forms
from ensemble_kit.backends.table import BACKENDS, Torch, find_backend
from ensemble_kit.card import read_card
from ensemble_kit.current import disagreement, predictions_current, saved_agreement, saved_backend, wanted_backend
from ensemble_kit.data.decode import Preprocess
from ensemble_kit.errors import DataError, UsageError
from ensemble_kit.files import sha256_file
from ensemble_kit.graph import Graph
from ensemble_kit.inference import predict_table
from ensemble_kit.leftovers import place
from ensemble_kit.models.backbones import Builder
from ensemble_kit.models.checkpoint import load_expert
from ensemble_kit.predictions import load_predictions

PHOTOS = torch.rand(5, 3, 16, 16, generator=torch.Generator().manual_seed(3)).contiguous(
    memory_format=torch.channels_last
)


def only(folder: Path) -> Path:
    """The one form that is kept there."""
    (place,) = folder.iterdir()
    return place


def test_a_form_is_built_once_and_what_was_found_is_told_and_kept(world: World, tmp_path: Path) -> None:
    backend, told = Shifted(shift=1e-6), list[str]()
    for _ in range(2):
        forms = world.forms(backend, folder=tmp_path, say=told.append)
        logits = load(forms, world.mask)(PHOTOS)
    with torch.inference_mode():
        expected = load_expert(world.mask, backbones=BACKBONES)[0](PHOTOS)
    np.testing.assert_allclose(logits.detach(), expected, atol=1e-5)
    assert backend.built == 1
    assert len(torch.cat(backend.calibrated)) == 18  # the fold's training photos
    assert told[0] == "note: back end shifted: not fast on cpu"
    assert told[1].startswith("shifted, mask, fold 0 of 2, epoch 1: 100 % equal labels with torch in float32 (36 of 36")
    assert len(told) == 2
    kept = json.loads((only(tmp_path) / "agreement.json").read_text())
    assert kept["agreement"]["equal"] == 1.0
    assert 0 < kept["agreement"]["largest"] < 1e-6
    assert kept["checkpoint_sha256"] == sha256_file(world.mask)
    assert kept["versions"] == {"shifted": "1"}
    assert set(kept["files"]) == {"shift.npy"}


def test_calibrated_on_normalised_photos_of_its_own_condition(world: World) -> None:
    backend = Shifted()
    load(world.forms(backend), world.worn)
    (batch,) = backend.calibrated
    rows = np.flatnonzero((world.table.numbers("mask") == 0) & (world.trained_on.folds != 0))
    card = read_card(world.worn)
    preprocess = Preprocess.from_json(card.preprocess)
    photos = world.trained_on.prepared(rows, preprocess, None)
    expected = (photos / 255 - np.array(preprocess.mean)) / np.array(preprocess.std)
    np.testing.assert_allclose(batch.permute(0, 2, 3, 1), expected, atol=1e-5)


CHANGES: list[tuple[str, Callable[[Path, Shifted], object]]] = [
    ("a file cut short", lambda place, _: (place / "shift.npy").write_bytes(b"")),
    ("a file gone", lambda place, _: (place / "shift.npy").unlink()),
    ("another file", lambda place, _: np.save(place / "shift.npy", np.float32(9))),
    ("what was found, cut short", lambda place, _: (place / "agreement.json").write_text("{")),
    ("what was found, gone", lambda place, _: (place / "agreement.json").unlink()),
    ("what was found, no agreement", lambda place, _: change_json(place, agreement={"equal": 2})),
    ("of another checkpoint", lambda place, _: change_json(place, checkpoint_sha256="0")),
    ("another version", lambda _, backend: setattr(backend, "version", "2")),
    ("another back end", lambda _, backend: setattr(backend, "name", "other")),
]


def change_json(place: Path, **changed: Any) -> None:
    file = place / "agreement.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changed))


@pytest.mark.parametrize(("what", "change"), CHANGES, ids=[what for what, _ in CHANGES])
def test_what_does_not_fit_is_built_again(
    world: World, tmp_path: Path, what: str, change: Callable[[Path, Shifted], object]
) -> None:
    backend = Shifted()
    load(world.forms(backend, folder=tmp_path), world.mask)
    change(only(tmp_path), backend)
    for _ in range(2):
        load(world.forms(backend, folder=tmp_path), world.mask)
    assert backend.built == 2
    assert not list(tmp_path.glob(".*"))


def test_each_checkpoint_has_a_form_of_its_own(world: World, tmp_path: Path) -> None:
    backend = Shifted()
    for path in (world.mask, world.worn, world.mask):
        load(world.forms(backend, folder=tmp_path), path)
    assert backend.built == len(list(tmp_path.iterdir())) == 2


def test_a_backbone_of_ones_own_that_changed_is_converted_anew(world: World, tmp_path: Path) -> None:
    def backbone(scale: float) -> Builder:
        def build() -> tuple[nn.Module, int]:
            layers, n_features = tiny_backbone()
            assert scale > 0
            return layers, n_features

        return build

    backend = Shifted()
    for scale, built in ((1.0, 1), (1.0, 1), (2.0, 2)):
        load(world.forms(backend, folder=tmp_path, backbones={"tiny_backbone": backbone(scale)}), world.mask)
        assert backend.built == built


def test_other_instructions_are_compared_anew(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = Shifted()
    for found in (frozenset[str](), frozenset({"avx512_vnni"})):
        monkeypatch.setattr(forms_module, "instructions", lambda found=found: found)
        load(world.forms(backend, folder=tmp_path), world.mask)
    assert backend.built == 2


def test_a_form_that_disagrees_is_refused_built_once_and_taken_when_asked(world: World, tmp_path: Path) -> None:
    backend = Shifted(shift=50.0)
    for _ in range(2):
        with pytest.raises(DataError, match=r"back end shifted: mask, fold 0 of 2, .*: expected at least 99 %.*found"):
            load(world.forms(backend, folder=tmp_path), world.mask)
    taken = load(world.forms(backend, folder=tmp_path, accept=True), world.mask)
    assert (taken(PHOTOS).argmax(1) == 0).all()
    assert backend.built == 1


def test_without_training_photos_nothing_is_tried(world: World, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"give trained_on=TrainingPhotos\(run\.table, run\.folds\)"):
        world.forms(Shifted(), trained_on=None)
    with pytest.raises(DataError, match="no training photo to calibrate it with"):
        load(world.forms(Shifted(), trained_on=None, accept=True), world.mask)
    own = find_backend(same)
    load(world.forms(own, trained_on=None, accept=True, folder=tmp_path), world.mask)
    assert json.loads((only(tmp_path) / "agreement.json").read_text())["agreement"]["n_photos"] == 0
    load(world.forms(Torch(), trained_on=None), world.mask)  # which needs none


def _build(root: World, folder: Path, wait: Any, told: Any) -> None:
    backend = Shifted()
    forms = root.forms(backend, folder=folder)
    wait.wait(30)
    told.put((float(load(forms, root.mask)(PHOTOS).detach().sum()), backend.built))


def test_two_processes_build_one_form(world: World, tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    wait, told = context.Barrier(2), context.Queue()
    workers = [context.Process(target=_build, args=(world, tmp_path, wait, told)) for _ in range(2)]
    for worker in workers:
        worker.start()
    found = [told.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    assert found[0][0] == found[1][0]
    load(world.forms(Shifted(), folder=tmp_path), world.mask)
    assert [path.name for path in tmp_path.iterdir()] == [only(tmp_path).name]  # no scratch folder is left


def test_what_a_killed_process_left_is_removed(world: World, tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    worker = context.Process(target=os.getpid)
    worker.start()
    worker.join()
    (tmp_path / f".0123456789abcdef.{worker.pid}-1-{place()}.tmp").mkdir()
    world.forms(Shifted(), folder=tmp_path)
    assert not list(tmp_path.iterdir())


def same(source: Source) -> Forward:
    return source.network()


def other(source: Source) -> Forward:
    network = source.network()
    return lambda photos: network(photos) * -1


@pytest.mark.parametrize("how", [same, "shifted", "torch-bf16"])
def test_predicting_and_answering_with_a_back_end(
    world: World, tmp_path: Path, how: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several heads, a window, finer columns, a mean of its own, views; batches that do not come out even."""
    monkeypatch.setitem(BACKENDS, "shifted", Shifted())
    checkpoints = [world.worn, world.two]
    shared: dict[str, Any] = {"device": "cpu", "backbones": BACKBONES, "tta": ["flip"]}
    tried = shared | {"backend": how, "trained_on": world.trained_on, "accept_disagreement": how == "torch-bf16"}
    atol = 0.02 if how == "torch-bf16" else 1e-5
    plain = predict_table(world.table, checkpoints, tmp_path / "plain", **shared)
    other_set = predict_table(world.table, checkpoints, tmp_path / "set", batch_size=7, **tried)
    for one, two in zip(load_predictions(plain), load_predictions(other_set), strict=True):
        np.testing.assert_allclose(one.layers[0], two.layers[0], atol=atol)
    graph = Graph({"mask": [], "gender": [], "age": ["mask"]})
    settings: dict[str, Any] = {"fallback": "pooled", "forms": tmp_path / "forms"}
    states = [*checkpoints, world.pooled]
    expected = Answerer(states, SCHEMA, graph, **shared, **settings).answer(world.table, route="soft")
    found = Answerer(states, SCHEMA, graph, batch_size=5, **tried, **settings).answer(world.table, route="soft")
    np.testing.assert_allclose(found.joint.probs, expected.joint.probs, atol=atol)
    assert found.counts == expected.counts


def test_a_set_made_by_another_back_end_is_not_current(world: World, tmp_path: Path) -> None:
    out, hashes = tmp_path / "set", {sha256_file(world.mask)}
    settings: dict[str, Any] = {"device": "cpu", "backbones": BACKBONES, "trained_on": world.trained_on}

    def made(backend: Any, **changed: Any) -> tuple[str, float]:
        predict_table(world.table, [world.mask], out, backend=backend, **settings, **changed)
        return saved_backend(out), float(load_predictions(out)[0].layers[0][0, 0])

    name, plain = made(None)
    assert name == "torch"
    name, turned = made(other, accept_disagreement=True)
    assert name.startswith("other@")
    assert turned != plain
    assert predictions_current(out, world.table, hashes)
    assert predictions_current(out, world.table, hashes, backend=name)
    assert not predictions_current(out, world.table, hashes, backend="torch")
    assert wanted_backend(out, "torch") == name  # typed once, it stays
    assert wanted_backend(out, "openvino") == "openvino"  # until the recipe says otherwise
    assert made("torch") == ("torch", plain)
    with pytest.raises(DataError, match=r"back end other@.*expected at least 99\.5 %"):
        made(other)
    assert saved_backend(out) == "torch"


def test_what_somebody_accepted_is_kept_told_and_accepted_for_nobody_else(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, told = tmp_path / "set", list[str]()
    monkeypatch.setitem(BACKENDS, "far", Shifted(shift=50.0, name="far"))
    monkeypatch.setitem(BACKENDS, "near", Shifted(name="near"))

    class Watcher:
        def say(self, line: str) -> None:
            told.append(line)

        def begin(self, title: str, total: float) -> None: ...
        def advance(self, done: float, title: str | None = None) -> None: ...
        def end(self) -> None: ...

    def make(backend: str, **changed: Any) -> int:
        settings: dict[str, Any] = {"device": "cpu", "backbones": BACKBONES, "trained_on": world.trained_on}
        settings |= {"cache": tmp_path / "cache", "watcher": Watcher()} | changed
        predict_table(world.table, [world.mask], out, backend=backend, **settings)
        return (out / "predictions.json").stat().st_mtime_ns

    first = make("far", accept_disagreement=True)
    (kept,) = saved_agreement(out).values()
    assert (kept["checkpoint"], kept["n_photos"], kept["enough"]) == ("mask, fold 0 of 2, epoch 1", 36, False)
    assert disagreement(out) == (
        f"far: {100 * kept['equal']:.1f} % of torch's labels (mask, fold 0 of 2, epoch 1), accepted by "
        "--accept-disagreement"
    )
    assert told[-1].endswith("taken, disagreement accepted")
    assert make("far", accept_disagreement=True) == first
    with pytest.raises(DataError, match="expected at least 99 % equal labels"):
        make("far")
    assert (out / "predictions.json").stat().st_mtime_ns == first
    second = make("near")
    assert disagreement(out) == ""
    assert make("near") == second
    content = json.loads((out / "predictions.json").read_text())
    del content["created"]["agreement"]  # as earlier versions wrote it: nobody knows what was accepted
    (out / "predictions.json").write_text(json.dumps(content))
    assert make("near") != second
    assert [entry["enough"] for entry in saved_agreement(out).values()] == [True]


@pytest.mark.parametrize("found", [3, {"a": 1}, {"a": {"enough": False}}, {"a": {"equal": "x", "n_photos": 2}}])
def test_an_agreement_that_cannot_be_read_is_no_agreement(tmp_path: Path, found: Any) -> None:
    (tmp_path / "predictions.json").write_text(
        json.dumps({"format": "ensemble_kit.predictions", "version": 1, "created": {"agreement": found}})
    )
    assert all(not entry.get("enough") for entry in saved_agreement(tmp_path).values())
    assert disagreement(tmp_path).startswith("torch: disagrees") or saved_agreement(tmp_path) == {}


def test_the_plain_back_end_keeps_nothing(world: World, tmp_path: Path) -> None:
    forms = Forms(Torch(), "cpu", folder=tmp_path / "forms", backbones=BACKBONES)
    logits: Tensor = load(forms, world.mask)(PHOTOS)
    assert logits.shape == (5, 3)
    assert not (tmp_path / "forms").exists()
