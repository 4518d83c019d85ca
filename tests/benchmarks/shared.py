"""What the benchmarks share: turns, ratios with quartiles against their limits, one table, one JSON file.

A benchmark is a file with `main(argv) -> int`: it makes a `Report` from its own options, adds rows, ends with
`report.end()`, whose exit code is 1 where a limit was missed. `python tests/benchmarks` runs all of them. With
`--json FILE` the rows of several calls gather in one file, and so in one table.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

INSTRUCTIONS = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16", "amx_int8", "asimd", "bf16", "i8mm")
PACKAGES = ("torch", "numpy", "opencv-python-headless", "scikit-learn")


def options(doc: str | None, rounds: int | None) -> argparse.ArgumentParser:
    """The options that every benchmark has; a file adds its own.

    Args:
        rounds: unless others are asked for; None = each benchmark's own.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, help=f"turns of each side; default {rounds or 'its own'}")
    parser.add_argument("--json", type=Path, help="the rows go here too; those of other benchmarks stay there")
    parser.add_argument("--threads", type=int, help="of torch; default what it takes")
    parser.add_argument("--quick", action="store_true", help="small and once: does it run? limits are not judged")
    parser.set_defaults(usual_rounds=rounds)
    return parser


def seconds(call: Callable[[], object]) -> float:
    """How long one call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def command_seconds(command: Sequence[str], folder: Path | None = None) -> float:
    """How long a command takes that has to end well."""
    quiet = subprocess.DEVNULL
    return seconds(lambda: subprocess.run(command, stdout=quiet, stderr=quiet, check=True, cwd=folder))


def turn_about(timed: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Each side once a round, so that a slow minute hits all; every other round backwards, so that none goes first.

    Args:
        timed: name -> a call that returns its own seconds (or any cost).
    """
    found: dict[str, list[float]] = {name: [] for name in timed}
    for number in range(rounds):
        for name in list(timed)[:: 1 if number % 2 == 0 else -1]:
            found[name].append(timed[name]())
    return found


def over(top: Sequence[float], bottom: Sequence[float]) -> list[float]:
    """Ratios within each round."""
    return [a / b for a, b in zip(top, bottom, strict=True)]


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """First quartile, median, third quartile."""
    if len(values) < 2:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


@dataclass(frozen=True)
class Row:
    """One thing measured.

    Attributes:
        benchmark: the file's name.
        values: one a round.
        least, most: what the median must reach, or not pass.
        skipped: why there are no values.
        note: said behind the row.
        threads: that it had.
    """

    benchmark: str
    name: str
    values: tuple[float, ...] = ()
    least: float | None = None
    most: float | None = None
    skipped: str = ""
    note: str = ""
    judged: bool = True
    threads: int = 1

    @property
    def limit(self) -> str:
        if self.least is not None and self.most is not None:
            return f"{self.least:g} to {self.most:g}"
        return f">= {self.least:g}" if self.least is not None else f"<= {self.most:g}" if self.most is not None else ""

    @property
    def verdict(self) -> str:
        if self.skipped:
            return f"skipped: {self.skipped}"
        if not self.limit or not self.judged:
            return "not judged" if self.limit else "told"
        middle = quartiles(self.values)[1]
        is_ok = (self.least is None or middle >= self.least) and (self.most is None or middle <= self.most)
        return "ok" if is_ok else "MISSED"

    def numbers(self) -> tuple[str, str, str]:
        """Median, quartiles and rounds, in words."""
        if not self.values:
            return "", "", ""
        low, middle, high = quartiles(self.values)
        spread = f"{_short(low)} to {_short(high)}" if len(self.values) > 1 else ""
        return _short(middle), spread, str(len(self.values))

    def to_json(self) -> dict[str, Any]:
        found = asdict(self) | {"values": list(self.values), "verdict": self.verdict}
        if self.values:
            low, middle, high = quartiles(self.values)
            found |= {"median": middle, "quartiles": [low, high], "rounds": len(self.values)}
        return found

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Row:
        own = {
            key: found[key] for key in ("benchmark", "name", "least", "most", "skipped", "note", "judged", "threads")
        }
        return cls(values=tuple(found["values"]), **own)


