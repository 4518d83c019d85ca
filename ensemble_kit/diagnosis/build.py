"""One call from saved predictions and known answers to a diagnosis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ensemble_kit.arrays import BoolArray, FloatArray, IdArray, IntArray
from ensemble_kit.diagnosis.diversity import describe_voters
from ensemble_kit.diagnosis.findings import (
    ChildScore,
    CrossCell,
    ErrorSplit,
    Gap,
    RouterReport,
    Specialising,
    StructureScore,
)
from ensemble_kit.diagnosis.question import Question, answers_node
from ensemble_kit.diagnosis.report import GIVEN_ANSWERS, SOFT_ANSWERS, Diagnosis, no_pooled, uncompared
from ensemble_kit.diagnosis.routes import cross_matrix, describe_router, routed_states, split_errors
from ensemble_kit.diagnosis.specialising import child_score, compare_routed, plain_gain
from ensemble_kit.diagnosis.subgroups import Division, divide_by_columns, score_subgroups
from ensemble_kit.ensemble import ConditionalEnsemble, Fallback
from ensemble_kit.errors import DataError, UsageError, nearest
from ensemble_kit.graph import Graph
from ensemble_kit.ids import match_ids
from ensemble_kit.metrics import METRICS
from ensemble_kit.predictions import SUM_TOLERANCE, Predictions
from ensemble_kit.schema import Schema
from ensemble_kit.selection.inputs import existing_columns, true_columns
from ensemble_kit.structures.answers import find_structures
from ensemble_kit.structures.photos import check_length, same_photos
from ensemble_kit.structures.reader import JOINT, PERFECT, Reader
from ensemble_kit.structures.score import measure_structures, perfect_name
from ensemble_kit.structures.scorer import Scorer
from ensemble_kit.voting import Vote, ask_vote, find_vote

WHO = "diagnose"
SOFT = "conditional_soft"
GAPS = (
    (SOFT, "conditional_hard"),
    (SOFT, "independent"),
    (SOFT, "flat"),
    ("graph", "independent"),
    ("graph", "flat"),
)


def diagnose(
    experts: Sequence[Predictions],
    schema: Schema,
    graph: Graph,
    truth: IntArray,
    ids: IdArray,
    *,
    groups: IdArray | None = None,
    subgroups: Mapping[str, Sequence[object]] | None = None,
    answers: IntArray | None = None,
    vote: str | Vote = "soft",
    metric: str = "macro_f1",
    n_boot: int = 1000,
    seed: int = 0,
    fallback: Fallback = "refuse",
    scored_on: str = "",
) -> Diagnosis:
    """Where the errors come from, whether specialising pays, and what to do.

    Args:
        experts: on the same photos, in any order of rows. A pooled expert of a conditioned node is needed to tell
            whether specialising pays; experts that the graph does not ask stand in the cross-matrix.
        schema: the attributes.
        graph: which attribute conditions which.
        truth: `(n_samples,)` joint index; -1 = not labelled, the photo is left out.
        ids: `(n_samples,)` the photos that `truth`, `groups` and `subgroups` are of.
        groups: `(n_samples,)` whose photo it is; without them there are no intervals and no verdicts.
        subgroups: name -> a value a photo; each value that occurs is a subgroup, empty ones and NaN are in none.
        answers: `(n_samples,)` joint index answered, -1 = abstained: what subgroups are scored by; default the soft
            route's.
        vote: a name in VOTES or a function, across each expert's voters.
        metric: macro_f1 or accuracy, that verdicts are by.
        n_boot: draws of people.
        seed: of the draws.
        fallback: "pooled" = where no expert names every parent, one that names fewer may answer.
        scored_on: which photos these are, in words.

    Raises:
        UsageError: no experts, states without an expert, unknown names, a graph that is not the schema's.
        DataError: photos that differ between the experts and `ids`, or none that can be scored.

    Examples:
        >>> from ensemble_kit.schema import Attribute
        >>> schema = Schema(Attribute("mask", ["on", "off"]), Attribute("age", ["young", "old"]))
        >>> ids = ["a", "b", "c", "d"]
        >>> experts = [
        ...     Predictions(schema["mask"], [[0.9, 0.1], [0.8, 0.2], [0.6, 0.4], [0.1, 0.9]], ids),
        ...     Predictions(schema["age"], [[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.7, 0.3]], ids, {"mask": "on"}),
        ...     Predictions(schema["age"], [[0.3, 0.7], [0.4, 0.6], [0.1, 0.9], [0.2, 0.8]], ids, {"mask": "off"}),
        ... ]
        >>> truth = schema.encode({"mask": [0, 0, 1, 1], "age": [0, 1, 1, 1]})
        >>> found = diagnose(experts, schema, Graph({"mask": [], "age": ["mask"]}), truth, np.array(ids))
        >>> whole = found.errors[0]
        >>> whole.right, whole.wrong_route, whole.wrong_expert, whole.both
        (2, 1, 1, 0)
    """
    if metric not in METRICS:
        raise UsageError(f'unknown metric "{metric}"{nearest(metric, METRICS)}')
    rule = find_vote(vote)
    graph.check(schema)
    in_classes = [expert.in_classes_of(schema) for expert in experts]
    voting = [_voted(expert, rule) for expert in in_classes]
    same, keep = same_photos(voting, ids, truth, WHO)
    columns = _check_columns(subgroups or {}, ids)
    if groups is not None:
        check_length(groups, ids, "a group", WHO)
    if answers is not None:
        check_length(answers, ids, "an answer", WHO)
    everyone = None if groups is None else np.asarray(groups).astype(np.str_)
    scored = _Photos(schema, same, *_labels(truth, everyone, keep))
    scorer = Scorer(scored.groups, n_boot, seed)
    ensemble = ConditionalEnsemble(schema, graph, same, fallback=fallback)
    soft, hard = (ensemble.combine(route=route) for route in ("soft", "hard"))
    scores, gaps, left_out = _structures(scored, graph, scorer, fallback)

    labelled: BoolArray = np.asarray(truth) >= 0
    known = _Photos(schema, _rows_of(voting, ids, labelled), *_labels(truth, everyone, labelled))
    by_voter = _rows_of(in_classes, ids, labelled)

    questions = [Question(schema, step, same) for step in ensemble.plan.steps if step.node.parents]
    tables = _Tables()
    for question in questions:
        belief, routed = soft.gates[question.node], routed_states(hard.gates[question.node])
        tables.add(question, scored, known, belief, routed, scorer, metric)
    said = soft.joint.labels() if answers is None else np.asarray(answers, dtype=np.int64)[keep]
    right = (said == scored.joint).astype(np.int64)
    divisions = [*_divisions(scored, questions), *divide_by_columns(_select(columns, keep))]
    lowest, n_small = score_subgroups(right, divisions, scored.groups, scorer)
    diversity = [
        describe_voters(
            one,
            after,
            true_columns(one, schema, known.joint),
            existing_columns(one, schema),
            known.groups,
            n_boot,
            seed,
        )
        for one, after in zip(by_voter, known.experts, strict=True)
    ]
    return Diagnosis(
        scored_on=scored_on,
        vote=vote if isinstance(vote, str) else getattr(vote, "__name__", type(vote).__name__),
        metric=metric,
        n_samples=len(scored.joint),
        n_left_out=len(keep) - len(scored.joint),
        n_groups=None if scored.groups is None else len(np.unique(scored.groups)),
        n_boot=n_boot,
        scores=tuple(scores),
        gaps=tuple(gaps),
        children=tuple(tables.children),
        errors=tuple(tables.errors),
        cross=tuple(tables.cross),
        specialising=tuple(tables.specialising),
        routers=tuple(tables.routers),
        subgroups=tuple(lowest),
        n_small_subgroups=n_small,
        subgroups_of=SOFT_ANSWERS if answers is None else GIVEN_ANSWERS,
        diversity=tuple(one for one in diversity if one is not None),
        left_out=left_out | tables.left_out,
    )


@dataclass(frozen=True, eq=False)
class _Photos:
    """Experts on the same photos in the same order, with the true joint class and the person `(n_samples,)`."""

    schema: Schema
    experts: list[Predictions]
    joint: IntArray
    groups: IdArray | None


@dataclass
class _Tables:
    """The tables that have rows for each conditioned node, while they grow."""

    children: list[ChildScore] = field(default_factory=list)
    errors: list[ErrorSplit] = field(default_factory=list)
    cross: list[CrossCell] = field(default_factory=list)
    specialising: list[Specialising] = field(default_factory=list)
    routers: list[RouterReport] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)

    def add(
        self,
        question: Question,
        scored: _Photos,
        known: _Photos,
        belief: FloatArray,
        routed: IntArray,
        scorer: Scorer,
        metric: str,
    ) -> None:
        """Looks at one node; the cross-matrix on all photos with a label, `known`, the rest on those scored."""
        true, child = question.state_of_joint[scored.joint], question.class_of_joint[scored.joint]
        self.routers.append(describe_router(question, true, routed, belief))
        self.children.append(child_score(question, true, routed, child, scorer))
        self.errors += split_errors(question, true, routed, child)
        self.specialising += compare_routed(question, true, routed, child, scored.groups, scorer, metric)
        self.left_out |= _uncompared(question, true)
        own = [expert for expert in known.experts if answers_node(expert, question.node)]
        states, classes = question.state_of_joint[known.joint], question.class_of_joint[known.joint]
        self.cross += cross_matrix(question, own, states, classes)


def _labels(truth: IntArray, groups: IdArray | None, keep: BoolArray) -> tuple[IntArray, IdArray | None]:
    return np.asarray(truth, dtype=np.int64)[keep], None if groups is None else groups[keep]


def _rows_of(experts: Sequence[Predictions], ids: IdArray, keep: BoolArray) -> list[Predictions]:
    """The experts on the photos kept, in the order of `ids`."""
    rows, found = np.flatnonzero(keep), []
    for expert in experts:
        order = match_ids(expert.ids, np.asarray(ids), expert.describe())
        found.append(expert.select(rows if order is None else order[rows]))
    return found


def _voted(expert: Predictions, rule: Vote) -> Predictions:
    """The expert with its voters' vote as the only one, in float64; rows that some voter has not computed are NaN."""
    in_order = expert.select_voters(sorted(expert.voters))
    tolerance = SUM_TOLERANCE * len(expert.attributes)
    probs = ask_vote(rule, in_order.probs, np.ones(len(expert.voters)), tolerance)
    return Predictions(expert.attributes, probs, expert.ids, expert.condition, expert.classes, ["vote"])


