"""Sections on the data, on learning and on the answers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ensemble_kit.pages.charts import (
    Bar,
    Bin,
    Line,
    draw_bars,
    draw_columns,
    draw_confusion,
    draw_confusion_picture,
    draw_lines,
    draw_reliability,
    draw_shares,
)
from ensemble_kit.pages.numbers import count, estimate, percent, score
from ensemble_kit.run_report import sentences as say
from ensemble_kit.run_report.facts import JOINT, AnswerFacts, ClassScore, Curve, LabelFacts, RunReport
from ensemble_kit.run_report.layout import Column, Figure, Numbers, Section

READABLE = 8
"""Classes up to which confusion is a table at once; above, it is a picture with the table behind it."""

TABLE = 20
"""Classes up to which there is such a table at all."""

MOST_BARS = 20
FEW = 0.05
"""Below this share of the photos a risk is that of a handful: a curve's axis does not have to hold it."""
MOST_CURVES = 8
MOST_MISTAKES = 25
MOST_STACKED = 8


def data_section(report: RunReport) -> Section:
    """What was trained on, and on whom."""
    data = report.data
    figures = [_labels(one) for one in data.labels if len(one.classes) <= MOST_STACKED]
    for numbers in data.numbers:
        sentence = say.on_numbers(numbers)
        title = f"{numbers.attribute}: numbers and borders"
        picture = draw_columns(
            dict(numbers.photos),
            title,
            sentence,
            x_name=numbers.attribute,
            y_name="photos",
            borders=numbers.borders,
            step=numbers.step,
        )
        rows = [[f"{value:g}", f"{n:,}"] for value, n in numbers.photos]
        table = Numbers("Photos of each number", [numbers.attribute, ("photos", "number")], rows)
        figures.append(Figure(title, sentence, picture, table))
    figures += [_many_labels(one) for one in _once(data.labels) if len(one.classes) > MOST_STACKED]
    return Section("data", "Data", "What it was trained on", [say.on_data(data)], figures)


def _once(labels: Sequence[LabelFacts]) -> list[LabelFacts]:
    """Without the joint class where an attribute has as many classes: a taxonomy's last level says it all."""
    return [
        one
        for one in labels
        if one.what != JOINT or all(len(other.classes) != len(one.classes) for other in labels if other.what != JOINT)
    ]


def _told_once(answers: Sequence[AnswerFacts]) -> list[AnswerFacts]:
    """The same of answers: attributes first, the joint class where it is none of them."""
    joint, attributes = answers[:1], answers[1:]
    same = any(len(one.names) == len(joint[0].names) for one in attributes) if joint else False
    return [*attributes, *(() if same else joint)]


def _labels(labels: LabelFacts) -> Figure:
    names = [one.name for one in labels.classes]
    n_folds = len(labels.classes[0].held_out)
    rows: list[tuple[str, list[float]]] = [("all photos", [float(one.n_photos) for one in labels.classes])]
    if n_folds > 1:
        rows += [(f"fold {k}", [float(one.held_out[k]) for one in labels.classes]) for k in range(n_folds)]
    sentence, title = say.on_labels(labels), f"{labels.what}: shares of the classes"
    return Figure(title, sentence, draw_shares(rows, names, title, sentence), _counts(labels))


