"""Where a staged training starts: the backbone of another expert, of this run or of another one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ensemble_kit.errors import DataError, UsageError, nearest
from ensemble_kit.graph import describe_expert, expert_key
from ensemble_kit.recipe.experts import ExpertSpec
from ensemble_kit.recipe.settings import TrainSettings
from ensemble_kit.runs import FinishedFold, Run

OWN = "run:"
"""`weights = "run:gender"`: the expert gender of the very run, the same fold."""

NAMES = ("imagenet", "none")


@dataclass(frozen=True)
class Start:
    """The checkpoint that one fold starts from, and what should be told about it."""

    file: Path
    notice: str | None = None


def is_reference(weights: str) -> bool:
    """Whether the weights are another expert's, chosen anew for each fold.

    Examples:
        >>> [is_reference(text) for text in ("imagenet", "none", "run:gender")]
        [False, False, True]
    """
    return weights.startswith(OWN) or (
        weights not in NAMES and not Path(weights).is_file() and _split(weights) is not None
    )


def own_reference(weights: str) -> str | None:
    """The expert of the same run that the weights are of."""
    return weights.removeprefix(OWN).strip() if weights.startswith(OWN) else None


def check_start(weights: str) -> None:
    """Raises DataError when weights from outside the run are not there."""
    if weights in NAMES or weights.startswith(OWN) or Path(weights).is_file():
        return
    found = _split(weights)
    if found is None:
        raise DataError(
            f"{weights}: no such weights; pass --weights imagenet, none, a checkpoint file, run:EXPERT, or "
            "another run's expert as in runs/other/gender"
        )
    _folds_of(*found)


def start_of(run: Run, weights: str, fold: int, seed: int) -> Start:
    """The checkpoint that fold `fold` starts from: the same fold's, so that nobody held out has been seen.

    Of several seeds the same one, else the first.

    Raises:
        DataError: no such expert, or the fold is not trained there.
    """
    own = own_reference(weights)
    other, name = (run, own) if own is not None else _must_split(weights)
    folds = _folds_of(other, name)
    same = [one for one in folds if one.fold == fold] or ([] if own is not None else folds[:1])
    if not same:
        trained = ", ".join(str(one.fold) for one in folds)
        raise DataError(f"{weights}: fold {fold} of it is not trained yet (there: {trained}); train that first")
    chosen = next((one for one in same if one.seed == seed), same[0])
    # not a soup's: one made later would make this training another one
    return Start(chosen.trained, None if own is not None else _leak(run, other, fold, chosen.fold, weights))


def start_notices(run: Run, settings: TrainSettings, fold: int) -> list[str]:
    """What should be told about the first weights of a fold."""
    if not is_reference(settings.weights):
        return []
    notice = start_of(run, settings.weights, fold, settings.seed).notice
    return [] if notice is None else [notice]


def in_order(specs: Sequence[ExpertSpec], weights: Sequence[str]) -> list[int]:
    """The order in which experts are trained: whose weights another one starts from comes before it.

    Args:
        weights: of each expert, as its settings say.

    Raises:
        UsageError: experts that start from each other, or from themselves.
    """
    names = [describe_expert(spec.attributes, spec.condition) for spec in specs]
    sources = [_own_number(names, text) for text in weights]
    ordered: list[int] = []
    while len(ordered) < len(specs):
        ready = [i for i in range(len(specs)) if i not in ordered and (sources[i] is None or sources[i] in ordered)]
        if not ready:
            left = [names[i] for i in range(len(specs)) if i not in ordered]
            raise UsageError(f"weights: {', '.join(left)} start from each other; one of them needs other first weights")
        ordered.append(ready[0])
    return ordered


def check_own(specs: Sequence[ExpertSpec], weights: Sequence[str], run: Run | None = None) -> None:
    """Raises UsageError where an expert starts from one that is neither trained now nor was before, in `run`."""
    finished = [] if run is None else run.finished()
    names = [describe_expert(spec.attributes, spec.condition) for spec in specs]
    there = sorted({describe_expert(one.attributes, one.condition) for one in finished})
    for text in weights:
        own = own_reference(text)
        if own is not None and expert_key(own) not in map(expert_key, [*names, *there]):
            raise UsageError(f'weights = "{text}": no such expert{nearest(own, dict.fromkeys([*names, *there]))}')


def starts_from(weights: str, spec: ExpertSpec) -> bool:
    """Whether the weights are those of this expert of the same run."""
    own = own_reference(weights)
    return own is not None and expert_key(own) == expert_key(describe_expert(spec.attributes, spec.condition))


def _own_number(names: Sequence[str], weights: str) -> int | None:
    own = own_reference(weights)
    return next((i for i, name in enumerate(names) if own is not None and expert_key(name) == expert_key(own)), None)


def _folds_of(run: Run, name: str) -> list[FinishedFold]:
    finished = run.finished()
    known = {describe_expert(one.attributes, one.condition): one for one in finished}
    slugs = {one.folder.parent.name: text for text, one in known.items()}
    wanted = expert_key(slugs.get(name, name))
    found = [one for one in finished if expert_key(describe_expert(one.attributes, one.condition)) == wanted]
    if not found:
        raise DataError(f'{run.folder}: no trained expert "{name}"{nearest(name, known)}')
    return found


def _split(weights: str) -> tuple[Run, str] | None:
    """`runs/other/gender` or `runs/other/experts/gender`: the run, and the expert's name there."""
    path = Path(weights)
    for parent in path.parents:
        if (parent / "run.json").is_file():
            parts = path.relative_to(parent).parts
            name = "/".join(parts[1:] if parts[0] == "experts" else parts)
            return Run.open(parent), name
    return None


def _must_split(weights: str) -> tuple[Run, str]:
    check_start(weights)
    found = _split(weights)
    assert found is not None, "checked above"
    return found


def _leak(run: Run, other: Run, fold: int, other_fold: int, weights: str) -> str | None:
    """A notice where the other run's fold trained on people that this one holds out."""
    held_out = set(run.table.groups[run.folds == fold].tolist())
    trained = other.table.groups[other.folds != other_fold].tolist()
    both = held_out.intersection(trained)
    if not both:
        return None
    return (
        f"fold {fold}: {weights} (fold {other_fold} there) was trained on {len(both)} of the {len(held_out)} people "
        "held out here: out-of-fold scores are too good; train both with the same folds"
    )
