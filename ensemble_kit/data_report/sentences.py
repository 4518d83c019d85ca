"""What each figure of a data report shows, said from its numbers. Pure functions: other numbers, other sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ensemble_kit.data.check import FoldReport, PartReport
from ensemble_kit.data_report.doubts import LabelDoubts
from ensemble_kit.data_report.duplicates import Duplicates
from ensemble_kit.data_report.facts import DataFacts, Measured
from ensemble_kit.data_report.hashing import BITS, NEAR
from ensemble_kit.data_report.measures import Sizes, Spread
from ensemble_kit.pages.numbers import count, listing, percent
from ensemble_kit.schema import NEAR_BORDER

RARE = 30
"""A class of fewer photos than this is scored by chance."""

FAR_APART = 0.05
"""A share that differs by so much between the parts is worth a sentence."""

MANY = 0.02
"""A share of the photos above which pairs that look alike are taken for the nature of the photos."""

WEAK = 0.8
"""A run that answers fewer of the labels as they are finds more errors of its own than of the labels."""


def said_holdings(facts: DataFacts) -> str:
    """What there is: photos, people, classes."""
    check = facts.check
    parts = [("training", check.train), *([("evaluation", check.eval)] if check.eval else [])]
    told = []
    for (name, part), has_people in zip(parts, facts.photos.has_people, strict=False):
        people = f" of {count(part.people, 'person', 'people')}" if has_people else ""
        told.append(f"{count(part.photos, f'{name} photo')}{people}{'' if part.attributes else ', unlabelled'}")
    schema = check.schema
    classes = listing([f"{a.name} {len(a.classes):,}" for a in schema.attributes], most=6)
    kind = "paths" if not schema.is_product else "joint classes"
    joint = f"; {schema.n_joint:,} {kind}" if len(schema.names) > 1 else ""
    return f"{' and '.join(told)}. Classes: {classes}{joint}."


def said_attribute(name: str, train: Mapping[str, tuple[int, int]], other: Mapping[str, tuple[int, int]]) -> str:
    """How unequal the classes of an attribute are, and where the parts differ.

    Args:
        train, other: class -> (photos, people) of the training and the evaluation part; "" = unlabelled.
    """
    labelled = {label: photos for label, (photos, _) in train.items() if label}
    total = sum(labelled.values())
    if not total:
        return f"No training photo is labelled with its {name}."
    most, least = max(labelled, key=lambda c: labelled[c]), min(labelled, key=lambda c: labelled[c])
    empty = [label for label, photos in labelled.items() if not photos]
    if len(labelled) == 1:
        told = f"All labelled training photos are {most}."
    elif empty:
        told = f"No training photo is {listing(empty, 'or', 3)}; {most} has {percent(labelled[most] / total)}."
    elif labelled[most] == labelled[least]:
        told = f"Every class has as many photos ({labelled[most]:,})."
    else:
        times = labelled[most] / labelled[least]
        told = (
            f"{most} has {percent(labelled[most] / total)} of the training photos, {least} "
            f"{percent(labelled[least] / total)}: {times:.1f} times as many."
        )
    missing = train.get("", (0, 0))[0]
    told += f" {count(missing, 'photo')} {'has' if missing == 1 else 'have'} no label." if missing else ""
    return told + _said_shift(labelled, {label: photos for label, (photos, _) in other.items() if label})


def _said_shift(train: Mapping[str, int], other: Mapping[str, int]) -> str:
    total, beside = sum(train.values()), sum(other.values())
    if not beside or not total:
        return ""
    gaps = {label: other.get(label, 0) / beside - train[label] / total for label in train}
    label = max(gaps, key=lambda c: abs(gaps[c]))
    if abs(gaps[label]) < FAR_APART:
        return " The evaluation photos have the same shares within 5 percentage points."
    return (
        f" The evaluation photos differ: {label} {percent(train[label] / total, 0)} in training, "
        f"{percent(other.get(label, 0) / beside, 0)} there."
    )


def said_joint(names: Sequence[str], part: PartReport) -> str:
    """Which joint classes are rare or empty."""
    counts = part.joint or []
    total = sum(counts)
    if not total:
        return "No training photo has every label, so there are no joint classes to count."
    order = sorted(range(len(counts)), key=lambda i: counts[i])
    empty = [names[i] for i in order if not counts[i]]
    rare = [names[i] for i in order if 0 < counts[i] < RARE]
    most, filled = order[-1], [i for i in order if counts[i]]
    told = f"The commonest is {names[most]} with {percent(counts[most] / total)} of the photos"
    if len(filled) > 1:
        last = [names[i] for i in filled if counts[i] == counts[filled[0]]]
        told += ", the rarest that " + ("occurs" if len(last) == 1 else "occur")
        told += f" {listing(last, most=3)} with {count(counts[filled[0]], 'photo')}{' each' if len(last) > 1 else ''}"
    told += f". {count(len(empty), 'class has', 'classes have')} no photo ({listing(empty, most=3)})." if empty else "."
    if rare:
        told += (
            f" {count(len(rare), 'class has', 'classes have')} fewer than {RARE} photos: their F1, an equal part of "
            "the mean, hangs on a few people."
        )
    return told


def said_folds(folds: FoldReport | None, problems: Sequence[str]) -> str:
    """How alike the folds are."""
    if folds is None:
        return f"Folds cannot be cut: {problems[0]}" if problems else "Folds cannot be cut."
    n_folds, widest, where = len(folds.photos), 0.0, ""
    for name, classes in folds.classes.items():
        for label, (total, held) in classes.items():
            for fold, n in enumerate(held):
                gap = n / max(folds.photos[fold], 1) - total / max(folds.total, 1)
                if abs(gap) > abs(widest):
                    widest, where = gap, f"{name} {label} in fold {fold}"
    sizes = f"{min(folds.photos):,} to {max(folds.photos):,}" if len(set(folds.photos)) > 1 else f"{folds.photos[0]:,}"
    kind = f"{n_folds} folds of {sizes} held-out photos" if n_folds > 1 else f"One share of {sizes} held-out photos"
    far = f"the share furthest from that of all photos is {where}, by {abs(widest) * 100:.1f} percentage points"
    return f"{kind}, nobody in two of them; {far if where else 'every share is that of all photos'}."


def said_fold(classes: Mapping[str, tuple[int, list[int]]], photos: Sequence[int]) -> str:
    """The class whose share changes most from fold to fold.

    Args:
        classes: class -> (photos in all, held-out photos of each fold).
        photos: held-out photos of each fold.
    """
    spans = {}
    for label, (_, held) in classes.items():
        shares = [n / max(1, total) for n, total in zip(held, photos, strict=True)]
        spans[label] = (min(shares), max(shares))
    label = max(spans, key=lambda name: spans[name][1] - spans[name][0])
    low, high = spans[label]
    if len(photos) == 1:
        return f"{percent(high)} of the held-out photos are {label}."
    if high - low < 0.001:
        return "Every class has the same share in all folds."
    return f"{label} changes most from fold to fold: {percent(low)} to {percent(high)} of the held-out photos."


def said_measured(name: str, one: Measured, people: bool) -> str:
    """How many stand near a border, and a cap."""
    who = ("person", "people") if people else ("photo", "photos")
    borders = listing([f"{border:g}" for border in one.borders])
    if not one.n_people:
        return f"No photo has a number for {name}."
    told = (
        f"{count(one.n_near, *who)} of {one.n_people:,} ({percent(one.n_near / one.n_people)}) "
        f"{'is' if one.n_near == 1 else 'are'} so near to a border ({borders}) that a label off by {NEAR_BORDER} would "
        "be in another class: a guess is easily on the wrong side there."
    )
    return told + _said_heaps(one) + _said_cap(one, who)


def _said_heaps(one: Measured) -> str:
    """Numbers that stick out between their neighbours: guesses are rounded."""
    heaps = []
    for number, n in list(one.people.items())[1:-1]:
        beside = [one.people.get(number + step, 0) for step in (-2, -1, 1, 2)]
        if n >= 8 and n >= 2.5 * max(1.0, sum(beside) / 4):
            heaps.append((n, number))
    if not heaps:
        return ""
    named = listing([f"{number:g}" for _, number in sorted(heaps, reverse=True)], most=3)
    return f" {named} {'stands' if len(heaps) == 1 else 'stand'} out between the neighbours, as rounded guesses do."


def _said_cap(one: Measured, who: tuple[str, str]) -> str:
    if one.cap is None:
        return ""
    n = one.people[one.cap]
    return f" {one.cap:g} looks like a cap: {count(n, *who)}, more than at the five numbers below it together."


def said_sizes(sizes: Sizes | None, total: int) -> str:
    """How alike the photos' sizes are."""
    if sizes is None:
        return "No photo could be read."
    kinds, n = sizes.counts, sum(sizes.counts.values())
    (width, height), most = next(iter(kinds.items()))
    unread = f" {count(total - n, 'photo')} could not be read." if total > n else ""
    if len(kinds) == 1:
        return f"{'The photo is' if n == 1 else f'All {n:,} photos are'} {width} x {height} pixels.{unread}"
    widths, heights = [w for w, _ in kinds], [h for _, h in kinds]
    turned = sum(count for (w, h), count in kinds.items() if (w > h) != (width > height) and w != h)
    told = (
        f"{len(kinds):,} sizes, {min(widths):,} to {max(widths):,} wide and {min(heights):,} to {max(heights):,} high; "
        f"the commonest, {width} x {height}, has {percent(most / n)} of the photos."
    )
    if turned and width != height:
        kind = "upright" if width > height else "lying"
        told += f" {count(turned, 'photo is', 'photos are')} {kind}, unlike these."
    return told + unread


