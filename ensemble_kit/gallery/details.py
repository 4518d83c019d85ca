"""What a click on a photo of a gallery shows."""

from __future__ import annotations

from typing import Any

import numpy as np

from ensemble_kit.arrays import BoolArray, FloatArray, IntArray
from ensemble_kit.gallery.board import packed, packed_probs
from ensemble_kit.gallery.causes import Asked, columns_of
from ensemble_kit.gallery.facts import GalleryFacts, Voice
from ensemble_kit.predictions import Predictions

SHOWN_CLASSES = 12
"""Classes of an expert that a photo's details show: the most probable ones, the answer and the truth among them."""
SHOWN_JOINT = 5
MANY_EXPERTS = 12
"""Where there are more experts, a photo's details hold those alone that had a say in it."""
LEAST_SAY = 0.01
"""The least share of a gate that counts as a say."""


def gallery_details(facts: GalleryFacts, rows: IntArray) -> dict[str, Any]:
    """What a click on a photo shows, of some of the photos: every expert, every checkpoint, the belief, the joint."""
    names = facts.schema.joint_names()
    shown = min(SHOWN_JOINT, len(names))
    joint = facts.joint[rows]
    top = np.argsort(-joint, axis=1, kind="stable")[:, :shown]
    used = sorted(set(top.ravel().tolist()))
    place = np.full(len(names), 0, dtype=np.int64)
    place[used] = np.arange(len(used))
    return {
        "experts": [_voice_json(facts, voice, rows, few=len(facts.voices) > MANY_EXPERTS) for voice in facts.voices],
        "ways": [
            {
                "node": way.node,
                "states": list(way.states),
                "experts": list(way.experts),
                "belief": packed_probs(way.belief[rows]),
                "gate": packed_probs(way.gate[rows]),
            }
            for way in facts.ways
        ],
        "joint": [
            {
                "title": "",
                "names": [names[number] for number in used],
                "shown": shown,
                "top": packed(place[top], np.uint32),
                "probs": packed_probs(np.take_along_axis(joint, top, axis=1)),
            }
        ],
    }


def _voice_json(facts: GalleryFacts, voice: Voice, all_rows: IntArray, *, few: bool) -> dict[str, Any]:
    places = np.flatnonzero(_told(facts, voice)[all_rows]) if few else np.arange(len(all_rows))
    rows = all_rows[places]
    one = next((asked for asked in facts.asked if asked.node.name == voice.node), None)
    kept = _kept_columns(voice, one, None if one is None else facts.experts[voice.number], rows)

    def shown(values: FloatArray) -> str:
        return packed_probs(values[rows] if kept is None else np.take_along_axis(values[rows], kept, axis=1))

    decided = np.zeros(len(rows)) if one is None else one.expert[rows] == voice.number
    return {
        "name": voice.name,
        "attributes": list(voice.attributes),
        "used": one is not None,
        "places": packed(places, np.uint32) if few else None,
        "classes": list(voice.classes),
        "voters": list(voice.voters),
        "shown": len(voice.classes) if kept is None else int(kept.shape[1]),
        "kept": None if kept is None else packed(kept, np.uint32),
        "probs": [shown(layer) for layer in voice.probs],
        "voted": shown(voice.voted),
        "asked": packed(voice.asked[rows], np.uint8),
        "decided": packed(decided, np.uint8),
    }


def _told(facts: GalleryFacts, voice: Voice) -> BoolArray:
    """`(n_photos,)`: whether an expert was asked and had a say in it: it decided, or its states kept `LEAST_SAY`."""
    way = next((way for way in facts.ways if way.node == voice.node), None)
    if way is None:
        return voice.asked
    one = next(asked for asked in facts.asked if asked.node.name == voice.node)
    own = np.flatnonzero(one.expert_of_state == voice.number)
    say = np.asarray(way.gate[:, own].sum(axis=1) >= LEAST_SAY)
    return np.asarray(voice.asked & (say | (one.expert == voice.number)))


def _kept_columns(voice: Voice, one: Asked | None, expert: Predictions | None, rows: IntArray) -> IntArray | None:
    """`(n_rows, SHOWN_CLASSES)` columns to show: the most probable, the answer and the truth with them; None = all."""
    voted = np.nan_to_num(voice.voted[rows], nan=-1.0)
    if voted.shape[1] <= SHOWN_CLASSES:
        return None
    first = voted.copy()
    for place, wanted in enumerate(() if one is None else (one.said, one.true)):
        if wanted is not None and one is not None and expert is not None:
            column = np.where(wanted[rows] < 0, -1, columns_of(one, expert)[np.maximum(wanted[rows], 0)])
            known = np.flatnonzero(column >= 0)
            first[known, column[known]] = 3 - place
    chosen = np.argsort(-first, axis=1, kind="stable")[:, :SHOWN_CLASSES]
    by_prob = np.argsort(-np.take_along_axis(voted, chosen, axis=1), axis=1, kind="stable")
    return np.take_along_axis(chosen, by_prob, axis=1).astype(np.int64)
