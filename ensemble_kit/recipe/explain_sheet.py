"""The sheet of one photo: the maps of the experts that answered it, with what they said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ensemble_kit.explaining.account import Account, Question, Said, number, sentences
from ensemble_kit.files import slug, write_bytes

if TYPE_CHECKING:
    from ensemble_kit.explaining.looking import Looked, Looker, Wanted


def draw_sheet(
    looker: Looker,
    path: Path,
    account: Account,
    wanted: Mapping[str, str],
    attributes: Sequence[str],
    out: Path,
    place: int,
    n_photos: int,
) -> Path | None:
    """The sheet of one photo; None where no expert answered."""
    from ensemble_kit.explaining.looking import Wanted
    from ensemble_kit.report.explained import draw_explained

    asked = [
        (question, question.experts[0])
        for question in account.questions
        if question.experts and (not attributes or set(attributes) & set(question.node.split(",")))
    ]
    requests = []
    for question, expert in asked:
        names = tuple(question.node.split(","))
        said = question.said or max(question.probs, key=lambda name: question.probs[name], default="")
        classes = tuple(wanted.get(name, one) for name, one in zip(names, said.split(" / "), strict=True))
        requests.append(Wanted(path, expert.expert, names, classes))
    if not requests:
        return None
    maps = [one for one in looker.look(requests, all_stages=True) if not isinstance(one, str)]
    if len(maps) < len(requests):
        return None
    rows = [_row(*three, account.truth or {}) for three in zip(asked, requests, maps, strict=True)]
    title = f"Where the experts looked: {Path(account.photo).name}"
    png = draw_explained(maps[0].photo, rows, title=title, line=_headline(account), notes=_notes(maps))
    number_ = f"{place + 1:0{len(str(n_photos))}d}-" if n_photos > 1 else ""
    file = out / f"{number_}{slug(Path(account.photo).stem)[:60] or 'photo'}.png"
    write_bytes(file, png)
    return file


def _row(asked: tuple[Question, Said], request: Wanted, looked: Looked, truth: Mapping[str, str]) -> Any:
    from ensemble_kit.report.explained import Row

    question, expert = asked
    said = " / ".join(request.classes)
    title = f"{question.node}: " + (f'the expert "{expert.short}"' if expert.short else "its expert")
    if question.parents:
        title += f", chosen by {', '.join(question.parents)}"
    elif len(looked.voters) > 1:
        title += f", {len(looked.voters)} checkpoints"
    line = sentences(Account("", [question], {}, -1, 0.0))[0].removeprefix(f"{question.node}: ")
    wrong = [name for name, one in zip(request.attributes, request.classes, strict=True) if truth.get(name, one) != one]
    if wrong:
        line += f"; true: {', '.join(truth[name] for name in wrong)}"
    stages = {f"{name}, {rows} x {columns}": looked.stages[name] for name, (rows, columns) in looked.cells.items()}
    return Row(title, line, looked.of if len(looked.of) < 40 else said, looked.heat, stages, bool(wrong))


def _headline(account: Account) -> str:
    if not account.answer:
        return f"no answer: {account.reason}"
    told = f"{' / '.join(account.answer.values())}, probability {number(account.probability)}"
    if account.truth:
        told += f"; true: {' / '.join(account.truth.values())}"
    return told


def _notes(maps: Sequence[Looked]) -> list[str]:
    one = maps[0]
    mean = f" The mean over {len(one.voters)} checkpoints." if len(one.voters) > 1 else ""
    lines = [
        f"Framed: what speaks for the class, place by place, in {' and '.join(one.fine)}; the ring is its peak.{mean}",
        "Right of it Grad-CAM of each stage alone (height x width in cells): the deeper, the nearer to the answer and "
        "the coarser.",
    ]
    others = [looked.of for looked in maps if "(" in looked.of]
    if others:
        lines.append(f"The map is for {'; '.join(dict.fromkeys(others))}.")
    if any(not np.isfinite(looked.heat).all() for looked in maps):
        lines.append("Hatched: outside the crop or window, so no expert sees it.")
    return lines
