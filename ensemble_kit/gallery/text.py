"""The sentences of a gallery: pure functions of its numbers."""

from __future__ import annotations

from ensemble_kit.gallery.facts import GalleryFacts
from ensemble_kit.pages.numbers import count, listing, percent


def gallery_sentences(facts: GalleryFacts, scored_on: str) -> list[str]:
    """What a gallery shows, in a few sentences."""
    n_photos, n_silent = len(facts), int((facts.said < 0).sum())
    silent = f" {count(n_silent, 'photo')} got no answer." if n_silent else ""
    if facts.truth is None:
        return [
            f"{count(n_photos, 'photo')}: {scored_on}. Their truth is not known, so the least confident answers come "
            f"first, and the signs of doubt can be filtered.{silent}"
        ]
    known = int(((facts.truth >= 0) & (facts.said >= 0)).sum())
    n_wrong = int(facts.wrong.sum())
    if not known:
        return [f"{count(n_photos, 'photo')}: {scored_on}. None of them has both an answer and a known truth.{silent}"]
    first = (
        f"{n_wrong:,} of {known:,} photos are wrong ({percent(n_wrong / known)}): {scored_on}."
        if n_wrong
        else f"All {count(known, 'photo')} are right: {scored_on}."
    )
    return [f"{first}{silent}", *([wrong_sentence(facts)] if n_wrong else [])]


def wrong_sentence(facts: GalleryFacts) -> str:
    """What the wrong ones have wrong, and how sure they were."""
    assert facts.truth is not None
    said, true = facts.schema.decode(facts.said), facts.schema.decode(facts.truth)
    wrong, n_wrong = facts.wrong, int(facts.wrong.sum())
    counts = {name: int((wrong & (said[name] != true[name])).sum()) for name in facts.schema.names}
    ordered = sorted((name for name in counts if counts[name]), key=lambda name: -counts[name])
    parts = listing([f"{name} in {counts[name]:,}" for name in ordered], most=6)
    sure = facts.sure[wrong]
    high = int((sure >= 0.9).sum())
    told = (
        f"{high:,} of them were answered with a probability of 0.9 or more"
        if high
        else (f"none of them was answered with a probability of 0.9 or more, the highest is {sure.max():.2f}")
    )
    several = " (some photos have several)" if sum(counts.values()) > n_wrong else ""
    return f"Of the wrong ones, {parts} is wrong{several}; {told}."


def shown_sentence(facts: GalleryFacts, n_shown: int) -> str:
    """How many of the photos the page holds."""
    if n_shown == len(facts):
        return f"All {count(n_shown, 'photo')} are in this page."
    chosen = (
        "the wrong ones, most confident first, then the least confident"
        if facts.wrong.any()
        else ("the least confident answers")
    )
    return f"{n_shown:,} of {count(len(facts), 'photo')} are in this page: {chosen}. More with --limit."


def photos_sentence(has_photos: bool, has_heat: bool = False) -> str:
    """Whether photos of people are inside: whoever passes the page on should know."""
    if not has_photos:
        return "No photos are in this page; they are put in only where --photos asks for them."
    heat = ", and for the first ones a map of where the expert that decided looked" if has_heat else ""
    return (
        f"This page holds the photos themselves, made small{heat}, because --photos asked for them: pass it on as you "
        "would pass on the photos."
    )