def _check_columns(subgroups: Mapping[str, Sequence[object]], ids: IdArray) -> dict[str, list[object]]:
    columns = {str(name): list(values) for name, values in subgroups.items()}
    for name, values in columns.items():
        if len(values) != len(ids):
            raise DataError(
                f'{WHO}: subgroup "{name}": expected a value for each of {len(ids)} ids, found {len(values)}'
            )
    return columns


def _select(columns: Mapping[str, list[object]], keep: BoolArray) -> dict[str, list[object]]:
    rows = np.flatnonzero(keep).tolist()
    return {name: [values[row] for row in rows] for name, values in columns.items()}


def _structures(
    photos: _Photos, graph: Graph, scorer: Scorer, fallback: Fallback
) -> tuple[list[StructureScore], list[Gap], dict[str, str]]:
    """The joint scores, told the true parents first, the gaps between them, and what the experts do not allow."""
    structures, left_out = find_structures(photos.experts, photos.schema, graph, fallback)
    found = measure_structures(structures, Reader(photos.schema, graph, photos.joint), scorer, ())
    views_of = {
        perfect_name(graph) if what == PERFECT else key[0]: views
        for (key, what), views in found.items()
        if what in (JOINT, PERFECT)
    }
    by_name = {name: views[0] for name, views in views_of.items()}
    perfect = perfect_name(graph)
    first = [perfect, "conditional_hard", SOFT, "graph", "independent", "flat"]
    scores = [
        StructureScore(
            name,
            by_name[name].score(),
            {a: view.score() for a, view in zip(photos.schema.names, views_of[name][1:], strict=True)},
        )
        for name in first
        if name in by_name
    ]
    gaps = [
        Gap(one, other, *(plain_gain(by_name[one], by_name[other], name) for name in ("accuracy", "macro_f1")))
        for one, other in [(perfect, SOFT), *GAPS]
        if one in by_name and other in by_name
    ]
    return scores, gaps, left_out


def _uncompared(question: Question, true: IntArray) -> dict[str, str]:
    """Why a node's experts are not compared with a pooled one, where they are not."""
    name = question.node.name
    special = [state for state in range(len(question.states)) if question.is_specialised(state)]
    if not special:
        return {uncompared(name): f"no specialised {name} expert is asked"}
    if question.pooled is None:
        return {uncompared(name): no_pooled(name)}
    absent = [question.states[state] for state in special if not (true == state).any()]
    return {f"{name}, {', '.join(absent)}": "no photo of this state"} if absent else {}


def _divisions(photos: _Photos, questions: Sequence[Question]) -> list[Division]:
    """By the classes of each attribute, the states of several parents, and the joint classes."""
    true = photos.schema.decode(photos.joint)
    found: list[Division] = [(a.name, a.classes, true[a.name]) for a in photos.schema.attributes]
    seen = set()
    for question in questions:
        parents = question.node.parents
        if len(parents) > 1 and parents not in seen and len(parents) < len(photos.schema.names):
            found.append(("state", question.states, question.state_of_joint[photos.joint]))
        seen.add(parents)
    if len(photos.schema.names) > 1:
        found.append(("joint class", photos.schema.joint_names(), photos.joint))
    return found
