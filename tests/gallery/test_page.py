"""The page as a file: what it holds, what it leaves out, what it escapes, and what it says of photos it cannot show."""

from __future__ import annotations

import json
import re
from base64 import b64decode
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from core_oracles import sample_ids
from gallery_cases import draw_places, face_case

from ensemble_kit.arrays import FloatArray
from ensemble_kit.ensemble import ConditionalEnsemble
from ensemble_kit.errors import UsageError
from ensemble_kit.gallery import HeatRequest, Place, gallery_facts, take_pictures, write_gallery
from ensemble_kit.gallery.heat import heat_requests
from ensemble_kit.gallery.pictures import heat_picture
from ensemble_kit.graph import Graph
from ensemble_kit.predictions import Predictions
from ensemble_kit.schema import Attribute, Schema

EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)>&\u2028'\""


class Blocks(HTMLParser):
    """The page's pieces of JSON by id, as a browser finds them, and every start tag."""

    def __init__(self, text: str):
        super().__init__(convert_charrefs=True)
        self.found: dict[str, str] = {}
        self.tags: list[str] = []
        self.now: str | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)
        told = dict(attrs)
        self.now = told.get("id") if told.get("type") == "application/json" else None
        assert not any(name.startswith("on") for name in told)

    def handle_data(self, data: str) -> None:
        if self.now:
            self.found[self.now] = self.found.get(self.now, "") + data

    def handle_endtag(self, tag: str) -> None:
        self.now = None

    def __getitem__(self, name: str) -> Any:
        return json.loads(self.found[name])


def written(path: Path, facts: Any, places: list[Place] | None, **options: Any) -> tuple[Any, str]:
    report = write_gallery(path, facts, places, title="A run", scored_on="the photos", **options)
    return report, path.read_text("utf-8")


def test_photos_are_in_it_only_where_they_were_asked_for(tmp_path: Path) -> None:
    case = face_case(n_photos=6)
    report, text = written(tmp_path / "without.html", case.facts, None)
    assert "data:image" not in text
    assert "No photos are in this page" in text
    assert not report.has_photos
    assert "--photos" in report.text()
    report, text = written(tmp_path / "with.html", case.facts, draw_places(tmp_path / "photos", 6))
    assert text.count("data:image/webp;base64,") == 6
    assert "This page holds the photos themselves" in text
    assert report.to_json()["has_photos"]


def test_a_photo_that_cannot_be_read_has_the_reason_in_its_place(tmp_path: Path) -> None:
    case = face_case(n_photos=6)
    places = draw_places(tmp_path / "photos", 6, missing=1, damaged=4)
    places[5] = Place(None, "not in the data set")
    report, text = written(tmp_path / "page.html", case.facts, places)
    photos = Blocks(text)["board-photos-0"]
    assert photos[1] == {"problem": "expected a photo, found no such file"}
    assert "expected a photo" in photos[4]["problem"]
    assert photos[5] == {"problem": "not in the data set"}
    assert str(tmp_path) not in text  # nobody's folders
    assert [name for name, _ in report.problems] == ["photo-1.jpg", "photo-4.jpg", "photo-5.jpg"]
    assert "3 photos could not be shown, the first is photo-1.jpg" in report.text()


def test_names_from_users_are_text_and_nothing_else(tmp_path: Path) -> None:
    mask = Attribute(f"mask{EVIL}".replace(",", ""), [f"on{EVIL}", f"off{EVIL}"])
    age = Attribute("age", [f"young{EVIL}", "old"])
    schema, ids = Schema(mask, age), [f"{EVIL}{number}" for number in range(4)]
    random = np.random.default_rng(0)

    def probs(n: int) -> FloatArray:
        raw = random.random((1, 4, n))
        return np.asarray(raw / raw.sum(axis=-1, keepdims=True))

    experts = [Predictions(mask, probs(2), ids, voters=[EVIL])]
    experts += [Predictions(age, probs(2), ids, condition={mask.name: name}, voters=[EVIL]) for name in mask.classes]
    ensemble = ConditionalEnsemble(schema, Graph({mask.name: [], "age": [mask.name]}), experts)
    facts = gallery_facts(ensemble, truth=np.array([0, 1, 2, 3]), people=np.array([EVIL] * 4))
    places = [Place(None, EVIL)] * 4
    path = tmp_path / "page.html"
    write_gallery(path, facts, places, title=EVIL, scored_on=EVIL)
    text = path.read_text("utf-8")
    blocks = Blocks(text)
    assert "<script>alert" not in text
    assert blocks.tags.count("img") == 0
    assert blocks.tags.count("script") == len(blocks.found) + 2  # the kit's and the gallery's
    assert blocks["board-data"]["ids"] == ids
    assert blocks["board-data"]["lines"][0]["title"] == mask.name
    assert blocks["board-details"]["experts"][0]["voters"] == [EVIL]
    assert blocks["board-photos-0"][0] == {"problem": EVIL}
    assert "\u2028" not in re.sub(r"<style>.*?</style>", "", text, flags=re.DOTALL).split("<script type")[1]


