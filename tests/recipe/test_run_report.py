"""`ens report`: the facts of a run, what it lacks said in a line, and one page that nothing can break out of."""

from __future__ import annotations

import csv
import json
import re
import shlex
import shutil
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import report_cases
from report_cases import faces, make_run, write_answers
from typer.testing import CliRunner

import ensemble_kit as ek
from ensemble_kit.cli import app
from ensemble_kit.errors import DataError, EnsembleKitError, UsageError
from ensemble_kit.predictions import load_predictions
from ensemble_kit.recipe.evaluate import evaluate_target
from ensemble_kit.recipe.load import load_recipe
from ensemble_kit.recipe.report import gather_report, report_run
from ensemble_kit.run_report import RunReport, write_report
from ensemble_kit.runs import Run

EVIL = "<script>alert(1)</script>\"'&"


def ens(*words: object) -> str:
    done = CliRunner().invoke(app, ["report", *map(str, words)])
    if isinstance(done.exception, Exception):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("report") / "run")


@pytest.fixture(scope="module")
def found(run: Path) -> RunReport:
    return gather_report(run, answers=run / "answers.csv", n_boot=40)


def test_scores_are_those_of_evaluate_and_diagnose(run: Path, found: RunReport) -> None:
    report: Any = evaluate_target(run, load_recipe("face-mask"), answers=run / "answers.csv", people=None, data=None)
    hard = next(row for row in report.main_rows() if row.structure == "conditional_hard")
    joint, *attributes = found.answers
    assert joint.score.macro_f1 == pytest.approx(hard.joint.macro_f1)
    assert joint.score.accuracy == pytest.approx(hard.joint.accuracy)
    for answer in attributes:
        assert answer.score.macro_f1 == pytest.approx(hard.attributes[answer.what].macro_f1)
    assert found.diagnosis is not None
    same = next(one for one in found.diagnosis.scores if one.structure == "conditional_hard")
    assert same.joint.macro_f1 == pytest.approx(joint.score.macro_f1)
    assert found.scored_on == "the evaluation photos"
    assert (found.n_scored, found.n_scored_people) == (90, 30)


def test_subgroups_are_those_of_the_run_s_own_answers(tmp_path: Path) -> None:
    """The hard route's: the gallery, the submission and the page's headline count the same photos as wrong."""
    schema = faces()
    folder = make_run(tmp_path / "run", schema, strength=1.0)
    found = gather_report(folder, answers=folder / "answers.csv", people=folder / "people.csv", n_boot=10)
    run = Run.open(folder)
    experts = load_predictions(run.predictions_folder("eval"))
    said, soft = (
        ek.ConditionalEnsemble(schema, run.graph, experts).combine(route=route).joint for route in ("hard", "soft")
    )
    truth = dict(csv.reader((folder / "answers.csv").read_text("utf-8").splitlines()))
    joint = np.array([int(truth[name]) for name in said.ids.tolist()])
    assert (said.labels() != soft.labels()).any()
    right, true = said.labels() == joint, schema.decode(joint)
    true["joint class"] = joint
    names = {a.name: a.classes for a in schema.attributes} | {"joint class": tuple(schema.joint_names())}
    assert found.diagnosis is not None
    rows = [one for one in found.diagnosis.subgroups if one.kind in names]
    assert len(rows) > 5
    for one in rows:
        own = right[true[one.kind] == names[one.kind].index(one.name)].mean()
        assert one.accuracy == pytest.approx(own)
        assert one.gap.value == pytest.approx(own - right.mean())
    assert found.answers[0].score.accuracy == pytest.approx(right.mean())
    text, _ = page_of(folder, tmp_path / "p.html", answers=folder / "answers.csv")
    assert "Joint accuracy of the run&#39;s own answers (hard route, soft vote" in text


def test_photos_of_nobody_known_are_not_called_people(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_cases, "PHOTOS_EACH", 1)
    folder = make_run(tmp_path / "run", n_people=72)
    found = gather_report(folder, answers=folder / "answers.csv", people=folder / "people.csv", n_boot=10)
    assert found.n_scored_people is None
    assert {one.n_people for answer in found.answers for one in answer.classes} == {None}
    assert found.answers[0].score.accuracy_interval is not None
    write_report(found, tmp_path / "p.html")
    text = (tmp_path / "p.html").read_text("utf-8")
    assert "from 10 draws of photos" in text
    assert "draws of people" not in text
    assert "of 72 people" not in text
    assert "nobody is in two folds" not in text


def test_the_data_the_curves_and_the_settings_are_the_run_s(found: RunReport) -> None:
    data = found.data
    assert (data.n_photos, data.n_people, data.n_held_out, data.n_held_out_people) == (90, 30, (45, 45), (15, 15))
    assert [one.what for one in data.labels] == ["mask", "gender", "age", "joint class"]
    assert all(sum(one.n_photos for one in labels.classes) == 90 for labels in data.labels)
    assert data.numbers[0].photos == ((20.0, 30), (45.0, 30), (70.0, 30))
    assert len(found.curves) == 12
    assert found.curves[0].macro_f1 == (0.25, 0.5)
    assert found.setup.shared["backbone"] == "tiny"
    assert sorted(one.settings["epochs"] for one in found.setup.experts) == [0, 1, 2, 3, 4, 5]
    assert {one.checkpoints for one in found.setup.experts} == {("0", "1")}
    assert len(found.votes) == 6


