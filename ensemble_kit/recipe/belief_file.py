"""A file of beliefs: a recipe whose variants are arms, and sentences about which arm is better."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from ensemble_kit.diagnosis.claims import Claim
from ensemble_kit.errors import UsageError, nearest
from ensemble_kit.files import sha256_json, slug
from ensemble_kit.graph import describe_expert
from ensemble_kit.recipe.files import naming, read_sections
from ensemble_kit.recipe.load import Recipe, load_variants, validated
from ensemble_kit.recipe.settings import Settings, TrainSettings

JOINT = "joint"

READINGS: Mapping[str, str] = {
    "alone": "each seed answers by itself; the mean of their scores",
    "vote": "the seeds vote: their mean probabilities",
    "soup": "soup or soup=N: the weights of all or the last N epochs that a training kept, averaged; the seeds alone",
}
"""How an arm answers. A further reading is one row here and one branch of `recipe.beliefs.answers_of`."""

MACHINE = ("jobs", "threads", "device", "share_gpu", "precision", "channels_last", "workers", "tensorboard")
"""Settings that do not make another arm."""


class BeliefSettings(Settings):
    """`[beliefs.NAME]`: what is said, of which arms, and by how much."""

    says: str = Field(description="the sentence, as people say it")
    a: str = Field(description='an arm, one of the variants; "base: vote" or "base: soup=3" for how it answers')
    b: str = Field(description="the arm it is compared with")
    claim: Claim = Field("better", description="a is better than b, worse, or no_better")
    margin: float = Field(0.0, ge=0, lt=1, description="the smallest difference that would matter")
    attribute: str | None = Field(None, description="what is scored: an attribute, or joint; default the file's first")
    metric: Literal["macro_f1", "accuracy"] = Field("macro_f1", description="macro_f1 or accuracy")


@dataclass(frozen=True)
class Side:
    """One side of a belief.

    Attributes:
        arm: a variant's name.
        reading: a name of READINGS.
        last: epochs in the soup; 0 = all that were kept.
    """

    arm: str
    reading: str = "alone"
    last: int = 0

    def __str__(self) -> str:
        how = self.reading + (f"={self.last}" if self.last else "")
        return self.arm if self.reading == "alone" else f"{self.arm}: {how}"


@dataclass(frozen=True)
class Belief:
    """One sentence, ready to be tested."""

    name: str
    says: str
    a: Side
    b: Side
    claim: Claim
    margin: float
    attribute: str
    metric: str

    @property
    def sides(self) -> tuple[Side, Side]:
        return self.a, self.b


@dataclass(frozen=True)
class BeliefFile:
    """A checked file.

    Attributes:
        arms: name -> its recipe; several names may stand for the same training.
        trained_as: name -> the name under which that training is done: the first arm with the same settings.
        seeds: of every training.
    """

    path: Path
    beliefs: tuple[Belief, ...]
    arms: Mapping[str, Recipe]
    trained_as: Mapping[str, str]
    seeds: tuple[int, ...]

    def trainings(self, beliefs: Sequence[Belief]) -> list[str]:
        """The arms that these beliefs need, each training once, in the order they are first needed."""
        return list(dict.fromkeys(self.trained_as[side.arm] for belief in beliefs for side in belief.sides))


def load_beliefs(name: str | Path, edits: Sequence[str] = (), machine: Mapping[str, Any] | None = None) -> BeliefFile:
    """Reads and checks a file of beliefs.

    Args:
        edits: over what the arms share, or over one arm, see `load_variants`.
        machine: device, threads, jobs of every training.

    Raises:
        UsageError: no beliefs, an unknown arm, key or reading, arms on other data, folds or seeds.
        DataError: the file is not TOML.
    """
    path, written = read_sections(name)
    arms = {arm: recipe.with_train(machine or {}) for arm, recipe in load_variants(name, edits).items()}
    with naming(path):
        section = written.get("beliefs", {})
        if not section:
            raise UsageError("no [beliefs.NAME]; write one table a belief: says, a, b, and the variants they name")
        beliefs = tuple(_belief(key, table, arms) for key, table in section.items())
        seeds = _shared_seeds(arms)
        for belief in beliefs:
            _check(belief, arms, seeds)
    return BeliefFile(path, beliefs, arms, _trained_as(arms), seeds)


def chosen_beliefs(file: BeliefFile, names: Sequence[str] | None) -> list[Belief]:
    """Some beliefs by name, in the file's order; all when none is named.

    Raises:
        UsageError: an unknown name.
    """
    known = [belief.name for belief in file.beliefs]
    for name in names or ():
        if name not in known:
            raise UsageError(f'--only: no belief "{name}"{nearest(name, known)}')
    return [belief for belief in file.beliefs if not names or belief.name in names]


def parse_side(text: str, arms: Collection[str]) -> Side:
    """`base`, `base: vote`, `base: soup=3`.

    Examples:
        >>> str(parse_side("base:soup=3", ["base"])), parse_side("base", ["base"]).reading
        ('base: soup=3', 'alone')

    Raises:
        UsageError: an unknown arm or reading.
    """
    arm, _, how = (part.strip() for part in text.partition(":"))
    if arm not in arms:
        raise UsageError(f'no arm "{arm}"{nearest(arm, list(arms))}')
    found = re.fullmatch(r"(\w+)(?:=(\d+))?", how or "alone")
    name = found[1] if found else how
    if found is None or name not in READINGS:
        raise UsageError(f'"{text}": no reading "{name}"{nearest(name, list(READINGS))}')
    if found[2] and (name != "soup" or int(found[2]) < 2):
        raise UsageError(f'"{text}": expected soup=N, N epochs from 2 on, or no number')
    return Side(arm, name, int(found[2] or 0))


def _belief(name: str, table: Any, arms: Mapping[str, Recipe]) -> Belief:
    where = f"beliefs.{name}"
    if not isinstance(table, dict) or name != slug(name):
        raise UsageError(f'beliefs: expected tables with plain names, as in [beliefs.voting], found "{name}"')
    read = validated(BeliefSettings, table, where)
    if not arms:
        raise UsageError("no [variants.NAME]: the arms that beliefs compare; write one table an arm")
    schema = next(iter(arms.values())).schema
    attribute = schema.names[-1] if read.attribute is None else read.attribute
    if attribute not in (*schema.names, JOINT):
        raise UsageError(f'{where}.attribute: no "{attribute}"{nearest(attribute, [*schema.names, JOINT])}')
    try:
        a, b = parse_side(read.a, arms), parse_side(read.b, arms)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from None
    return Belief(name, read.says, a, b, read.claim, read.margin, attribute, read.metric)


def _check(belief: Belief, arms: Mapping[str, Recipe], seeds: Sequence[int]) -> None:
    where = f"beliefs.{belief.name}"
    if belief.claim == "no_better" and belief.margin == 0:
        raise UsageError(f"{where}: no_better needs a margin above 0: the smallest gain that would matter")
    if (_identity(arms[belief.a.arm]), str(belief.a)[len(belief.a.arm) :]) == (
        _identity(arms[belief.b.arm]),
        str(belief.b)[len(belief.b.arm) :],
    ):
        raise UsageError(f"{where}: a and b are the same training read alike; nothing differs that could help")
    for side in belief.sides:
        recipe = arms[side.arm]
        if side.reading == "vote" and len(seeds) < 2:
            raise UsageError(f'{where}: "{side}" needs two or more seeds; write seeds = [0, 1] under [train]')
        kept = {settings.keep for _, settings in _experts(recipe)}
        if side.reading == "soup" and any(not keep.startswith("every") for keep in kept):
            raise UsageError(f'{where}: "{side}" needs the epochs kept; write keep = "every 1" in that arm')


def _shared_seeds(arms: Mapping[str, Recipe]) -> tuple[int, ...]:
    """Raises UsageError where arms differ in their data, folds or seeds: those are what a fair test shares."""
    first_name, first = next(iter(arms.items()))
    wanted = _seeds(first)
    for name, recipe in arms.items():
        if recipe.data != first.data or recipe.schema.to_json() != first.schema.to_json():
            raise UsageError(f"variants.{name}: other data or another schema than {first_name}; arms share both")
        if _seeds(recipe) != wanted:
            raise UsageError(f"variants.{name}: other seeds than {first_name}; write seeds under [train] alone")
    if len(wanted) > 1:
        raise UsageError("the experts of an arm have other seeds each; write seeds under [train] alone")
    return next(iter(wanted))


def _seeds(recipe: Recipe) -> set[tuple[int, ...]]:
    return {settings.seeds or (settings.seed,) for _, settings in _experts(recipe)}


def _experts(recipe: Recipe) -> list[tuple[str, TrainSettings]]:
    return [
        (
            describe_expert(spec.attributes, spec.condition),
            recipe.settings_for(spec.attributes, condition=spec.condition),
        )
        for spec in recipe.experts
    ]


def _trained_as(arms: Mapping[str, Recipe]) -> dict[str, str]:
    first: dict[str, str] = {}
    return {name: first.setdefault(_identity(recipe), name) for name, recipe in arms.items()}


def _identity(recipe: Recipe) -> str:
    """The hash of all that decides what an arm answers."""
    experts = {name: settings.model_dump(mode="json", exclude=set(MACHINE)) for name, settings in _experts(recipe)}
    return sha256_json([experts, recipe.graph.to_json(), recipe.combine.model_dump(mode="json")])
