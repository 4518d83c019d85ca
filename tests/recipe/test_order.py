"""Default < recipe < `ENS_*` < flag, for every field of the settings, through the commands' own parser."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from other_values import OTHER_VALUES
from task_text import SCHEMA_TEXT

from ensemble_kit.cli import app as whole_app
from ensemble_kit.cli.training_options import DATA_OPTIONS, TRAIN_OPTIONS, training_command
from ensemble_kit.graph import Graph
from ensemble_kit.recipe.load import load_recipe
from ensemble_kit.recipe.settings import CombineSettings, DataSettings, TrainSettings
from ensemble_kit.runs import Run
from ensemble_kit.schema import Attribute, Schema

SECOND: dict[str, Any] = {
    "window": (32, 32),
    "prepare": ("equalize",),
    "normalise": "imagenet",
    "augment_share": 0.25,
    "backbone_lr": 0.125,
    "feature_views": 3,
    "mix": ("cutmix",),
    "freeze": ("layer2",),
    "balance_by": ("gender",),
    "channels_last": True,
    "threads": 3,
    "workers": 3,
    "seeds": (1, 2, 3),
    "borders": (25.0, 55.0),
    "leave_out": ((27.0, 29.0),),
    "columns": "years",
}
"""A further value of each key whose default cannot be typed."""
DATA_VALUES: dict[str, tuple[Any, Any]] = {
    "folds": (5, 3),
    "val_ratio": (0.2, 0.3),
    "fold_seed": (0, 7),
    "layout": ("auto", "table"),
    "cache_gb": (2.5, 7.0),
}
"""Key -> two values. Files of fixes and extra photos are made absolute, see test_commands."""
BESIDE = {"smote": "freeze = ['backbone']\nfeature_views = 0\n", "soup": "keep = 'every 1'\n"}


def typed(value: Any) -> str:
    if isinstance(value, tuple) and value and isinstance(value[0], tuple):
        return ",".join(f"{first:g}-{last:g}" for first, last in value)
    if isinstance(value, tuple):
        return ",".join(typed(item) for item in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def flags(name: str, value: Any) -> list[str]:
    option = name.replace("_", "-")
    return [f"--{'' if value else 'no-'}{option}"] if isinstance(value, bool) else [f"--{option}", typed(value)]


def written(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return f"{name} = {str(value).lower()}\n"
    if isinstance(value, tuple):
        items = [typed((item,)) if isinstance(item, tuple) else item for item in value]
        return f"{name} = {items!r}\n"
    return f"{name} = {value!r}\n"


Resolve = Callable[[str, list[str], dict[str, str]], tuple[Any, Any]]


@pytest.fixture(scope="module")
def resolved(tmp_path_factory: pytest.TempPathFactory) -> Resolve:
    """The settings of a training and of the data, as a training command resolves them."""
    file = tmp_path_factory.mktemp("order") / "task.toml"
    found: list[tuple[Any, Any]] = []

    @training_command
    def train(
        data: Path | None,
        run: Path | None,
        edits: list[str],
        division: dict[str, Any],
        flags: dict[str, Any],
    ) -> None:
        recipe = load_recipe(file).with_train(flags).with_data(division)
        found.append((recipe.settings_for(["age"]), recipe.data))

    app = typer.Typer()
    app.command()(train)
    command = typer.main.get_command(app)

    def resolve(text: str, words: list[str], environment: dict[str, str]) -> tuple[Any, Any]:
        file.write_text(SCHEMA_TEXT + text)
        found.clear()
        with pytest.MonkeyPatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            command.main(words, standalone_mode=False)
        return found[0]

    return resolve


@pytest.mark.parametrize("name", sorted(set(TrainSettings.model_fields) - {"phases"}))
def test_every_training_setting_obeys_the_order(resolved: Resolve, name: str) -> None:
    default, other = getattr(TrainSettings(), name), OTHER_VALUES[name]  # type: ignore[call-arg]
    first = SECOND.get(name, default)
    variable, beside = f"ENS_{name.upper()}", BESIDE.get(name, "")
    recipe = f"[train]\n{beside}{written(name, other)}"

    def value(text: str, words: list[str], environment: dict[str, str]) -> Any:
        return getattr(resolved(text, words, environment)[0], name)

    assert value("", [], {}) == default
    assert value(recipe, [], {}) == other
    assert value(recipe, [], {variable: typed(first)}) == first
    assert value(recipe, flags(name, other), {variable: typed(first)}) == other


@pytest.mark.parametrize("name", DATA_VALUES)
def test_every_data_setting_obeys_the_order(resolved: Resolve, name: str) -> None:
    first, other = DATA_VALUES[name]

    def value(text: str, words: list[str], environment: dict[str, str]) -> Any:
        return getattr(resolved(text, words, environment)[1], name)

    variable, recipe = f"ENS_{name.upper()}", f"[data]\n{written(name, other)}"
    assert value("", [], {}) == getattr(DataSettings(), name)  # type: ignore[call-arg]
    assert value(recipe, [], {}) == other
    assert value(recipe, [], {variable: typed(first)}) == first
    assert value(recipe, flags(name, other), {variable: typed(first)}) == other


def test_no_setting_is_without_flag_and_variable() -> None:
    assert set(TRAIN_OPTIONS) == set(TrainSettings.model_fields) - {"phases"}
    assert set(DATA_OPTIONS) == set(DataSettings.model_fields) - {"path"}  # --data
    for command in ("combine", "answer"):
        found = {parameter.name: parameter.envvar for parameter in command_of(command).params}
        assert {name: found.get(name) for name in CombineSettings.model_fields} == {
            name: COMBINE_VARIABLES.get(name, f"ENS_{name.upper()}") for name in CombineSettings.model_fields
        }


def command_of(name: str) -> Any:
    return typer.main.get_command(whole_app).commands[name]  # type: ignore[attr-defined]


COMBINE_VARIABLES = {"borders": "ENS_COMBINE_BORDERS"}
"""ENS_BORDERS are the training's, of one attribute."""
COMBINE_VALUES: dict[str, list[Any]] = {
    "route": ["soft", "hard", "top_k=2"],
    "vote": ["hard", "soft", "rank"],
    "vote_at": ["joint", "expert", "joint"],
    "fallback": ["pooled", "refuse", "pooled"],
    "decide": ["attribute", "joint", "top_down"],
    "borders": [{"age": (25, 55)}, {"age": (26, 56)}, {"age": (27, 57)}],
}
"""Key -> its value in the recipe, in the environment, and by the flag."""