def _short(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 20 else f"{value:.3g}"


class Report:
    """The rows of one benchmark, told as they come and written as JSON in the end.

    Args:
        benchmark: its file, `__file__`.
        given: what `options` parsed.
    """

    def __init__(self, benchmark: str, given: argparse.Namespace):
        self.benchmark, self.given = Path(benchmark).stem, given
        self.threads = given.threads or usual_threads()
        self.rounds: int = given.rounds or (1 if given.quick else given.usual_rounds)
        self.rows: list[Row] = []

    def tell(self, text: str) -> None:
        print(text, flush=True)

    def add(
        self,
        name: str,
        values: Sequence[float],
        *,
        least: float | None = None,
        most: float | None = None,
        note: str = "",
    ) -> Row:
        """A row of one value a round, and what its median must reach or not pass."""
        row = Row(self.benchmark, name, tuple(map(float, values)), least, most, note=note, threads=self.threads)
        return self._told(replace(row, judged=not self.given.quick))

    def skip(self, name: str, reason: str, *, least: float | None = None, most: float | None = None) -> Row:
        """A row that cannot be measured here, and why."""
        return self._told(Row(self.benchmark, name, least=least, most=most, skipped=reason, threads=self.threads))

    def _told(self, row: Row) -> Row:
        self.rows.append(row)
        middle, spread, _ = row.numbers()
        told = [f"{middle}{f' [{spread}]' if spread else ''}"] if middle else []
        told += [f"limit {row.limit}"] if row.limit else []
        told += [row.verdict] if row.verdict != "told" else []
        self.tell(f"{row.name}: {', '.join(told)}{f' ({row.note})' if row.note else ''}")
        return row

    def end(self) -> int:
        """Writes the JSON that was asked for; the exit code is 1 where a limit was missed."""
        if self.given.json:
            gather(self.given.json, self.rows)
        return int(any(row.verdict == "MISSED" for row in self.rows))


def gather(path: Path, rows: Sequence[Row]) -> None:
    """Writes rows to a file, in the place of those that it has of the same benchmarks with as many threads.

    Raises:
        ValueError: the file's were measured on another machine, or with other packages.
    """
    fresh = {(row.benchmark, row.threads) for row in rows}
    kept = [row for row in gathered(path) if (row.benchmark, row.threads) not in fresh]
    every = sorted([*kept, *rows], key=lambda row: (row.benchmark, row.threads))
    content = {"machine": machine(), "rows": [row.to_json() for row in every]}
    partly = path.with_name(f".{path.name}.tmp")
    partly.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    partly.replace(path)


def gathered(path: Path) -> list[Row]:
    """The rows of a file; none where there is no file. Raises ValueError as `gather` does."""
    if not path.is_file():
        return []
    found = json.loads(path.read_text("utf-8"))
    if found["machine"] != machine():
        raise ValueError(f"{path}: measured on another machine or with other packages; give another file")
    return [Row.from_json(row) for row in found["rows"]]


def usual_threads() -> int:
    """What torch takes where nothing is said."""
    return int(os.environ.get("OMP_NUM_THREADS") or cores() or 1)


def cores() -> int | None:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


@cache
def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    model, flags = platform.processor() or platform.machine(), set()
    cpuinfo = Path("/proc/cpuinfo")
    for line in cpuinfo.read_text().splitlines() if cpuinfo.is_file() else ():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            model = value.strip()
        if key.strip() in ("flags", "Features"):
            flags = set(value.split())
    return {
        "cpu": model,
        "instructions": [name for name in INSTRUCTIONS if name in flags],
        "cores": os.cpu_count(),
        "gpu": gpu(),
        "python": platform.python_version(),
        **{name: _version(name) for name in PACKAGES},
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "none"


def gpu() -> str:
    """The first CUDA device by nvidia-smi, without importing torch; "none" where there is none."""
    try:
        command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        found = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.splitlines()
    except (OSError, subprocess.SubprocessError):
        return "none"
    return found[0].strip() if found else "none"


def table(rows: Sequence[Row]) -> str:
    """All rows as one table, in Markdown that reads as plain text too."""
    lines = [("benchmark", "what", "threads", "median", "quartiles", "rounds", "limit", "verdict")]
    for row in rows:
        told = f"{row.verdict} ({row.note})" if row.note else row.verdict
        lines.append((row.benchmark, row.name, str(row.threads), *row.numbers(), row.limit, told))
    widths = [max(len(line[i]) for line in lines) for i in range(7)]
    left = (0, 1)
    texts = []
    for line in lines:
        cells = [f"{c:<{w}}" if i in left else f"{c:>{w}}" for i, (c, w) in enumerate(zip(line, widths, strict=False))]
        texts.append(f"| {' | '.join(cells)} | {line[7]} |")
    rule = [":" + "-" * (w - 1) if i in left else "-" * (w - 1) + ":" for i, w in enumerate(widths)]
    return "\n".join([texts[0], f"| {' | '.join(rule)} | :--- |", *texts[1:]])