def test_maps_are_asked_for_the_experts_that_were_wrong(tmp_path: Path) -> None:
    """For the first photos of the page and no others; None = no map."""
    case = face_case(seed=1, n_photos=12)
    asked: list[HeatRequest] = []

    def heat(requests: Any) -> list[FloatArray | None]:
        asked.extend(requests)
        return [None if number == 0 else np.eye(4) for number in range(len(requests))]

    places = draw_places(tmp_path / "photos", 12)
    report, text = written(tmp_path / "page.html", case.facts, places, heat=heat, n_heat=3)
    first = [case.facts.ids[row] for row in np.argsort(-case.facts.sure, kind="stable") if case.facts.wrong[row]][:3]
    assert list(dict.fromkeys(one.sample_id for one in asked)) == first
    said = case.facts.schema.decode(case.facts.said)
    true = case.facts.schema.decode(case.truth)
    for one in asked:
        row = sample_ids(12).index(one.sample_id)
        (name,) = one.attributes
        assert one.classes == (case.facts.schema[name].classes[said[name][row]],)
        assert said[name][row] != true[name][row]
        state = case.facts.schema["mask"].classes[said["mask"][row]]
        assert one.expert == (f"age given mask={state}" if name == "age" else name)
    maps = Blocks(text)["board-heat"]
    assert sum(len(found) for found in maps.values()) == len(asked) - 1
    assert report.n_heat == len(maps)
    assert "where the expert that decided looked" in text
    right = int(np.flatnonzero(~case.facts.wrong)[0]) if (~case.facts.wrong).any() else None
    if right is not None:
        assert [one.attributes for one in heat_requests(case.facts, right, Path("x"))] == [("age",)]


def test_a_map_lies_on_its_photo_as_it_was_found() -> None:
    """Wide, hot in the upper right corner: so is the picture, which is red and nothing else."""
    import cv2

    heat = np.zeros((2, 4))
    heat[0, 3] = 1
    data = heat_picture(heat).partition("base64,")[2]
    layer: Any = cv2.imdecode(np.frombuffer(b64decode(data), np.uint8), cv2.IMREAD_UNCHANGED)
    assert layer.shape == (80, 160, 4)
    strong = {
        name: int(layer[row, column, 3])
        for name, row, column in (("here", 10, 150), ("below", 70, 150), ("left", 10, 10))
    }
    assert strong["here"] > 150
    assert max(strong["below"], strong["left"]) < 30
    blue, _, red = layer[10, 150, :3].tolist()
    assert red > 200 > 60 > blue


def test_a_page_replaces_pages_only(tmp_path: Path) -> None:
    case = face_case(n_photos=3)
    other = tmp_path / "notes.txt"
    other.write_text("mine")
    with pytest.raises(UsageError, match="no page"):
        written(other, case.facts, None)
    assert other.read_text() == "mine"
    page = tmp_path / "page.html"
    written(page, case.facts, None)
    written(page, case.facts, None)


def test_pictures_are_small_and_the_first_ones_larger_too(tmp_path: Path) -> None:
    import cv2

    path = tmp_path / "wide.png"
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 255, (300, 600, 3), dtype=np.uint8))
    small, large = take_pictures([Place(path), Place(path)], large=[1])
    assert not small.large
    assert large.small == small.small
    assert len(large.large) > len(large.small)
    done: list[int] = []
    take_pictures([Place(path)] * 70, advance=done.append)
    assert done == [64, 70]
