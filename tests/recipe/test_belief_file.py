"""Files of beliefs: what is refused and how, arms that are the same training, edits below and over the arms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ensemble_kit.errors import UsageError
from ensemble_kit.recipe.belief_file import chosen_beliefs, load_beliefs, parse_side
from ensemble_kit.recipe.load import load_recipe, load_variants
from ensemble_kit.recipe.show import check_recipe

BASE = """
[schema]
mask = ["worn", "not_worn"]
age = { classes = ["<30", ">=30"], borders = [30] }

[experts]
mask = []

[train]
seeds = [0, 1]
epochs = 5

[variants.base]
train.keep = "every 1"

[variants.twin]
train.keep = "every 1"

[variants.long]
train.epochs = 9

[beliefs.long]
says = "Longer helps"
a = "long"
b = "base"
"""


def written(folder: Path, text: str = BASE) -> Path:
    file = folder / "said.toml"
    file.write_text(text, encoding="utf-8")
    return file


def test_a_file_is_read(tmp_path: Path) -> None:
    more = (
        '[beliefs.same]\nsays = "x"\na = "twin: vote"\nb = "twin: soup=2"\nmetric = "accuracy"\nattribute = "joint"\n'
    )
    file = load_beliefs(written(tmp_path, BASE + more), machine={"threads": 1})
    long, same = file.beliefs
    assert (long.claim, long.margin, long.attribute, long.metric) == ("better", 0.0, "age", "macro_f1")
    assert [str(side) for side in same.sides] == ["twin: vote", "twin: soup=2"]
    assert file.seeds == (0, 1)
    assert file.arms["base"].settings_for(["age"]).threads == 1
    assert chosen_beliefs(file, ["same"]) == [same]
    assert chosen_beliefs(file, None) == [long, same]


def test_arms_that_are_alike_are_trained_once(tmp_path: Path) -> None:
    more = '[beliefs.same]\nsays = "x"\na = "twin: vote"\nb = "twin"\n'
    file = load_beliefs(written(tmp_path, BASE + more))
    assert file.trained_as == {"base": "base", "twin": "base", "long": "long"}
    assert file.trainings(file.beliefs) == ["long", "base"]
    assert file.trainings(chosen_beliefs(file, ["same"])) == ["base"]
    machine = '[variants.threads]\ntrain.keep = "every 1"\ntrain.threads = 1\n'
    assert load_beliefs(written(tmp_path, BASE + machine)).trained_as["threads"] == "base"


def test_edits_lie_below_the_arms_or_over_one(tmp_path: Path) -> None:
    file = written(tmp_path)
    arms = load_variants(file, ["train.epochs=2", "train.head_lr=0.5", "variants.twin.train.head_lr=0.1"])
    epochs = {name: arm.settings_for(["age"]).epochs for name, arm in arms.items()}
    assert epochs == {"base": 2, "twin": 2, "long": 9}
    assert [arm.settings_for(["age"]).head_lr for arm in arms.values()] == [0.5, 0.1, 0.5]
    assert load_beliefs(file, ["variants.twin.train.head_lr=0.1"]).trained_as["twin"] == "twin"
    assert load_recipe(file, variant="long").name == arms["long"].name == "said-long"


def test_the_shipped_beliefs_are_those_that_were_asked_about() -> None:
    file = load_beliefs("beliefs")
    assert len(file.beliefs) == 10
    assert set(file.trained_as) == {side.arm for belief in file.beliefs for side in belief.sides}
    assert len(set(file.trained_as.values())) == len(file.arms) == 10
    epochs = {
        name: sum(phase.epochs for phase in arm.settings_for(["age"]).resolved_phases())
        for name, arm in file.arms.items()
    }
    assert len(set(epochs.values())) == 1  # no arm trains longer on age than another
    assert {arm.data.folds for arm in file.arms.values()} == {2}


def test_recipes_check_looks_at_beliefs(tmp_path: Path) -> None:
    assert check_recipe(str(written(tmp_path))).endswith("ens beliefs tests 1: long")
    with pytest.raises(UsageError, match=r"beliefs.it: unknown key"):
        check_recipe(str(written(tmp_path, belief(clam='"worse"'))))


def belief(**changed: Any) -> str:
    keys = {"says": '"x"', "a": '"long"', "b": '"base"'} | changed
    return BASE.partition("[beliefs")[0] + "[beliefs.it]\n" + "".join(f"{k} = {v}\n" for k, v in keys.items())


BAD = {
    "nothing said": (BASE.partition("[beliefs")[0], r"said.toml: no \[beliefs.NAME\]; write one table a belief"),
    "no arm": (belief(a='"lang"'), r'beliefs.it: no arm "lang"; did you mean "long"\?'),
    "no reading": (belief(a='"long: voted"'), r'"long: voted": no reading "voted"; did you mean "vote"\?'),
    "a reading without words": (belief(a='"long: ="'), r'"long: =": no reading "="'),
    "votes of so many": (belief(a='"long: vote=2"'), r"expected soup=N, N epochs from 2 on"),
    "a soup of one": (belief(a='"base: soup=1"'), r"expected soup=N, N epochs from 2 on"),
    "an unknown key": (belief(clam='"worse"'), r'beliefs.it: unknown key "clam"; did you mean "claim"\?'),
    "an unknown claim": (belief(claim='"best"'), r"beliefs.it.claim: Input should be 'better', 'worse' or 'no_better'"),
    "a negative margin": (belief(margin=-0.1), r"beliefs.it.margin: Input should be greater than or equal to 0"),
    "no margin": (belief(claim='"no_better"'), r"no_better needs a margin above 0: the smallest gain"),
    "no attribute": (belief(attribute='"ages"'), r'beliefs.it.attribute: no "ages"; did you mean "age"\?'),
    "no metric": (belief(metric='"f1"'), r"beliefs.it.metric: Input should be 'macro_f1' or 'accuracy'"),
    "nothing said of it": (belief(says=""), r"not readable as TOML"),
    "with itself": (belief(a='"twin"'), r"a and b are the same training read alike"),
    "a soup of nothing kept": (belief(a='"long: soup"'), r'needs the epochs kept; write keep = "every 1" in that arm'),
    "no table": (BASE.partition("[beliefs")[0] + "[beliefs]\nit = 3\n", r"expected tables with plain names"),
    "a name with blanks": (belief().replace("beliefs.it", 'beliefs."It is"'), r"expected tables with plain names"),
    "other seeds": (BASE + "[variants.more]\ntrain.seeds = [0]\n", r"variants.more: other seeds than base"),
    "other seeds in an arm": (
        BASE.replace("mask = []", "") + "[train.age]\nseeds = [3]\n",
        r"the experts of an arm have other seeds each",
    ),
    "other data": (
        BASE + "[variants.more]\ndata.folds = 3\n",
        r"variants.more: other data or another schema than base",
    ),
    "a vote of one": (
        belief(a='"base: vote"').replace("[0, 1]", "[0]"),
        r'"base: vote" needs two or more seeds; write seeds = \[0, 1\]',
    ),
    "no arms": (
        BASE.replace("variants.base", "train.age").replace("[variants.twin]\ntrain.keep", "#").partition("[variants")[0]
        + '[beliefs.it]\nsays = "x"\na = "a"\nb = "b"\n',
        r"no \[variants.NAME\]: the arms that beliefs compare",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_refused(name: str, tmp_path: Path) -> None:
    text, message = BAD[name]
    with pytest.raises(Exception, match=message) as caught:
        load_beliefs(written(tmp_path, text))
    assert type(caught.value).__name__ in ("UsageError", "DataError")
    assert str(caught.value).startswith(str(tmp_path))


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        ("variants.lang.train.epochs=2", r'no such variant; did you mean "long"\?'),
        ("variants.long.train=2", r"--set variants.long.train: set a key of a section"),
        ("variants.long.train.epoch=2", r'variants.long: --set train.epoch: unknown key; did you mean "train.epochs"'),
        ("train.epoch=2", r'--set train.epoch: unknown key; did you mean "train.epochs"'),
    ],
)
def test_bad_edits_are_refused(edit: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        load_beliefs(written(tmp_path), [edit])


def test_unknown_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r'--only: no belief "lung"; did you mean "long"\?'):
        chosen_beliefs(load_beliefs(written(tmp_path)), ["lung"])
    with pytest.raises(UsageError, match='no arm "x"'):
        parse_side("x: vote", ["base"])
