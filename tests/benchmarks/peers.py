"""The maths against the nearest peers' own: Ensemble-PyTorch's voting, scikit-learn's voter, HiClass on features.

python tests/benchmarks/peers.py [--rows 100000] [--people 400] [--rounds 5]

- Ensemble-PyTorch (`pip install torchensemble`): `VotingClassifier.forward` over five members whose answers are there
  already (each member only looks its logits up), so that what is timed is the voting; soft and hard. Ours: `vote_soft`
  and `vote_hard` on the same numbers, whose answers have to be the same.
- scikit-learn: `VotingClassifier.predict` and `predict_proba` over five members that only look their answers up.
- HiClass: `LocalClassifierPerParentNode` against `ConditionalClassifier` on the same features, both around
  scikit-learn's `LogisticRegression`: the time of fit and predict together, and the share of joint classes that each gets
  right on other people. The features are drawn so that the age shows in another direction under each mask state.

A peer that is not installed, or that cannot run, is skipped with the reason.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray
from shared import Report, options, over, seconds, turn_about

import ensemble_kit as ek
from ensemble_kit.voting import vote_hard, vote_soft

N_VOTERS, N_CLASSES, N_FEATURES = 5, 18, 24

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.int64]

CLASSES = {
    "mask": np.array(["worn", "incorrect", "not_worn"]),
    "gender": np.array(["male", "female"]),
    "age": np.array(["young", "middle", "old"]),
}
GRAPH: dict[str, list[str]] = {"mask": [], "gender": [], "age": ["mask"]}


def main(argv: Sequence[str] | None = None) -> int:
    parser = options(__doc__, 5)
    parser.add_argument("--rows", type=int, help="that are voted on; default 100000")
    parser.add_argument("--people", type=int, help="of seven photos each, in training and in the test; default 400")
    given = parser.parse_args(argv)
    report = Report(__file__, given)
    random = np.random.default_rng(0)
    n_rows = given.rows or (500 if given.quick else 100_000)
    logits = random.normal(size=(N_VOTERS, n_rows, N_CLASSES))
    logits += 2 * np.eye(N_CLASSES)[random.integers(N_CLASSES, size=n_rows)]
    people = given.people or (30 if given.quick else 400)
    peers: dict[str, Callable[[], None]] = {
        "Ensemble-PyTorch's voting": partial(torchensemble, report, logits.astype(np.float32)),
        "scikit-learn's voter": partial(sklearn, report, softmax(logits)),
        "HiClass on features": partial(hiclass, report, people),
    }
    for name, compare in peers.items():
        try:
            compare()
        except ImportError as error:
            report.skip(name, f"not installed: {error}")
    return report.end()


def softmax(logits: Floats) -> Floats:
    grown = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(grown / grown.sum(axis=-1, keepdims=True))


def against(report: Report, name: str, peer: Callable[[], object], own: Callable[[], object], least: float) -> None:
    for call in (peer, own):
        call()
    took = turn_about({"peer": partial(seconds, peer), "own": partial(seconds, own)}, report.rounds)
    note = f"{np.median(took['own']) * 1e3:.1f} ms against {np.median(took['peer']) * 1e3:.1f} ms"
    report.add(f"{name}, times as fast", over(took["peer"], took["own"]), least=least, note=note)


def torchensemble(report: Report, logits: NDArray[np.float32]) -> None:
    """Their forward takes softmax of each member, then the mean; hard: the argmax of each, counted by class."""
    import torch
    from torch import Tensor, nn

    if report.given.threads:
        torch.set_num_threads(report.given.threads)
    library: Any = import_module("torchensemble")

    class Known(nn.Module):
        def __init__(self, answers: Tensor):
            super().__init__()
            self.answers = answers

        def forward(self, rows: Tensor) -> Tensor:
            return self.answers[: len(rows)]

    rows = torch.zeros(logits.shape[1], 1)
    ones = np.ones(N_VOTERS)
    for strategy, own in (("soft", vote_soft), ("hard", vote_hard)):
        members = [Known(torch.from_numpy(one)) for one in logits]
        peer = library.VotingClassifier(strategy, estimator=members[0], n_estimators=N_VOTERS, cuda=False)
        peer.estimators_.extend(members)
        peer.n_outputs = N_CLASSES

        def theirs(peer: Any = peer) -> NDArray[np.float32]:
            with torch.no_grad():
                found: NDArray[np.float32] = peer(rows).numpy()
            return found

        def ours(own: Callable[[Floats, Floats], Floats] = own) -> Floats:
            return own(np.asarray(torch.softmax(torch.from_numpy(logits), dim=-1).numpy()), ones)

        found = theirs().argmax(1), ours().argmax(1)
        agree(report, f"{strategy} vote / Ensemble-PyTorch", *found, logits.argmax(axis=2))
        against(report, f"{strategy} vote of logits / Ensemble-PyTorch's", theirs, ours, 0.5)


def agree(report: Report, name: str, theirs: Ints, ours: Ints, votes: Ints) -> None:
    """The share of equal labels, of the rows in which one class has the most votes: ties are broken in other ways."""
    counts = np.sort((votes[..., None] == np.arange(N_CLASSES)).sum(axis=0), axis=1)
    clear = counts[:, -1] > counts[:, -2]
    note = f"{clear.mean():.0%} of the rows have no tie"
    report.add(f"{name}: share of equal labels", [float(np.mean((theirs == ours)[clear]))], least=1.0, note=note)


def sklearn(report: Report, probs: Floats) -> None:
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.ensemble import VotingClassifier

    class Known(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
        def __init__(self, probs: Any):
            self.probs, self.classes_ = probs, np.arange(N_CLASSES)

        def predict_proba(self, rows: Any) -> Any:
            return self.probs

        def predict(self, rows: Any) -> Any:
            return self.probs.argmax(axis=1)

    rows, ones = np.zeros((probs.shape[1], 1)), np.ones(N_VOTERS)
    for strategy, own in (("soft", vote_soft), ("hard", vote_hard)):
        members = [(str(number), Known(one)) for number, one in enumerate(probs)]
        peer = VotingClassifier(members, voting=strategy)
        peer.estimators_ = [member for _, member in members]
        peer.le_ = _Same()

        def theirs(peer: Any = peer) -> Ints:
            return np.asarray(peer.predict(rows))

        def ours(own: Callable[[Floats, Floats], Floats] = own) -> Ints:
            return np.asarray(own(probs, ones).argmax(axis=1))

        agree(report, f"{strategy} vote / scikit-learn", theirs(), ours(), probs.argmax(axis=2))
        least = 0.3 if strategy == "soft" else 5
        against(report, f"{strategy} vote of probabilities / scikit-learn's", theirs, ours, least)


class _Same:
    """Their label encoder, where labels are numbers already."""

    def inverse_transform(self, labels: Ints) -> Ints:
        return labels


def photos(people: int, seed: int) -> tuple[Floats, Any]:
    """Features `(n, 24)` and the classes `(n, 3)` of each photo; the age's direction depends on the mask."""
    random = np.random.default_rng(seed)
    masks = np.tile([0, 0, 0, 0, 0, 1, 2], people)
    genders, ages = (np.repeat(random.integers(n, size=people), 7) for n in (2, 3))
    centres = np.random.default_rng(9).normal(size=(3 + 2 + 9, N_FEATURES)) * 0.6
    of_mask, of_gender, of_age = centres[masks], centres[3 + genders], centres[5 + 3 * masks + ages]
    features = of_mask + of_gender + of_age + random.normal(size=(len(masks), N_FEATURES))
    numbers = {"mask": masks, "gender": genders, "age": ages}
    return features, np.column_stack([CLASSES[name][numbers[name]] for name in CLASSES])


def hiclass(report: Report, people: int) -> None:
    library: Any = import_module("hiclass")
    from sklearn.linear_model import LogisticRegression

    features, labels = photos(people, 0)
    unseen, truth = photos(people, 1)

    def peer() -> Any:
        model = library.LocalClassifierPerParentNode(local_classifier=LogisticRegression(max_iter=300), n_jobs=1)
        return model.fit(features, labels).predict(unseen)

    def own() -> Any:
        model = ek.ConditionalClassifier(LogisticRegression(max_iter=300), names=list(CLASSES), graph=GRAPH)
        return model.fit(features, labels).predict(unseen)

    against(report, "fit and predict / HiClass's", peer, own, 0.5)
    theirs, ours = (float(np.mean((found() == truth).all(axis=1))) for found in (peer, own))
    note = f"right: {ours:.3f} against {theirs:.3f}"
    report.add("joint classes right, ours less HiClass's", [ours - theirs], least=0.0, note=note)


if __name__ == "__main__":
    sys.exit(main())
