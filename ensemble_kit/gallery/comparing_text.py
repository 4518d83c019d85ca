"""The sentences of a comparison: pure functions of its numbers."""

from __future__ import annotations

from pathlib import PurePath

from ensemble_kit.pages.numbers import count, difference, listing, percent, side_of
from ensemble_kit.submissions import CompareReport


def short_names(a: str, b: str) -> tuple[str, str]:
    """What two paths are called beside each other: their last parts, where these are alike the parts that differ.

    Examples:
        >>> short_names("x/a.csv", "y/b.csv"), short_names("runs/one/results/a.csv", "runs/two/results/a.csv")
        (('a.csv', 'b.csv'), ('one', 'two'))
        >>> short_names("a.csv", "old/a.csv"), short_names("a.csv", "a.csv")
        (('a.csv', 'old/a.csv'), ('a.csv', 'a.csv'))
    """
    one, other = PurePath(a), PurePath(b)
    if one.name != other.name or one == other:
        return one.name or a, other.name or b
    first, second = list(one.parts), list(other.parts)
    while first and second and first[-1] == second[-1]:
        first, second = first[:-1], second[:-1]
    while first and second and first[0] == second[0]:
        first, second = first[1:], second[1:]
    return ("/".join(first), "/".join(second)) if first and second else (a, b)


def comparison_sentences(report: CompareReport) -> list[str]:
    """Where two answers differ, and who is right there."""
    n_photos, n_differing = len(report.ids), len(report.differing)
    if not n_differing:
        return [f"a and b give the same answer to {'the one photo' if n_photos == 1 else f'all {n_photos:,} photos'}."]
    first = f"a and b differ on {n_differing:,} of {count(n_photos, 'photo')} ({percent(n_differing / n_photos)})"
    counts = {name: sum(n for n, _, _ in report.agreements[name].largest_changes()) for name in report.schema.names}
    ordered = sorted((name for name in counts if counts[name]), key=lambda name: -counts[name])
    same = [name for name in counts if not counts[name]]
    parts = listing([f"{name} on {counts[name]:,}" for name in ordered], most=6)
    never = f"; they never differ in {listing(same, 'or', most=6)}" if same else ""
    told = [f"{first}: in {parts}{never}."]
    return [*told, *_right_sentences(report)]


def _right_sentences(report: CompareReport) -> list[str]:
    """Who is right where they differ; which is better is said by an interval over people, else by McNemar's test."""
    if not report.verdicts:
        return []
    found = report.verdicts["joint"]
    gain, low, high = found.gains["accuracy"]
    interval = None if low is None or high is None else (low, high)
    ahead = "b" if gain > 0 else "a"
    if interval is not None:
        is_shown = side_of(interval) != 0
        by = "the interval over people leaves 0 out" if is_shown else "the interval over people holds 0"
    else:
        is_shown = found.p < 0.05
        by = f"McNemar's test, photos taken one by one, gives {p_text(found.p)}"
    verdict = f"{ahead} is better on these photos ({by})" if is_shown else f"neither is shown to be better ({by})"
    f1, f1_low, f1_high = found.gains["macro_f1"]
    f1_interval = None if f1_low is None or f1_high is None else (f1_low, f1_high)
    return [
        f"Where they differ, a is right on {found.only_a:,}, b on {found.only_b:,} and neither on {found.neither:,}: "
        f"{verdict}.",
        f"b minus a, of all photos: accuracy {difference(gain, interval)}, macro F1 {difference(f1, f1_interval)}.",
    ]


def p_text(p: float) -> str:
    """
    Examples:
        >>> p_text(0.0312), p_text(1e-9), p_text(1.0)
        ('p = 0.031', 'p < 0.001', 'p = 1.000')
    """
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def matrix_sentence(report: CompareReport, name: str) -> str:
    """The largest change of an attribute."""
    changes = report.agreements[name].largest_changes()
    if not changes:
        return f"a and b say the same of {name} everywhere."
    total = sum(n for n, _, _ in changes)
    n, old, new = changes[0]
    back = next((m for m, a, b in changes if (a, b) == (new, old)), 0)
    return (
        f"Most often {old} of a is {new} of b: {count(n, 'photo')} of the {total:,} on which {name} differs; the other "
        f"way round {back:,}."
    )


def size_sentence(n_shown: int, n_differing: int) -> str:
    if n_shown == n_differing:
        return "Every photo on which they differ is in this page."
    return f"{n_shown:,} of {count(n_differing, 'differing photo')} are in this page. More with --limit."
