"""The page and the command: other data, other sentences; nothing unescaped; photos only where asked for."""

from __future__ import annotations

import contextlib
import io
import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from looked_at_data import SCHEMA, answered, looked_at, people_table, picture, sure, write
from test_data_facts import edit

from ensemble_kit.cli import main
from ensemble_kit.data.check import FoldReport, PartReport
from ensemble_kit.data_report import sentences, write_report
from ensemble_kit.data_report.duplicates import Duplicates
from ensemble_kit.data_report.facts import Measured
from ensemble_kit.data_report.measures import Spread
from ensemble_kit.schema import Attribute, Schema

NASTY = "<script>alert(1)</script>"


def ens(*words: object) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        for name in ("ENS_DATA", "ENS_RECIPE", "ENS_RUN", "ENS_FIXES"):
            patch.delenv(name, raising=False)
        patch.setattr(sys, "argv", ["ens", *map(str, words)])
        try:
            main()
        except SystemExit as stop:
            return int(stop.code or 0), out.getvalue(), err.getvalue()
    return 0, out.getvalue(), err.getvalue()


class Tags(HTMLParser):
    """The tags of a page and its text, as a browser would read them."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def count(self, name: str) -> int:
        return sum(tag == name for tag, _ in self.tags)


def recipe(folder: Path, data: Path) -> Path:
    text = (
        '[schema]\nmask = ["worn", "not_worn"]\ngender = ["male", "female"]\n'
        'age = { classes = ["<30", "30-59", ">=60"], borders = [30, 60] }\n[graph]\nmask = []\ngender = []\nage = []\n'
        f'[data]\npath = "{data}"\nfolds = 2\n'
    )
    (folder / "task.toml").write_text(text)
    return folder / "task.toml"


def test_the_command_writes_the_page_and_prints_what_to_look_at(tmp_path: Path) -> None:
    root = people_table(tmp_path / "data")
    write(root / "p06_0.jpg", picture(10), quality=60)
    page, task = tmp_path / "page.html", recipe(tmp_path, root)
    code, out, err = ens("data", "report", root, "--recipe", task, "-o", page)
    assert (code, err) == (0, "")
    assert "1 pair of people shares a photo: 1 " in out
    assert f"page: {page}" in out
    assert max(len(line) for line in out.splitlines() if not line.startswith("page: ")) <= 80
    text = page.read_text()
    tags = Tags(text)
    assert tags.count("img") == 0
    assert "No photo is in this page" in text
    assert "p06_0.jpg" in text
    assert {f"#{tag[1]['id']}" for tag in tags.tags if tag[0] == "section"} >= set(
        re.findall(r'href="(#[^"]+)"', text)
    ) - {"#main"}
    with_photos = tmp_path / "photos.html"
    assert ens("data", "report", root, "--recipe", task, "-o", with_photos, "--photos")[0] == 0
    shown = Tags(with_photos.read_text())
    assert shown.count("img") > 10
    assert all(str(tag[1]["src"]).startswith("data:image/") and tag[1]["alt"] for tag in shown.tags if tag[0] == "img")


def test_json_prints_the_facts_and_writes_no_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    root = people_table(tmp_path / "data")
    code, out, err = ens("data", "report", root, "--recipe", recipe(tmp_path, root), "--json")
    assert (code, err) == (0, "")
    facts = json.loads(out)
    assert facts["train"]["photos"] == 24
    assert facts["duplicates"]["pairs"] == []
    assert (
        facts["measured"]["age"]["people_near_a_border"] == 6 - 1
        or facts["measured"]["age"]["people_with_a_number"] == 12
    )
    assert not list(tmp_path.glob("*.html"))


def test_nothing_that_is_no_page_is_overwritten(tmp_path: Path) -> None:
    root = people_table(tmp_path / "data", people=4)
    task = recipe(tmp_path, root)
    before = (root / "samples.csv").read_bytes()
    for words in (["-o", root / "samples.csv"], ["-o", root], ["-o", tmp_path / "a.html", "--suggest-fixes", task]):
        code, _, err = ens("data", "report", root, "--recipe", task, *words)
        assert code == 2, words
        assert err.count("\n") == 1
    assert (root / "samples.csv").read_bytes() == before
    assert not (tmp_path / "a.html").exists()
    assert ens("data", "report", root, "--recipe", task, "--run", tmp_path / "no")[0] == 3


def test_names_are_text_wherever_they_stand(tmp_path: Path) -> None:
    schema = Schema(Attribute("kind", [NASTY, 'b" onload="alert(1)', "c"]), Attribute(NASTY + "x", ["<i>", "&amp;"]))
    root = tmp_path / "data"
    rows = ["path,group_id,kind,<script>alert(1)</script>x"]
    for number in range(12):
        name = f"{number}_<img src=x onerror=alert(1)>.png"
        write(root / name, picture(number // 2 if number < 2 else number))
        kind = '"' + schema["kind"].classes[number % 3].replace('"', '""') + '"'
        rows.append(f"{name},<b>{number}</b>{NASTY},{kind},{('<i>', '&amp;')[number % 2]}")
    (root / "samples.csv").write_text("\n".join(rows) + "\n")
    probs = {"kind": sure([(n + (n == 5)) % 3 for n in range(12)], 3)}
    facts = looked_at(root, schema, probs=probs)
    page = write_report(tmp_path / "page.html", facts, with_photos=True)
    text = page.read_text()
    tags = Tags(text)
    assert NASTY not in re.sub(r"<script>.*?</script>", "", text.replace(NASTY, "\0"), flags=re.S).replace("\0", NASTY)
    assert tags.count("b") == tags.count("i") == 0
    offered = [json.loads(str(a["data-fixes"])) for _, a in tags.tags if a.get("data-fixes")]
    assert all(fix[0].startswith("<b>") for ways in offered for rows_of_way in ways for fix in rows_of_way)
    assert offered
    assert all(not key.startswith("on") for _, attributes in tags.tags for key in attributes)
    assert [a["src"][:5] for tag, a in tags.tags if tag == "img" and a["src"]] == ["data:"] * tags.count("img")
    assert len(facts.duplicates.pairs) == 1


def test_other_data_other_sentences(tmp_path: Path) -> None:
    one = people_table(tmp_path / "one")
    other = people_table(tmp_path / "other", people=15)
    edit(other, p03_0={"gender": ""}, p05_0={"mask": "not_worn"})
    write(other / "p06_0.jpg", picture(10), quality=60)
    write(other / "p07_0.jpg", (picture(70) * 0.02).astype("uint8"))
    found = []
    for root, wrong in ((one, {"p03": 0}), (other, {"p03": 0, "p08": 1})):
        facts = looked_at(root, probs=answered(root, **wrong))
        gender = next(doubts for doubts in facts.doubts if doubts.name == "gender")
        found.append(
            [
                sentences.said_holdings(facts),
                sentences.said_attribute("gender", facts.check.train.attributes["gender"], {}),
                sentences.said_joint(SCHEMA.joint_names(), facts.check.train),
                sentences.said_folds(facts.check.folds, []),
                sentences.said_measured("age", facts.measured["age"], True),
                sentences.said_spread(facts.spreads[0]),
                sentences.said_duplicates(facts.duplicates, True),
                sentences.said_doubts(gender, "confidence"),
                sentences.said_sheets(facts, True),
                str(sentences.said_first(facts)),
            ]
        )
    assert all(a != b for a, b in zip(*found, strict=True)), found


def test_sentences_say_the_numbers() -> None:
    train, beside = {"m": (30, 5), "f": (10, 2)}, {"m": (10, 3), "f": (10, 3)}
    assert sentences.said_attribute("gender", train, beside) == (
        "m has 75.0 % of the training photos, f 25.0 %: 3.0 times as many. The evaluation photos differ: m 75 % in "
        "training, 50 % there."
    )
    part = PartReport(40, 7, {}, [30, 10, 0], {}, {})
    assert sentences.said_joint(["a", "b", "c"], part) == (
        "The commonest is a with 75.0 % of the photos, the rarest that occurs b with 10 photos. 1 class has no photo (c). "
        "1 class has fewer than 30 photos: their F1, an equal part of the mean, hangs on a few people."
    )
    folds = FoldReport([20, 20], 40, {"gender": {"m": (30, [18, 12]), "f": (10, [2, 8])}}, {})
    assert sentences.said_folds(folds, []) == (
        "2 folds of 20 held-out photos, nobody in two of them; the share furthest from that of all photos is gender m in "
        "fold 0, by 15.0 percentage points."
    )
    ages = {float(age): 2 for age in range(50, 60)} | {55.0: 20, 60.0: 40}
    measured = Measured(ages, ages, (30.0, 60.0), 44, 78, 60.0)
    assert sentences.said_measured("age", measured, True) == (
        "44 people of 78 (56.4 %) are so near to a border (30 and 60) that a label off by 2 would be in another class: a "
        "guess is easily on the wrong side there. 55 stands out between the neighbours, as rounded guesses do. 60 looks like a cap: 40 people, more than at "
        "the five numbers below it together."
    )
    spread = Spread("brightness", (100.0, 110.0, 120.0), (40.0, 180.0), {}, 8.0, (), (), 2, 1)
    assert sentences.said_spread(spread) == (
        "Half of the photos have brightness 100 to 120, the median is 110. 2 photos lie far outside: darker than 40. "
        "1 photo lies far outside: brighter than 180."
    )
    none = Duplicates((), 0, 100, 3, False, 1, {40: 10, 60: 90}, 100, False)
    assert sentences.said_duplicates(none, True) == (
        "Among 100 photos no two of different people are one photo. A pair is called so up to 24 of 255 bits; of 100 photos "
        "looked at the nearest of somebody else is 60 bits away in the median, 40 at the least. 3 photos are too flat to be "
        "compared. 1 file is a copy of another one of the same person. Nobody knows who is on the evaluation photos, so "
        "those are compared with the training photos only."
    )