def laid_out(value: Any) -> str:
    """As a flag or a variable says it."""
    return " ".join(f"{k}={typed(v)}" for k, v in value.items()) if isinstance(value, dict) else str(value)


class Asked(BaseException):
    """Ends a command with the settings that it would combine by."""


@pytest.mark.parametrize("command", ["combine", "answer"])
@pytest.mark.parametrize("name", CombineSettings.model_fields)
def test_every_combine_setting_obeys_the_order(
    name: str, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    default = getattr(CombineSettings(), name)  # type: ignore[call-arg]
    in_recipe, in_environment, by_flag = COMBINE_VALUES[name]
    schema = Schema(*(Attribute("age", ["<30", "30-59", ">=60"], borders=[30, 60]), Attribute("mask", ["on", "off"])))
    graph = Graph({"mask": [], "age": ["mask"]})

    def ask(first: Any, second: Any, *settings: Any, **_: Any) -> None:
        raise Asked(settings[0])

    monkeypatch.setattr("ensemble_kit.recipe.combine.combine_sets", lambda a, b, *rest, **_: ask(a, b, *rest))
    monkeypatch.setattr("ensemble_kit.recipe.answer.answer_run", lambda a, b, *rest, **_: ask(a, b, *rest))
    for module in ("ensemble_kit.recipe.predict.read_part_of", "ensemble_kit.cli.combine.template_of_run"):
        monkeypatch.setattr(module, lambda *_: None)
    monkeypatch.setattr("ensemble_kit.cli.answer.template_of_run", lambda *_: None)
    monkeypatch.setattr("ensemble_kit.recipe.sets.prediction_sets", lambda *_: [])
    (tmp_path / "run.json").touch()

    def value(stored: dict[str, Any], words: list[str], environment: dict[str, str]) -> Any:
        info = {"combine": stored, "schema": schema.to_json(), "graph": graph.to_json()}
        monkeypatch.setattr(Run, "open", lambda folder: Run(folder, info))
        words = [str(tmp_path), *words]
        with pytest.MonkeyPatch.context() as patch:
            for key, text in environment.items():
                patch.setenv(key, text)
            with pytest.raises(Asked) as asked:
                command_of(command).main(words, standalone_mode=False)
        found = asked.value.args[0][name]
        return {k: tuple(v) for k, v in found.items()} if isinstance(found, dict) else found

    variable = {COMBINE_VARIABLES.get(name, f"ENS_{name.upper()}"): laid_out(in_environment)}
    assert value({}, [], {}) == default
    assert value({name: in_recipe}, [], {}) == in_recipe
    assert value({name: in_recipe}, [], variable) == in_environment
    assert value({name: in_recipe}, [f"--{name.replace('_', '-')}", laid_out(by_flag)], variable) == by_flag
