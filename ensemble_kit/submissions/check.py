"""Whether an answer file is one: every problem at once, each with its likely cause."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ensemble_kit.arrays import FloatArray, IdArray, IntArray
from ensemble_kit.columns import WIDTH, fitted, wrap
from ensemble_kit.errors import DataError, UsageError
from ensemble_kit.schema import Schema
from ensemble_kit.submission import ANSWER, ID

LIKELY: dict[str, Callable[[str], str]] = {
    "blanks around them": str.strip,
    "other capitals": str.casefold,
    "their leading zeros gone, as a spreadsheet does; keep the column as text": lambda name: name.lstrip("0"),
    "a number's .0 behind them; read the column as text": lambda name: re.sub(r"\.0+$", "", name).lstrip("0"),
    "another file extension, or none": lambda name: re.sub(r"\.[A-Za-z]\w{1,4}$", "", name),
    "the folder in front of them": lambda name: re.split(r"[/\\]", name)[-1],
    "several of these (blanks, capitals, zeros, extension, folder)": lambda name: _bare(name),
}
"""What usually happened to ids that are not the template's: what to say, and what makes the two alike."""

_NUMBER = re.compile(r"[+-]?(\d+)(\.\d*)?")


@dataclass(frozen=True)
class Shares:
    """The answers' class shares beside the training photos', of one thing.

    Attributes:
        distance: half the summed differences of the shares: the least share of photos that would have to change class
            (total variation), 0 to 1.
        chi_square: half the sum of (p - q)^2 / (p + q), 0 to 1: rare classes weigh more.
        by_chance: the distance to expect from drawing as many photos one by one from the training shares.
    """

    classes: tuple[str, ...]
    answers: list[float]
    training: list[float]
    distance: float
    chi_square: float
    by_chance: float

    def sentence(self) -> str:
        gaps = np.array(self.answers) - np.array(self.training)
        most = int(np.abs(gaps).argmax())
        if self.distance <= max(3 * self.by_chance, 0.02):
            return f"as in training (distance {self.distance:.3f}, by chance about {self.by_chance:.3f})"
        return (
            f"unlike training (distance {self.distance:.3f}, by chance about {self.by_chance:.3f}): most of all "
            f"{self.classes[most]}, {self.answers[most]:.1%} against {self.training[most]:.1%}"
        )


@dataclass(frozen=True)
class CheckReport:
    """What was found.

    Attributes:
        problems: what has to be mended; empty = a good submission.
        shares: joint and per attribute, of the answers that could be read.
    """

    path: str
    n_rows: int
    problems: tuple[str, ...]
    counts: dict[str, dict[str, int]]
    shares: dict[str, Shares]

    def to_json(self) -> dict[str, Any]:
        shares = {
            name: {
                "distance": found.distance,
                "chi_square": found.chi_square,
                "by_chance": found.by_chance,
                "answers": dict(zip(found.classes, found.answers, strict=True)),
                "training": dict(zip(found.classes, found.training, strict=True)),
            }
            for name, found in self.shares.items()
        }
        head = {"file": self.path, "n_rows": self.n_rows, "ok": not self.problems, "problems": list(self.problems)}
        return head | {"counts": self.counts, "shares": shares or None}

    def text(self) -> str:
        lines = [f"{self.path}: {self.n_rows} rows, " + (f"{len(self.problems)} problems" if self.problems else "fine")]
        lines += [f"  {number}. {problem}" for number, problem in enumerate(self.problems, start=1)]
        for name, found in self.shares.items():
            lines.append(f"{name} shares: {found.sentence()}")
        joint = self.counts.get("joint", {})
        shares = self.shares.get("joint")
        total = max(sum(joint.values()), 1)
        rows = [[name, str(count), f"{count / total:.3f}"] for name, count in joint.items()]
        head = ["class", "photos", "share"]
        if shares:
            head.append("training")
            rows = [[*row, f"{share:.3f}"] for row, share in zip(rows, shares.training, strict=True)]
        return "\n".join([*map(wrap, lines), *([fitted(head, rows, WIDTH)] if rows else [])])