def said_spread(one: Spread) -> str:
    """The middle half, and what lies far outside."""
    lower, median, upper = one.quartiles
    digits = 1 if one.name == "sharpness" else 0
    middle = f"{lower:.{digits}f} to {upper:.{digits}f}, the median is {median:.{digits}f}"
    told = f"Half of the photos have {one.name} {middle}."
    told += _said_side(one.n_low, OUTSIDE[one.name][0], one.fences[0], digits)
    told += _said_side(one.n_high, OUTSIDE[one.name][1], one.fences[1], digits)
    return told if one.n_low or one.n_high else f"{told} No photo lies far outside."


def _said_side(n: int, name: str, fence: float, digits: int) -> str:
    if not n:
        return ""
    return f" {count(n, 'photo lies', 'photos lie')} far outside: {name} than {fence:.{digits}f}."


OUTSIDE = {
    "brightness": ("darker", "brighter"),
    "contrast": ("flatter", "harder"),
    "sharpness": ("less sharp", "sharper"),
}
"""What a photo below or above the fences is called."""


def said_duplicates(found: Duplicates, people: bool) -> str:
    """How many pairs, what they do, and how far apart photos of others are anyway."""
    if not found.n_compared:
        return "No photo could be compared."
    if not found.n_pairs:
        whose = " of different people" if people else ""
        told = f"Among {count(found.n_compared, 'photo')} no two{whose} are one photo."
    else:
        same = sum(pair.is_same_file for pair in found.pairs)
        told = f"{_pairs(found.n_pairs, people)}, {f'{same:,}' if same else 'none'} of them byte by byte."
        told += _said_leaks(found)
        if found.n_pairs > MANY * found.n_compared and not same:
            told += " So many may mean that photos of this kind look alike by nature: look before believing it."
    return told + _said_nearest(found, people) + _said_rest(found, people)