def _many_labels(labels: LabelFacts) -> Figure:
    shown = sorted(labels.classes, key=lambda one: -one.n_photos)
    few = shown if len(shown) <= MOST_BARS else [*shown[: MOST_BARS // 2], *shown[-MOST_BARS // 2 :]]
    sentence, title = say.on_labels(labels), f"{labels.what}: photos of each class"
    if len(few) < len(shown):
        title = f"{labels.what}: the {MOST_BARS // 2} most and least frequent of {len(shown)} classes"
    bars = [Bar(one.name, float(one.n_photos)) for one in few]
    most = max([1.0, *(bar.value for bar in bars)])
    picture = draw_bars(bars, title, sentence, limits=(0, most), write=lambda value, _: f"{value:,.0f}")
    return Figure(title, sentence, picture, _counts(labels))


def _counts(labels: LabelFacts) -> Numbers:
    n_folds = len(labels.classes[0].held_out)
    folds: list[Column] = [(f"fold {k}", "number") for k in range(n_folds)]
    rows = [
        [one.name, f"{one.n_photos:,}", f"{one.n_people:,}", *(f"{n:,}" for n in one.held_out)]
        for one in labels.classes
    ]
    columns: list[Column] = [labels.what, ("photos", "number"), ("people", "number"), *folds]
    return Numbers("Photos and people of each class, and photos that each fold holds out", columns, rows)


def learning_section(report: RunReport) -> Section:
    """The learning curves of each expert, a line a training."""
    figures = [_curves(name, own) for name, own in say.by_expert(report.curves)]
    seconds = sum(one.seconds for one in report.curves)
    says = [f"{count(len(report.curves), 'training')} took {duration(seconds)} in all."] if report.curves else []
    missing = [one for one in report.missing if one.what in ("curves", "folds")]
    more = f"{len(figures) - MOST_CURVES} more experts" if len(figures) > MOST_CURVES else ""
    return Section(
        "learning",
        "Learning",
        "How it learned",
        says,
        figures[:MOST_CURVES],
        more,
        figures[MOST_CURVES:],
        missing=missing,
    )


def duration(seconds: float) -> str:
    """
    Examples:
        >>> duration(12), duration(200), duration(4000)
        ('12 s', '3 min 20 s', '1 h 6 min')
    """
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _curves(name: str, curves: Sequence[Curve]) -> Figure:
    """Validation macro F1 where it was measured along the way, else the losses."""
    sentence = say.on_curves(curves)
    scored = any(sum(value is not None for value in one.macro_f1) > 1 for one in curves)
    lines = []
    for number, one in enumerate(curves):
        training = f"fold {one.fold}" + (f", seed {one.seed}" if len({c.seed for c in curves}) > 1 else "")
        main = one.macro_f1 if scored else one.train_loss
        known = dict(zip(one.epochs, main, strict=True))
        kept = one.kept_epoch
        marked = (
            [(float(kept), float(value), f"{training}: kept, epoch {kept}")]
            if (kept is not None and (value := known.get(kept)) is not None)
            else []
        )
        lines.append(Line(training, one.epochs, _numbers(main), number, marked=marked))
        if not scored and any(value is not None for value in one.val_loss):
            lines.append(Line(training, one.epochs, _numbers(one.val_loss), number, dashed=True))
    what = "validation macro F1" if scored else "training loss (a single dot: validation)"
    title = name
    picture = draw_lines(lines, f"{name}: {what}", sentence, x_name="epoch", y_name=what, height=230)
    return Figure(title, sentence, picture, _epochs(curves))


def _numbers(values: Sequence[float | None]) -> list[float]:
    return [math.nan if value is None else value for value in values]


def _epochs(curves: Sequence[Curve]) -> Numbers:
    rows = [
        [f"fold {one.fold}, seed {one.seed}, epoch {epoch}", score(a), score(b), score(c)]
        for one in curves
        for epoch, a, b, c in zip(one.epochs, one.train_loss, one.val_loss, one.macro_f1, strict=True)
    ]
    named = [("training loss", "number"), ("validation loss", "number"), ("validation macro F1", "number")]
    return Numbers("Every epoch", ["training", *named], rows)


def answers_section(report: RunReport) -> Section:
    """Confusion and every class, of the joint class and of each attribute."""
    figures: list[Figure] = []
    for answer in _told_once(report.answers):
        figures += [_confusion(answer), _classes(answer)]
    says = [f"Scored on {report.scored_on}; {report.read_as}."] if report.answers else []
    missing = [one for one in report.missing if one.what in ("answers", "evaluation")]
    return Section("answers", "Answers", "What it answers", says, figures, missing=missing)


def _confusion(answer: AnswerFacts) -> Figure:
    counts, sentence = np.array(answer.confusion, dtype=np.int64), say.on_confusion(answer)
    title = f"{answer.what}: true class against answer"
    if len(answer.names) <= READABLE:
        caption = f"{answer.what}: photos, and their share of the true class"
        return Figure(title, sentence, draw_confusion(counts, answer.names, caption), is_wide=len(answer.names) > 4)
    picture = draw_confusion_picture(counts, answer.names, title, sentence)
    rows = [
        [f"{answer.names[i]} called {answer.names[j]}", f"{n:,}", percent(n / sum(answer.confusion[i]))]
        for n, i, j in say.mistakes(answer)[:MOST_MISTAKES]
    ]
    columns: list[Column] = ["mistake", ("photos", "number"), ("of the true class", "number")]
    return Figure(title, sentence, picture, Numbers("The most frequent mistakes", columns, rows))


def _classes(answer: AnswerFacts) -> Figure:
    sentence, title = say.on_classes(answer), f"{answer.what}: F1 of each class"
    there = [one for one in answer.classes if one.n_photos]
    shown: Sequence[ClassScore] = answer.classes
    if len(shown) > MOST_BARS:
        shown = sorted(there, key=lambda one: one.f1)[:MOST_BARS]
        title = f"{answer.what}: the {len(shown)} classes with the lowest F1, of {len(answer.classes)}"
    bars = [Bar(one.name, one.f1, one.f1_interval, note=count(one.n_photos, "photo")) for one in shown]
    rows = [
        [
            one.name,
            str(number),
            f"{one.n_photos:,}",
            "" if one.n_people is None else f"{one.n_people:,}",
            score(one.precision),
            score(one.recall),
            estimate(one.f1, one.f1_interval),
        ]
        for number, one in enumerate(answer.classes)
    ]
    named = [(name, "number") for name in ("number", "photos", "people", "precision", "recall", "F1")]
    return Figure(title, sentence, draw_bars(bars, title, sentence), Numbers("Every class", ["class", *named], rows))


def trust_section(report: RunReport) -> Section:
    """Reliability of every answer, and risk against coverage."""
    figures = []
    if report.answers:
        sentence = say.on_coverage(report.answers)
        lines = [
            Line(one.what, [c for c, _ in one.coverage], [r for _, r in one.coverage], number)
            for number, one in enumerate(report.answers)
        ]
        title = "Answering only the surest photos"
        risks = [risk for one in report.answers for share, risk in one.coverage if share >= FEW]
        highest = min(1.0, 1.1 * max(0.05, *risks))
        picture = draw_lines(
            lines,
            title,
            sentence,
            x_name="share of the photos answered",
            y_name="share wrong of these",
            x_limits=(0, 1),
            y_limits=(0, highest),
        )
        figures.append(Figure(title, sentence, picture))
    for answer in _told_once(report.answers):
        title, sentence = f"{answer.what}: confidence and truth", say.on_reliability(answer)
        bins = [Bin(*one) for one in answer.reliability]
        rows = [[score(one.confidence), score(one.accuracy), f"{one.n:,}"] for one in bins]
        columns: list[Column] = ["mean confidence", ("share right", "number"), ("photos", "number")]
        figures.append(Figure(title, sentence, draw_reliability(bins, title, sentence), Numbers("Bins", columns, rows)))
    says = ["The joint class is as sure as the route makes it; each attribute is read from the soft chain."]
    missing = [one for one in report.missing if one.what == "answers"]
    return Section("trust", "Confidence", "How far to believe it", says if figures else (), figures, missing=missing)


def summary_figure(report: RunReport) -> Figure | None:
    """Macro F1 of the joint class and of each attribute."""
    if not report.answers:
        return None
    title, sentence = "Macro F1", say.on_attributes(report)
    bars = [
        Bar(one.what, one.score.macro_f1, one.score.macro_f1_interval, 0 if one.what == JOINT else 1)
        for one in report.answers
    ]
    rows = [
        [
            one.what,
            f"{len(one.names)}",
            estimate(one.score.accuracy, one.score.accuracy_interval),
            estimate(one.score.macro_f1, one.score.macro_f1_interval),
        ]
        for one in report.answers
    ]
    columns: list[Column] = ["", ("classes", "number"), ("accuracy", "number"), ("macro F1", "number")]
    return Figure(title, sentence, draw_bars(bars, title, sentence), Numbers("Accuracy and macro F1", columns, rows))
