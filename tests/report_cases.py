"""Runs of any schema as training leaves them, without photos or networks, and facts for sentences."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import ensemble_kit as ek
from ensemble_kit.arrays import IntArray
from ensemble_kit.data.samples import SampleTable
from ensemble_kit.files import write_array, write_json, write_text
from ensemble_kit.predictions import save_predictions
from ensemble_kit.run_report.facts import AnswerFacts, ClassScore
from ensemble_kit.runs import Run
from ensemble_kit.structure_report import Score

PHOTOS_EACH = 3


def faces(evil: str = "") -> ek.Schema:
    """The task in small; `evil` is put into a class name of each attribute and into an attribute's name."""
    return ek.Schema(
        ek.Attribute("mask" + evil, ["worn" + evil, "incorrect", "not_worn"]),
        ek.Attribute("gender", ["male", "female" + evil]),
        ek.Attribute("age", ["<30", "30-59", ">=60"], borders=[30, 60]),
    )


def experts_on(
    schema: ek.Schema,
    graph: ek.Graph,
    joint: IntArray,
    ids: Sequence[str],
    *,
    strength: float = 3.0,
    pooled: bool = True,
) -> list[ek.Predictions]:
    """Two voters each that lean to the truth: of every node one expert a class of its parent, and the pooled one."""
    rng = np.random.default_rng(7)
    true = schema.decode(joint)
    asked: list[tuple[str, Mapping[str, str]]] = []
    for node in graph.nodes:
        asked += [(node.name, {p: c}) for p in node.parents for c in schema[p].classes]
        asked += [(node.name, {})] if pooled or not node.parents else []
    found = []
    for name, condition in asked:
        n = len(schema[name].classes)
        layers = []
        for _ in range(2):
            logits = rng.normal(size=(len(ids), n)) + strength * (np.arange(n) == true[name][:, None])
            layers.append(np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True))
        found.append(ek.Predictions(schema[name], layers, ids, condition, voters=["fold0", "fold1"]))
    return found


def make_run(
    folder: Path,
    schema: ek.Schema | None = None,
    graph: ek.Graph | None = None,
    *,
    n_people: int = 30,
    n_folds: int = 2,
    note: str = "",
    strength: float = 2.5,
    predicted: bool = True,
    pooled: bool = True,
    history: bool = True,
) -> Path:
    """A run whose "eval" photos are its own, predicted by both folds; `note` stands in the recipe and in every person's name."""
    schema = schema or faces()
    graph = graph or ek.Graph({schema.names[0]: [], "gender": [], "age": [schema.names[0]]})
    rng = np.random.default_rng(3)
    people = [f"p{k}{note}" for k in range(n_people) for _ in range(PHOTOS_EACH)]
    ids = [f"{k}{note.replace('/', '')}.jpg" for k in range(len(people))]
    joint = rng.permutation(np.arange(len(people)) % schema.n_joint).astype(np.int64)
    true = schema.decode(joint)
    columns: dict[str, Any] = {"sample_id": ids, "path": ids, "group_id": people}
    for a in schema.attributes:
        middle = [20.0, 45.0, 70.0]
        columns[a.name] = [middle[i] if a.borders else a.classes[i] for i in true[a.name].tolist()]
    table = SampleTable.from_columns(columns, folder, schema)
    folds = np.array([k // PHOTOS_EACH % n_folds for k in range(len(people))], dtype=np.int64)
    run = Run.create(
        folder, table, folds, data=folder, layout="auto", schema=schema, graph=graph,
        division={"n_folds": n_folds, "fold_seed": 0, "val_ratio": None},
        combine={"route": "hard", "vote": "soft", "vote_at": "expert", "fallback": "refuse"},
    )  # fmt: skip
    experts = experts_on(schema, graph, joint, ids, strength=strength, pooled=pooled)
    for number, expert in enumerate(experts):
        place = run.expert_folder(expert.names, expert.condition)
        run.write_expert(expert.names, expert.condition, {"epochs": number})
        for fold in range(n_folds):
            write_array(place / f"fold{fold}" / "oof.npy", expert.layers[fold][folds == fold].astype(np.float32))
            settings = {"epochs": number, "backbone": "tiny", "note": note}
            done = {"fold": fold, "best_sha256": f"{fold}", "identity": {"settings": settings}}
            write_json(place / f"fold{fold}" / "DONE", done)
            if history:
                lines = [
                    {"epoch": e, "train_loss": 1 / e, "val_loss": 2 / e, "macro_f1": e / 4, "seconds": 30.0}
                    for e in (1, 2)
                ]
                write_text(place / f"fold{fold}" / "metrics.jsonl", "".join(json.dumps(one) + "\n" for one in lines))
    write_text(folder / "recipe.toml", f"# {note}\n[train]\nepochs = 2\n")
    if predicted:
        checkpoints = [{f"fold{fold}": f"{fold}" for fold in range(2)}] * len(experts)
        save_predictions(run.predictions_folder("eval"), experts, schema, checkpoints=checkpoints)
    write_answers(folder / "answers.csv", ids, joint)
    write_people(folder / "people.csv", ids, people)
    return folder


def write_answers(file: Path, ids: Sequence[str], joint: IntArray) -> None:
    rows = "".join(f'"{name.replace(chr(34), chr(34) * 2)}",{k}\n' for name, k in zip(ids, joint.tolist(), strict=True))
    write_text(file, "ImageID,ans\n" + rows)


def write_people(file: Path, ids: Sequence[str], people: Sequence[str]) -> None:
    rows = [
        f'"{a.replace(chr(34), chr(34) * 2)}","{b.replace(chr(34), chr(34) * 2)}"\n'
        for a, b in zip(ids, people, strict=True)
    ]
    write_text(file, "ImageID,person\n" + "".join(rows))


def answered(counts: Any, **more: Any) -> AnswerFacts:
    """Facts of a confusion matrix `(n, n + 1)`."""
    table = np.asarray(counts, dtype=np.int64)
    n = len(table)
    names = tuple(f"class {k}" for k in range(n))
    classes = []
    for k in range(n):
        both = table[k].sum() + table[:, k].sum()
        f1 = float(2 * table[k, k] / both) if both else 0.0
        classes.append(ClassScore(names[k], int(table[k].sum()), None, 0.0, 0.0, f1, None))
    right = float(np.trace(table[:, :n]) / max(1, table.sum()))
    macro = float(np.mean([one.f1 for one in classes]))
    given: dict[str, Any] = {
        "what": "age",
        "names": names,
        "score": Score(right, macro),
        "confusion": tuple(tuple(int(v) for v in row) for row in table),
        "classes": tuple(classes),
        "reliability": (),
        "ece": 0.0,
        "coverage": ((1.0, 1 - right),),
        "aurc": 0.0,
    }
    return AnswerFacts(**given | more)