def _pairs(n: int, people: bool) -> str:
    if people:
        return count(n, "pair of people shares a photo", "pairs of people share a photo")
    return count(n, "pair of photos is one photo", "pairs of photos are one photo")


def _said_leaks(found: Duplicates) -> str:
    parts = sum(pair.is_across_parts for pair in found.pairs)
    folds = sum(pair.is_across_folds for pair in found.pairs)
    differing = sum(bool(pair.differing) for pair in found.pairs)
    told = f" {count(parts, 'pair is', 'pairs are')} in training and evaluation at once." if parts else ""
    if folds:
        told += f" {count(folds, 'pair is', 'pairs are')} in two folds, so that held-out scores are too good."
    return told + (f" {count(differing, 'pair', 'pairs')} differ in a label." if differing else "")


def _said_nearest(found: Duplicates, people: bool) -> str:
    if found.typical_nearest is None:
        return ""
    closest, whose = min(found.nearest), "of somebody else" if people else "other one"
    return (
        f" A pair is called so up to {NEAR} of {BITS} bits; of {count(found.n_sampled, 'photo')} looked at the nearest "
        f"{whose} is {found.typical_nearest} bits away in the median, {closest} at the least."
    )


def _said_rest(found: Duplicates, people: bool) -> str:
    told = f" {count(found.n_flat, 'photo is', 'photos are')} too flat to be compared." if found.n_flat else ""
    if found.same_person:
        told += f" {count(found.same_person, 'file is', 'files are')} a copy of another one of the same person."
    if not found.eval_people_known:
        why = "Nobody knows who is on the evaluation photos, so those" if people else "Evaluation photos"
        told += f" {why} are compared with the training photos only."
    return told + (" The search ended at a million pairs." if found.is_cut else "")


