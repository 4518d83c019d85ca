"""Checkpoints, prediction sets, fitted files, runs and states that were altered: refused by one error, or unharmed.

`pytest -m slow -s tests/test_hostile_artefacts.py` prints the counts of the long campaign.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
import struct
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hostile_json import altered
from safetensors import safe_open
from safetensors.numpy import load, save
from tiny_training import BACKBONES, SCHEMA, SIZE, tiny_backbone

from ensemble_kit.calibration import Temperature
from ensemble_kit.card import CARD_SHA256, Card, Head, read_card, tensors_sha256
from ensemble_kit.data.decode import Preprocess
from ensemble_kit.errors import DataError
from ensemble_kit.files import read_array, read_json, sha256_bytes
from ensemble_kit.fitted import Fitted, load_fitted, save_fitted
from ensemble_kit.models.backbones import load_weights
from ensemble_kit.models.checkpoint import load_expert, save_checkpoint, tensors_of
from ensemble_kit.models.heads import make_network, parts_of
from ensemble_kit.predictions import Predictions, load_predictions, read_problems, save_predictions
from ensemble_kit.runs import Run
from ensemble_kit.training.folder import FoldFolder

HEADS = (Head(("age",), (("<30",), ("30-59",), (">=60",)), (0, 3)),)
TRAIN: dict[str, Any] = {"seed": 0, "fold": 0, "n_folds": 2, "epoch": 1}
TRAIN |= dict.fromkeys(("samples_sha256", "train_groups_sha256", "held_out_groups_sha256"), "0")
CARD = Card(
    schema=SCHEMA,
    condition={"mask": ("worn",)},
    heads=HEADS,
    backbone={"name": "tiny_backbone", "init": "none", "head": "linear"},
    preprocess=Preprocess((SIZE, SIZE)).to_json(),
    train=TRAIN,
)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "a.safetensors"
    torch.manual_seed(0)
    save_checkpoint(path, make_network(*tiny_backbone(), parts_of(HEADS), "linear"), CARD)
    return path


def read_it(path: Path) -> tuple[Any, Any, Any]:
    """Everything that a checkpoint holds, through each of the readers: the card, the network, first weights."""
    network, card = load_expert(path, backbones=BACKBONES)
    backbone, _ = tiny_backbone()
    load_weights(backbone, "tiny_backbone", str(path))
    return read_card(path).to_json(), card.to_json(), (tensors_sha256(tensors_of(network)), tensors_of(backbone))


def refused(path: Path, read: Callable[[Path], Any]) -> str | None:
    """The message of the one error that a reader may raise; None when it reads."""
    said = message_of(path, read)
    assert said is None or (said.startswith(str(path)) and "\n" not in said)
    return said


def message_of(path: Path, read: Callable[[Path], Any]) -> str | None:
    try:
        read(path)
    except DataError as error:
        return str(error)
    return None


def weights_of(path: Path) -> None:
    load_weights(tiny_backbone()[0], "tiny_backbone", str(path))


READERS: Mapping[str, Callable[[Path], Any]] = {
    "card": read_card,
    "predict": lambda path: load_expert(path, backbones=BACKBONES),
    "weights": weights_of,
}


def flipped(data: bytes, rng: np.random.Generator) -> bytes:
    at = int(rng.integers(len(data)))
    return data[:at] + bytes([data[at] ^ 1 << int(rng.integers(8))]) + data[at + 1 :]


def flipped_header(data: bytes, rng: np.random.Generator) -> bytes:
    end = 8 + struct.unpack("<Q", data[:8])[0]
    return flipped(data[:end], rng) + data[end:]


def cut_short(data: bytes, rng: np.random.Generator) -> bytes:
    return data[: int(rng.integers(len(data)))]


def other_length(data: bytes, rng: np.random.Generator) -> bytes:
    length = struct.unpack("<Q", data[:8])[0]
    lengths = [0, length - 1, length + 1, 10**6, 10**8, 2**63, 2**64 - 1, int(rng.integers(2 * length))]
    return struct.pack("<Q", lengths[int(rng.integers(len(lengths)))]) + data[8:]


def longer(data: bytes, rng: np.random.Generator) -> bytes:
    return data + rng.bytes(int(rng.integers(1, 64)))


def header_altered(data: bytes, rng: np.random.Generator) -> bytes:
    end = 8 + struct.unpack("<Q", data[:8])[0]
    text = json.dumps(altered(json.loads(data[8:end]), rng)).encode()
    return struct.pack("<Q", len(text)) + text + data[end:]


DAMAGE: Mapping[str, Callable[[bytes, np.random.Generator], bytes]] = {
    "a bit": flipped,
    "a bit of the header": flipped_header,
    "cut short": cut_short,
    "header length": other_length,
    "bytes behind": longer,
    "header altered": header_altered,
}


def rewritten(data: bytes, card: Any, sha256: str | None = None) -> bytes:
    """The checkpoint with another card, its hash as an attacker would write it."""
    if isinstance(card, dict):
        card = {**card, CARD_SHA256: sha256 or sha256_bytes(canonical(card))}
    return save(load(data), metadata={"card": json.dumps(card)})


def canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


@pytest.mark.parametrize("times", [8, pytest.param(150, marks=pytest.mark.slow)])
def test_a_damaged_checkpoint_is_refused_or_what_it_was(checkpoint: Path, tmp_path: Path, times: int) -> None:
    data, whole = checkpoint.read_bytes(), read_it(checkpoint)
    path = tmp_path / "a.safetensors"
    counts: Counter[str] = Counter()
    for name, damage in DAMAGE.items():
        rng = np.random.default_rng(len(name))
        for _ in range(times):
            path.write_bytes(damage(data, rng))
            said = [refused(path, read) for read in READERS.values()]
            counts[f"{name}: {'refused' if said[1] else 'read'}"] += 1
            if said[1] is None:  # nothing that counts was touched
                now = read_it(path)
                assert now[:2] == whole[:2]
                assert now[2][0] == whole[2][0]
            if said[2] is None:
                backbone, _ = tiny_backbone()
                load_weights(backbone, "tiny_backbone", str(path))
                assert tensors_sha256(tensors_of(backbone)) == tensors_sha256(whole[2][1])
    print(f"\n{times * len(DAMAGE)} damaged checkpoints x {len(READERS)} readers: {dict(counts)}")


@pytest.mark.parametrize("times", [30, pytest.param(300, marks=pytest.mark.slow)])
def test_an_altered_card_is_refused_by_its_hash_or_is_a_card(checkpoint: Path, tmp_path: Path, times: int) -> None:
    data = checkpoint.read_bytes()
    with safe_open(checkpoint, "numpy") as opened:
        card = json.loads(opened.metadata()["card"])
    sha256, path = card.pop(CARD_SHA256), tmp_path / "a.safetensors"
    assert sha256 == sha256_bytes(canonical(card))
    rng = np.random.default_rng(1)
    counts: Counter[str] = Counter()
    for _ in range(times):
        changed = altered(card, rng)
        path.write_bytes(rewritten(data, changed, sha256))
        if changed != card:
            said = refused(path, read_card) or ""
            assert "the card was changed since it was written" in said or "the card is not JSON" in said
            counts["refused by its hash"] += 1
        path.write_bytes(rewritten(data, changed))  # an attacker writes the hash anew
        all_said = [refused(path, read) for read in READERS.values()]
        counts["hash written anew: refused" if any(all_said) else "hash written anew: another card"] += 1
    print(f"\n{2 * times} altered cards: {dict(counts)}")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tensors_sha256": "0" * 64}, "expected weights with hash 000000000000, found"),
        ({"heads": [HEADS[0].to_json() | {"classes": [["<30"], ["30-59"]]}]}, "2 classes in 3 outputs"),
        ({"heads": [HEADS[0].to_json() | {"classes": [["<30"], ["30-59"], ["old"]]}]}, 'has no class "old"'),
        ({"condition": {"mask": ["off"]}}, 'has no class "off"'),
        ({"schema": SCHEMA.to_json() | {"paths": [["worn"]]}}, "the card contradicts itself"),
        ({"backbone": {"name": "tiny_backbone", "head": "deep=99999999999"}}, "a width from 1 to 99999"),
        ({"preprocess": {**CARD.preprocess, "size": [10**9, 10**9]}}, "preprocessing: size must be 2 whole numbers"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_wrong_hash_class_schema_condition_or_size_is_named(
    checkpoint: Path, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(rewritten(checkpoint.read_bytes(), read_card(checkpoint).to_json() | change))
    assert message in (refused(path, READERS["predict"]) or "")


# --- JSON and arrays -----------------------------------------------------------------------------------------------


def a_set(folder: Path) -> Path:
    ids = ["a", "b", "c"]
    probs = np.full((3, 3), 1 / 3)
    experts = [
        Predictions(SCHEMA["mask"], [probs, probs], ids, voters=["fold0", "fold1"]),
        Predictions(SCHEMA["age"], [probs], ids, condition={"mask": "worn"}),
    ]
    save_predictions(folder, experts, SCHEMA, problems=[("a", "a.jpg", "x")])
    return folder


def a_run(folder: Path) -> Path:
    graph = {"mask": [], "age": ["mask"]}
    info = {"format": "ensemble_kit.run", "version": 1, "schema": SCHEMA.to_json(), "graph": graph, "n_folds": 2}
    info |= {"fold_seed": 0, "val_ratio": None, "samples_sha256": "0", "data": "d", "layout": "auto"}
    info |= {"photo_root": "d", "combine": {}, "versions": {}, "predict": {"tta": []}, "extra": None}
    (folder / "experts" / "age" / "fold0").mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps(info))
    expert = {"attributes": ["age"], "condition": {"mask": ["worn"]}, "settings": {"heads": "joint"}}
    (folder / "experts" / "age" / "expert.json").write_text(json.dumps(expert))
    done = {"fold": 0, "best_sha256": "0", "oof_sha256": "0", "heads": [h.to_json() for h in HEADS], "identity": {}}
    (folder / "experts" / "age" / "fold0" / "DONE").write_text(json.dumps(done))
    (folder / "samples.csv").write_text("sample_id,path,group_id,fold,age\na,a.jpg,a,0,45\nb,b.jpg,b,1,20\n")
    return folder


def read_run(folder: Path) -> None:
    run = Run.open(folder)
    assert run.schema is not None
    assert run.graph is not None
    assert isinstance(run.tta, tuple)
    assert run.extra is None or run.extra is not None
    run.described()
    run.finished()
    assert len(run.folds) == len(run.table)


def a_fitted_file(folder: Path) -> Path:
    folder.mkdir()
    items = [Fitted("temperature", "age", Temperature(1.5)), Fitted("temperature", "joint", Temperature(0.5))]
    save_fitted(folder / "fitted.json", items)
    return folder


STORED: Mapping[str, tuple[Callable[[Path], Path], Callable[[Path], Any], tuple[str, ...]]] = {
    "prediction set": (a_set, load_predictions, ("predictions.json",)),
    "fitted file": (a_fitted_file, lambda folder: load_fitted(folder / "fitted.json"), ("fitted.json",)),
    "run": (a_run, read_run, ("run.json", "experts/age/expert.json", "experts/age/fold0/DONE")),
}


@pytest.mark.parametrize("times", [50, pytest.param(1000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", STORED)
def test_altered_json_is_refused_or_read(tmp_path: Path, kind: str, times: int) -> None:
    make, read, files = STORED[kind]
    folder = make(tmp_path / "stored")
    read(folder)
    rng = np.random.default_rng(2)
    counts: Counter[str] = Counter()
    for name in files:
        whole = json.loads((folder / name).read_text())
        for number in range(times):
            text = json.dumps(altered(whole, rng))
            if number % 10 == 9:
                text = text[: int(rng.integers(len(text)))]
            (folder / name).write_text(text)
            said = message_of(folder, read)
            assert "\n" not in (said or "")
            counts["refused" if said else "read"] += 1
        (folder / name).write_text(json.dumps(whole))
    print(f"\n{kind}: {times * len(files)} altered files: {dict(counts)}")


def test_deep_long_and_endless_json_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    for text in ("[" * 100_000, '{"a":' * 100_000, "9" * 10_000, "\xff", "\0"):
        path.write_bytes(text.encode("latin-1"))
        assert "not readable as JSON" in (message_of(path, read_json) or "")
    os.mkfifo(tmp_path / "pipe")
    readers = [read_json, read_array, read_card, load_fitted, weights_of]
    for read in readers:
        with pytest.raises(DataError, match="expected a file, found a pipe"):
            read(tmp_path / "pipe")


def test_damaged_arrays_are_refused_by_name(tmp_path: Path) -> None:
    folder = a_set(tmp_path / "set")
    rng = np.random.default_rng(3)
    for file in [folder / "ids.npy", *folder.glob("*/*.npy")]:
        data = file.read_bytes()
        for damage in (flipped, cut_short, longer):
            for _ in range(8):
                file.write_bytes(damage(data, rng))
                said = message_of(folder, load_predictions)
                if said is None:  # a bit that counts for nothing: of the ids only their content is hashed
                    assert file.name == "ids.npy"
                    assert load_predictions(folder)[0].ids.tolist() == ["a", "b", "c"]
                else:
                    assert said.startswith(str(file))
        file.write_bytes(data)
    (folder / "errors.csv").write_bytes(b"\xff\xfe\0")
    with pytest.raises(DataError, match=r"errors\.csv: not readable"):
        read_problems(folder)


# --- code that would run -------------------------------------------------------------------------------------------


class Bomb:
    """Unpickled, it makes a folder."""

    def __init__(self, target: Path):
        self.target = target

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.target),)


def test_no_reader_runs_code(tmp_path: Path) -> None:
    target = tmp_path / "exploded"
    plain = pickle.dumps(Bomb(target))
    torch.save({"format": "ensemble_kit.training_state", "rng": Bomb(target)}, tmp_path / "zipped")
    np.save(tmp_path / "objects.npy", np.array([Bomb(target)], dtype=object), allow_pickle=True)
    hostile = {
        "a pickle": plain,
        "a pickle of protocol 0": pickle.dumps(Bomb(target), 0),
        "torch.save": (tmp_path / "zipped").read_bytes(),
        "an array of objects": (tmp_path / "objects.npy").read_bytes(),
        "a pickle behind a header": struct.pack("<Q", 2) + b"{}" + plain,
    }
    readers: dict[str, Callable[[Path], Any]] = {
        **{f"{name}.safetensors": read for name, read in READERS.items()},
        "state.pt": lambda path: FoldFolder(path.parent, {}).load_state(),
        "oof.npy": read_array,
        "ids.npy": lambda path: load_predictions(path.parent),
        "fitted.json": load_fitted,
        "run.json": lambda path: Run.open(path.parent),
    }
    for content in hostile.values():
        for name, read in readers.items():
            folder = tmp_path / "work"
            a_set(folder)
            (folder / name).write_bytes(content)
            assert message_of(folder / name, read) is not None, name
            shutil.rmtree(folder)
    assert not target.exists()
    pickle.loads(plain)  # the bombs are live: this is what unpickling does
    assert target.exists()


@pytest.mark.parametrize("times", [30, pytest.param(300, marks=pytest.mark.slow)])
def test_a_damaged_state_is_never_resumed_from(tmp_path: Path, times: int) -> None:
    folder = FoldFolder(tmp_path, {"a": 1})
    content = {"next_epoch": 2, "network": {"w": torch.arange(300.0)}, "rng": torch.zeros(64, dtype=torch.uint8)}
    folder.save_state(content)
    data = (tmp_path / "state.pt").read_bytes()
    rng = np.random.default_rng(4)
    counts: Counter[str] = Counter()
    for damage in (flipped, cut_short):
        for _ in range(times):
            (tmp_path / "state.pt").write_bytes(damage(data, rng))
            try:
                found = folder.load_state()
            except DataError:
                counts["refused"] += 1
                continue
            assert found is not None
            same = torch.equal(found["network"]["w"], torch.arange(300.0)) and found["next_epoch"] == 2
            counts["unharmed" if same and not found["rng"].any() else "harmed"] += 1
    print(f"\n{2 * times} damaged states: {dict(counts)}")
    assert not counts["harmed"]
