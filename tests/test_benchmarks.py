"""The benchmarks' common part, and that all of them run; what they measure is no matter of a test."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).resolve().parent / "benchmarks"))

from shared import Report, Row, gather, gathered, options, over, quartiles, table, turn_about

FOLDER = Path(__file__).resolve().parent / "benchmarks"


def test_quartiles_are_numpys() -> None:
    for values in ([3.0], [1.0, 2.0], [5.0, 1.0, 4.0, 2.0], np.random.default_rng(0).normal(size=9).tolist()):
        assert np.allclose(quartiles(values), np.quantile(values, [0.25, 0.5, 0.75]))


def test_sides_take_turns_and_neither_always_goes_first() -> None:
    told: list[str] = []
    clock = iter(range(100))

    def side(name: str) -> float:
        told.append(name)
        return next(clock)

    took = turn_about({"a": lambda: side("a"), "b": lambda: side("b")}, 3)
    assert told == ["a", "b", "b", "a", "a", "b"]
    assert took == {"a": [0, 3, 4], "b": [1, 2, 5]}
    assert over([1.0, 6.0], [2.0, 3.0]) == [0.5, 2.0]


@pytest.mark.parametrize(
    ("least", "most", "skipped", "limit", "verdict"),
    [
        (1.0, None, "", ">= 1", "ok"),
        (2.5, None, "", ">= 2.5", "MISSED"),
        (None, 2.0, "", "<= 2", "ok"),
        (None, 1.9, "", "<= 1.9", "MISSED"),
        (1.0, 1.5, "", "1 to 1.5", "MISSED"),
        (None, None, "", "", "told"),
        (1.0, None, "no such package", ">= 1", "skipped: no such package"),
    ],
)
def test_a_median_is_held_against_its_limits(
    least: float | None, most: float | None, skipped: str, limit: str, verdict: str
) -> None:
    row = Row("x", "y", () if skipped else (9.0, 1.0, 2.0), least, most, skipped)
    assert (row.limit, row.verdict) == (limit, verdict)
    assert Row.from_json(json.loads(json.dumps(row.to_json()))) == row


def test_a_report_ends_with_one_where_a_limit_is_missed_and_writes_its_rows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words, code in (([], 1), (["--quick"], 0)):
        given = options(None, 4).parse_args([*words, "--json", str(tmp_path / "out.json")])
        report = Report("somewhere/fast.py", given)
        assert report.rounds == (1 if words else 4)
        report.add("speed", [1.0], least=2, note="of a snail")
        report.skip("other", "not installed")
        assert report.end() == code
        rows = json.loads((tmp_path / "out.json").read_text())["rows"]
        assert [row["verdict"] for row in rows] == ["not judged" if words else "MISSED", "skipped: not installed"]
    assert "speed: 1, limit >= 2, MISSED (of a snail)" in capsys.readouterr().out


def test_the_table_names_every_row_under_its_columns() -> None:
    rows = [
        Row("a", "short", (1.0, 2.0, 30.5), least=1, note="cold"),
        Row("longer", "none", skipped="no GPU", threads=2),
    ]
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table(rows).splitlines()]
    assert lines[0] == ["benchmark", "what", "threads", "median", "quartiles", "rounds", "limit", "verdict"]
    assert lines[2] == ["a", "short", "1", "2", "1.5 to 16.2", "3", ">= 1", "ok (cold)"]
    assert lines[3] == ["longer", "none", "2", "", "", "", "", "skipped: no GPU"]
    assert len({line.rindex("|", 0, -1) for line in table(rows).splitlines()}) == 1


def test_rows_of_several_calls_gather_in_one_file(tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    old, other, more = Row("b", "x", (1.0,)), Row("a", "x", (2.0,)), Row("b", "x", (3.0,), threads=2)
    for rows in ([old], [other], [more], [new := Row("b", "y", (4.0,))]):
        gather(file, rows)
    assert gathered(file) == [other, new, more]
    done = subprocess.run([sys.executable, str(FOLDER), "--table", "--json", str(file)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert table([other, new, more]) in done.stdout
    content = json.loads(file.read_text())
    file.write_text(json.dumps(content | {"machine": content["machine"] | {"cpu": "another"}}))
    with pytest.raises(ValueError, match="measured on another machine"):
        gather(file, [old])


@pytest.mark.slow
def test_one_command_runs_every_benchmark(tmp_path: Path) -> None:
    out = tmp_path / "all.json"
    command = [sys.executable, str(FOLDER), "--quick", "--threads=1", "--json", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(out.read_text())
    files = {path.stem for path in FOLDER.glob("*.py")} - {"__main__", "bounds", "naive", "shared"}
    assert {row["benchmark"] for row in found["rows"]} == files
    assert found["machine"]["cores"] >= 1


def test_an_unknown_benchmark_is_refused_naming_those_there_are() -> None:
    done = subprocess.run([sys.executable, str(FOLDER), "vote"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "no benchmark vote (known: " in done.stderr
    assert "votes" in done.stderr