def check_submission(
    path: str | Path, schema: Schema, *, template: IdArray | None = None, counts: ArrayLike | None = None
) -> CheckReport:
    """Reads a file as it is and lists all that keeps it from being a submission.

    Args:
        template: `(n_samples,)` the ids to answer, in their order.
        counts: `(n_joint,)` training photos of each joint class; shares that differ are told but are no problem.

    Raises:
        UsageError: counts of another length, or none.
        DataError: no such file, or no text that can be read as CSV in UTF-8.
    """
    path = Path(path)
    problems: list[str] = []
    rows = _read(path, problems)
    ids, answers = [name for _, name, _ in rows], [answer for _, _, answer in rows]
    _check_ids(rows, problems)
    if template is not None and rows:  # of a file that cannot be read every id would be missing
        _check_template(ids, template.tolist(), problems)
    labels = _check_answers(rows, schema.n_joint, problems)
    found = {name: np.bincount(part, minlength=n) for name, part, n in _parts(labels, schema)}
    names = {"joint": tuple(schema.joint_names())} | {a.name: a.classes for a in schema.attributes}
    counted = {name: dict(zip(names[name], map(int, number), strict=True)) for name, number in found.items()}
    shares = {}
    if counts is not None and len(labels):
        training = np.asarray(counts, dtype=np.int64)
        if training.shape != (schema.n_joint,) or not training.sum():
            raise UsageError(f"expected training photos of {schema.n_joint} joint classes, found {training.tolist()}")
        drawn = np.repeat(np.arange(schema.n_joint), training)
        of_training = {name: np.bincount(part, minlength=n) for name, part, n in _parts(drawn, schema)}
        shares = {name: _shares(names[name], found[name], of_training[name]) for name in names}
    return CheckReport(str(path), len(answers), tuple(problems), counted, shares)


def _parts(labels: IntArray, schema: Schema) -> list[tuple[str, IntArray, int]]:
    parts = schema.decode(labels)
    return [("joint", labels, schema.n_joint), *((a.name, parts[a.name], len(a.classes)) for a in schema.attributes)]


