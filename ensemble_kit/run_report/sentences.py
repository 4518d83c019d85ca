"""What the pictures of training data, learning and answers show, in sentences: pure functions of the facts."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from ensemble_kit.columns import wrap
from ensemble_kit.pages.numbers import count, estimate, listing, percent, score
from ensemble_kit.run_report.facts import (
    JOINT,
    AnswerFacts,
    ClassScore,
    Curve,
    DataFacts,
    LabelFacts,
    NumberFacts,
    RunReport,
)

ALIKE = 0.01
"""Mean confidence and share right closer than this are called alike."""

TOWER, BELOW = 3.0, 5
"""The highest number is called a cap where it has so many times the photos of each of the numbers below."""

RISEN = 1.05
"""A validation loss this much above its lowest has risen."""

TARGET = 0.1
"""The share of wrong answers that a risk-coverage curve is read at."""

NAMED = 3


def on_scores(report: RunReport) -> str:
    """The headline: how many answers are right, and the score of the task."""
    joint, *attributes = report.answers
    people = f" of {count(report.n_scored_people, 'person', 'people')}" if report.n_scored_people else ""
    right = estimate(joint.score.accuracy, joint.score.accuracy_interval)
    macro = estimate(joint.score.macro_f1, joint.score.macro_f1_interval)
    what = "the right joint class" if joint.what == JOINT and attributes else f"the right {_only(report)}"
    text = f"Of {count(report.n_scored, 'photo')}{people}, a share of {right} gets {what}; "
    text += f"macro F1 over {len(joint.names)} classes is {macro}."
    return text


def on_attributes(report: RunReport) -> str:
    """Which attribute is the easiest and which the hardest."""
    joint, *attributes = report.answers
    if len(attributes) < 2:
        return f"Macro F1 is {estimate(joint.score.macro_f1, joint.score.macro_f1_interval)}."
    easy = max(attributes, key=lambda one: one.score.macro_f1)
    hard = min(attributes, key=lambda one: one.score.macro_f1)
    if easy.score.macro_f1 == hard.score.macro_f1:
        return f"All attributes are answered alike (macro F1 {score(easy.score.macro_f1)})."
    return (
        f"Of the attributes, {easy.what} is the easiest (macro F1 {score(easy.score.macro_f1)}) and {hard.what} the "
        f"hardest ({score(hard.score.macro_f1)}); a joint answer is right where all of them are."
    )


def in_short(report: RunReport) -> list[str]:
    """For a terminal: the headline, what to do first, and what is not there."""
    lines = [f"{report.name}: {report.task}"]
    if report.answers:
        lines += [on_scores(report), f"scored on {report.scored_on}; {report.read_as}"]
    if report.diagnosis is not None and report.diagnosis.advice:
        lines.append(f"first: {report.diagnosis.advice[0]}")
    lines += [f"not in it: {one.reason}" + (f' ("{one.command}")' if one.command else "") for one in report.missing]
    return [wrap(line) for line in lines]


def _only(report: RunReport) -> str:
    return report.data.labels[0].what


def on_data(data: DataFacts) -> str:
    """How many photos of whom, and how they are divided."""
    if data.n_people == data.n_photos:
        text = f"{count(data.n_photos, 'photo')}, each counted as a person of its own"
    else:
        each = data.n_photos / max(1, data.n_people)
        text = f"{count(data.n_photos, 'photo')} of {count(data.n_people, 'person', 'people')} ({each:.1f} each)"
    n_folds = len(data.n_held_out)
    if n_folds == 1:
        verb = "is" if data.n_held_out[0] == 1 else "are"
        text += f"; {count(data.n_held_out[0], 'photo')} of them {verb} held out"
    elif n_folds:
        low, high = min(data.n_held_out), max(data.n_held_out)
        between = f"{count(low, 'photo')} each" if low == high else f"{low:,} to {high:,} photos"
        text += f", divided into {n_folds} folds of {between}"
        if not data.n_training_only and data.n_people < data.n_photos:
            apart = sum(data.n_held_out_people) == data.n_people
            text += (
                "; nobody is in two folds" if apart else "; some people are in several folds, so scores are too good"
            )
    if data.n_training_only:
        text += f"; {count(data.n_training_only, 'photo is', 'photos are')} trained on only and never held out"
    return text + "."


def on_labels(labels: LabelFacts) -> str:
    """Which class is most and which least frequent, and whether the folds are alike."""
    total = sum(one.n_photos for one in labels.classes)
    if not total:
        return f"No photo is labelled with {labels.what}."
    most = max(labels.classes, key=lambda one: one.n_photos)
    least = min(labels.classes, key=lambda one: one.n_photos)
    if most.n_photos == least.n_photos:
        text = f"All {len(labels.classes)} classes have {count(most.n_photos, 'photo')}"
    else:
        first = [one.name for one in labels.classes if one.n_photos == most.n_photos]
        share = f"{percent(most.n_photos / total)}{' each' if len(first) > 1 else ''}"
        text = f"Most photos are {listing(first, 'or', most=NAMED)} ({share})"
        empty = [one.name for one in labels.classes if not one.n_photos]
        if empty:
            verb = "has" if len(empty) == 1 else "have"
            text += f"; {listing(empty, most=NAMED)} {verb} none"
        else:
            times = most.n_photos / least.n_photos
            rarest = [one.name for one in labels.classes if one.n_photos == least.n_photos]
            share = f"{percent(least.n_photos / total)}{' each' if len(rarest) > 1 else ''}"
            text += f", fewest {listing(rarest, most=NAMED)} ({share}), {times:.1f} times less often"
    unlabelled = (
        f" {count(labels.n_unlabelled, 'photo has', 'photos have')} no label of it." if labels.n_unlabelled else ""
    )
    return f"{text}.{unlabelled}{_on_folds(labels)}"


def _on_folds(labels: LabelFacts) -> str:
    n_folds = len(labels.classes[0].held_out)
    totals = [sum(one.held_out[fold] for one in labels.classes) for fold in range(n_folds)]
    if n_folds < 2 or not all(totals):
        return ""
    spread = {
        one.name: max(shares) - min(shares)
        for one in labels.classes
        if (shares := [n / total for n, total in zip(one.held_out, totals, strict=True)])
    }
    widest = max(spread, key=lambda name: spread[name])
    if spread[widest] < 0.0005:
        return " Every fold has the same shares."
    return f" Between folds a share differs by {spread[widest] * 100:.1f} points at most ({widest})."


def on_numbers(numbers: NumberFacts) -> str:
    """How many labels lie so near to a border that they might be on its other side, and whether there is a cap."""
    n = numbers.n_photos
    parts = [f"{percent(near / n)} lie so near to {border:g}" for border, near in numbers.near]
    text = f"Of {count(n, 'photo')}, {listing(parts)} that a label off by {numbers.reach:g} would be in another class."
    if is_capped(numbers):
        highest, photos = numbers.highest
        text += f" {count(photos, 'photo stands', 'photos stand')} at {highest:g} exactly, far more than just below: "
        text += "it is a cap."
    return text


def is_capped(numbers: NumberFacts) -> bool:
    """Whether the highest number has many times the photos of those just below."""
    below = [n for value, n in numbers.photos if numbers.highest[0] - BELOW <= value < numbers.highest[0]]
    return numbers.step == 1 and bool(below) and numbers.highest[1] > TOWER * sum(below) / BELOW


def on_curves(curves: Sequence[Curve]) -> str:
    """Of the trainings of one expert: where they end, and whether they had learned all there was."""
    ends = [value for one in curves if (value := _last(one.macro_f1)) is not None]
    n = len(curves)
    if not ends:
        return f"{count(n, 'training')}, without a validation score."
    low, high = min(ends), max(ends)
    alike = score(low) == score(high)
    span = score(low) if alike else f"between {score(low)} and {score(high)}"
    text = f"Validation macro F1 ends at {span}" if alike else f"Validation macro F1 ends {span}"
    text += f" over {n} trainings." if n > 1 else "."
    measured = [one for one in curves if sum(value is not None for value in one.macro_f1) > 1]
    if not measured:
        losses = [one.train_loss for one in curves if _last(one.train_loss) is not None and len(one.epochs) > 1]
        falling = sum(loss[-1] == min(v for v in loss if v is not None) for loss in losses)
        if losses:
            text += f" It was measured once, at the end; the training loss was still falling there in {falling} of "
            text += f"{len(losses)}."
        return text
    rising = sum(_best_epoch(one) == one.epochs[-1] for one in measured)
    text += f" In {rising} of {len(measured)} the last epoch is the best: " + (
        "more epochs may help." if rising > len(measured) / 2 else "more epochs promise little."
    )
    risen = [one for one in measured if has_risen(one.val_loss)]
    if risen:
        text += f" In {len(risen)} the validation loss has risen again, a sign of learning by heart."
    return text


def has_risen(losses: Sequence[float | None]) -> bool:
    known = [value for value in losses if value is not None]
    return len(known) > 1 and known[-1] > RISEN * min(known)


def _last(values: Sequence[float | None]) -> float | None:
    return next((value for value in reversed(values) if value is not None), None)


def _best_epoch(curve: Curve) -> int:
    """The first epoch of the highest validation score."""
    pairs = [(value, -epoch) for epoch, value in zip(curve.epochs, curve.macro_f1, strict=True) if value is not None]
    return -max(pairs)[1]


def by_expert(curves: Sequence[Curve]) -> list[tuple[str, list[Curve]]]:
    return [(name, list(own)) for name, own in groupby(curves, key=lambda one: one.expert)]


def mistakes(answer: AnswerFacts) -> list[tuple[int, int, int]]:
    """(photos, true class, class answered), the most frequent first."""
    cells = [
        (n, i, j)
        for i, row in enumerate(answer.confusion)
        for j, n in enumerate(row[: len(answer.names)])
        if i != j and n
    ]
    return sorted(cells, key=lambda cell: (-cell[0], cell[1], cell[2]))


def on_confusion(answer: AnswerFacts) -> str:
    """The most frequent mistakes."""
    found = mistakes(answer)
    n_silent = sum(row[-1] for row in answer.confusion)
    silent = f" {count(n_silent, 'photo')} got no answer." if n_silent else ""
    if not found:
        return f"No photo got a wrong class.{silent}"
    n, i, j = found[0]
    n_wrong = sum(cell[0] for cell in found)
    text = (
        f"{n_wrong:,} of {count(answer.n_photos, 'photo')} got a wrong class; most often {answer.names[i]} is called "
        f"{answer.names[j]}: {count(n, 'photo')}, {percent(n / sum(answer.confusion[i]))} of all {answer.names[i]}"
    )
    if len(found) > 1:
        n, i, j = found[1]
        text += f"; then {answer.names[i]} is called {answer.names[j]} ({n:,})"
    return f"{text}.{silent}"


def on_classes(answer: AnswerFacts) -> str:
    """The class found best and the one found worst, of those that occur."""
    there = [one for one in answer.classes if one.n_photos]
    absent = len(answer.classes) - len(there)
    if not there:
        return "No class has a photo here."
    best, worst = max(there, key=lambda one: one.f1), min(there, key=lambda one: one.f1)
    if len(there) == 1:
        text = f"F1 of {best.name} is {_told(best)}."
    elif best.f1 == worst.f1:
        text = f"All classes have the same F1, {score(best.f1)}."
    else:
        last = [one.name for one in there if score(one.f1) == score(worst.f1)]
        text = f"Found best is {best.name} (F1 {_told(best)}), "
        if len(last) > 1:
            return (
                f"{text}worst are {len(last)} classes with {score(worst.f1)}, among them {last[0]}.{_on_absent(absent)}"
            )
        text += f"worst {worst.name} ({_told(worst)})."
        if best.f1_interval and worst.f1_interval:
            overlap = worst.f1_interval[1] >= best.f1_interval[0]
            text += " Their intervals overlap." if overlap else " Their intervals lie apart."
    return text + _on_absent(absent)


def _on_absent(n: int) -> str:
    verbs = ("class has", "counts") if n == 1 else ("classes have", "count")
    return f" {n} {verbs[0]} no photo here and {verbs[1]} 0 in macro F1." if n else ""


def _told(one: ClassScore) -> str:
    who = f", {count(one.n_people, 'person', 'people')}" if one.n_people is not None else ""
    return f"{estimate(one.f1, one.f1_interval)} on {count(one.n_photos, 'photo')}{who}"


def on_reliability(answer: AnswerFacts) -> str:
    """Whether answers are as sure as they are right."""
    n = sum(row[2] for row in answer.reliability)
    if not n:
        return "No photo was answered."
    sure = sum(row[0] * row[2] for row in answer.reliability) / n
    right = sum(row[1] * row[2] for row in answer.reliability) / n
    gap = sure - right
    means = f"mean confidence {score(sure)}, share right {score(right)}"
    judged = (
        f"On average answers are as sure as they are right ({means})"
        if abs(gap) < ALIKE
        else f"Answers are too {'sure' if gap > 0 else 'unsure'}, by {abs(gap) * 100:.1f} points on average ({means})"
    )
    return f"{judged}; the expected calibration error is {score(answer.ece)}."


def wrong_at(answer: AnswerFacts, share: float) -> float:
    """Share of wrong answers among the surest `share` of the photos: at the first point that reaches it."""
    return next((risk for coverage, risk in answer.coverage if coverage >= share - 1e-12), answer.coverage[-1][1])


def most_answered(answer: AnswerFacts, target: float) -> float:
    """The largest share of the photos that may be answered with at most `target` wrong ones among them."""
    return max((coverage for coverage, risk in answer.coverage if risk <= target), default=0.0)


def on_coverage(answers: Sequence[AnswerFacts]) -> str:
    """What is gained by answering the surest photos only."""
    first = answers[0]
    half, whole = wrong_at(first, 0.5), first.coverage[-1][1]
    what = "joint answers" if first.what == JOINT else f"answers to {first.what}"
    text = f"Of all {what} {percent(whole)} are wrong, of the surest half {percent(half)}"
    text += ": confidence tells little here." if half > 0.8 * whole and whole else "."
    reached = most_answered(first, TARGET)
    if whole <= TARGET:
        return text
    goal = percent(TARGET, 0)
    if not reached:
        return f"{text} No share of the photos can be answered with {goal} wrong or fewer."
    return f"{text} With {goal} wrong or fewer, the surest {percent(reached)} of the photos can be answered."
