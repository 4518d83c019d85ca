"""Voters of any kind and structure, joined by id, vote on the joint classes; block by block."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ensemble_kit.arrays import FloatArray, IdArray
from ensemble_kit.errors import DataError, UsageError, nearest
from ensemble_kit.ids import as_ids
from ensemble_kit.predictions import SUM_TOLERANCE, Predictions
from ensemble_kit.schema import Schema
from ensemble_kit.stacking import Stacking
from ensemble_kit.voters.columns import class_rows
from ensemble_kit.voters.readers import Source, join, open_voter, read_rows
from ensemble_kit.voting import Vote, ask_vote, check_weights, find_vote

BLOCK_ROWS = 8192
BLOCK_BYTES = 16 * 2**20
"""A block's probabilities of all voters stay below this, in float64."""


def vote_together(
    voters: Sequence[Any] | Mapping[str, Any],
    schema: Schema,
    *,
    vote: str | Vote = "soft",
    weights: Mapping[str, float] | Sequence[float] | None = None,
    ids: ArrayLike | None = None,
) -> Predictions:
    """One vote of voters of any kind: flat, independent and conditional results, submissions, arrays, functions.

    Args:
        voters: whatever `as_voter` takes, by name or in a list; named by the file, function or voter in a list. They
            vote in the order of their names, so that no order of theirs changes a bit.
        schema: the joint classes.
        vote: a name in VOTES or a function (probs, weights) -> distribution; a fitted Stacking too.
        weights: by voter's name, 1 where none is given; or one for each of a list.
        ids: the photos, in the order of the result; the first voter's when left out. Arrays without ids have these.

    Returns:
        Joint predictions of one voter, float32; a row of zeros where every voter abstained.

    Raises:
        UsageError: no voters, unknown names or votes, weights that cannot be, no ids anywhere.
        DataError: voters on other photos or of another schema, photos that a voter has not computed.

    Examples:
        >>> from ensemble_kit.schema import Attribute
        >>> schema = Schema(Attribute("mask", ["worn", "not_worn"]), Attribute("gender", ["male", "female"]))
        >>> flat = Predictions(schema.attributes, [[0.4, 0.1, 0.3, 0.2], [0.1, 0.7, 0.1, 0.1]], ["a", "b"])
        >>> submission = (["b", "a"], [1, 2])
        >>> always = lambda ids: np.full(len(ids), 2)
        >>> vote_together([flat, submission, always], schema, vote="hard").labels().tolist()
        [2, 1]
    """
    given = None if ids is None else as_ids(ids)
    sources = _open_all(voters, schema, given)
    known = [source.ids for source in sources if source.ids is not None]
    if given is None and not known:
        raise UsageError("vote: no voter has ids of its own; say which photos, with ids=")
    wanted = known[0] if given is None else given
    own_weights = _weights(sources, weights)
    rule = find_vote(vote, weights_given=weights is not None)
    order = sorted(range(len(sources)), key=lambda number: sources[number].name)
    panel = _Panel([sources[number] for number in order], own_weights[order], schema, wanted)
    if isinstance(vote, Stacking):
        vote.check(panel.names, class_rows(schema))
    joint = np.empty((len(wanted), schema.n_joint), dtype=np.float32)
    n_rows = min(BLOCK_ROWS, max(1, BLOCK_BYTES // (8 * schema.n_joint * len(sources))))
    for start in range(0, len(wanted), n_rows):
        stop = min(start + n_rows, len(wanted))
        joint[start:stop] = ask_vote(rule, panel.read(start, stop), panel.weights, SUM_TOLERANCE * len(schema.names))
    panel.refuse_missing()
    return Predictions(schema.attributes, joint, wanted, classes=class_rows(schema), voters=["voted"])


class _Panel:
    """The voters in order of their names, read a block at a time."""

    def __init__(self, sources: Sequence[Source], weights: FloatArray, schema: Schema, ids: IdArray):
        self.sources, self.weights, self.schema, self.ids = sources, weights, schema, ids
        self.names = [source.name for source in sources]
        self.rows = [join(source, ids) for source in sources]
        self.missing: dict[str, list[int]] = {}

    def read(self, start: int, stop: int) -> FloatArray:
        """`(n_voters, n_rows, n_joint)`; a voter of weight 0 is not asked, a row not computed is noted."""
        probs = np.zeros((len(self.sources), stop - start, self.schema.n_joint), dtype=np.float64)
        for own, source, join_rows, weight in zip(probs, self.sources, self.rows, self.weights, strict=True):
            if weight == 0:
                continue
            rows = np.arange(start, stop, dtype=np.int64) if join_rows is None else join_rows[start:stop]
            own[:] = read_rows(source, self.schema, rows, self.ids[start:stop])
            absent = np.flatnonzero(np.isnan(own[:, 0]))  # a row is NaN as a whole or not at all
            if len(absent):
                self.missing.setdefault(source.name, []).extend((absent + start).tolist())
                own[absent] = 0
        return probs

    def refuse_missing(self) -> None:
        gaps = [f'{len(rows)} by "{name}" (the first is "{self.ids[rows[0]]}")' for name, rows in self.missing.items()]
        if gaps:
            raise DataError(
                f"of {len(self.ids)} photos these have no prediction: {'; '.join(gaps)}; predict them, leave these "
                "photos out, or give the voter weight 0"
            )


def _open_all(voters: Sequence[Any] | Mapping[str, Any], schema: Schema, ids: IdArray | None) -> list[Source]:
    if isinstance(voters, Mapping):
        if not voters or not all(isinstance(name, str) and name for name in voters):
            raise UsageError(f"vote: expected voters by name, found {list(voters)}")
        return [open_voter(source, schema, ids, name) for name, source in voters.items()]
    if isinstance(voters, str) or not isinstance(voters, Sequence) or not voters:
        raise UsageError(f"vote: expected a list of voters or voters by name, found {type(voters).__name__}")
    taken: set[str] = set()
    sources = []
    for source in voters:
        opened = open_voter(source, schema, ids, None)
        name, number = opened.name, 2
        while name in taken:
            name, number = f"{opened.name}-{number}", number + 1
        taken.add(name)
        sources.append(Source(name, opened.ids, opened.read))
    return sources


def _weights(sources: Sequence[Source], weights: Mapping[str, float] | Sequence[float] | None) -> FloatArray:
    names = [source.name for source in sources]
    if isinstance(weights, Mapping):
        for name in weights:
            if name not in names:
                raise UsageError(f'weights: no voter "{name}"{nearest(name, names)}')
        weights = [weights.get(name, 1.0) for name in names]
    try:
        own = np.ones(len(names)) if weights is None else np.asarray(weights, dtype=np.float64)
    except (TypeError, ValueError):
        raise UsageError(f"weights: expected numbers, found {weights!r}") from None
    if own.shape != (len(names),):
        raise UsageError(
            f"weights: expected one for each of {len(names)} voters ({', '.join(names)}), found {own.shape}"
        )
    check_weights(own)
    return own