def _read(path: Path, problems: list[str]) -> list[tuple[int, str, str]]:
    """(line, id, answer) of every row that has both."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as handle:
            reader = csv.reader(handle)
            records = [(reader.line_num, record) for record in reader if record]
    except FileNotFoundError:
        raise DataError(f"{path}: expected a CSV file with {ID}, {ANSWER}, found none") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not readable as a CSV file in UTF-8 ({error})") from None
    if not records:
        problems.append(f"line 1: expected the header {ID},{ANSWER}, found an empty file")
        return []
    header = records[0][1]
    places = [_column(header, name, problems) for name in (ID, ANSWER)]
    if None in places:
        return []
    if header != [ID, ANSWER] and [name.strip() for name in header] == header and set(header) >= {ID, ANSWER}:
        problems.append(f"line 1: expected the header {ID},{ANSWER}, found {','.join(header)}; other columns, or order")
    if len(records) == 1:
        problems.append("line 2: expected a row for each photo, found none")
    lengths = [line for line, record in records[1:] if len(record) != len(header)]
    if lengths:
        problems.append(
            f"{len(lengths)} rows do not have {len(header)} fields as the header has, first line {lengths[0]}"
        )
    at_id, at_answer = (place for place in places if place is not None)
    return [(line, record[at_id], record[at_answer]) for line, record in records[1:] if len(record) == len(header)]


def _column(header: Sequence[str], name: str, problems: list[str]) -> int | None:
    """Where a column stands, also when it is written a little otherwise."""
    if name in header:
        return list(header).index(name)
    alike = [place for place, found in enumerate(header) if found.strip().casefold() == name.casefold()]
    if alike:
        problems.append(f'line 1: expected the column {name}, found "{header[alike[0]]}"; rename it')
        return alike[0]
    semicolons = "; it is separated by semicolons: save it with commas" if ";" in "".join(header) else ""
    problems.append(f"line 1: expected the column {name}, found {', '.join(header)}{semicolons}")
    return None


def _check_ids(rows: Sequence[tuple[int, str, str]], problems: list[str]) -> None:
    empty = [line for line, name, _ in rows if not name.strip()]
    if empty:
        problems.append(f"{len(empty)} rows have no id, first line {empty[0]}")
    times = Counter(name for _, name, _ in rows if name.strip())
    twice = [name for name, count in times.items() if count > 1]
    if twice:
        answers: dict[str, set[str]] = {name: set() for name in twice}
        for _, name, answer in rows:
            if name in answers:
                answers[name].add(answer.strip())
        other = sum(len(found) > 1 for found in answers.values())
        problems.append(
            f'{len(twice)} ids occur more than once, {other} of them with different answers, first "{twice[0]}"'
        )


def _check_template(ids: Sequence[str], wanted: Sequence[str], problems: list[str]) -> None:
    here, there = set(ids), set(wanted)
    missing, extra = (
        [name for name in wanted if name not in here],
        [name for name in dict.fromkeys(ids) if name not in there],
    )
    extra = [name for name in extra if name.strip()]
    for cause, bare in LIKELY.items():
        if not missing or not extra:
            break
        by_bare: dict[str, list[str]] = {}
        for name in missing:
            by_bare.setdefault(bare(name), []).append(name)
        pairs = [(name, by_bare[bare(name)][0]) for name in extra if len(by_bare.get(bare(name), ())) == 1]
        if pairs:
            problems.append(
                f'{len(pairs)} ids are the template\'s with {cause}: found "{pairs[0][0]}", expected "{pairs[0][1]}"'
            )
            gone_extra, gone_missing = {name for name, _ in pairs}, {name for _, name in pairs}
            extra = [name for name in extra if name not in gone_extra]
            missing = [name for name in missing if name not in gone_missing]
    if missing:
        problems.append(f'{len(missing)} of the template\'s {len(wanted)} ids are missing, first "{missing[0]}"')
    if extra:
        problems.append(f'{len(extra)} ids are not in the template, first "{extra[0]}"')
    if here == there and len(ids) == len(wanted) and list(ids) != list(wanted):
        row = next(row for row, (one, other) in enumerate(zip(ids, wanted, strict=True)) if one != other)
        problems.append(
            f'the ids are not in the template\'s order: row {row + 1} is "{ids[row]}", expected "{wanted[row]}"; '
            '"ens vote FILE -o OUT --template TEMPLATE" writes them in order'
        )


def _bare(name: str) -> str:
    base = re.split(r"[/\\]", name.strip())[-1].casefold()
    return re.sub(r"\.(0+|[a-z]\w{1,4})$", "", base).lstrip("0")


def _check_answers(rows: Sequence[tuple[int, str, str]], n_joint: int, problems: list[str]) -> IntArray:
    """The joint classes of the answers that are some; what is wrong with the others, kind by kind."""
    kinds: dict[str, list[tuple[int, str]]] = {}
    labels = []
    for line, _, answer in rows:
        kind, label = _answer(answer, n_joint)
        if kind:
            kinds.setdefault(kind, []).append((line, answer))
        if label is not None:
            labels.append(label)
    for kind, found in kinds.items():
        problems.append(f'{len(found)} answers {kind}, first line {found[0][0]}: "{found[0][1]}"')
    return np.array(labels, dtype=np.int64)


def _answer(text: str, n_joint: int) -> tuple[str, int | None]:
    """What is wrong with an answer ("" = nothing), and the joint class it means, if any."""
    bare = text.strip()
    number = _NUMBER.fullmatch(bare)
    if not bare or bare.casefold() in ("nan", "none", "null", "na"):
        return "are empty", None
    if not number:
        return "are no numbers", None
    if (number[2] or ".").strip(".0"):
        return "are no whole numbers", None
    label = int(number[1]) * (-1 if bare.startswith("-") else 1)
    if not 0 <= label < n_joint:
        return f"are outside 0 to {n_joint - 1}", None
    if text != str(label):
        return 'are not written as plain integers (13, not 13.0); "ens vote FILE -o OUT" writes them so', label
    return "", label


def _shares(classes: tuple[str, ...], answers: IntArray, training: IntArray) -> Shares:
    p, q = answers / answers.sum(), training / training.sum()
    both: FloatArray = p + q
    chi_square = np.divide((p - q) ** 2, both, out=np.zeros(len(p)), where=both > 0).sum() / 2
    spread = np.sqrt(2 / np.pi * q * (1 - q) * (1 / answers.sum() + 1 / training.sum()))  # mean of |normal|
    distance = float(np.abs(p - q).sum() / 2)
    return Shares(classes, p.tolist(), q.tolist(), distance, float(chi_square), float(spread.sum() / 2))