def said_doubts(one: LabelDoubts, cut: str) -> str:
    """How many labels are in doubt, and how far the run can be trusted with that."""
    who = ("person", "people") if one.is_personal else ("photo", "photos")
    by = "cleanlab doubts" if cut == "cleanlab" else "another class is more probable for"
    if not one.n_units:
        return f"No labelled photo is predicted out of fold, so nothing is known about {one.name}."
    share = one.n_right / one.n_units
    told = f"Of {count(one.n_units, *who)} the run, out of fold, answers {percent(share)} as labelled; {by} "
    told += f"{count(len(one.doubts), 'label')}." if one.doubts else "no label."
    if not one.doubts:
        return told
    if share < WEAK:
        told += (
            f" It is wrong itself too often to be a judge of {one.name}: most of these are its errors, the first ones "
            "are worth a look."
        )
    near = [doubt for doubt in one.doubts if doubt.beside is not None and doubt.beside <= NEAR_BORDER]
    if near:
        told += (
            f" {count(len(near), 'label is', 'labels are')} within {NEAR_BORDER} of the class that is suggested, where "
            "nobody can tell."
        )
    whole = [doubt for doubt in one.doubts if doubt.n_photos > 1 and doubt.n_agree == doubt.n_photos]
    if whole:
        told += f" For {count(len(whole), *who)} all their photos agree against the label."
    return told


def said_problems(facts: DataFacts) -> str:
    """How many problems and notices."""
    problems, notices = len(facts.check.problems), len(facts.check.notices)
    files = len({problem.path for problem in facts.check.problems})
    told = (
        f"{count(problems, 'problem')} in {count(files, 'file or place', 'files or places')}"
        if problems
        else "No problem found"
    )
    return f"{told}{f'; {notices:,} worth knowing' if notices else ''}."


def said_sheets(facts: DataFacts, with_photos: bool) -> str:
    """What the contact sheets hold."""
    shown, classes = sum(len(sheet.photos) for sheet in facts.sheets), len(facts.sheets)
    what = f"{count(shown, 'photo')} of {count(classes, 'class', 'classes')}"
    if not with_photos:
        return f"No photo is in this page. With --photos it shows {what}."
    return f"{what}, spread over the people of each." if facts.photos.has_people[0] else f"{what}, evenly through each."


def said_first(facts: DataFacts) -> list[tuple[str, str]]:
    """What to look at first, the most harmful first: (section, sentence) pairs."""
    check, found, told = facts.check, facts.duplicates, []
    broken = sum(not decoded for decoded in facts.photos.looks.is_decoded.tolist())
    if broken:
        told.append(("problems", f"{count(broken, 'photo')} cannot be read."))
    other = len(check.problems) - broken
    if other > 0:
        told.append(("problems", f"{count(other, 'further problem' if broken else 'problem')} in files and tables."))
    if facts.n_shared_people:
        people = count(facts.n_shared_people, "person is", "people are")
        told.append(("duplicates", f"{people} in training and evaluation at once, by name."))
    if found.n_pairs:
        leaks = sum(pair.is_across_parts or pair.is_across_folds for pair in found.pairs)
        differ = sum(bool(pair.differing) for pair in found.pairs)
        more = [
            f"{n:,} {what}" for n, what in ((leaks, "on both sides of a split"), (differ, "with different labels")) if n
        ]
        pairs = _pairs(found.n_pairs, facts.photos.has_people[0])
        told.append(("duplicates", f"{pairs}{f': {listing(more)}' if more else ''}."))
    for one in facts.doubts:
        if one.doubts:
            told.append(("labels", f"{count(len(one.doubts), 'label')} of {one.name} in doubt."))
    counts = check.train.joint or []
    if len(check.schema.names) > 1 and counts and sum(counts):
        empty, rare = sum(n == 0 for n in counts), sum(0 < n < RARE for n in counts)
        words = [f"{n:,} {what}" for n, what in ((empty, "without a photo"), (rare, f"with fewer than {RARE}")) if n]
        if words:
            told.append(("classes", f"Of {len(counts):,} joint classes {listing(words)}."))
    for name, classes in check.train.attributes.items():
        beside = check.eval.attributes.get(name, {}) if check.eval else {}
        shift = _said_shift({c: n for c, (n, _) in classes.items() if c}, {c: n for c, (n, _) in beside.items() if c})
        if "differ" in shift:
            told.append(("classes", f"{name}:{shift.replace(' The evaluation photos differ:', '')}"))
    outside = sum(one.n_low + one.n_high for one in facts.spreads)
    if outside:
        told.append(("photos", f"{count(outside, 'photo')} far outside in brightness, contrast or sharpness."))
    return told
