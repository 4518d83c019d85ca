"""What an arm answers out of fold: seed by seed, by the vote of its seeds, or by soups of its checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ensemble_kit.arrays import FloatArray
from ensemble_kit.ensemble import ConditionalEnsemble
from ensemble_kit.files import read_array, write_array
from ensemble_kit.graph import Graph, Node
from ensemble_kit.predictions import Predictions
from ensemble_kit.recipe.belief_file import JOINT, Side
from ensemble_kit.recipe.load import ExpertSpec, Recipe
from ensemble_kit.recipe.run import Watcher
from ensemble_kit.runs import FinishedFold, Run, held_out_probs


def answers_of(
    recipe: Recipe, run: Run, side: Side, attribute: str, seeds: Sequence[int], watcher: Watcher
) -> list[Predictions]:
    """One answer a seed, or the one of their vote; in the order of the run's samples.

    Args:
        attribute: what is answered, or "joint".
    """
    if side.reading == "vote":
        return [answer(run.out_of_fold(), recipe, attribute)]
    read = _souped(recipe, run, side.last, watcher) if side.reading == "soup" else held_out_probs
    return [answer(run.out_of_fold(seed, read), recipe, attribute) for seed in seeds]


def answer(experts: Sequence[Predictions], recipe: Recipe, attribute: str) -> Predictions:
    """The joint of the node that predicts the attribute and those that it is conditioned on, by the recipe's route.

    Raises:
        UsageError: an expert that the graph asks for is missing.
    """
    schema = recipe.schema
    nodes = nodes_for(recipe.graph, attribute)
    own = [expert.in_classes_of(schema) for expert in experts if any(_same(expert, node) for node in nodes)]
    block = schema.block(schema.in_order([name for node in nodes for name in node.attributes]))
    graph = Graph({node.attributes: node.parents for node in nodes})
    ensemble = ConditionalEnsemble(block, graph, own, fallback=recipe.combine.fallback)
    return ensemble.combine(route=recipe.combine.route).joint


def nodes_for(graph: Graph, attribute: str) -> list[Node]:
    """The node that predicts an attribute and all above it; every node for the joint class.

    Examples:
        >>> graph = Graph({"mask": [], "gender": [], "age": ["mask"]})
        >>> [node.name for node in nodes_for(graph, "age")], [node.name for node in nodes_for(graph, "mask")]
        (['mask', 'age'], ['mask'])
    """
    if attribute == JOINT:
        return list(graph.nodes)
    wanted = {attribute}
    for node in reversed(graph.nodes):  # parents come before their children
        if not wanted.isdisjoint(node.attributes):
            wanted.update(node.attributes, node.parents)
    return [node for node in graph.nodes if not wanted.isdisjoint(node.attributes)]


def _same(expert: Predictions, node: Node) -> bool:
    return set(expert.names) == set(node.attributes)


def _souped(recipe: Recipe, run: Run, last: int, watcher: Watcher) -> Callable[[FinishedFold], FloatArray]:
    """Answers of soups: computed once, kept in the run by the checkpoint that the training ended with."""

    def read(fold: FinishedFold) -> FloatArray:
        kept = run.folder / "soups" / f"{fold.checkpoint_sha256[:16]}-last{last}.npy"
        if not kept.is_file():
            write_array(kept, _soup(recipe, run, fold, last, watcher))
        return read_array(kept)

    return read


def _soup(recipe: Recipe, run: Run, fold: FinishedFold, last: int, watcher: Watcher) -> FloatArray:
    from ensemble_kit.recipe.train import job_of, photos_for, preprocess_of
    from ensemble_kit.training.soup_answers import soup_answers

    settings = recipe.settings_for(fold.attributes, condition=fold.condition)
    settings = settings.model_copy(update={"seed": fold.seed, "seeds": ()})
    photos = photos_for(run, preprocess_of(run, settings, fold.fold), watcher, recipe.data.cache_gb, settings.threads)
    job = job_of(run, ExpertSpec(fold.attributes, fold.condition), settings, fold.fold)
    return soup_answers(job, table=run.table, folds=run.folds, photos=photos, folder=fold.folder, last=last)
