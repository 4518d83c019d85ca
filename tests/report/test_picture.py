"""The picture: a small PNG that shows what it was given."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ensemble_kit.arrays import ByteArray
from ensemble_kit.errors import UsageError
from ensemble_kit.graph import Graph
from ensemble_kit.report.canvas import Canvas
from ensemble_kit.report.picture import draw_predictions
from ensemble_kit.schema import Attribute, Schema
from ensemble_kit.structure_report import ChildRow, Comparison, Score, StructureReport, StructureRow

SCHEMA = Schema(
    Attribute("mask", ["worn", "incorrect", "not_worn"]),
    Attribute("gender", ["male", "female"]),
    Attribute("age", ["<30", "30-59", ">=60"], borders=[30, 60]),
)
GRAPH = Graph({"mask": [], "gender": [], "age": ["mask"]})
RED = (200, 50, 31)


def report(score: float = 0.7, gain: float = 0.05) -> StructureReport:
    middle = Score(score, score - 0.05, (score - 0.03, score + 0.03), (score - 0.1, score))
    names = ["independent", "conditional_hard", "conditional_soft", "perfect_mask"]
    rows = tuple(StructureRow(name, "soft", 5, middle, dict.fromkeys(SCHEMA.names, middle)) for name in names)
    ends = (gain - 0.03, gain + 0.03)
    compared = Comparison("age", "mask=worn", "soft", 5, 50, middle, middle, gain, gain, ends, ends)
    child = ChildRow("age", ("mask",), "soft", 5, middle, middle)
    return StructureReport(70, 0, 10, 100, ("mask",), rows, (child,), (compared,), {})


def call(n_photos: int = 6, *, shape: tuple[int, int] = (64, 48), **changes: Any) -> dict[str, Any]:
    """A call with grey photos, all answers right."""
    rows = [list(SCHEMA.paths[i * 5 % 18]) for i in range(n_photos)]
    names = [[a.classes[c] for a, c in zip(SCHEMA.attributes, row, strict=True)] for row in rows]
    photos = [np.full((*shape, 3), 90 + 8 * i % 100, dtype=np.uint8) for i in range(n_photos)]
    given = {"photos": photos, "predicted": names, "true": names, "confidence": [0.5] * n_photos}
    return (
        given | {"schema": SCHEMA, "graph": GRAPH, "report": report(), "title": "A title", "notes": "drawn"} | changes
    )


def draw(folder: Path, given: dict[str, Any]) -> tuple[bytes, ByteArray]:
    out = draw_predictions(folder / "new" / "picture.png", **given)
    data = out.read_bytes()
    return data, np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, ByteArray]:
    return draw(tmp_path_factory.mktemp("plain"), call())


def n_red(pixels: ByteArray) -> int:
    """The palette may shift a colour a little."""
    return int((np.abs(pixels.astype(int) - RED).max(axis=2) < 16).sum())


def test_a_small_png_and_nothing_else(tmp_path: Path) -> None:
    data, pixels = draw(tmp_path, call(15))
    assert data.startswith(b"\x89PNG")
    assert len(data) <= 200_000
    assert pixels.shape[1] > 900
    assert [entry.name for entry in (tmp_path / "new").iterdir()] == ["picture.png"]
    assert tuple(pixels[2, 2]) == (255, 255, 255)


@pytest.mark.slow
def test_noisy_photos_still_fit(tmp_path: Path) -> None:
    noise = list(np.random.default_rng(0).integers(0, 256, (18, 160, 120, 3), dtype=np.uint8))
    data, _ = draw(tmp_path, call(18, photos=noise))
    assert len(data) <= 200_000


@pytest.mark.parametrize(
    "change",
    [
        {"title": "Another title"},
        {"notes": "other notes"},
        {"confidence": [0.6] * 6},
        {"confidence": None},
        {"report": report(0.6)},
        {"report": report(gain=-0.05)},
        {"report": None},
        {"graph": Graph({"mask": [], "gender": [], "age": []})},
        {"graph": Graph({"mask": [], "gender": [], "age": ["gender"]})},
        {"photos": [np.full((64, 48, 3), 200, dtype=np.uint8)] * 6},
    ],
)
def test_what_is_given_shows(tmp_path: Path, plain: tuple[bytes, ByteArray], change: dict[str, Any]) -> None:
    assert draw(tmp_path, call(**change))[0] != plain[0]


def test_the_same_call_gives_the_same_bytes(tmp_path: Path, plain: tuple[bytes, ByteArray]) -> None:
    assert draw(tmp_path, call())[0] == plain[0]


def test_only_wrong_answers_are_red(tmp_path: Path, plain: tuple[bytes, ByteArray]) -> None:
    given = call()
    wrong = [list(names) for names in given["true"]]
    wrong[2][2] = "<30" if wrong[2][2] != "<30" else ">=60"
    assert n_red(plain[1]) == 0
    assert n_red(draw(tmp_path, given | {"true": None})[1]) == 0
    one = n_red(draw(tmp_path, given | {"true": wrong})[1])
    wrong[4][0] = "worn" if wrong[4][0] != "worn" else "incorrect"
    two = n_red(draw(tmp_path, given | {"true": wrong})[1])
    assert 500 < one < two
    wrong[2][1] = "female" if wrong[2][1] != "female" else "male"  # the same photo, one word more
    assert two < n_red(draw(tmp_path, given | {"true": wrong})[1]) < two + 500


def test_a_photo_is_shown_once_and_whole(tmp_path: Path) -> None:
    """A photo of one colour per corner: all four are in the picture, with the same share."""
    photo = np.full((60, 60, 3), 255, dtype=np.uint8)
    colours = [(10, 200, 30), (30, 20, 220), (220, 210, 20), (20, 190, 200)]
    corners = [
        (slice(0, 30), slice(0, 30)),
        (slice(0, 30), slice(30, 60)),
        (slice(30, 60), slice(0, 30)),
        (slice(30, 60), slice(30, 60)),
    ]
    for corner, colour in zip(corners, colours, strict=True):
        photo[corner] = colour
    _, pixels = draw(tmp_path, call(1, photos=[photo], confidence=None, report=None))
    shares = [int((np.abs(pixels.astype(int) - colour).max(axis=2) < 12).sum()) for colour in colours]
    assert min(shares) > 3000
    assert max(shares) < 1.1 * min(shares)


@pytest.mark.parametrize(("n_photos", "shape"), [(1, (300, 20)), (7, (20, 300)), (40, (64, 64)), (3, (1, 1))])
def test_any_number_and_shape(tmp_path: Path, n_photos: int, shape: tuple[int, int]) -> None:
    data, _ = draw(tmp_path, call(n_photos, shape=shape))
    assert len(data) <= 200_000


def test_long_names_and_many_states(tmp_path: Path) -> None:
    kinds = [f"a_kind_with_a_very_long_name_{i}" for i in range(4)]
    schema = Schema(Attribute("kind", kinds), Attribute("$price$", ["low_" * 12, "high"]))
    predicted = [[kind, "low_" * 12] for kind in kinds]
    given = call(4, schema=schema, graph=Graph({"kind": [], "$price$": ["kind"]}), predicted=predicted, true=None)
    _, right = draw(tmp_path, given | {"report": None})
    truth = [[kind, "high"] for kind in kinds]
    _, wrong = draw(tmp_path, given | {"report": None, "true": truth})
    assert len(wrong) > len(right)  # a line of its own for the truth


@pytest.mark.parametrize("words", ["a word", "many words that do not fit into so narrow a line at all", "x"])
def test_a_line_keeps_to_its_width(words: str) -> None:
    assert Canvas(400, 100).text(0, 50, words, width=60) <= 60


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"photos": []}, "expected photos and as many answers for them, found {'photos': 0, 'predicted': 6"),
        ({"confidence": [0.5]}, "'confidence': 1"),
        ({"true": []}, "'true': 0"),
        (
            {"predicted": [["worn", "male"]] * 6},
            "expected a class for each of ['mask', 'gender', 'age'], found ['worn', 'male']",
        ),
        ({"predicted": [["worm", "male", "<30"]] * 6}, 'attribute "mask" has no class "worm"; did you mean "worn"?'),
        ({"photos": [np.zeros((8, 8))] * 6}, "expected photos (h, w, 3) of uint8, found (8, 8) of float64"),
        ({"photos": [np.zeros((0, 8, 3), dtype=np.uint8)] * 6}, "found (0, 8, 3) of uint8"),
    ],
)
def test_bad_calls_write_nothing(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        draw(tmp_path, call(**changes))
    assert message in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_pyplot_is_not_touched() -> None:
    code = (
        "import sys, numpy as np\n"
        "from ensemble_kit.report.canvas import Canvas\n"
        "canvas = Canvas(100, 100)\n"
        "canvas.text(0, 50, 'words')\n"
        "assert canvas.png(9999)\n"
        "import ensemble_kit.report.picture\n"
        "print('matplotlib.pyplot' in sys.modules, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