def test_the_command_prints_json_and_writes_one_page(run: Path, tmp_path: Path) -> None:
    options = ("--answers", run / "answers.csv", "--draws", 20)
    content = json.loads(ens(run, *options, "--json"))
    assert content["answers"][0]["what"] == "joint class"
    assert content["diagnosis"]["advice"]
    assert "shown" not in content
    page = tmp_path / "page.html"
    text = ens(run, "-o", page, *options)
    assert "macro F1 over 18 classes is" in text
    assert "  (no photos in it; --photos adds the surest wrong answers)" in text.splitlines()
    assert max(len(line) for line in text.splitlines() if not line.startswith("report: ")) <= 80
    assert page.read_text("utf-8").startswith("<!doctype html>")
    before = page.read_bytes()
    ens(run, "-o", page, *options)
    assert page.read_bytes() == before


class Page(HTMLParser):
    """Elements, addresses and headings of a page."""

    def __init__(self, text: str):
        super().__init__()
        self.names: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.attributes += attrs


def test_the_gallery_it_names_shows_as_many_wrong_answers(run: Path, tmp_path: Path) -> None:
    options = ("--answers", run / "answers.csv", "--draws", 5)
    printed = ens(run, *options, "-o", tmp_path / "p.html").replace("\\\n", "")
    (line,) = (line for line in printed.splitlines() if line.startswith("next: "))
    words = shlex.split(line.removeprefix("next: ens "))
    assert words == ["gallery", str(run), "--photos", "--answers", str(run / "answers.csv")]
    words.remove("--photos")  # this run's are not there
    done = CliRunner().invoke(app, [*words, "-o", str(tmp_path / "g.html"), "--json"])
    n_wrong = json.loads(done.output)["n_wrong"]
    assert n_wrong > 0
    text = (tmp_path / "p.html").read_text("utf-8")
    assert f"{n_wrong} answers are wrong; a gallery shows" in text
    assert f"<code>ens {shlex.join([*words[:2], '--photos', *words[2:]])}</code>" in text


def page_of(folder: Path, out: Path, **options: Any) -> tuple[str, Page]:
    report_run(folder, out, n_boot=10, **options)
    text = out.read_text("utf-8")
    return text, Page(text)


