"""Names of rules that recipes and runs hold, looked up when these are read and not once everything is trained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from ensemble_kit.errors import UsageError, nearest
from ensemble_kit.files import taking_apart
from ensemble_kit.graph import Graph
from ensemble_kit.routing import find_route
from ensemble_kit.voting import VOTES

if TYPE_CHECKING:
    from ensemble_kit.recipe.settings import CombineSettings
    from ensemble_kit.runs import Run
    from ensemble_kit.schema import Schema


def check_rules(chosen: CombineSettings, schema: Schema, graph: Graph) -> None:
    """Looks up what `[combine]` names.

    Raises:
        UsageError: a route or vote that is not there, a route for what is no node with parents, borders of an
            attribute that has none.
    """
    routed = [node.name for node in graph.nodes if node.parents]
    for place, route in _each(chosen.route):
        if place and place not in routed:
            raise UsageError(f'combine.route: "{place}" is no node with parents{nearest(place, routed)}')
        find_route(route)
    for _, vote in _each(chosen.vote):
        if vote not in VOTES:
            raise UsageError(f'combine.vote: unknown vote "{vote}"{nearest(vote, VOTES)}')
    schema.with_borders(chosen.borders)


def _each(rule: str | Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """(node or expert, name of its rule); "" = all of them."""
    yield from rule.items() if isinstance(rule, Mapping) else [("", rule)]


def check_predict_of(run: Run) -> None:
    """Looks up what `run.json` says of predicting.

    Raises:
        DataError: it names a view, a back end or a way to compile that is not there.
    """
    from ensemble_kit.backends.table import find_backend
    from ensemble_kit.models.views import find_views

    with taking_apart(run.folder / "run.json"):
        find_views(run.tta)
        find_backend(run.backend, compiling=run.compiling)
