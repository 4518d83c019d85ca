"""Runs all benchmarks of this folder, or those named, and prints one table.

python tests/benchmarks [NAME ...] [--quick] [--rounds N] [--threads N] [--json FILE] [--table]

Each runs in a process of its own, one after the other. A benchmark that cannot run says why; the exit code is 1 where
a limit is missed, 2 where a benchmark breaks. With --json the rows of several calls gather in FILE, also those of
benchmarks called by themselves (`python tests/benchmarks/NAME.py --json FILE`): the table shows all that it holds.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # as `python tests/benchmarks` has it

from shared import Row, gather, gathered, machine, options, table, usual_threads

FOLDER = Path(__file__).resolve().parent
NOT_BENCHMARKS = ("__main__", "shared")
FAILED = "failed: "


def known() -> list[str]:
    """Files of the folder that are benchmarks: those with a `main`."""
    files = sorted(path for path in FOLDER.glob("*.py") if path.stem not in NOT_BENCHMARKS)
    return [path.stem for path in files if "\ndef main(" in path.read_text("utf-8")]


def run(name: str, given: argparse.Namespace, folder: Path) -> list[Row]:
    """The rows of one benchmark, in a process of its own; one row that says so where it breaks."""
    written = folder / f"{name}.json"
    words = [sys.executable, str(FOLDER / f"{name}.py"), "--json", str(written)]
    words += [f"--{key}={value}" for key in ("rounds", "threads") if (value := getattr(given, key)) is not None]
    words += ["--quick"] if given.quick else []
    print(f"\n{name}", flush=True)
    done = subprocess.run(words, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode not in (0, 1) or not written.is_file():
        sys.stderr.write(done.stderr)
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        threads = given.threads or usual_threads()
        return [Row(name, "all of it", skipped=f"{FAILED}{last}", threads=threads)]
    return gathered(written)


def told(parser: argparse.ArgumentParser, scratch: Path, given: argparse.Namespace, chosen: Sequence[str]) -> list[Row]:
    """The rows of some benchmarks, and of others that a file holds already, which is written after each."""
    file = given.json or scratch / "rows.json"
    try:
        gathered(file)
    except (ValueError, KeyError, OSError) as error:
        parser.error(str(error))
    for name in chosen:
        gather(file, run(name, given, scratch))
    return gathered(file)


def main(argv: Sequence[str] | None = None) -> int:
    parser = options(__doc__, None)
    names = known()
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(names)}; all when left out")
    parser.add_argument("--table", action="store_true", help="run nothing: the table of what --json FILE holds")
    given = parser.parse_args(argv)
    unknown = [name for name in given.names if name not in names]
    if unknown:
        parser.error(f"no benchmark {', '.join(unknown)} (known: {', '.join(names)})")
    chosen = [] if given.table else given.names or names
    with tempfile.TemporaryDirectory() as folder:
        rows = told(parser, Path(folder), given, chosen)
    print("\n" + ", ".join(f"{key} {' '.join(v) if isinstance(v, list) else v}" for key, v in machine().items()))
    print("ratios within one run; median, quartiles over the rounds\n")
    print(table(rows))
    if any(row.skipped.startswith(FAILED) for row in rows):
        return 2
    return int(any(row.verdict == "MISSED" for row in rows))


if __name__ == "__main__":
    sys.exit(main())