def test_a_page_fetches_nothing_and_its_headings_are_in_order(run: Path, tmp_path: Path) -> None:
    text, page = page_of(run, tmp_path / "p.html", answers=run / "answers.csv")
    addresses = [value for name, value in page.attributes if name in ("href", "src", "srcset", "action")]
    assert all(str(address).startswith(("#", "data:")) for address in addresses)
    levels = [int(name[1]) for name in page.names if re.fullmatch(r"h[1-6]", name)]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    ids = [value for name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    links = {str(value)[1:] for name, value in page.attributes if name == "href" and str(value).startswith("#")}
    assert links <= set(ids)
    assert page.names.count("script") == 1
    assert page.names.count("img") == 0
    assert "holds no photo" in text
    assert page.names.count("figure") > 20


def test_every_figure_has_a_sentence_and_two_runs_have_different_ones(run: Path, tmp_path: Path) -> None:
    other = make_run(tmp_path / "other", n_people=24, strength=1.5)
    pages = [page_of(folder, tmp_path / "p.html", answers=folder / "answers.csv")[0] for folder in (run, other)]
    said = [re.findall(r'<p class="says">(.*?)</p>', text) for text in pages]
    assert all(len(sentence) > 20 and sentence.endswith(".") for sentence in said[0])
    assert len(said[0]) == pages[0].count("<figure")
    differing = sum(one != two for one, two in zip(*said, strict=True))
    assert differing > 0.8 * len(said[0])


def test_names_that_are_scripts_stay_names(tmp_path: Path) -> None:
    schema = faces(EVIL)
    folder = make_run(tmp_path / f"run {EVIL.replace('/', '')}", schema, note=EVIL)
    tame = make_run(tmp_path / "tame")
    page = page_of(folder, tmp_path / "evil.html", answers=folder / "answers.csv")
    plain = page_of(tame, tmp_path / "tame.html", answers=tame / "answers.csv")
    assert "<script>alert" not in page[0]
    assert page[1].names.count("script") == plain[1].names.count("script") == 1
    assert set(page[1].names) == set(plain[1].names)
    assert {name for name, _ in page[1].attributes} == {name for name, _ in plain[1].attributes}
    assert "&lt;script&gt;alert(1)" in page[0]


def test_a_run_without_predictions_is_scored_out_of_fold_and_says_so(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", predicted=False)
    found = gather_report(folder, n_boot=10)
    assert found.scored_on == "training photos, out of fold"
    assert len(found.answers) == 4
    lacking = {one.what: one for one in found.missing}
    assert set(lacking) == {"votes", "shifts", "evaluation"}
    assert lacking["evaluation"].command == f"ens predict {folder}"
    text, _ = page_of(folder, tmp_path / "p.html")
    assert "not predicted" in text


def test_what_is_not_there_is_said_with_the_command_for_it(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", pooled=False, history=False)
    shutil.rmtree(folder / "experts" / "gender" / "fold1")
    found = gather_report(folder, n_boot=10)
    lacking = {one.what: one for one in found.missing}
    assert "gender: fold 1 of 2 not trained" in lacking["folds"].reason
    assert lacking["folds"].command == f"ens train gender --run {folder}"
    assert lacking["curves"].command == "ens train"
    assert found.diagnosis is None or any("without a pooled age expert" in line for line in found.diagnosis.advice)
    text, _ = page_of(folder, tmp_path / "p.html")
    assert "fold 1 of 2 not trained" in text


def test_a_run_with_nothing_trained_still_tells_its_data(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    shutil.rmtree(folder / "experts")
    shutil.rmtree(folder / "predictions")
    found = gather_report(folder)
    assert found.answers == ()
    assert found.data.n_photos == 90
    assert "no finished expert" in {one.what: one.reason for one in found.missing}["answers"]
    text, _ = page_of(folder, tmp_path / "p.html")
    assert "no finished expert" in text
    assert "What it was trained on" in text


@pytest.mark.slow
def test_a_missing_expert_leaves_what_can_be_read(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", predicted=False)
    shutil.rmtree(next((folder / "experts").glob("age-given-mask-incorrect*")))
    found = gather_report(folder, n_boot=10)
    assert found.read_as.startswith("read as independent")
    assert found.diagnosis is None
    assert "incorrect" in {one.what: one.reason for one in found.missing}["diagnosis"]
    page_of(folder, tmp_path / "p.html")


@pytest.mark.slow
def test_one_attribute_and_a_taxonomy_have_reports_too(tmp_path: Path) -> None:
    flat = ek.Schema(ek.Attribute("age", ["<30", ">=30"], borders=[30]))
    one = make_run(tmp_path / "one", flat, ek.Graph({"age": []}))
    found = gather_report(one, answers=one / "answers.csv", n_boot=10)
    assert len(found.answers) == 1
    page_of(one, tmp_path / "one.html", answers=one / "answers.csv")
    paths = [("a", f"a{k}") for k in range(12)] + [("b", f"b{k}") for k in range(12)]
    shop = ek.Schema.from_rows(["kind", "fine"], paths)
    many = make_run(tmp_path / "many", shop, ek.Graph({"kind": [], "fine": ["kind"]}))
    text, _ = page_of(many, tmp_path / "many.html", answers=many / "answers.csv")
    assert "the 20 classes with the lowest F1, of 24" in text


def test_photos_come_only_where_asked_for(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", predicted=False)
    noise = np.random.default_rng(0).integers(0, 255, (40, 30, 3)).astype(np.uint8)
    for k in range(0, 90, 2):
        cv2.imwrite(str(folder / f"{k}.jpg"), noise)
    text, page = page_of(folder, tmp_path / "p.html", photos=True)
    shown = re.findall(r'<img src="data:image/webp;base64,', text)
    assert 0 < len(shown) == page.names.count("img")
    assert "not readable any more" in text
    assert "whoever gets it gets them" in text
    assert "<img" not in page_of(folder, tmp_path / "q.html")[0]


def test_photos_that_have_gone_are_no_reason_to_have_no_report(run: Path, tmp_path: Path) -> None:
    text, page = page_of(run, tmp_path / "p.html", photos=True, answers=run / "answers.csv")
    assert page.names.count("img") == 0
    assert "This page holds no photo: " in text
    assert "photos are missing" in text


BAD: dict[str, tuple[Any, type[EnsembleKitError], str]] = {
    "no run": (lambda run: (run.parent, "-o", run.parent / "p.html"), DataError, "expected a run"),
    "an input": (
        lambda run: (run, "-o", run / "answers.csv", "--answers", run / "answers.csv"),
        UsageError,
        "overwritten",
    ),
    "no page": (lambda run: (run, "-o", run / "run.json"), UsageError, "is there and is no page"),
    "a folder": (lambda run: (run, "-o", run), UsageError, "overwritten"),
    "other answers": (lambda run: (run, "--answers", run / "run.json"), DataError, "run.json"),
    "unknown subgroup": (
        lambda run: (run, "-o", run / "p.html", "--answers", run / "answers.csv", "--subgroup", "hat"),
        UsageError,
        "no such column",
    ),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_calls_end_in_one_line_and_write_nothing(what: str, run: Path) -> None:
    words, error, message = BAD[what]
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    with pytest.raises(error, match=message):
        ens(*words(run))
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


def test_answers_that_do_not_fit_are_refused(run: Path, tmp_path: Path) -> None:
    write_answers(tmp_path / "a.csv", ["x.jpg"], np.array([0]))
    with pytest.raises(DataError, match="score the same ones"):
        gather_report(run, answers=tmp_path / "a.csv")
